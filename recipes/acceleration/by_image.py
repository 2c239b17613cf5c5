"""The first layers of a network, whose maps are large, run on one image at a time."""

import functools
import math

import keras
import tensorflow as tf

import layers
from recipes.bases.cutting import split_at
from recipes.bases.flattening import live_tensors
from recipes.bases.rewiring import Wiring

# Bytes. The C library hands larger memory back to the system after each use (glibc's largest threshold on 64 bits), and
# at the next the system clears every page of it anew; nor do the caches of a processor hold more.
LARGE = 32 * 2**20
_BYTES = 4  # of a number


def first_part(model, batch_size):
    """Names of the layers up to the narrow place behind the last tensor of a batch that is large, on a CPU.

    Args:
        model: flat functional model.
        batch_size: images at a time.

    Returns:
        tuple of names in the order of their calls, often none. What comes after is made from what the last of them
        gives alone.
    """
    calls = list(live_tensors(model.get_config()))
    names = [name for name, _, _ in calls]
    if batch_size == 1 or len(set(names)) < len(names) or tf.config.list_physical_devices("GPU"):
        return ()
    _, tensors = _followed(model)
    large = [place for place, name in enumerate(names) if _size(tensors[name]) * batch_size > LARGE]
    if not large or Wiring(model).always_training:  # as BatchNormalization of a whole batch
        return ()
    for place in range(large[-1] + 1, len(calls) - 1):
        if len(calls[place][2]) == len(keras.tree.flatten(tensors[names[place]])) == 1:
            return tuple(names[: place + 1])
    return ()


def by_image(model, batch_size):
    """The model, sharing its layers, with its first part in a `layers.ImageByImage`; itself where there is none."""
    names = first_part(model, batch_size)
    if not names:
        return model
    whole, tensors = _followed(model)
    first, rest = split_at(whole, tensors[names[-1]])
    image = _image(model)
    return keras.Model(image, Wiring(rest).follow(layers.ImageByImage(first)(image)), name=model.name)


def _followed(model):
    """(the model called anew, `{name of an operation: what it gives there}`): shared layers know other calls too."""
    wiring, tensors, image = Wiring(model), {}, _image(model)
    after = {name: functools.partial(_kept, tensors, name) for name in wiring.operations}
    return keras.Model(image, wiring.follow(image, after=after), name=model.name), tensors


def _kept(tensors, name, outputs):
    tensors[name] = outputs
    return outputs


def _image(model):
    return keras.Input(model.input_shape[1:], dtype=model.input.dtype, name=model.inputs[0].name)


def _size(outputs):
    """Bytes of the outputs for one image; what has sides that are not known counts nothing."""
    shapes = [tensor.shape[1:] for tensor in keras.tree.flatten(outputs)]
    return sum(_BYTES * math.prod(shape) for shape in shapes if None not in shape)
