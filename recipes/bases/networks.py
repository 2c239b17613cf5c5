"""Networks of papers, assembled from `layers`: features of images, called as the functions of `keras.applications`.

Each takes `include_top=False` (the head is added elsewhere), `weights=None` and `input_shape`, `(height, width,
channels)` of the preprocessed images. Kernels that a ReLU follows start as in He et al. 2015, "Delving deep into
rectifiers".
"""

import functools

import keras

import layers
from recipes.checks import complaint

START = "he_normal"


def _network(build):
    """A constructor from `build`, which makes features from the symbolic image."""

    @functools.wraps(build)
    def construct(include_top=False, weights=None, input_shape=None, **arguments):
        if include_top or weights is not None:
            received = f"include_top={include_top}, weights={weights!r}"
            rule, mend = "only the network without head and weights exists", "Pass include_top=False and weights=None."
            raise ValueError(complaint(build.__name__, rule, received, mend))
        image = keras.Input(input_shape, name="image")
        return keras.Model(image, build(image, **arguments), name=build.__name__)

    return construct


def _conv(filters, kernel_size, name, *, strides=1, padding="same"):
    """A convolution with bias and ReLU."""
    return keras.layers.Conv2D(
        filters, kernel_size, strides=strides, padding=padding, activation="relu", kernel_initializer=START, name=name
    )


def _conv_without_bias(filters, name, strides=1):
    return keras.layers.Conv2D(
        filters, 3, strides=strides, padding="same", use_bias=False, kernel_initializer=START, name=name
    )


def _normalized(features, name):
    features = keras.layers.BatchNormalization(name=f"{name}_bn")(features)
    return keras.layers.ReLU(name=f"{name}_relu")(features)


# Table 1 of Szegedy et al. 2014: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection.
GOOGLENET = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


@_network
def googlenet(image):
    """Szegedy et al. 2014, "Going deeper with convolutions", table 1, without auxiliary classifiers and local
    response normalization: features `(height / 32, width / 32, 1024)`.
    """
    features = _conv(64, 7, "stem_conv1", strides=2)(image)
    features = _pool("stem_pool1")(features)
    features = _conv(64, 1, "stem_conv2_reduce")(features)
    features = _conv(192, 3, "stem_conv2")(features)
    for row in GOOGLENET:
        features = _pool(f"inception_{row}_pool")(features) if row in ("3a", "4a", "5a") else features
        features = inception(row)(features)
    return features


def inception(row):
    """The inception block of a row of GoogLeNet's table, such as `"3a"`."""
    one, reduce_three, three, reduce_five, five, projection = GOOGLENET[row]
    return layers.InceptionBlock(
        (one, three, five),
        reductions=(None, reduce_three, reduce_five),
        pool_projection=projection,
        kernel_initializer=START,
        name=f"inception_{row}",
    )


def _pool(name, padding="same"):
    return keras.layers.MaxPooling2D(3, strides=2, padding=padding, name=name)


# Squeeze, expand, and whether a pooling comes before.
SQUEEZENET = (
    (16, 64, True),
    (16, 64, False),
    (32, 128, True),
    (32, 128, False),
    (48, 192, True),
    (48, 192, False),
    (64, 256, False),
    (64, 256, False),
)


@_network
def squeezenet(image):
    """SqueezeNet 1.1, the authors' cheaper revision of Iandola et al. 2016, up to its classifier: 512 channels."""
    features = _conv(64, 3, "stem_conv", strides=2, padding="valid")(image)
    for number, (squeeze, expand, is_pooled) in enumerate(SQUEEZENET, start=2):
        features = _pool(f"fire{number}_pool", padding="valid")(features) if is_pooled else features
        features = layers.FireBlock(squeeze, expand, kernel_initializer=START, name=f"fire{number}")(features)
    return features


@_network
def cifar_resnet(image, depth, width=1):
    """The residual network for small images of He et al. 2015, "Deep residual learning for image recognition",
    section 4.2: features `(height / 4, width / 4, 64)`, or `width` times as many channels, as in Zagoruyko & Komodakis
    2016, "Wide residual networks".

    3×3 convolution to 16 channels → three stages of (`depth` - 2) / 6 basic units with 16, 32 and 64 times `width`
    channels, the second and third stage halving height and width. Shortcuts hold no weights (option A): where the shape
    changes they take every second pixel and append zero channels.
    """
    features = _normalized(_conv_without_bias(16, "stem_conv")(image), "stem")
    for stage, filters in enumerate((16, 32, 64)):
        for unit in range((depth - 2) // 6):
            features = layers.ResidualBottleneck(
                filters * width,
                version="v1",
                bottleneck=False,
                strides=2 if stage and not unit else 1,
                shortcut="padded",
                name=f"stage{stage}_block{unit}",
            )(features)
    return features


@_network
def cifar_densenet(image, depth, growth_rate, compact=False):
    """The densely connected network for small images of Huang et al. 2017, section 4: three equal dense blocks.

    `compact` is the paper's BC: bottlenecks of four growth rates, and half the channels after each transition.
    """
    bottleneck, per_layer = (4, 2) if compact else (None, 1)
    features = _conv_without_bias(2 * growth_rate if compact else 16, "stem_conv")(image)
    for block in range(3):
        if block:
            transition = layers.TransitionBlock(0.5 if compact else 1.0, name=f"transition{block}")
            features = transition(features)
        count = (depth - 4) // 3 // per_layer
        features = layers.DenseBlock(count, growth_rate, bottleneck=bottleneck, name=f"block{block}")(features)
    return _normalized(features, "top")


# Channels and strides of table 1 of Howard et al. 2017, after the first convolution.
MOBILENET = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


@_network
def mobilenet_separable(image):
    """Howard et al. 2017, "MobileNets", table 1, from DepthwiseSeparableConv. The row `mobilenet` is the same network
    as Keras has it, with ImageNet weights.
    """
    features = _normalized(_conv_without_bias(32, "stem_conv", strides=2)(image), "stem")
    for number, (filters, strides) in enumerate(MOBILENET, start=1):
        block = layers.DepthwiseSeparableConv(filters, strides=strides, name=f"block_{number}")
        features = block(features)
    return features


@_network
def mobilenet_full(image):
    """The network that MobileNet is compared with in table 4 of its paper: full convolutions in its blocks' place."""
    features = _normalized(_conv_without_bias(32, "stem_conv", strides=2)(image), "stem")
    for number, (filters, strides) in enumerate(MOBILENET, start=1):
        name = f"block_{number}"
        features = _normalized(_conv_without_bias(filters, f"{name}_conv", strides)(features), name)
    return features


@_network
def highway(image, depth, units):
    """Srivastava et al. 2015, "Highway networks", section 3.1: a plain layer, then highway layers, on all pixels."""
    features = keras.layers.Flatten(name="stem_pixels")(image)
    features = keras.layers.Dense(units, activation="relu", kernel_initializer=START, name="stem_dense")(features)
    for number in range(2, depth + 1):
        features = layers.HighwayBlock(units, kernel_initializer=START, name=f"highway{number}")(features)
    return features
