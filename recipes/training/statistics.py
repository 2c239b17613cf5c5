"""The statistics of BatchNormalization measured anew, for weights that are no longer those they belong to."""

import keras

_TOGETHER = 32  # images


def normalizations(model):
    """The layers of BatchNormalization in a flat model."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def measure_statistics(model, images, layers=None):
    """Set moving means and variances to those of images, or of rows that stand for them, in place.

    Args:
        model: flat functional model.
        images: array of what it takes.
        layers: of BatchNormalization that are measured; None for all.
    """
    found = normalizations(model) if layers is None else layers
    settings = [(layer.momentum, layer.trainable) for layer in found]
    for number, start in enumerate(range(0, len(images), _TOGETHER)):
        for layer in found:
            layer.momentum, layer.trainable = number / (number + 1), True  # the mean of all batches so far
        model(keras.ops.cast(images[start : start + _TOGETHER], model.inputs[0].dtype), training=True)
    for layer, (momentum, is_trainable) in zip(found, settings, strict=True):
        layer.momentum, layer.trainable = momentum, is_trainable
