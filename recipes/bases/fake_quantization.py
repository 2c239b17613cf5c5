"""Networks that compute, in float, what int8 arithmetic would: to be trained for it, and written as int8 files."""

import keras
import numpy as np

import layers
from recipes.bases.absorbing import factors_and_offsets, in_double
from recipes.bases.calibrating import find_ranges, is_fixed
from recipes.bases.flattening import flat_copy
from recipes.bases.precisions import halves, in_float32
from recipes.bases.rewiring import Wiring
from recipes.bases.simplifying import is_relu, simplified

_FUSED = (keras.activations.linear, keras.activations.relu, keras.activations.relu6)
# They hand on values that the tensor before them could hold already.
_PASSING = (
    keras.layers.ActivityRegularization,
    keras.layers.AveragePooling2D,
    keras.layers.Cropping2D,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.MaxPooling2D,
    keras.layers.Permute,
    keras.layers.Reshape,
    keras.layers.SpatialDropout2D,
    keras.layers.UpSampling2D,
    keras.layers.ZeroPadding2D,
)


def fake_quantized(model, images, *, per_channel=True, bits=8, kept=()):
    """A model whose kernels and activations are rounded as an int8 file's are, and which can be trained.

    BatchNormalization is folded into convolutions first, and one that stands alone becomes a 1×1 depthwise
    convolution; so what is rounded is what runs. Kernels get a scale per channel, activations one per tensor: behind
    each operation, or behind the ReLU that is fused with it. What comes before the first kernel stays in float.

    Args:
        model: flat functional model with one input and one output; it stays as it is.
        images: uint8 or float32 `(images, height, width, channels)`, real ones: the ranges of activations come of them.
        per_channel: whether each channel of a kernel has a scale of its own.
        bits: of a weight; activations have 8.
        kept: names of layers whose kernels stay in float.

    Returns:
        `(keras.Model, {layer: why it was left in float})`. The model has FakeQuantize and FakeQuantizedKernel layers;
        `settled` gives the one to keep after training.
    """
    prepared = _split(simplified(in_float32(model, "quantize"), is_reordered=False))
    wiring = Wiring(prepared)
    kernels = [name for name in wiring.operations if _is_kernel(wiring, name) and name not in kept]
    before, behind = _places(wiring, kernels)
    ranges = find_ranges(wiring, [*before, *behind], images, slack=[place for place in before if place is not None])
    first = prepared.inputs[0].name
    rounded = {
        place: layers.FakeQuantize(
            *ends, momentum=1.0 if is_fixed(wiring, place) else 0.99, name=f"{place or first}_quantized"
        )
        for place, ends in ranges.items()
    }
    replaced = {
        name: layers.FakeQuantizedKernel(wiring.operations[name], per_channel=per_channel, bits=bits, name=name)
        for name in kernels
    }
    image = keras.Input(prepared.input_shape[1:], dtype=prepared.input.dtype, name=first)
    start = rounded.pop(None)(image) if None in rounded else image
    outputs = wiring.follow(start, replaced=replaced, after=rounded)
    return keras.Model(image, outputs, name=model.name), _notes(prepared, kernels, kept)


def settled(model):
    """The model that computes at inference what `model`, of `fake_quantized`, does: plain layers with rounded kernels.

    Its FakeQuantize layers hold the ranges, from which an int8 file of just these numbers is written. Biases are
    rounded as they are there: in the steps of the products that they are added to.
    """
    wiring = Wiring(model)
    kernels = {
        name: _settled(operation, _step(wiring, wiring.sources[name][0]))
        for name, operation in wiring.operations.items()
        if isinstance(operation, layers.FakeQuantizedKernel)
    }
    return wiring.rewired(replaced=kernels) if kernels else model


def _settled(wrapped, step):
    layer = wrapped.plain_layer()
    if layer.bias is not None and step is not None:
        steps = step * in_double(wrapped.scales()).reshape(-1)
        bias = in_double(layer.bias)
        steps = np.maximum(steps, np.abs(bias) / 2**30)  # a bias has 32 bits
        layer.bias.assign(np.round(bias / np.where(steps, steps, 1)) * steps)
    return layer


def _step(wiring, name):
    """The distance of the values that a tensor may have; None where it is not rounded."""
    while name is not None and isinstance(wiring.operations[name], _PASSING):
        name = wiring.sources[name][0]
    rounding = wiring.operations.get(name)
    if not isinstance(rounding, layers.FakeQuantize):
        return None
    return float(rounding.highest - rounding.lowest) / (2**rounding.bits - 1)


def has_ranges(model):
    """Whether a model holds the ranges of its activations, so that its int8 file needs no images."""
    return any(isinstance(operation, layers.FakeQuantize) for operation in model.layers)


def with_rounded_kernels(model):
    """`(a copy with each kernel as int8 holds it, {layer: why it was left as it is})`, normalization folded before."""
    copy = simplified(flat_copy(model, "quantize"), is_reordered=False)
    wiring = Wiring(copy)
    kernels = [name for name in wiring.operations if _is_kernel(wiring, name)]
    replaced = {name: layers.FakeQuantizedKernel(wiring.operations[name], name=name) for name in kernels}
    for name, layer in replaced.items():
        layer.build(wiring.operations[name].input.shape)
    plain = {name: layer.plain_layer() for name, layer in replaced.items()}
    return wiring.rewired(replaced=plain), _notes(copy, kernels, ())


def _is_kernel(wiring, name):
    operation = wiring.operations[name]
    return layers.is_quantizable(operation) and operation.activity_regularizer is None


def _notes(model, kernels, kept):
    """Of the layers that have weights, those that stay in float."""
    return {
        layer.name: "kept in float, as asked" if layer.name in kept else f"{type(layer).__name__} stays in float"
        for layer in model.layers
        if layer.weights and layer.name not in kernels
    }


def _split(model):
    """The model with activations that no int8 product computes along as layers of their own, and BatchNormalization
    that stands alone as convolution."""
    wiring, replaced = Wiring(model), {}
    for name, operation in wiring.operations.items():
        if layers.is_quantizable(operation) and operation.activation not in _FUSED:
            replaced[name] = halves(operation)
        elif type(operation) is keras.layers.BatchNormalization and _is_by_channel(wiring, name):
            replaced[name] = _as_convolution(operation)
    return wiring.rewired(replaced=replaced) if replaced else model


def _is_by_channel(wiring, name):
    normalization = wiring.operations[name]
    return wiring.calls[name] == 1 and len(normalization.input.shape) == 4 and normalization.axis in (-1, 3)


def _as_convolution(normalization):
    """A 1×1 depthwise convolution that scales and shifts each channel by as much."""
    factors, offsets = factors_and_offsets(normalization, in_double)
    layer = keras.layers.DepthwiseConv2D(1, name=normalization.name)
    layer.build((None, None, None, len(factors)))
    layer.set_weights([factors.reshape(1, 1, -1, 1), offsets])
    return layer


def _places(wiring, kernels):
    """Names of the operations whose output is rounded, in two lists: before the first kernels, in the preprocessing,
    what a kernel takes, None standing for the model's input; and behind them."""
    behind, before = set(), []
    for name, sources in wiring.sources.items():
        if name in kernels or behind & set(sources):
            behind.add(name)
        if name in kernels:
            before += [source for source in sources if source not in behind]
    places = [name for name in wiring.sources if name in behind and _is_place(wiring, name, kernels)]
    return list(dict.fromkeys(before)), places


def _is_place(wiring, name, kernels):
    operation, following = wiring.operations[name], wiring.next_alone(name)
    if isinstance(operation, _PASSING):
        return False
    if following is not None and _is_fused(following) and (name in kernels or type(operation) is keras.layers.Add):
        return False
    return name in kernels or None not in wiring.users.get(name, ())


def _is_fused(operation):
    """Whether an operation is one that int8 kernels do along with a product or a sum."""
    if type(operation) is keras.layers.ReLU:
        config = operation.get_config()
        return config["max_value"] in (None, 6) and not config["negative_slope"] and not config["threshold"]
    is_activation = type(operation) is keras.layers.Activation
    return is_relu(operation) or (is_activation and operation.activation is keras.activations.relu6)
