"""What becomes of the channels of a tensor in each kind of operation that unit pruning knows."""

import numbers

import keras
import numpy as np

from recipes.compression.unit_calls import along, channel_axis, is_by_element, last_axis
from recipes.compression.unit_shapes import (
    averaged,
    concatenated,
    padded,
    permuted,
    pooled_away,
    reshaped,
    sliced,
)
from recipes.compression.unit_slices import DEPTHWISE, MIXING, NORMALIZATIONS
from recipes.compression.unit_ties import FIXED, Labels


@along(channel_axis)
def _by_channel(call, axis, read):
    """Each channel by itself, along height and width."""
    return Labels(call.shape, axis, read)


def _by_element(call):
    """Each number by itself."""
    numbered = [part for part in keras.tree.flatten(call.args) if isinstance(part, (numbers.Real, type(None), str))]
    if len(call.inputs) != 1 or len(numbered) + 1 != len(keras.tree.flatten(call.args)):
        return "takes more than one tensor and numbers"
    return call.first


def _activated(call):
    return call.first if is_by_element(call.operation.activation) else _softened(call)


def _dropped(call):
    shape = call.operation.noise_shape
    if shape is not None and shape[call.first.axis] not in (None, 1):
        return "drops by a pattern of its own"
    return call.first


def _mixing_axis(call):
    return last_axis(call) if isinstance(call.operation, keras.layers.Dense) else channel_axis(call)


@along(_mixing_axis)
def _mixed(call, axis, read):
    """Sums over all channels: what it makes is new."""
    layer = call.operation
    count = layer.units if isinstance(layer, keras.layers.Dense) else layer.filters
    made = call.new(count)
    if getattr(layer, "groups", 1) > 1:
        _tie_groups(call.ties, layer.groups, read, made)
    return Labels(call.shape, axis, made)


def _tie_groups(ties, groups, *ids):
    """A group goes, with all that it reads and makes, or stays."""
    for parts in zip(*(np.split(part, groups) for part in ids), strict=True):
        whole = np.concatenate(parts)
        ties.tie(whole, whole[0])


@along(channel_axis)
def _depthwise(call, axis, read):
    return Labels(call.shape, axis, np.repeat(read, call.operation.depth_multiplier))


def _normalized_axis(call):
    axis = call.operation.axis
    return axis % len(call.first.shape) if isinstance(axis, int) else None


@along(_normalized_axis)
def _normalized(call, axis, read):
    if isinstance(call.operation, keras.layers.GroupNormalization):
        _tie_groups(call.ties, call.operation.groups, read)
    return Labels(call.shape, axis, read)


def _normalized_together(call):
    return "normalizes over all channels, so that each depends on all"


def _softened(call):
    return "lets channels act on each other"


def _scaled(call):
    """By a constant, or one per channel."""
    layer, labels = call.operation, call.first
    shapes = {np.shape(value) for value in (layer.scale, layer.offset)} - {()}
    if shapes and (shapes != {labels.ids.shape} or labels.axis != len(labels.shape) - 1):
        return "has constants for more than the channels"
    return labels


@along(last_axis)
def _sloped(call, axis, read):
    """PReLU: one slope for all channels, or one for each."""
    return Labels(call.shape, axis, read)


@along(last_axis)
def _einsum(call, axis, read):
    """One factor per channel, the LayerScale of ConvNeXt; whatever else it may be is not known."""
    before, after = call.operation.equation.split("->")
    letters, factor = before.split(",")
    is_scale = letters == after and factor == letters[-1:] and call.operation.bias_axes is None
    if not is_scale or not isinstance(call.operation.get_config()["output_shape"], (tuple, list)):
        return "is a product that is not known"
    return Labels(call.shape, axis, read)


def _merged(call):
    """Element by element, of several tensors, a side of 1 repeated: what meets must go together."""
    rank = max(len(labels.shape) for labels in call.inputs)
    axes = {labels.axis - len(labels.shape) for labels in call.inputs if not call.ties.stays(labels.ids)} or {-1}
    if len(axes) > 1:
        return "joins tensors with channels along different axes"
    (axis,) = axes
    parts = []
    for labels in call.inputs:
        side = labels.shape[axis] if len(labels.shape) >= -axis else 1
        parts.append(labels.ids if labels.axis - len(labels.shape) == axis else np.full(side or 0, FIXED))
    size = max(len(ids) for ids in parts)
    for ids in parts:
        if len(ids) == 1 < size:
            call.ties.fix(ids, f"{call.operation.name!r} multiplies or adds it to all channels")
    parts = [ids for ids in parts if len(ids) == size]
    for ids in parts[1:]:
        call.ties.tie(parts[0], ids)
    return Labels(call.shape, rank + axis, parts[0])


def _operated(call):
    """The same written as an operation, such as `x + y` or `2 * x`."""
    if len(call.inputs) == 1:
        return _by_element(call)
    if len({len(labels.shape) for labels in call.inputs}) > 1:
        return "joins tensors of unequal rank"
    return _merged(call)


def _sizes(name, kinds):
    return [getattr(keras.layers, f"{name}{kind}") for kind in kinds]


_SPATIAL = (
    *(kind for name in ("MaxPooling", "AveragePooling") for kind in _sizes(name, ("1D", "2D", "3D"))),
    *(kind for name in ("ZeroPadding", "Cropping", "UpSampling") for kind in _sizes(name, ("1D", "2D", "3D"))),
    *_sizes("AdaptiveMaxPooling", ("1D", "2D", "3D")),
    *_sizes("AdaptiveAveragePooling", ("1D", "2D", "3D")),
    *_sizes("SpatialDropout", ("1D", "2D", "3D")),
)
_GLOBAL = [kind for name in ("GlobalAveragePooling", "GlobalMaxPooling") for kind in _sizes(name, ("1D", "2D", "3D"))]
_PLAIN = ("Identity", "ReLU", "LeakyReLU", "ELU", "GaussianNoise", "GaussianDropout", "ActivityRegularization")
_MERGING = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
RULES = {
    **dict.fromkeys(MIXING, _mixed),
    **dict.fromkeys(DEPTHWISE, _depthwise),
    **dict.fromkeys(NORMALIZATIONS, _normalized),
    **dict.fromkeys(_SPATIAL, _by_channel),
    **dict.fromkeys(_GLOBAL, pooled_away),
    **dict.fromkeys([getattr(keras.layers, name) for name in _PLAIN], _by_element),
    **dict.fromkeys([getattr(keras.layers, name) for name in _MERGING], _merged),
    **dict.fromkeys((keras.layers.Reshape, keras.layers.Flatten), reshaped),
    keras.layers.Activation: _activated,
    keras.layers.Concatenate: concatenated,
    keras.layers.Dropout: _dropped,
    keras.layers.EinsumDense: _einsum,
    keras.layers.LayerNormalization: _normalized_together,
    keras.layers.PReLU: _sloped,
    keras.layers.Permute: permuted,
    keras.layers.Rescaling: _scaled,
    keras.layers.Softmax: _softened,
}
# Operations of keras.ops as a functional model holds them, by the names of their classes.
_ONE_NUMBER = (
    *("Relu", "Relu6", "Sigmoid", "HardSigmoid", "LogSigmoid", "Silu", "HardSilu", "Gelu", "Elu", "Selu", "Celu"),
    *("LeakyRelu", "Softplus", "Softsign", "Tanh", "HardTanh", "Exp", "Log", "Sqrt", "Rsqrt", "Square", "Abs"),
    *("Absolute", "Negative", "Clip", "Cast", "Minimum", "Maximum"),
)
_TWO_NUMBERS = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum", "Power")
OPERATIONS = {
    **dict.fromkeys(_ONE_NUMBER, _by_element),
    **dict.fromkeys(_TWO_NUMBERS, _operated),
    **dict.fromkeys(("Mean", "Sum", "Max", "Min", "Amax", "Amin"), averaged),
    "GetItem": sliced,
    "Pad": padded,
}


def rule_for(operation):
    """The rule of an operation; None where none is known."""
    if isinstance(operation, keras.layers.Layer):
        return RULES.get(type(operation))
    is_of_keras = type(operation).__module__.startswith("keras.")
    return OPERATIONS.get(type(operation).__name__) if is_of_keras else None
