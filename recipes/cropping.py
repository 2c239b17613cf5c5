"""A classifier that averages over crops of an image: one definition for measuring, predicting and serving."""

import dataclasses

import keras

import layers
from recipes.checks import check_choice

CROPS = (1, 2, 5, 10, "resnet")
_LARGER = 8 / 7  # 256 for 224
_SCALES = 640 / 224  # the largest of ResNet's


def check_crops(crops, average, where):
    """Raise ValueError unless these are a number of crops, or `"resnet"`, and what is averaged."""
    check_choice(where, "crops", crops, CROPS)
    check_choice(where, "average", average, ("probabilities", "logits"))


def with_crops(result, crops, average="probabilities"):
    """The classifier that averages over crops of an image that is taken larger, 8/7 times, or 20/7 for `"resnet"`.

    Args:
        result: Result; handed back for one crop.
        crops: see `layers.CropAverage`.
        average: likewise.
    """
    if crops == 1:
        return result
    larger = layers.CropAverage(result.model, crops, average)
    factor = _SCALES if crops == "resnet" else _LARGER
    size = tuple(round(side * factor) for side in result.image_size)
    image = keras.Input((*size, result.channels), name="images")
    model = keras.Model(image, larger(image), name=result.model.name)
    return dataclasses.replace(result, model=model, image_size=size)


def passes_of(result):
    """How many times as many pixels a classifier of `with_crops` sees as one of a single crop."""
    return next((layer.passes for layer in result.model.layers if isinstance(layer, layers.CropAverage)), 1.0)
