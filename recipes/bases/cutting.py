"""Where a network can be cut in two: a part that stays as it is, and the rest."""

import collections

import keras
import numpy as np

from recipes.bases.flattening import live_tensors


def cut_tensor(model, fixed):
    """The last tensor of the flat `model` that everything goes through, made by nothing but `fixed` operations.

    Branches (of residual units, Inception and Dense blocks) are passed as a whole or not at all.

    Args:
        model: flat functional model with one input.
        fixed: predicate of an operation's name.

    Returns:
        `keras.KerasTensor` within the model's graph, or None where there is none but the input.
    """
    cut, calls = None, list(live_tensors(model.get_config()))
    times = collections.Counter(name for name, _, _ in calls)
    for name, _, live in calls:
        if not fixed(name):
            break
        last, _, place = next(iter(live))
        if len(live) == 1 and times[last] <= 1:  # Keras makes no model that starts at one call of several
            cut = last, place
    return None if cut is None else _tensor(model, *cut)


def _tensor(model, name, place):
    operation = next(operation for operation in model.operations if operation.name == name)
    return keras.tree.flatten(operation.output)[place]


def block_outputs(model, blocks):
    """The tensor at the end of each block of a flat `model`, from input to output.

    It is the first after all layers of the block, and of those before it, through which everything goes, as long as the
    next block is not complete. Where there is none (cells of NASNet also see the cell before the last), it is what the
    last layer of the block gives.

    Args:
        model: flat functional model with one input, or the part of one that is cut into blocks.
        blocks: Blocks, in the order in which they end.

    Returns:
        tuple of `keras.KerasTensor`.
    """
    number = {name: place for place, block in enumerate(blocks) for name in block.layers}
    left = collections.Counter(number.values())
    found, done, seen = {}, -1, set()
    for name, _, live in live_tensors(model.get_config()):
        if name not in seen:
            left[number.get(name)] -= 1
            seen.add(name)
        while done + 1 < len(blocks) and not left[done + 1]:
            done += 1
        if len(live) == 1 and done >= 0 and done not in found:
            last, _, place = next(iter(live))
            found[done] = _tensor(model, last, place)
    ends = {place: model.get_layer(block.layers[-1]).output for place, block in enumerate(blocks)}
    return tuple((ends | found).values())


def split_at(model, tensor):
    """(the model up to `tensor`, the model from there on), which share their layers with `model`."""
    return keras.Model(model.input, tensor, name="frozen"), keras.Model(tensor, model.output, name=model.name)


def multiply_adds(layers):
    """Multiply-adds per image of convolutions and dense layers: every kernel's size by the positions it is put at.

    In no time, from shapes; `recipes.cost` counts whatever a network computes, but traces it for that.
    """
    return sum(_products(layer, name) for layer in layers for name in _KERNELS)


_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")
_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)


def _products(layer, name):
    kernel = getattr(layer, name, None)
    if kernel is None:
        return 0
    # A transposed convolution puts its kernel at every position of what it reads.
    places = layer.input if isinstance(layer, _TRANSPOSED) else layer.output
    return int(np.prod(kernel.shape)) * int(np.prod(places.shape[1:-1], dtype=np.int64))
