"""A network whose layers multiply by weights of two or three values, and the same in plain Keras layers."""

import keras
import numpy as np

import layers
from recipes.bases.flattening import flat_copy
from recipes.bases.rewiring import Wiring, detached

KINDS = {
    keras.layers.Conv2D: (layers.BinaryConv, layers.TernaryConv),
    keras.layers.Dense: (layers.BinaryDense, layers.TernaryDense),
}
METHODS = {"binary": ("bwn", "binaryconnect"), "ternary": ("twn", "ttq")}
FEW_BITS = (layers.BinaryConv, layers.BinaryDense, layers.TernaryConv, layers.TernaryDense)
_SAME = ("name", "trainable", "dtype", "activation", "use_bias", "activity_regularizer")


def with_few_bits(model, bits, *, method=None, keep=()):
    """A network with binary or ternary layers in the place of convolutions and dense ones, of the same real weights.

    Args:
        model: keras.Model, functional or sequential, with one input and one output.
        bits: `"binary"` or `"ternary"`.
        method: see `recipes.few_bits`.
        keep: names of layers that stay.

    Returns:
        `(model, notes)`: a new keras.Model, and `{layer: why it was left alone}`.
    """
    flat = flat_copy(model, "few_bits")
    wiring = Wiring(flat)
    replaced, notes = {}, {}
    for name in weighted_names(flat):
        layer = wiring.operations[name]
        reason = "it is to be kept" if name in keep else _why_not(layer)
        if reason:
            notes[name] = reason
        else:
            replaced[name] = _few(layer, bits, method or METHODS[bits][0])
    return detached(wiring.rewired(replaced=replaced)) if replaced else flat, notes


def weighted_names(model):
    """Names of the layers of a flat model that multiply by weights, in the model's order."""
    return [layer.name for layer in model.layers if any(len(weight.shape) > 1 for weight in layer.weights)]


def _why_not(layer):
    if type(layer) not in KINDS:
        return f"there is no {type(layer).__name__} of few bits"
    if getattr(layer, "groups", 1) > 1:
        return f"it is in {layer.groups} groups"
    if set(getattr(layer, "dilation_rate", (1,))) != {1}:
        return f"it is dilated by {layer.dilation_rate}"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "channels do not stand last"
    if getattr(layer, "padding", "same") not in ("same", "valid"):
        return f"it is padded {layer.padding!r}"
    if layer.kernel_constraint is not None or layer.bias_constraint is not None:
        return "its weights have a constraint"
    if layer.dtype_policy.name != "float32" or layer.lora_enabled:
        return "it is not of single precision, or has an adapter"
    return ""


def _few(layer, bits, method):
    """A built layer of few bits with the weights of a layer."""
    kind = KINDS[type(layer)][bits == "ternary"]
    config = layer.get_config()
    arguments = {name: config[name] for name in _SAME if name in config}
    if isinstance(layer, keras.layers.Conv2D):
        arguments |= {name: config[name] for name in ("filters", "kernel_size", "strides", "padding")}
    else:
        arguments["units"] = config["units"]
    arguments |= {"scaled": method == "bwn"} if bits == "binary" else {"method": method}
    new = kind.from_config(arguments)
    new.build((*(None,) * (len(layer.kernel.shape) - 1), layer.kernel.shape[-2]))
    for name in ("kernel", "bias"):
        if getattr(new, name) is not None:
            getattr(new, name).assign(getattr(layer, name))
    if method == "ttq":
        _start_scales(new)
    return new


def _start_scales(layer):
    """Both scales where the kernel that the layer now has puts them, as `build` does for a random one."""
    magnitudes = np.abs(keras.ops.convert_to_numpy(layer.kernel))
    used = magnitudes > layer.limit_share * magnitudes.max(initial=0)
    scale = magnitudes[used].mean() if used.any() else 0.0
    layer.positive_scale.assign(scale)
    layer.negative_scale.assign(scale)


def in_plain_layers(model):
    """The same network in layers of Keras alone: the two or three values of each weight, in single precision.

    For formats and programs that know nothing of few bits. It is no smaller, and would train as any other.
    """
    wiring = Wiring(model)
    few = {name: layer for name, layer in wiring.operations.items() if isinstance(layer, FEW_BITS)}
    replaced = {name: _plain(layer) for name, layer in few.items()}
    return detached(wiring.rewired(replaced=replaced))


def _plain(layer):
    kind = next(kind for kind, kinds in KINDS.items() if isinstance(layer, kinds))
    config = layer.get_config()
    arguments = kind(1, 1).get_config().keys() if kind is keras.layers.Conv2D else kind(1).get_config().keys()
    new = kind.from_config({name: value for name, value in config.items() if name in arguments})
    new.build((*(None,) * (len(layer.kernel.shape) - 1), layer.kernel.shape[-2]))
    bias = [] if layer.bias is None else [keras.ops.convert_to_numpy(layer.bias)]
    new.set_weights([layers.unpack_weights(layers.packed_weights(layer)), *bias])
    return new
