"""Rows of the layers that compute as integers would."""

import keras
import reference_quantization as reference
from layer_case import LayerCase

import layers

QUANTIZATION = (
    LayerCase(
        "FakeQuantize",
        lambda: layers.FakeQuantize(-0.7, 1.5),
        (5, 4, 3),
        reference.fake_quantize,
        bad=(
            ({"minimum": 0.5}, "minimum=0.5"),
            ({"maximum": -1}, "maximum=-1"),
            ({"minimum": 0, "maximum": 0}, "maximum=0"),
            ({"momentum": 1.5}, "momentum=1.5"),
            ({"bits": 1}, "bits=1"),
            ({"bits": 32}, "bits=32"),
        ),
    ),
    LayerCase(
        "FakeQuantizedKernel",
        lambda: layers.FakeQuantizedKernel(keras.layers.Conv2D(5, (3, 2), strides=2, activation="tanh")),
        (9, 8, 3),
        reference.fake_quantized_kernel,
        bad=(
            ({"layer": "conv"}, "layer='conv'"),
            ({"layer": keras.layers.Conv1D(3, 2)}, "Conv1D"),
            ({"layer": keras.layers.Conv2D(3, 2, data_format="channels_first")}, "Conv2D"),
            ({"layer": keras.layers.Dense(3), "bits": 0}, "bits=0"),
        ),
    ),
    LayerCase(
        "FakeQuantizedKernel, depthwise",
        lambda: layers.FakeQuantizedKernel(keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)),
        (7, 8, 3),
        reference.fake_quantized_kernel,
    ),
    LayerCase(
        "FakeQuantizedKernel, dense, one scale of few bits",
        lambda: layers.FakeQuantizedKernel(keras.layers.Dense(5, use_bias=False), per_channel=False, bits=4),
        (4, 3, 6),
        reference.fake_quantized_kernel,
    ),
)
