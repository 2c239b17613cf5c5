"""What the augmentation layers share: batches, windows and draws."""

import math

import keras
from keras import ops

from layers._arguments import check_number, complaint


def as_batch(change, inputs, dtype):
    """`change` applied in float32 to a batch of images, or to one image as a batch of one; in `dtype` again."""
    rank = len(inputs.shape)
    images = ops.cast(inputs, "float32")
    changed = change(images if rank == 4 else images[None])
    return ops.cast(changed if rank == 4 else changed[0], dtype)


def sides(images):
    """(batch as a tensor or number, height and width as float32)."""
    batch, height, width, _ = ops.shape(images)
    return batch, ops.cast(height, "float32"), ops.cast(width, "float32")


def draw(shape, span, generator, logarithmic=False):
    """Uniform numbers from `span`, or with a uniform logarithm."""
    low, high = (math.log(edge) for edge in span) if logarithmic else span
    drawn = keras.random.uniform(shape, low, high, dtype="float32", seed=generator)
    return ops.exp(drawn) if logarithmic else drawn


def check_images(layer, shape, needs_channels=False):
    """Raise unless `shape` is that of images, one or a batch."""
    if len(shape) not in (3, 4) or (needs_channels and shape[-1] is None):
        rule = "inputs must be of shape (batch, height, width, channels) or (height, width, channels)"
        raise ValueError(complaint(layer, rule, f"inputs of shape {tuple(shape)}", "Pass images, channels last."))


def span_of(layer, name, value, least, most=math.inf, above=False):
    """(low, high) of a pair of numbers in rising order."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        mend = f"Pass {name}=(low, high)."
        raise TypeError(complaint(layer, f"{name} must be a pair of numbers", f"{name}={value!r}", mend))
    for edge in value:
        check_number(layer, name, edge, least, most, above)
    if value[0] > value[1]:
        mend = f"Pass {name}=({value[1]}, {value[0]})."
        raise ValueError(complaint(layer, f"{name} must rise", f"{name}={value!r}", mend))
    return tuple(value)


def resized_shape(shape, size):
    """Shape of the images `shape` once they are `size`."""
    return (*shape[:-3], *size, shape[-1])
