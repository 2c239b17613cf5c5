"""The layers of quantization in plain NumPy, through the integers that they stand for."""

import numpy as np
from reference import convolve


def _value(variable):
    import keras

    return keras.ops.convert_to_numpy(variable).astype(np.float64)


def fake_quantize(layer, images):
    """Asymmetric, per tensor: to integers and back."""
    lowest, highest = _value(layer.lowest), _value(layer.highest)
    steps = 2**layer.bits - 1
    scale = (highest - lowest) / steps
    zero = np.round(-lowest / scale)
    integers = np.clip(np.floor(np.asarray(images, np.float64) / scale + zero + 0.5), 0, steps)
    return (integers - zero) * scale


def integers_of(kernel, axes, bits=8):
    """(integers, scales): symmetric, with one scale for all that differs along `axes` alone."""
    scales = np.abs(kernel).max(axes, keepdims=True) / (2 ** (bits - 1) - 1)
    return np.round(kernel / scales), scales


def fake_quantized_kernel(layer, images):
    """The product of the inputs and the integers, times the scales."""
    kernel = _value(layer.layer.kernel)
    bias = 0.0 if layer.layer.bias is None else _value(layer.layer.bias)
    kind = type(layer.layer).__name__
    axes = {"Conv2D": (0, 1, 2), "DepthwiseConv2D": (0, 1), "Dense": (0,)}[kind] if layer.per_channel else None
    integers, scales = integers_of(kernel, axes, layer.bits)
    if kind == "Dense":
        return np.asarray(images, np.float64) @ integers * scales[0] + bias
    if kind == "Conv2D":
        products = convolve(images, integers, strides=layer.layer.strides, padding=layer.layer.padding)
        return np.tanh(products * scales[0, 0] + bias)
    parts = [
        convolve(images[..., place : place + 1], integers[:, :, place : place + 1]) * scales[0, 0, place]
        for place in range(kernel.shape[2])
    ]
    return np.concatenate(parts, -1) + bias
