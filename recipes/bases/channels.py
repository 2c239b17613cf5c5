"""Bases made for three channels on images that have more."""

import keras
import numpy as np

import layers
from recipes.bases.preprocessing import widened_constants
from recipes.checks import complaint

CONSTANTS = {keras.layers.Rescaling: ("scale", "offset"), keras.layers.Normalization: ("mean", "variance")}


def check_channels(where, channels, base_channels):
    """Raise unless images of `channels` channels can be given to a base made for `base_channels`."""
    if channels == base_channels or base_channels is None or (base_channels == 3 and (channels == 1 or channels > 3)):
        return
    rule = f"channels must be {base_channels}" + (", 1, or more than 3" if base_channels == 3 else ", as base takes")
    mend = "Repeat or average channels until they fit" if base_channels == 3 else "Convert the images"
    raise ValueError(complaint(where, rule, channels, f"{mend}, or pass another base."))


def widen_preprocessing(operation, config, channels):
    """Stretch the constants of a Rescaling or Normalization layer to `channels`, in its config, in place."""
    for key in CONSTANTS.get(type(operation), ()):
        constants = np.ravel(config[key]) if config[key] is not None else ()
        if 1 < len(constants) < channels:
            config[key] = widened_constants(constants, channels)


def transfer(where, old, new):
    """Copy the weights of layer `old` to layer `new`, which may take more channels than three.

    The kernel of a convolution keeps its part for red, green and blue, has their mean for every further channel, and
    is scaled by 3 / channels, so that an image whose channels are all alike gives what it gave.
    """
    values = old.get_weights()
    shapes = [tuple(weight.shape) for weight in new.weights]
    if [value.shape for value in values] != shapes:
        if isinstance(new, keras.layers.Conv2D) and new.groups == 1 and values[0].shape[2] == 3:
            values[0] = widened_kernel(values[0], shapes[0][2])
        elif isinstance(new, keras.layers.Normalization):
            values[:2] = [np.asarray(widened_constants(value, shapes[0][0]), "float32") for value in values[:2]]
        else:
            rule = "with more than 3 channels, base must begin with a Conv2D layer"
            received = f"a base that begins with the {type(new).__name__} layer {new.name!r}"
            raise ValueError(complaint(where, rule, received, "Pass images of 3 channels or another base."))
    set_weights(new, values)


def set_weights(layer, values):
    """`layer.set_weights(values)` that takes effect in Normalization too, which computes with a copy of its weights."""
    layer.set_weights(values)
    for inner in layers.inner_layers(layer):
        if isinstance(inner, keras.layers.Normalization):
            inner.finalize_state()


def widened_kernel(kernel, channels):
    """`(height, width, 3, filters)` → `(height, width, channels, filters)`."""
    further = np.repeat(kernel.mean(axis=2, keepdims=True), channels - 3, axis=2)
    return np.concatenate([kernel, further], axis=2) * np.float32(3 / channels)
