"""The weights that a base of the catalogue starts from: published, from a file, or none."""

import os
import warnings
from pathlib import Path

import keras
import numpy as np

from recipes.bases.channels import set_weights
from recipes.bases.downloads import fetch_checked, impatient_downloads
from recipes.bases.naming import named_layers
from recipes.bases.preprocessing import TORCH_DEVIATION
from recipes.checks import complaint

PRETRAINED = "pretrained"
SHIPPED = Path(__file__).parent / "pretrained"
SUFFIXES = (".h5", ".keras")


def check_weights(where, row, weights, image_size):
    """Raise unless `weights` can be meant for `row`, a row of the catalogue, at `image_size`."""
    if weights is None:
        return
    if not isinstance(weights, (str, os.PathLike)):
        rule = 'weights must be "pretrained", None or the path of a file'
        raise TypeError(complaint(where, rule, repr(weights), "Pass weights=None to start from random weights."))
    if weights in (PRETRAINED, row.weights):
        _check_published(where, row, weights, image_size)
    elif Path(weights).suffix not in SUFFIXES:
        known = f'"pretrained" or "{row.weights}"' if row.weights else "None"
        rule = f"weights must be {known} for base={row.name!r}, or the path of a .keras, .weights.h5 or .h5 file"
        mend = (
            'Leave weights out, for "pretrained".' if row.weights else "Pass weights=None, or base='mobilenet_v2', say."
        )
        raise ValueError(complaint(where, rule, repr(str(weights)), mend))
    elif not Path(weights).is_file():
        raise FileNotFoundError(
            complaint(where, "weights must be a file that exists", repr(str(weights)), "Check the path.")
        )


def _check_published(where, row, weights, image_size):
    if row.weights is None:
        rule = f"no weights are published for base={row.name!r}"
        mend = "Pass weights=None, or base='mobilenet_v2', say."
        raise ValueError(complaint(where, rule, f"weights={weights!r}", mend))
    if row.fixed_size and tuple(image_size) != (row.default_size, row.default_size):
        rule = f"with ImageNet weights, image_size must be {row.default_size} pixels for base={row.name!r}"
        mend = f"Pass image_size={row.default_size}, weights=None, or another base."
        raise ValueError(complaint(where, rule, f"{image_size[0]}×{image_size[1]}", mend))


def catalogue_model(where, row, weights, image_size):
    """The network of `row` without its head, on RGB images of `image_size`, with `weights`."""
    shape = (*image_size, 3)
    if weights is None:
        return row.constructor(include_top=False, weights=None, input_shape=shape)
    if weights in (PRETRAINED, row.weights):
        if row.weights == "imagenet":
            return _published(where, row, shape)
        weights = SHIPPED / f"{row.name}_{row.weights}.weights.h5"
    model = row.constructor(include_top=False, weights=None, input_shape=shape)
    if Path(weights).suffix == ".keras":
        _take_from_model(where, row, model, weights)
    else:
        _take_from_file(where, row, model, weights)
    _square_deviation(model)
    return model


def _published(where, row, shape):
    try:
        with impatient_downloads(), warnings.catch_warnings():
            # MobileNet has files for four sizes; for others Keras takes those of 224 and warns. Nothing is to be done.
            warnings.filterwarnings("ignore", message=".*input_shape.*is undefined or non-square.*")
            fetch_checked(row.name, shape)
            return row.constructor(include_top=False, weights="imagenet", input_shape=shape)
    except Exception as error:
        # Keras raises the bare class when a download fails.
        if not isinstance(error, OSError) and "URL fetch failure" not in str(error):
            raise
        rule = f"the ImageNet weights of base={row.name!r} could not be fetched"
        mend = (
            "Connect to the internet; or pass weights= the path of their file; or set the environment variable "
            "KERAS_HOME to a folder whose models/ holds it; or pass weights=None to start from random weights."
        )
        raise ConnectionError(complaint(where, rule, f"the error: {error}", mend)) from error


def _take_from_file(where, row, model, path):
    """Load a weights file of the network without its head or, failing that, of the whole with 1000 classes."""
    failures = []
    for whole in (False, True):
        try:
            donor = model
            if whole:
                size = row.default_size
                donor = row.constructor(include_top=True, weights=None, input_shape=(size, size, 3))
            _load_all(donor, path)
            if whole:
                _copy_by_name(donor, model)
            return
        except (IndexError, KeyError, OSError, TypeError, ValueError) as error:
            failures.append(" ".join(str(error).split())[:300])
    _refuse(where, row, path, failures[0])


def _load_all(model, path):
    """`model.load_weights(path)`, or a ValueError when some weights are not in the file: Keras only warns of those."""
    for weight in model.weights:
        if keras.backend.is_float_dtype(weight.dtype):
            weight.assign(np.full(weight.shape, np.nan))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Skipping nested container")
        model.load_weights(path)
    missing = [layer.name for layer in model.layers if any(np.isnan(value).any() for value in layer.get_weights())]
    if missing:
        received = f"nothing for {len(missing)} layers: {', '.join(missing[:5])}"
        mend = "Pass the file of this very network."
        raise ValueError(complaint("load_weights", "the file must have every weight", received, mend))


def _take_from_model(where, row, model, path):
    """Take the layers of the same names from a saved model, such as one that `recipes.save` wrote."""
    try:
        donor = keras.models.load_model(path, compile=False, safe_mode=True)
        _copy_by_name(donor, model)
    except (KeyError, OSError, TypeError, ValueError) as error:
        _refuse(where, row, path, " ".join(str(error).split())[:300])


def _copy_by_name(donor, model):
    """Copy every layer's weights from the layer of the same name in `donor`; ValueError naming those that differ."""
    sources = named_layers(donor)
    unfit = []
    for name, layer in named_layers(model).items():
        values = sources[name].get_weights() if name in sources else None
        needed = [tuple(weight.shape) for weight in layer.weights]
        if needed and (values is None or [value.shape for value in values] != needed):
            found = "missing" if values is None else f"shapes {[value.shape for value in values]}, not {needed}"
            unfit.append(f"{name} ({found})")
        elif needed:
            set_weights(layer, values)
    if unfit:
        received = f"{len(unfit)} that do not: {', '.join(unfit[:5])}{', …' if len(unfit) > 5 else ''}"
        mend = "Pass a file of this very network."
        raise ValueError(complaint("load_weights", "all layers must fit", received, mend))


def _refuse(where, row, path, reason):
    rule = f"the file of weights must fit base={row.name!r}"
    mend = f"Pass a file saved from the network {row.name!r} in the same width and with 3 channels."
    raise ValueError(complaint(where, rule, f"{str(path)!r}: {reason}", mend))


def _square_deviation(model):
    """Undo a slip in the published files of EfficientNet, which hold the deviation where Keras expects the variance.

    For `weights="imagenet"` Keras adds a layer that makes up for it, for a file it does not.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and len(layer.get_weights()) == 3:
            mean, variance, count = layer.get_weights()
            if np.allclose(variance, TORCH_DEVIATION, atol=1e-4):
                set_weights(layer, [mean, variance**2, count])
