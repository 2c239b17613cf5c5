"""The statistics of BatchNormalization measured anew, for weights that are no longer those they belong to."""

import keras

_BATCH = 32


def renormalize(model, images):
    """Set moving means and variances to those of images, in place; nothing else changes.

    Args:
        model: flat functional model.
        images: `(images, height, width, channels)`, RGB 0–255.
    """
    found = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = [(layer.momentum, layer.trainable) for layer in found]
    for number, start in enumerate(range(0, len(images) if found else 0, _BATCH)):
        for layer in found:
            layer.momentum, layer.trainable = number / (number + 1), True  # the mean of all batches so far
        model(keras.ops.cast(images[start : start + _BATCH], model.inputs[0].dtype), training=True)
    for layer, (momentum, is_trainable) in zip(found, before, strict=True):
        layer.momentum, layer.trainable = momentum, is_trainable
