"""How much each unit matters, by the names that papers gave to the ways of judging it."""

import keras
import numpy as np
import tensorflow as tf

from recipes.bases.flattening import accepted, call_arguments
from recipes.compression.unit_slices import MIXING, NORMALIZATIONS, OUT, kernels, sliced_axes

CRITERIA = ("l1", "l2", "gamma", "taylor", "random")


def score_units(channels, criterion, *, batches=(), seed=0):
    """The importance of each unit, as an array by id.

    Where several layers make a unit, it is the sum over them, each layer's scores as shares of their sum.

    Args:
        channels: Channels of the model.
        criterion: `"l1"` or `"l2"`, the norms of the filters; `"gamma"`, the size of BatchNormalization's factors;
            `"taylor"`, the squared change of the loss, to first order, if the unit were 0; or `"random"`.
        batches: for `"taylor"`, pairs of images and labels.
        seed: for `"random"`.
    """
    roots = channels.ties.roots(np.arange(len(channels.ties)))
    if criterion == "random":
        return np.random.default_rng(seed).random(len(roots))[roots]
    if criterion == "taylor":
        return _changes(channels, roots, batches)
    scores = np.zeros(len(roots))
    for ids, values in (_factors if criterion == "gamma" else _norms)(channels, 1 if criterion == "l1" else 2):
        np.add.at(scores, roots[ids], values / max(np.sum(values), 1e-30))
    return scores[roots]


def _norms(channels, power):
    """`(ids, norms)` of the filters of each layer."""
    for layer in _layers(channels):
        if layer.name not in channels.made:
            continue
        kernel = next(weight for weight in kernels(layer) if OUT in sliced_axes(layer)[weight.name].values())
        axis = next(axis for axis, side in sliced_axes(layer)[kernel.name].items() if side == OUT)
        values = np.moveaxis(keras.ops.convert_to_numpy(kernel).astype(np.float64), axis, -1)
        yield channels.made[layer.name], np.linalg.norm(values.reshape(-1, values.shape[-1]), power, axis=0)


def _factors(channels, _):
    """`(ids, sizes of the factors)` of each BatchNormalization."""
    for step in channels.steps:
        if type(step.operation) in NORMALIZATIONS and step.output is not None and step.operation.gamma is not None:
            yield step.taken, np.abs(keras.ops.convert_to_numpy(step.operation.gamma)).astype(np.float64)


def _layers(channels):
    return {step.name: step.operation for step in channels.steps}.values()


def _changes(channels, roots, batches):
    """Mean over images of the squared product of each unit's values with the gradients at them."""
    total, count = np.zeros(len(roots)), 0

    @tf.function(autograph=False, reduce_retracing=True)
    def squared(images, labels):
        gates = tf.ones((tf.shape(images)[0], len(roots)))
        with tf.GradientTape() as tape:
            tape.watch(gates)
            probabilities = tf.cast(_gated(channels, roots, images, gates), "float32")
            losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
            loss = tf.reduce_sum(losses)
        return tf.reduce_sum(tf.square(tf.convert_to_tensor(tape.gradient(loss, gates))), 0)

    for images, labels in batches:
        images = tf.cast(images, channels.model.inputs[0].dtype)
        total += squared(images, tf.constant(labels)).numpy()
        count += len(labels)
    return total[roots] / max(count, 1)


def _gated(channels, roots, images, gates):
    """What the model gives where each unit, as it is read, is multiplied by its gate: one per image and unit."""
    tensors = {channels.source: images}
    for step in channels.steps:
        args, kwargs = call_arguments(step.operation, step.node, tensors)
        if type(step.operation) in MIXING and step.output is not None:
            labels = step.inputs[0]
            factors = tf.cast(tf.gather(gates, roots[labels.ids], axis=1), args[0].dtype)
            sides = [len(labels.ids) if axis == labels.axis else 1 for axis in range(1, len(labels.shape))]
            args = (args[0] * tf.reshape(factors, [-1, *sides]), *args[1:])
        outputs = step.operation(*args, **accepted(step.operation, kwargs | {"training": False}))
        tensors.update({(step.name, step.index, n): x for n, x in enumerate(keras.tree.flatten(outputs))})
    return tensors[channels.target]
