"""The statistics of BatchNormalization measured anew, for weights that are no longer those they belong to."""

import keras

from recipes.compression.subjects import BATCH

_IMAGES = 512  # from which statistics are measured


def renormalize(model, subject):
    """Set moving means and variances to those of training images, in place, unless validation says they are worse.

    Args:
        model: flat functional model, after a cut.
        subject: Subject, whose images they are; without data nothing changes.
    """
    found = _normalizations(model)
    if not found or subject.data is None:
        return
    before, values = subject.accuracy(model), [layer.get_weights() for layer in found]
    measure_statistics(model, subject.sample(_IMAGES).images())
    if before is not None and subject.accuracy(model) < before:
        for layer, value in zip(found, values, strict=True):
            layer.set_weights(value)


def _normalizations(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def measure_statistics(model, images):
    """Set moving means and variances to those of images `(images, height, width, channels)`, RGB 0–255, in place."""
    found = _normalizations(model)
    settings = [(layer.momentum, layer.trainable) for layer in found]
    for number, start in enumerate(range(0, len(images), BATCH)):
        for layer in found:
            layer.momentum, layer.trainable = number / (number + 1), True  # the mean of all batches so far
        model(keras.ops.cast(images[start : start + BATCH], model.inputs[0].dtype), training=True)
    for layer, (momentum, is_trainable) in zip(found, settings, strict=True):
        layer.momentum, layer.trainable = momentum, is_trainable
