"""Blocks of a base, from input to output: by the names of its layers, or by the shape of its graph."""

import dataclasses
import re

import keras

from recipes.bases.flattening import live_tensors

NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.RMSNormalization,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of a base that trains at one rate.

    Args:
        name: short name, such as `"conv3_block2"`.
        layers: names of its layers in the network's model, with and without weights, from input to output.
    """

    name: str
    layers: tuple[str, ...]


def named_blocks(layers, patterns):
    """Blocks by names: `layers` are names from input to output, `patterns` as in `Base`.

    A layer that fits no pattern joins the block of the next one that does; after the last of them, the last block.
    Blocks stand in the order in which they end, because in NASNet a cell begins before the cell below it has ended.
    """
    blocks = {}
    waiting = []
    for layer in layers:
        waiting.append(layer)
        block = _block_name(layer, patterns)
        if block is not None:
            # Taken out and put back: a dictionary keeps the order of putting in.
            blocks[block] = blocks.pop(block, []) + waiting
            waiting = []
    blocks[next(reversed(blocks))].extend(waiting)
    return tuple(Block(name, tuple(members)) for name, members in blocks.items())


def _block_name(layer, patterns):
    for pattern, block in patterns:
        found = re.match(pattern, layer)
        if found:
            return found.expand(block)
    return None


def graph_blocks(model, members):
    """Blocks by the graph of the flat `model`: it is cut at each tensor that every path from input to output passes.

    Only layers named in `members` count. A segment without weights, or with those of normalization layers alone,
    joins the segment before it (at the beginning: after it). A block is named after its first layer with a kernel.
    """
    blocks = []
    for segment in _segments(model, members):
        if blocks and not (_has_kernels(model, segment) and _has_kernels(model, blocks[-1])):
            blocks[-1] = blocks[-1] + segment
        else:
            blocks.append(segment)
    return tuple(Block(_first_with_kernel(model, block), tuple(block)) for block in blocks)


def _segments(model, members):
    """Lists of layer names between the tensors through which every path goes."""
    segments, segment, placed = [], [], set()
    for name, _, live in live_tensors(model.get_config()):
        if name in members and name not in placed:
            placed.add(name)
            segment.append(name)
        if len(live) == 1 and segment:
            segments.append(segment)
            segment = []
    return segments + ([segment] if segment else [])


def _has_kernels(model, names):
    return any(_has_kernel(model.get_layer(name)) for name in names)


def _has_kernel(layer):
    return bool(layer.weights) and not isinstance(layer, NORMALIZATIONS)


def _first_with_kernel(model, names):
    return next((name for name in names if _has_kernel(model.get_layer(name))), names[0])
