"""Rows of the convolutions."""

import reference
from layer_case import LayerCase

import layers

CONVOLUTIONS = (
    LayerCase(
        "SeparableFactorConv",
        lambda: layers.SeparableFactorConv(6, 5, strides=2, between_activation="relu"),
        (11, 9, 3),
        reference.separable_factor_conv,
        bad=(
            ({"filters": 0, "kernel_size": 3}, "filters=0"),
            ({"filters": 2.5, "kernel_size": 3}, "filters=2.5"),
            ({"filters": 2, "kernel_size": (3, 0)}, "kernel_size=0"),
            ({"filters": 2, "kernel_size": (3, 3, 3)}, "kernel_size=(3, 3, 3)"),
            ({"filters": 2, "kernel_size": 3, "rank": 0}, "rank=0"),
            ({"filters": 2, "kernel_size": 3, "order": "diagonal"}, "order='diagonal'"),
            ({"filters": 2, "kernel_size": 3, "strides": -1}, "strides=-1"),
            ({"filters": 2, "kernel_size": 3, "padding": "full"}, "padding='full'"),
        ),
    ),
    LayerCase(
        "SeparableFactorConv, linear of low rank",
        lambda: layers.SeparableFactorConv(6, (3, 5), rank=2, activation=None),
        (7, 8, 3),
        reference.separable_factor_conv,
    ),
    LayerCase(
        "SeparableFactorConv, horizontal first, normalized",
        lambda: layers.SeparableFactorConv(4, 3, order="horizontal_first", normalization=True, activation="relu"),
        (8, 8, 2),
        reference.separable_factor_conv,
    ),
    LayerCase(
        "StackedConv",
        lambda: layers.StackedConv(4, 5, strides=2),
        (11, 9, 3),
        reference.stacked_conv,
        bad=(
            ({"filters": 0, "kernel_size": 3}, "filters=0"),
            ({"filters": 2, "kernel_size": 4}, "kernel_size=4"),
            ({"filters": 2, "kernel_size": 1}, "kernel_size=1"),
            ({"filters": 2, "kernel_size": (3, 5)}, "kernel_size=(3, 5)"),
            ({"filters": 2, "kernel_size": 5, "between_filters": 0}, "between_filters=0"),
            ({"filters": 2, "kernel_size": 5, "strides": 0}, "strides=0"),
            ({"filters": 2, "kernel_size": 5, "padding": "causal"}, "padding='causal'"),
        ),
    ),
    LayerCase(
        "StackedConv, 7×7 without padding",
        lambda: layers.StackedConv(4, 7, between_filters=5, padding="valid"),
        (12, 10, 2),
        reference.stacked_conv,
    ),
    LayerCase(
        "StackedConv, normalized",
        lambda: layers.StackedConv(4, 5, normalization=True, activation="relu"),
        (8, 8, 2),
        reference.stacked_conv,
    ),
    LayerCase(
        "DepthwiseSeparableConv",
        lambda: layers.DepthwiseSeparableConv(6, strides=2),
        (9, 8, 3),
        reference.depthwise_separable_conv,
        bad=(
            ({"filters": 0}, "filters=0"),
            ({"filters": 4, "kernel_size": 0}, "kernel_size=0"),
            ({"filters": 4, "width": 0}, "width=0"),
            ({"filters": 4, "width": 0.2}, "width=0.2"),
            ({"filters": 4, "width": "half"}, "width='half'"),
            ({"filters": 4, "strides": (1, 2)}, "strides=(1, 2)"),
            ({"filters": 4, "padding": "full"}, "padding='full'"),
        ),
    ),
    LayerCase(
        "DepthwiseSeparableConv, thinned",
        lambda: layers.DepthwiseSeparableConv(6, (3, 5), width=0.75),
        (8, 8, 2),
        reference.depthwise_separable_conv,
    ),
    LayerCase(
        "ResizeConv",
        lambda: layers.ResizeConv(4),
        (6, 5, 3),
        reference.resize_conv,
        bad=(
            ({"filters": 0}, "filters=0"),
            ({"filters": 4, "kernel_size": -3}, "kernel_size=-3"),
            ({"filters": 4, "factor": 0}, "factor=0"),
            ({"filters": 4, "factor": (2, -1)}, "factor=-1"),
            ({"filters": 4, "factor": (2, 2, 2)}, "factor=(2, 2, 2)"),
            ({"filters": 4, "factor": "double"}, "factor='double'"),
            ({"filters": 4, "interpolation": "cubic"}, "interpolation='cubic'"),
        ),
    ),
    LayerCase(
        "ResizeConv, bilinear",
        lambda: layers.ResizeConv(4, 5, factor=(2, 3), interpolation="bilinear"),
        (6, 5, 3),
        reference.resize_conv,
    ),
    LayerCase(
        "ResizeConv, by a fraction",
        lambda: layers.ResizeConv(4, factor=(1.5, 4 / 3), use_bias=False),
        (6, 7, 3),
        reference.resize_conv,
    ),
    LayerCase(
        "ResizeConv, bilinear by a fraction, also smaller",
        lambda: layers.ResizeConv(4, factor=(1.5, 0.6), interpolation="bilinear"),
        (7, 9, 3),
        reference.resize_conv,
    ),
)
