"""Rows of the layers whose weights take two or three values."""

import reference
from layer_case import LayerCase

import layers

BAD_CONV = (
    ({"filters": 0, "kernel_size": 3}, "filters=0"),
    ({"filters": 2, "kernel_size": (3, 0)}, "kernel_size=0"),
    ({"filters": 2, "kernel_size": 3, "strides": -1}, "strides=-1"),
    ({"filters": 2, "kernel_size": 3, "padding": "full"}, "padding='full'"),
)

FEW_BITS = (
    LayerCase(
        "BinaryConv",
        lambda: layers.BinaryConv(5, 3, strides=2),
        (9, 8, 3),
        reference.binary,
        bad=(
            *BAD_CONV,
            ({"filters": 2, "kernel_size": 3, "rounding": "up"}, "rounding='up'"),
            ({"filters": 2, "kernel_size": 3, "seed": -1}, "seed=-1"),
        ),
    ),
    LayerCase(
        "BinaryConv, scaled and stochastic",
        lambda: layers.BinaryConv(5, (3, 2), padding="valid", scaled=True, rounding="stochastic", seed=3),
        (7, 8, 3),
        reference.binary,
        is_random=True,
    ),
    LayerCase(
        "BinaryDense",
        lambda: layers.BinaryDense(5, scaled=True, use_bias=False),
        (3, 4, 7),
        reference.binary,
        bad=(({"units": 0}, "units=0"), ({"units": 2, "rounding": None}, "rounding=None")),
    ),
    LayerCase(
        "TernaryConv",
        lambda: layers.TernaryConv(5, 3),
        (9, 8, 3),
        reference.ternary,
        bad=(
            *BAD_CONV,
            ({"filters": 2, "kernel_size": 3, "method": "tnt"}, "method='tnt'"),
            ({"filters": 2, "kernel_size": 3, "threshold": -0.1}, "threshold=-0.1"),
            ({"filters": 2, "kernel_size": 3, "method": "ttq", "threshold": 1}, "threshold=1"),
        ),
    ),
    LayerCase(
        "TernaryConv, trained scales",
        lambda: layers.TernaryConv(5, 3, method="ttq", threshold=0.3, strides=(1, 2), padding="valid"),
        (7, 8, 3),
        reference.ternary,
    ),
    LayerCase(
        "TernaryDense",
        lambda: layers.TernaryDense(5, method="ttq"),
        (3, 4, 7),
        reference.ternary,
        bad=(({"units": 0}, "units=0"), ({"units": 2, "threshold": "mean"}, "threshold='mean'")),
    ),
)
