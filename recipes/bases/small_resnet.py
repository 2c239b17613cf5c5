"""A residual network for small images: ResNet-20 of the CIFAR experiments."""

import keras

from recipes.checks import complaint

STAGE_FILTERS = (16, 32, 64)
UNITS_PER_STAGE = 3


def small_resnet(include_top=False, weights=None, input_shape=(32, 32, 3)):
    """ResNet-20 without its head, called like a function of `keras.applications`.

    3×3 convolution to 16 channels → three stages of three residual units with 16, 32 and 64 channels, the second and
    third stage halving height and width → features `(height / 4, width / 4, 64)`. Shortcuts hold no weights (option A):
    where the shape changes they take every second pixel and pad the new channels with zeros. With a linear head of
    ten classes it has 269,722 trainable parameters; the 1,376 moving statistics of BatchNormalization come on top.

    Args:
        include_top: must be False: the head is added elsewhere.
        weights: must be None: none are published.
        input_shape: `(height, width, channels)` of the preprocessed images, 8 pixels or more.

    Reference:
        He, Zhang, Ren & Sun 2015, Deep Residual Learning for Image Recognition, section 4.2. Kernels start as in
        He et al. 2015, Delving Deep into Rectifiers. The zero channels are appended, none put in front.
    """
    if include_top or weights is not None:
        received = f"include_top={include_top}, weights={weights!r}"
        mend = "Pass include_top=False and weights=None."
        raise ValueError(complaint("small_resnet", "only the network without head and weights exists", received, mend))
    image = keras.Input(input_shape, name="image")
    features = _activated(_convolution(image, 16, 1, "stem"), "stem")
    for stage, filters in enumerate(STAGE_FILTERS):
        for unit in range(UNITS_PER_STAGE):
            strides = 2 if stage > 0 and unit == 0 else 1
            features = _residual_unit(features, filters, strides, f"stage{stage}_block{unit}")
    return keras.Model(image, features, name="small_resnet")


def _residual_unit(inputs, filters, strides, name):
    features = _activated(_convolution(inputs, filters, strides, f"{name}_1"), f"{name}_1")
    features = _convolution(features, filters, 1, f"{name}_2")
    shortcut = inputs if strides == 1 else _reduced(inputs, strides, name)
    features = keras.layers.Add(name=f"{name}_add")([shortcut, features])
    return keras.layers.Activation("relu", name=f"{name}_out")(features)


def _convolution(inputs, filters, strides, name):
    convolution = keras.layers.Conv2D(
        filters,
        kernel_size=3,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )
    return keras.layers.BatchNormalization(name=f"{name}_bn")(convolution(inputs))


def _activated(inputs, name):
    return keras.layers.Activation("relu", name=f"{name}_relu")(inputs)


def _reduced(inputs, strides, name):
    pixels = keras.layers.MaxPooling2D(pool_size=1, strides=strides, name=f"{name}_pixels")(inputs)
    # Every reduction doubles the channels, so as many zero channels are missing as there are channels.
    zeros = keras.layers.Rescaling(0.0, name=f"{name}_zeros")(pixels)
    return keras.layers.Concatenate(name=f"{name}_shortcut")([pixels, zeros])
