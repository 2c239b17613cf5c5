"""How BatchNormalization at inference becomes part of the weights of the layer before it, or of the one behind it."""

import keras
import numpy as np

DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
PLAIN = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.Dense)
KNOWN = (*DEPTHWISE, *SEPARABLE, *TRANSPOSED, *PLAIN)
_FULL_WEIGHTS = {"float32", "mixed_float16", "mixed_bfloat16"}  # policies that store weights in single precision


def why_not_before(layer, normalization):
    """Why a layer cannot take in the normalization of its outputs; empty where it can."""
    if type(layer) not in KNOWN:  # a subclass may compute anything
        return f"a {type(layer).__name__} comes before it"
    if layer.activation is not keras.activations.linear:
        return f"the activation of {layer.name!r} comes before it"
    if layer.activity_regularizer is not None:
        return f"{layer.name!r} has a penalty on its outputs"
    return _why_not_joined(layer, normalization)


def why_not_behind(layer, normalization):
    """Why a layer cannot take in the normalization of its inputs; empty where it can."""
    if type(layer) not in KNOWN or isinstance(layer, TRANSPOSED):  # where kernels overlap less, at the borders
        return f"a {type(layer).__name__} comes behind it"
    is_reaching = not isinstance(layer, keras.layers.Dense) and set(layer.kernel_size) != {1}
    if is_reaching and layer.padding != "valid":
        return f"{layer.name!r} behind it pads with zeros that are not normalized"
    return _why_not_joined(layer, normalization)


def _why_not_joined(layer, normalization):
    if type(normalization) is not keras.layers.BatchNormalization:
        return f"{type(normalization).__name__} may compute anything"
    last = normalization.input_spec.ndim - 1
    if normalization.axis not in (-1, last) or getattr(layer, "data_format", "channels_last") != "channels_last":
        return "channels do not stand last"
    policies = {layer.dtype_policy.name, normalization.dtype_policy.name}
    if len(policies) > 1 or not policies <= _FULL_WEIGHTS:
        return "its weights are not of single precision"
    if normalization.activity_regularizer is not None:
        return "it has a penalty on its outputs"
    if getattr(layer, "lora_enabled", False):
        return f"{layer.name!r} has an adapter"
    return ""


def factors_and_offsets(normalization, read):
    """What a normalization at inference multiplies each channel by, and then adds.

    Args:
        normalization: BatchNormalization.
        read: function of a variable to the array or tensor that is computed with.
    """
    factors = (read(normalization.moving_variance) + normalization.epsilon) ** -0.5
    if normalization.gamma is not None:
        factors = factors * read(normalization.gamma)
    offsets = -read(normalization.moving_mean) * factors
    return factors, offsets if normalization.beta is None else offsets + read(normalization.beta)


def by_output(layer, factors):
    """Factors per output channel in the shape in which they multiply the last kernel of a layer."""
    if isinstance(layer, DEPTHWISE):
        return keras.ops.reshape(factors, (-1, layer.depth_multiplier))
    return keras.ops.reshape(factors, (-1, 1)) if isinstance(layer, TRANSPOSED) else factors


def before(layer, normalization):
    """A new layer that computes what `layer` and the normalization of its outputs compute."""
    factors, offsets = factors_and_offsets(normalization, in_double)
    *first, last = _kernels(layer)
    scaled = last * keras.ops.convert_to_numpy(by_output(layer, factors))
    return _remade(layer, [*first, scaled], _bias(layer) * factors + offsets)


def behind(layer, normalization):
    """A new layer that computes what the normalization of its inputs and `layer` compute."""
    factors, offsets = factors_and_offsets(normalization, in_double)
    first, *rest = _kernels(layer)
    is_by_channel = isinstance(layer, (*DEPTHWISE, *SEPARABLE))
    spread = (lambda x: x[:, None]) if is_by_channel else (lambda x: _by_group(layer, x))
    axes = tuple(range(first.ndim - 2)) if is_by_channel else tuple(range(first.ndim - 1))
    added = np.sum(first * spread(offsets), axis=axes).reshape(-1)
    for kernel in rest:  # the pointwise one of separable convolutions
        added = added @ kernel.reshape(kernel.shape[-2:])
    return _remade(layer, [first * spread(factors), *rest], _bias(layer) + added)


def _by_group(layer, values):
    """Values per input channel as `(channels of a group, outputs)`: each output sees the channels of its group."""
    groups = getattr(layer, "groups", 1)
    outputs = layer.units if isinstance(layer, keras.layers.Dense) else layer.filters
    return np.repeat(values.reshape(groups, -1).T, outputs // groups, axis=1)


def _kernels(layer):
    if isinstance(layer, SEPARABLE):
        return [in_double(layer.depthwise_kernel), in_double(layer.pointwise_kernel)]
    return [in_double(layer.kernel)]


def _bias(layer):
    return 0.0 if layer.bias is None else in_double(layer.bias)


def _remade(layer, kernels, bias):
    new = type(layer).from_config(layer.get_config() | {"use_bias": True})
    first = kernels[0].shape
    channels = first[-1] if isinstance(layer, TRANSPOSED) else first[-2] * getattr(layer, "groups", 1)
    axes = 1 if isinstance(layer, keras.layers.Dense) else len(layer.kernel_size) + 1
    new.build((*(None,) * axes, channels))
    new.set_weights([*kernels, bias])
    return new


def in_double(variable):
    """A weight in double precision: rounding happens once, at the end."""
    return keras.ops.convert_to_numpy(variable).astype(np.float64)
