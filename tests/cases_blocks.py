"""Rows of the blocks."""

import reference_blocks as reference
from layer_case import LayerCase

import layers

BLOCKS = (
    LayerCase(
        "InceptionBlock, naive",
        lambda: layers.InceptionBlock((2, 3, 4)),
        (7, 6, 3),
        reference.inception_block,
        bad=(
            ({"filters": 8}, "filters=8"),
            ({"filters": (2, 3)}, "filters=(2, 3)"),
            ({"filters": (2, 0, 4)}, "filters=0"),
            ({"filters": (2, 3, 4.5)}, "filters=4.5"),
            ({"filters": (), "kernel_sizes": ()}, "kernel_sizes=()"),
            ({"filters": (2, 3), "kernel_sizes": (1, 4)}, "kernel_sizes=4"),
            ({"filters": (2, 3), "kernel_sizes": (1, -3)}, "kernel_sizes=-3"),
            ({"filters": (2, 3, 4), "reductions": (1, 2)}, "reductions=(1, 2)"),
            ({"filters": (2, 3, 4), "reductions": (None, -1, 2)}, "reductions=-1"),
            ({"filters": (2, 3, 4), "pool": "median"}, "pool='median'"),
            ({"filters": (2, 3, 4), "pool_projection": 0}, "pool_projection=0"),
            ({"filters": (2, 3, 4), "pool": None, "pool_projection": 2}, "pool_projection=2, pool=None"),
        ),
    ),
    LayerCase(
        "InceptionBlock, reduced",
        lambda: layers.InceptionBlock((2, 3, 4), reductions=(None, 2, 1), pool_projection=2),
        (7, 6, 3),
        reference.inception_block,
    ),
    LayerCase(
        "InceptionBlock, factored and normalized",
        lambda: layers.InceptionBlock(
            [3, 4],
            kernel_sizes=[1, 7],
            reductions=[None, 2],
            pool="average",
            pool_projection=2,
            factored=True,
            normalization=True,
        ),
        (8, 9, 3),
        reference.inception_block,
    ),
    LayerCase(
        "InceptionBlock, without pooling",
        lambda: layers.InceptionBlock((2, 3), kernel_sizes=(3, 3), reductions=(None, 2), pool=None, factored=True),
        (6, 7, 3),
        reference.inception_block,
    ),
    LayerCase(
        "FireBlock",
        lambda: layers.FireBlock(2, 4, expand_3x3=3),
        (6, 7, 3),
        reference.fire_block,
        bad=(
            ({"squeeze": 0, "expand_1x1": 4}, "squeeze=0"),
            ({"squeeze": 2, "expand_1x1": -4}, "expand_1x1=-4"),
            ({"squeeze": 2, "expand_1x1": 4, "expand_3x3": 1.5}, "expand_3x3=1.5"),
        ),
    ),
    LayerCase(
        "HighwayBlock, dense",
        lambda: layers.HighwayBlock(3),
        (5, 4, 3),
        reference.highway_block,
        bad=(
            ({"units": 0}, "units=0"),
            ({"kernel_size": 2}, "kernel_size=2"),
            ({"kernel_size": 0}, "kernel_size=0"),
            ({"transform_bias": "low"}, "transform_bias='low'"),
            ({"transform_bias": float("nan")}, "transform_bias=nan"),
        ),
    ),
    LayerCase(
        "HighwayBlock, convolutional",
        lambda: layers.HighwayBlock(kernel_size=3, transform_bias=-1.0),
        (6, 7, 3),
        reference.highway_block,
    ),
    LayerCase(
        "TransitionBlock",
        lambda: layers.TransitionBlock(0.5),
        (7, 8, 5),
        reference.transition_block,
        bad=(
            ({"compression": 0}, "compression=0"),
            ({"compression": 1.5}, "compression=1.5"),
            ({"compression": "half"}, "compression='half'"),
        ),
    ),
    LayerCase(
        "DenseBlock",
        lambda: layers.DenseBlock(3, 2),
        (6, 7, 3),
        reference.dense_block,
        bad=(
            ({"depth": 0, "growth_rate": 2}, "depth=0"),
            ({"depth": 2, "growth_rate": 0}, "growth_rate=0"),
            ({"depth": 2, "growth_rate": 0.5}, "growth_rate=0.5"),
            ({"depth": 2, "growth_rate": 2, "bottleneck": 0}, "bottleneck=0"),
            ({"depth": 2, "growth_rate": 2, "dropout": 1}, "dropout=1"),
            ({"depth": 2, "growth_rate": 2, "dropout": -0.1}, "dropout=-0.1"),
        ),
    ),
    LayerCase(
        "DenseBlock, bottleneck, computed again",
        lambda: layers.DenseBlock(2, 2, bottleneck=4, remat=True),
        (6, 7, 3),
        reference.dense_block,
    ),
    LayerCase(
        "DenseBlock, dropout",
        lambda: layers.DenseBlock(2, 2, dropout=0.2),
        (6, 7, 3),
        reference.dense_block,
        is_random=True,
    ),
    LayerCase(
        "ResidualBottleneck v1.5, projection by itself",
        lambda: layers.ResidualBottleneck(2, strides=2),
        (7, 8, 3),
        reference.residual_bottleneck,
        bad=(
            ({"filters": 0}, "filters=0"),
            ({"filters": "many"}, "filters='many'"),
            ({"filters": 2, "version": "v3"}, "version='v3'"),
            ({"filters": 2, "strides": 0}, "strides=0"),
            ({"filters": 2, "shortcut": "A"}, "shortcut='A'"),
        ),
    ),
    LayerCase(
        "ResidualBottleneck v1, identity by itself",
        lambda: layers.ResidualBottleneck(2, version="v1"),
        (6, 7, 8),
        reference.residual_bottleneck,
    ),
    LayerCase(
        "ResidualBottleneck v1, projected",
        lambda: layers.ResidualBottleneck(2, version="v1", strides=2, shortcut="projection"),
        (7, 7, 8),
        reference.residual_bottleneck,
    ),
    LayerCase(
        "ResidualBottleneck v2",
        lambda: layers.ResidualBottleneck(2, version="v2", strides=2),
        (7, 8, 3),
        reference.residual_bottleneck,
    ),
    LayerCase(
        "ResidualBottleneck v1, basic, padded",
        lambda: layers.ResidualBottleneck(5, version="v1", bottleneck=False, strides=2, shortcut="padded"),
        (7, 8, 3),
        reference.residual_bottleneck,
    ),
    LayerCase(
        "ResidualBottleneck v2, basic, identity",
        lambda: layers.ResidualBottleneck(3, version="v2", bottleneck=False, shortcut="identity"),
        (6, 7, 3),
        reference.residual_bottleneck,
    ),
)
