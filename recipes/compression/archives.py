"""A Keras model as its parts, and back: the description of its layers, its arrays, and other files that it needs.

Keras itself takes it apart and puts it together, so whatever a `.keras` file holds is kept: moving statistics, the
examples of a nearest-neighbour head, the words of a lookup table.
"""

import dataclasses
import json
import tempfile
import zipfile
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np

import layers
from recipes.checks import complaint
from recipes.compression.bit_layers import FEW_BITS

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_HALF = "bfloat16"  # which HDF5 knows as two bytes


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """What a model is made of.

    Args:
        config: its layers, as JSON holds them.
        arrays: `{path within the file: array}`.
        names: for each path, a name that means something to people: `conv1/kernel`.
        assets: `{path: bytes}` of other files.
    """

    config: dict
    arrays: dict[str, np.ndarray]
    names: dict[str, str]
    assets: dict[str, bytes]


def take_apart(model, latent=False):
    """The Parts of a model, without optimizer and without masks.

    Args:
        model: built Keras model; it stays as it is.
        latent: whether binary and ternary layers keep the real weights that they train by. Otherwise these are their
            signs, times their scales.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read(_CONFIG))
            others = [name for name in archive.namelist() if name not in (_CONFIG, _METADATA, _WEIGHTS)]
            assets = {name: archive.read(name) for name in others if not name.endswith("/")}
            archive.extract(_WEIGHTS, folder)
        path.unlink()
        arrays, names = _read_arrays(Path(folder, _WEIGHTS), _by_name(model), latent)
    config.pop("compile_config", None)
    return Parts(_without_ids(_without_masks(config)), arrays, names, assets)


def put_together(parts, where):
    """The model of Parts; ValueError where Keras does not make it."""
    with tempfile.TemporaryDirectory() as folder:
        _write_arrays(Path(folder, _WEIGHTS), parts.arrays)
        path = Path(folder, "model.keras")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(_METADATA, json.dumps({"keras_version": keras.__version__}))
            archive.writestr(_CONFIG, json.dumps(parts.config))
            for name, content in parts.assets.items():
                archive.writestr(name, content)
            archive.write(Path(folder, _WEIGHTS), _WEIGHTS)
        Path(folder, _WEIGHTS).unlink()
        try:
            return keras.saving.load_model(path, compile=False, safe_mode=True)
        except (KeyError, OSError, TypeError, ValueError) as error:
            rule = "the file must hold a model that Keras loads in safe mode"
            mend = "Import the module of its own layers before; use no lambdas."
            raise ValueError(complaint(where, rule, str(error), mend)) from error


def _read_arrays(path, by_name, latent):
    arrays, names = {}, {}
    with h5py.File(path) as file:

        def visit(name, item):
            if not isinstance(item, h5py.Dataset) or name.startswith("optimizer/"):
                return
            value = item[()]
            if item.attrs.get("dtype") == _HALF:
                value = np.asarray(value).view(ml_dtypes.bfloat16)
            owner = item.parent.attrs.get("name", "")
            layer = by_name.get(owner)
            key = name.rpartition("/")[2]
            variable = _variable(layer, key, value)
            arrays[name] = np.asarray(value)
            names[name] = f"{owner or name}/{key}" if variable is None else f"{owner}/{variable.name}"
            if not latent and isinstance(layer, FEW_BITS) and variable is layer.kernel:
                arrays[name] = _signs(layer).astype(value.dtype)

        file.visititems(visit)
    return arrays, names


def _variable(layer, key, value):
    """The variable of a layer that was saved as number `key`, as far as that can be told."""
    if layer is None or not key.isdigit() or int(key) >= len(layer.weights):
        return None
    variable = layer.weights[int(key)]
    return variable if tuple(variable.shape) == np.shape(value) else None


def _signs(layer):
    """A kernel of few values that stands for the same weights: it has their signs, and their scales as its means."""
    values = layers.unpack_weights(layers.packed_weights(layer))
    return np.sign(values) if getattr(layer, "method", "") == "ttq" else values


def _write_arrays(path, arrays):
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            item = file.create_dataset(name, data=value)
            if value.dtype == ml_dtypes.bfloat16:
                item.attrs["dtype"] = _HALF


def _by_name(model):
    """Every layer of a model and of the models within it whose name no other has."""
    found = {}
    waiting = list(model.layers)
    while waiting:
        layer = waiting.pop()
        if isinstance(layer, keras.Model):
            waiting += layer.layers
        found[layer.name] = None if found.get(layer.name, layer) is not layer else layer
    return found


def _without_masks(part):
    """A config without the constraints that keep zeros: whoever reads the file sees the zeros themselves."""
    if isinstance(part, dict):
        if part.get("registered_name") == "keras_recipes>ZerosKept":
            return None
        return {key: _without_masks(value) for key, value in part.items()}
    return [_without_masks(value) for value in part] if isinstance(part, list) else part


def _without_ids(config):
    """A config in which objects that stand once bear no number, and others small ones, the same in every process."""
    counts = {}

    def count(part):
        if isinstance(part, dict) and "shared_object_id" in part:
            counts[part["shared_object_id"]] = counts.get(part["shared_object_id"], 0) + 1
        for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            count(value)

    def renamed(part):
        if isinstance(part, list):
            return [renamed(value) for value in part]
        if not isinstance(part, dict):
            return part
        new = {key: renamed(value) for key, value in part.items() if key != "shared_object_id"}
        if part.get("shared_object_id") in numbers:
            new["shared_object_id"] = numbers[part["shared_object_id"]]
        return new

    count(config)
    shared = [key for key, times in counts.items() if times > 1]
    numbers = {key: number for number, key in enumerate(shared)}
    return renamed(config)
