"""The algorithms that can take the place of a convolution or a dense layer."""

import math

import keras

import layers

_LEAST_CHANNELS = 16  # with fewer, bringing pixels into another basis costs more than any product saves
_LEAST_KERNEL = 7  # for the Fourier transform
_LEAST_WEIGHTS = 2**22  # of a dense layer: fewer gain less than compiling for each number of images costs
_GROUP = 4  # images at once where maps are small: fewer make thin products, more leave the cache


def candidates(layer, input_shape):
    """`{name: configuration}` of layers that compute what a built convolution or dense layer computes, otherwise.

    Args:
        layer: operation of a model.
        input_shape: as it will run, all known: `(batch, height, width, channels)` of a convolution.

    Returns:
        name to `(class, arguments beside those of the layer)`; empty where only the layer itself applies.
    """
    if type(layer) is keras.layers.Dense:
        is_plain = _is_single(layer) and None not in input_shape
        is_worth = is_plain and math.prod(layer.kernel.shape) >= _LEAST_WEIGHTS
        return {"transposed": (layers.TransposedDense, {})} if is_worth else {}
    if type(layer) is not keras.layers.Conv2D or not _is_plain(layer):
        return {}
    batch, height, width, channels = input_shape
    if min(channels, layer.filters) < _LEAST_CHANNELS:
        return {}
    if tuple(layer.kernel_size) == (3, 3):
        return _winograds(batch, min(height, width), height)
    return {"fft": (layers.FFTConv2D, {})} if min(layer.kernel_size) >= _LEAST_KERNEL else {}


def _winograds(batch, side, height):
    """`{name: (class, arguments)}`: tiles, strips and groups of images that leave what is in between in the cache."""
    tiles = {2: side <= 32, 3: side <= 16, 4: True}
    found = {f"winograd {tile}": {"tile": tile} for tile, is_worth in tiles.items() if is_worth}
    if height < 48:
        found["winograd 4 single"] = {"products": "single"}
    if height >= 14:
        found["winograd 4 by image"] = {"images": 1}
        found["winograd 4 by image, compiled"] = {"images": 1, "products": "compiled"}
    if height >= 80:
        found["winograd 4 in strips, compiled"] = {"rows": 4, "images": 1, "products": "compiled"}
    elif 14 <= height < 48 and batch > _GROUP:
        found["winograd 4 in groups, single"] = {"images": _GROUP, "products": "single"}
        found["winograd 4 in groups, compiled"] = {"images": _GROUP, "products": "compiled"}
    if batch == 1:
        found.pop("winograd 4 by image", None)  # is "winograd 4"
    return {name: (layers.WinogradConv2D, {"tile": 4} | arguments) for name, arguments in found.items()}


def _is_plain(layer):
    return (
        tuple(layer.strides) == tuple(layer.dilation_rate) == (1, 1)
        and layer.groups == 1
        and layer.data_format == "channels_last"
        and _is_single(layer)
    )


def _is_single(layer):
    """Whether it computes in single precision, with its own weights alone."""
    return layer.dtype_policy.name == "float32" and not layer.lora_enabled


def made(layer, kind, arguments, **changes):
    """A layer of another algorithm with the arguments of `layer`, not built."""
    return kind.from_config(layer.get_config() | arguments | changes)


def for_serving(layer, kind, arguments, input_shape, **changes):
    """A layer of another algorithm with the weights of a built `layer`, its kernel transformed once and for all."""
    if kind is layers.TransposedDense:
        return kind.from_dense(layer, **changes)
    other = made(layer, kind, arguments, **changes)
    other.build(input_shape)
    other.set_weights(layer.get_weights())
    return other.transformed(input_shape) if kind is layers.FFTConv2D else other.transformed()


def convolver(layer, kind, arguments, input_shape):
    """What `folded` computes `layer` by: see its `algorithms`."""
    bare = made(layer, kind, arguments, use_bias=False, activation=None)

    def prepare(kernel, is_fixed):
        if not is_fixed:
            return lambda images: bare.convolution_op(images, kernel)
        bare.build(input_shape)
        bare.set_weights([keras.ops.convert_to_numpy(kernel)])
        return bare.transformed(input_shape) if kind is layers.FFTConv2D else bare.transformed()

    return prepare
