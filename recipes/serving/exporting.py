"""Exporting a classifier for serving."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras

import layers
from recipes.bases.simplifying import simplified
from recipes.checks import check_number, complaint
from recipes.files import sync_folder, write_json, write_text
from recipes.locks import lock
from recipes.saving import open_classifier, writable_folder
from recipes.serving.card import card_text, make_card
from recipes.serving.formats import FILES, check_formats, check_names, write_format, write_labels
from recipes.serving.parity import Samples, prove, tolerance_of
from recipes.serving.warmup import write_warmup

_TEMPORARY = ".export-"
_LARGER = 8 / 7  # 256 for 224


def export(
    model: str | Any,
    folder: str | os.PathLike,
    *,
    formats: str | list[str] = ("saved_model",),
    samples: list[str] | Any = None,
    crops: int = 1,
    simplify: bool = False,
    tolerance: float | None = None,
):
    """Export a classifier that takes the bytes of images and gives names, proved to answer as what was measured.

    It becomes the next version in `folder`, in the layout that TensorFlow Serving reads: `folder/1`, `folder/2`, … .

    1. Write each format under a temporary name. The SavedModel's `serving_default` takes `image_bytes`, the bytes of
       encoded images of any size, and gives `classes` and `probabilities`, most probable first, and `error`, empty
       where the image could be read; `classify` takes `tf.Example` with the feature `image_bytes`; `pixels` takes
       `images`, arrays of any one size; `probabilities` takes `images` at the model's size and keeps the order of the
       classes. Decoder, EXIF orientation, resizing, preprocessing and class names are inside. (A model with neither
       one nor three channels takes arrays only, in `serving_default`.)
    2. Run samples through each format in a fresh process that knows neither this package nor Keras, and compare.
    3. Add `labels.txt`, `card.json` and `card.md`, and requests for warming up.
    4. Rename it to its number. An existing version is never touched, and a failure leaves nothing.

    Args:
        model: `Result`, folder of a saved one, or Keras model.
        folder: path; made when absent.
        formats: of `"saved_model"` (what TensorFlow Serving and `recipes serve` take), `"keras"`, `"onnx"` (needs
            `pip install "keras-recipes[onnx]"`) and `"litert"`. The last two take float32 images at the model's size.
        samples: paths, bytes or arrays to prove it with; by default the raw files of the measured split where they are
            still there, else its images, else made-up ones. At most 512 of them, spread evenly, are run.
        crops: 2, 5 or 10 to average the answers over crops of an image that is taken 8/7 as large, see
            `layers.CropAverage`; each costs as much as one image.
        simplify: whether BatchNormalization is folded into convolutions, `ResizeConv` collapsed and ReLU put behind
            max-pooling first.
        tolerance: largest difference of a probability, above 0; by default 1e-5, for ONNX and LiteRT 1e-4, and for
            models in half precision 1e-2.

    Returns:
        The folder of the new version, a `pathlib.Path`.

    Raises:
        RuntimeError: a format does not answer as the model does.
        ImportError: a format needs a package that is not installed.
        OSError: the folder cannot be written.

    Example:
        >>> import recipes
        >>> recipes.export("runs/flowers", "served/flowers")  # doctest: +SKIP
        PosixPath('served/flowers/1')
    """
    where = "export"
    formats = check_formats(formats, where)
    if tolerance is not None:
        check_number(where, "tolerance", tolerance, above=True)
    result = open_classifier(model, where)
    check_names(result.class_names, where)
    _check_algorithms(result.model, formats, where)
    measured = _with_crops(result, crops)
    tolerances = {name: tolerance or tolerance_of(name, result.model) for name in formats}
    chosen = Samples(measured, samples, where)
    folder = writable_folder(folder, where)
    _check_served(folder, formats, where)
    temporary, held = _make_temporary(folder)
    try:
        model = simplified(result.model) if simplify else result.model
        exported = _with_crops(dataclasses.replace(result, model=model), crops)
        for name in formats:
            write_format(name, exported, temporary)
        proofs = {name: prove(name, temporary, chosen, tolerances[name], where) for name in formats}
        sizes = {name: _size(temporary, name) for name in formats}
        write_labels(result.class_names, temporary / "labels.txt")
        if "saved_model" in formats:
            write_warmup(measured.image_size, measured.channels, temporary)
        card = make_card(measured, chosen, proofs, sizes, is_simplified=model is not result.model, crops=crops)
        write_json(temporary / "card.json", card)
        write_text(temporary / "card.md", card_text(card))
        _sync(temporary)
        temporary.chmod(0o755)
        return _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if held is not None:
            os.close(held)


def _with_crops(result, crops):
    """The classifier that averages over crops of an image that is taken larger."""
    if crops == 1:
        return result
    average = layers.CropAverage(result.model, crops)
    size = tuple(round(side * _LARGER) for side in result.image_size)
    image = keras.Input((*size, result.channels), name="images")
    model = keras.Model(image, average(image), name=result.model.name)
    return dataclasses.replace(result, model=model, image_size=size)


def _check_algorithms(model, formats, where):
    """Raise ValueError where a format would hold what only TensorFlow compiles, or only this package knows."""
    others = [name for name in formats if name != "saved_model"]
    special = [layer.name for layer in model.layers if isinstance(layer, (layers.WinogradConv2D, layers.FFTConv2D))]
    if others and special:
        rule = f"the format {others[0]!r} takes no accelerated model"
        mend = "Export what you had before recipes.accelerate, or the SavedModel alone."
        raise ValueError(complaint(where, rule, f"{special[0]!r} computed by another algorithm", mend))


def _check_served(folder, formats, where):
    """Raise ValueError where the newest version of a folder that is served would be one that cannot be."""
    if "saved_model" not in formats and any(folder.glob("[0-9]*/saved_model.pb")):
        rule = "a folder with versions to be served takes versions that can be"
        mend = 'Add "saved_model", or export to another folder.'
        raise ValueError(complaint(where, rule, f"formats={formats} for {str(folder)!r}", mend))


def _size(folder, name):
    """Bytes of a format."""
    others = {file for other, file in FILES.items() if other != name}
    if name != "saved_model":
        return (folder / FILES[name]).stat().st_size
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name not in others)


def _make_temporary(folder):
    """(a new folder within `folder`, the descriptor that holds it); those that nobody holds any more are removed."""
    if os.name == "nt":  # there, folders cannot be held
        return Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder)), None
    door = os.open(folder, os.O_RDONLY)
    try:
        lock(door, "exclusive")  # so that nobody takes a new one for a leftover
        for leftover in folder.glob(f"{_TEMPORARY}*"):
            with contextlib.suppress(OSError):  # it has just been published, or is somebody else's
                descriptor = os.open(leftover, os.O_RDONLY)
                if lock(descriptor, "at once"):
                    shutil.rmtree(leftover, ignore_errors=True)
                os.close(descriptor)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder))
        held = os.open(temporary, os.O_RDONLY)
        lock(held, "exclusive")
    finally:
        os.close(door)
    return temporary, held


def _publish(temporary, folder):
    """Rename to the next free number; another process may take a number first, then the one after it is tried."""
    number = 1 + max((int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()), default=0)
    while True:
        version = folder / str(number)
        try:
            temporary.rename(version)
        except OSError as error:
            if not version.exists():
                rule = f"the export cannot be renamed ({error.strerror})"
                raise OSError(complaint("export", rule, repr(str(version)), "Choose another folder.")) from error
            number += 1
        else:
            sync_folder(folder)
            return version


def _sync(folder):
    """Ask the system to write every file, and every name, to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("r+b") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)
