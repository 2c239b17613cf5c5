"""The algorithms that can take a convolution's place."""

import keras

import layers

_LEAST_CHANNELS = 16  # with fewer, bringing pixels into another basis costs more than any product saves
_LEAST_KERNEL = 7  # for the Fourier transform


def candidates(layer, input_shape):
    """`{name: configuration}` of layers that compute what a built convolution computes, by other algorithms.

    Args:
        layer: operation of a model.
        input_shape: `(batch, height, width, channels)` as it will run, all known.

    Returns:
        name to `(class, arguments beside those of the convolution)`; empty where only direct convolution applies.
    """
    if type(layer) is not keras.layers.Conv2D or not _is_plain(layer):
        return {}
    batch, height, width, channels = input_shape
    if min(channels, layer.filters) < _LEAST_CHANNELS:
        return {}
    if tuple(layer.kernel_size) == (3, 3):
        tiles = {2: min(height, width) <= 32, 3: min(height, width) <= 16, 4: True}
        found = {f"winograd {tile}": _winograd(tile, None, batch) for tile, is_worth in tiles.items() if is_worth}
        if height >= 48:
            found["winograd 4 in strips"] = _winograd(4, 4, 1)
        if batch > 1 and height >= 14:
            found["winograd 4 by image"] = _winograd(4, None, 1)
        return found
    return {"fft": (layers.FFTConv2D, {})} if min(layer.kernel_size) >= _LEAST_KERNEL else {}


def _winograd(tile, rows, images):
    return layers.WinogradConv2D, {"tile": tile, "rows": rows, "images": images}


def _is_plain(layer):
    return (
        tuple(layer.strides) == tuple(layer.dilation_rate) == (1, 1)
        and layer.groups == 1
        and layer.data_format == "channels_last"
        and layer.dtype_policy.name == "float32"
        and not layer.lora_enabled
    )


def made(layer, kind, arguments, **changes):
    """A layer of another algorithm with the arguments of `layer`, not built."""
    return kind.from_config(layer.get_config() | arguments | changes)


def for_serving(layer, kind, arguments, input_shape, **changes):
    """A layer of another algorithm with the weights of a built `layer`, its kernel transformed once and for all."""
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
