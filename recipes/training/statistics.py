"""The statistics of BatchNormalization measured anew, for weights that are no longer those they belong to."""

import contextlib

import keras
import numpy as np

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
    parts = (images[start : start + _TOGETHER] for start in range(0, len(images), _TOGETHER))
    batches = (keras.ops.cast(part, model.inputs[0].dtype) for part in parts)
    settle(lambda batch: model(batch, training=True), batches, normalizations(model) if layers is None else layers)


def settle(look, batches, layers):
    """Set moving means and variances to the mean of those of some batches, each counting by its images, in place.

    Args:
        look: function that runs a batch through the network in training mode; it may be traced in its first call.
        batches: arrays or tensors, images first.
        layers: of BatchNormalization that are measured.
    """
    variables = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
    sums, count = [np.zeros(variable.shape) for variable in variables], 0
    for batch in batches:
        with _forgetful(layers):
            look(batch)
        for total, variable in zip(sums, variables, strict=True):
            total += keras.ops.convert_to_numpy(variable) * len(batch)
        count += len(batch)
    for total, variable in zip(sums, variables, strict=True):
        variable.assign((total / count).astype("float32"))


@contextlib.contextmanager
def _forgetful(layers):
    """Within, BatchNormalization remembers the last batch and nothing else, whether it trains or not."""
    settings = [(layer.momentum, layer.trainable) for layer in layers]
    for layer in layers:
        layer.momentum, layer.trainable = 0.0, True
    try:
        yield
    finally:
        for layer, (momentum, is_trainable) in zip(layers, settings, strict=True):
            layer.momentum, layer.trainable = momentum, is_trainable
