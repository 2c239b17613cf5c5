"""How the layers that unit pruning knows shrink: which axes of which weights, and what of their config."""

import keras
import numpy as np

import layers

IN, OUT, DEPTH = "in", "out", "depth"  # channels read, channels made, and what a depthwise kernel makes of those read

CONVOLUTIONS = (
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(layers.PatchConv2D, layers.WinogradConv2D, layers.FFTConv2D),
)
TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
NORMALIZATIONS = (keras.layers.BatchNormalization, keras.layers.GroupNormalization)
# Layers whose outputs are sums over all the channels that they read, one sum per filter or unit.
MIXING = (*CONVOLUTIONS, *TRANSPOSED, *SEPARABLE, keras.layers.Dense)

_BIAS = {"bias": {0: OUT}}
_PER_CHANNEL = ("gamma", "beta", "moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev")
_AXES = {
    CONVOLUTIONS: {"kernel": {-2: IN, -1: OUT}} | _BIAS,
    TRANSPOSED: {"kernel": {-2: OUT, -1: IN}} | _BIAS,
    DEPTHWISE: {"kernel": {-2: IN}, "bias": {0: DEPTH}},
    SEPARABLE: {"depthwise_kernel": {-2: IN}, "pointwise_kernel": {-2: DEPTH, -1: OUT}} | _BIAS,
    NORMALIZATIONS: {name: {0: IN} for name in _PER_CHANNEL},
    (keras.layers.Dense,): {"kernel": {-2: IN, -1: OUT}} | _BIAS,
    (keras.layers.EinsumDense,): {"kernel": {0: IN}},
    (keras.layers.LayerNormalization,): {"gamma": {}, "beta": {}},
    (keras.layers.PReLU,): {"alpha": {-1: IN}},
}
_AXES = {kind: axes for kinds, axes in _AXES.items() for kind in kinds}


def sliced_axes(layer):
    """`{name of a weight: {axis: IN, OUT or DEPTH}}` of a layer; None where it, or one of its weights, is not known."""
    axes = _AXES.get(type(layer), {})
    if type(layer) in CONVOLUTIONS and layer.groups > 1:
        axes = {"kernel": {-1: OUT}} | _BIAS  # each filter reads its own group, which stays whole
    if type(layer) is keras.layers.PReLU and layer.alpha.shape[-1] == 1:
        axes = {"alpha": {}}
    names = {weight.name for weight in layer.weights}
    return axes if names <= set(axes) else None


def kernels(layer):
    """Those of a layer's weights that are multiplied with what it reads."""
    return [weight for weight in layer.weights if weight.name.endswith("kernel")]


def sliced_weights(layer, taken, made):
    """The weights of a layer that keeps some of its channels.

    Args:
        layer: of a kind that is known.
        taken: positions that stay of the channels that it reads.
        made: positions that stay of those that it makes.

    Returns:
        list of arrays, in the order of `layer.weights`.
    """
    values = [keras.ops.convert_to_numpy(weight) for weight in layer.weights]
    return [_cut(layer, weight, value, taken, made) for weight, value in zip(layer.weights, values, strict=True)]


def sliced_constraints(layer, taken, made):
    """`{attribute: constraint}` of a layer that keeps some of its channels, for those that hold a mask."""
    return {
        name: layers.ZerosKept(_cut(layer, weight, weight.constraint.mask, taken, made))
        for weight in layer.weights
        if isinstance(weight.constraint, layers.ZerosKept)
        for name, value in vars(layer).items()
        if value is weight.constraint
    }


def _cut(layer, weight, value, taken, made):
    multiplier = getattr(layer, "depth_multiplier", 1)
    depth = (np.asarray(taken)[:, None] * multiplier + np.arange(multiplier)).ravel()
    positions = {IN: taken, OUT: made, DEPTH: depth}
    for axis, side in sliced_axes(layer)[weight.name].items():
        value = np.take(value, positions[side], axis)
    return value


def sliced_config(operation, config, before, after):
    """The config of an operation that keeps some of its channels.

    Args:
        operation: whose config it is.
        config: which stays as it is.
        before: `(Labels read, positions of them that stay)`, of the first tensor that it reads; None where it reads
            none.
        after: the same of the tensor that it makes.
    """
    change = _CHANGES.get(type(operation), _CHANGES.get(type(operation).__name__))
    return config | change(config, before, after) if change else config


def _filters(config, before, after):
    changes = {"filters": len(after[1])}
    if config.get("groups", 1) > 1:
        changes["groups"] = config["groups"] * len(after[1]) // len(after[0].ids)
    return changes


def _units(config, before, after):
    return {"units": len(after[1])}


def _groups(config, before, after):
    return {"groups": config["groups"] * len(after[1]) // len(after[0].ids)}


def _target_shape(config, before, after):
    labels, kept = after
    shape = list(config["target_shape"])
    if shape[labels.axis - 1] != -1:
        shape[labels.axis - 1] = len(kept)
    return {"target_shape": tuple(shape)}


def _constants(config, before, after):
    """Scale and offset, where there is one per channel."""
    labels, kept = before
    values = {name: np.asarray(keras.saving.deserialize_keras_object(config[name])) for name in ("scale", "offset")}
    return {name: value[kept].tolist() for name, value in values.items() if value.shape == labels.ids.shape}


def _output_shape(config, before, after):
    return {"output_shape": (*config["output_shape"][:-1], len(after[1]))}


def _padding(config, before, after):
    """Zeros that stand for channels that are no longer there are not appended either."""
    labels, kept = after
    first, last = config["pad_width"][labels.axis]
    left = [int(np.sum(kept < first)), int(np.sum(kept >= len(labels.ids) - last))]
    return {"pad_width": [left if axis == labels.axis else list(w) for axis, w in enumerate(config["pad_width"])]}


_CHANGES = {
    **dict.fromkeys((*CONVOLUTIONS, *TRANSPOSED, *SEPARABLE), _filters),
    keras.layers.Dense: _units,
    keras.layers.GroupNormalization: _groups,
    keras.layers.Reshape: _target_shape,
    keras.layers.Rescaling: _constants,
    keras.layers.EinsumDense: _output_shape,
    "Pad": _padding,
}
