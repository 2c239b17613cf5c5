"""The table of networks: constructor, preprocessing, sizes and the names of their blocks."""

import dataclasses
from collections.abc import Callable
from functools import partial

from keras import applications

from recipes.bases import networks
from recipes.checks import check_choice


@dataclasses.dataclass(frozen=True)
class Base:
    """One row of the catalogue.

    Args:
        name: what users pass as `base`.
        constructor: called as a function of `keras.applications` is: `include_top`, `weights`, `input_shape`. Weights
            other than ImageNet's it need not know: they are in `recipes/bases/pretrained/`.
        preprocessing: what the network expects of RGB 0–255: `"tf"` (scaled to -1–1), `"torch"` (ImageNet mean and
            deviation), `"caffe"` (BGR, ImageNet mean subtracted) or `"inside"` (Keras' network holds it already).
        default_size: height and width that the published weights were trained at, in pixels.
        least_size: least height and width that the network can be built for, in pixels.
        blocks: `(pattern, block)` pairs: a layer whose name begins with `pattern` belongs to `block`, in which `\\1`
            is the first group of `pattern`. The first pattern that fits counts.
        fixed_size: whether Keras loads the ImageNet weights at `default_size` only.
        weights: name of the published weights, or None.
    """

    name: str
    constructor: Callable
    preprocessing: str
    default_size: int
    least_size: int
    blocks: tuple[tuple[str, str], ...] = dataclasses.field(repr=False)
    fixed_size: bool = False
    weights: str | None = "imagenet"


# What the papers call blocks, units or cells, by the names that keras.applications gives to layers.
VGG = ((r"(block\d)_", r"\1"),)
RESNET = ((r"conv1_|pool1_", "stem"), (r"(conv\d_block\d+)_", r"\1"), (r"post_", "top"))
DENSENET = ((r"conv1_|pool1$", "stem"), (r"(conv\d_block\d+)_|(pool\d)_", r"\1\2"), (r"bn$|relu$", "top"))
XCEPTION = ((r"(block\d+)_", r"\1"),)
INCEPTION = ((r"max_pooling2d(_1)?$", "stem"), (r"(mixed_?\d+[ab]?$|block\d+_\d+)", r"\1"), (r"conv_7b", "top"))
MOBILENET = ((r"conv1", "stem"), (r"conv_(?:pad|dw|pw)_(\d+)", r"block_\1"))
MOBILENET_V2 = (
    (r"Conv1|bn_Conv1", "stem"),
    (r"expanded_conv_", "block_0"),
    (r"(block_\d+)_", r"\1"),
    (r"Conv_1|out_relu", "top"),
)
MOBILENET_V3 = (
    (r"conv$|conv_bn", "stem"),
    (r"expanded_conv_(\d+)_", r"block_\1"),
    (r"expanded_conv_", "block_0"),
    (r"conv_1", "top"),
)
NASNET = (
    (r"stem_(?:conv|bn)1", "stem"),
    (r".*_(stem_\d|reduce_\d+)$", r"\1"),
    (r"(?:normal|adjust|separable)_.*_(\d+)$", r"cell_\1"),
)
EFFICIENTNET = ((r"stem_", "stem"), (r"(block\d[a-z]+)_", r"\1"), (r"top_", "top"))
CONVNEXT = (
    (r"convnext_[a-z]+_(?:prestem|stem)", "stem"),
    (r"convnext_[a-z]+_downsampling_(?:layernorm|conv)_(\d)", r"downsampling_\1"),
    (r"convnext_[a-z]+_(stage_\d_block_\d+)_", r"\1"),
    (r"layer_normalization", "top"),
)
# By the names that `networks` gives.
CIFAR_RESNET = ((r"stem_", "stem"), (r"(stage\d_block\d+)_", r"\1"))
CIFAR_DENSENET = ((r"stem_", "stem"), (r"(block\d_layer\d+)_|(transition\d)_", r"\1\2"), (r"top_", "top"))
GOOGLENET = ((r"stem_", "stem"), (r"(inception_\d[a-e])_", r"\1"))
SQUEEZENET = ((r"stem_", "stem"), (r"(fire\d)_", r"\1"))
NUMBERED_BLOCKS = ((r"stem_", "stem"), (r"(block_\d+)_", r"\1"))
HIGHWAY = ((r"stem_", "stem"), (r"(highway\d+)_", r"\1"))

CIFAR_RESNET_DEPTHS = (20, 32, 44, 56, 110)
MOBILENET_WIDTHS = (0.25, 0.50, 0.75)
MOBILENET_V2_WIDTHS = (0.35, 0.50, 0.75, 1.30, 1.40)


def width_row(name, constructor, width, blocks):
    """The row of a MobileNet of another published width; `mobilenet_025` has a quarter of the channels."""
    constructor = partial(constructor, alpha=width)
    return Base(f"{name}_{round(100 * width):03d}", constructor, "tf", 224, 32, blocks)


def paper_row(name, constructor, default_size, least_size, blocks, weights=None, **arguments):
    """The row of a network assembled from `layers`."""
    constructor = partial(constructor, **arguments)
    return Base(name, constructor, "torch", default_size, least_size, blocks, weights=weights)


ROWS = (
    #    name                   constructor                     expects   default least  blocks
    Base("vgg16", applications.VGG16, "caffe", 224, 32, VGG),
    Base("vgg19", applications.VGG19, "caffe", 224, 32, VGG),
    Base("resnet50", applications.ResNet50, "caffe", 224, 32, RESNET),
    Base("resnet101", applications.ResNet101, "caffe", 224, 32, RESNET),
    Base("resnet152", applications.ResNet152, "caffe", 224, 32, RESNET),
    Base("resnet50_v2", applications.ResNet50V2, "tf", 224, 32, RESNET),
    Base("resnet101_v2", applications.ResNet101V2, "tf", 224, 32, RESNET),
    Base("resnet152_v2", applications.ResNet152V2, "tf", 224, 32, RESNET),
    paper_row("small_resnet", networks.cifar_resnet, 32, 8, CIFAR_RESNET, weights="cifar10", depth=14, width=2),
    *(
        paper_row(f"cifar_resnet{depth}", networks.cifar_resnet, 32, 8, CIFAR_RESNET, depth=depth)
        for depth in CIFAR_RESNET_DEPTHS
    ),
    paper_row("googlenet", networks.googlenet, 224, 32, GOOGLENET),
    Base("inception_v3", applications.InceptionV3, "tf", 299, 75, INCEPTION),
    Base("inception_resnet_v2", applications.InceptionResNetV2, "tf", 299, 75, INCEPTION),
    Base("xception", applications.Xception, "tf", 299, 71, XCEPTION),
    Base("densenet121", applications.DenseNet121, "torch", 224, 32, DENSENET),
    Base("densenet169", applications.DenseNet169, "torch", 224, 32, DENSENET),
    Base("densenet201", applications.DenseNet201, "torch", 224, 32, DENSENET),
    paper_row("cifar_densenet40", networks.cifar_densenet, 32, 8, CIFAR_DENSENET, depth=40, growth_rate=12),
    paper_row(
        "cifar_densenet_bc100", networks.cifar_densenet, 32, 8, CIFAR_DENSENET, depth=100, growth_rate=12, compact=True
    ),
    Base("nasnet_mobile", applications.NASNetMobile, "tf", 224, 32, NASNET, fixed_size=True),
    Base("nasnet_large", applications.NASNetLarge, "tf", 331, 32, NASNET, fixed_size=True),
    Base("mobilenet", applications.MobileNet, "tf", 224, 32, MOBILENET),
    *(width_row("mobilenet", applications.MobileNet, width, MOBILENET) for width in MOBILENET_WIDTHS),
    paper_row("mobilenet_separable", networks.mobilenet_separable, 224, 32, NUMBERED_BLOCKS),
    paper_row("mobilenet_full", networks.mobilenet_full, 224, 32, NUMBERED_BLOCKS),
    Base("mobilenet_v2", applications.MobileNetV2, "tf", 224, 32, MOBILENET_V2),
    *(width_row("mobilenet_v2", applications.MobileNetV2, width, MOBILENET_V2) for width in MOBILENET_V2_WIDTHS),
    Base("mobilenet_v3_small", applications.MobileNetV3Small, "inside", 224, 32, MOBILENET_V3),
    Base("mobilenet_v3_large", applications.MobileNetV3Large, "inside", 224, 32, MOBILENET_V3),
    Base("efficientnet_b0", applications.EfficientNetB0, "inside", 224, 32, EFFICIENTNET),
    Base("efficientnet_b1", applications.EfficientNetB1, "inside", 240, 32, EFFICIENTNET),
    Base("efficientnet_b2", applications.EfficientNetB2, "inside", 260, 32, EFFICIENTNET),
    Base("efficientnet_b3", applications.EfficientNetB3, "inside", 300, 32, EFFICIENTNET),
    Base("efficientnet_b4", applications.EfficientNetB4, "inside", 380, 32, EFFICIENTNET),
    Base("efficientnet_b5", applications.EfficientNetB5, "inside", 456, 32, EFFICIENTNET),
    Base("efficientnet_b6", applications.EfficientNetB6, "inside", 528, 32, EFFICIENTNET),
    Base("efficientnet_b7", applications.EfficientNetB7, "inside", 600, 32, EFFICIENTNET),
    Base("efficientnet_v2_b0", applications.EfficientNetV2B0, "inside", 224, 32, EFFICIENTNET),
    Base("efficientnet_v2_b1", applications.EfficientNetV2B1, "inside", 240, 32, EFFICIENTNET),
    Base("efficientnet_v2_b2", applications.EfficientNetV2B2, "inside", 260, 32, EFFICIENTNET),
    Base("efficientnet_v2_b3", applications.EfficientNetV2B3, "inside", 300, 32, EFFICIENTNET),
    Base("efficientnet_v2_s", applications.EfficientNetV2S, "inside", 384, 32, EFFICIENTNET),
    Base("efficientnet_v2_m", applications.EfficientNetV2M, "inside", 480, 32, EFFICIENTNET),
    Base("efficientnet_v2_l", applications.EfficientNetV2L, "inside", 480, 32, EFFICIENTNET),
    Base("convnext_tiny", applications.ConvNeXtTiny, "inside", 224, 32, CONVNEXT),
    Base("convnext_small", applications.ConvNeXtSmall, "inside", 224, 32, CONVNEXT),
    Base("convnext_base", applications.ConvNeXtBase, "inside", 224, 32, CONVNEXT),
    Base("convnext_large", applications.ConvNeXtLarge, "inside", 224, 32, CONVNEXT),
    Base("convnext_xlarge", applications.ConvNeXtXLarge, "inside", 224, 32, CONVNEXT),
    paper_row("squeezenet", networks.squeezenet, 224, 32, SQUEEZENET),
    paper_row("highway10", networks.highway, 28, 4, HIGHWAY, depth=10, units=50),
)
CATALOGUE = {row.name: row for row in ROWS}


def list_bases():
    """Names of the networks that `base` accepts, related ones side by side.

    Returns:
        A tuple of strings. Beside these, `base` may be a `keras.Model` or the path of a `.keras` file.

    Example:
        >>> import recipes
        >>> "vgg16" in recipes.list_bases()
        True
    """
    return tuple(CATALOGUE)


def find_base(name, *, where="finetune"):
    """The row of the catalogue called `name`; ValueError with the nearest spelling when there is none."""
    check_choice(where, "base", name, list_bases())
    return CATALOGUE[name]
