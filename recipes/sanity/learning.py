"""Whether a network can learn at all: its weights, the loss it starts from, its gradients, and a batch by heart."""

import math

import keras
import numpy as np
import tensorflow as tf

from recipes.data.batches import traced
from recipes.sanity.checkup import failed, passed, skipped
from recipes.sanity.subject import BATCH
from recipes.training.averaging import kept

_STARTED = 256  # images that the loss at start is measured on
_LOWER, _UPPER = 0.75, 1.0  # the band about ln(classes): from this times it to this above it
_RATES = (1e-3, 1e-4, 1e-2)  # of Adam, one after the other, until one learns the batch
_LEARNT = 0.05  # nats
_NAMED = 5  # layers


def check_weights(subject):
    """The Finding about the weights themselves: ReLU turns what is no number into zeros, which hide it."""
    wrong = [
        weight.path for weight in subject.model.weights if not np.isfinite(keras.ops.convert_to_numpy(weight)).all()
    ]
    count = sum(math.prod(weight.shape) for weight in subject.model.weights)
    if not wrong:
        return passed("weights", f"{count:,} numbers, all finite")
    return failed(
        "weights",
        f"no numbers (NaN or infinite) in {_listed(wrong)}",
        "A training that diverged, saved after it had; or a file that was read wrongly.",
        "Take an earlier checkpoint, or load the weights again.",
    )


def check_start(subject):
    """The Finding about the loss before any training, which is ln(classes) for a head that knows nothing."""
    test, expected = "loss at start", math.log(subject.classes)
    low, high = _LOWER * expected, expected + _UPPER
    if subject.is_trained:
        return skipped(test, "The head is trained.")
    loss, accuracy = _start(subject)
    told = f"{loss:.3f} nats; ln({subject.classes}) is {expected:.3f}, and {low:.2f}–{high:.2f} will do"
    if low <= loss <= high:
        return passed(test, told)
    if loss < low and accuracy > 1.5 / subject.classes:
        return skipped(test, f"The head is trained: it tells {accuracy:.0%} of the training images right.")
    return failed(
        test,
        told,
        "Outputs that are too large at start (inputs that are not scaled, a last layer whose weights start too large), "
        "no softmax at the end, or labels that count otherwise than the outputs.",
        "Scale the inputs, start the last layer small (kernel_initializer=RandomNormal(stddev=0.01)), end in softmax.",
    )


def check_gradients(subject):
    """The Finding about the gradients of one batch.

    A gradient that is nothing but zeros counts only when it is so in training and at inference, and still is after two
    steps: a bias before BatchNormalization has none in training, and what stands behind a factor that starts at zero
    has none in the first step.
    """
    test, model = "gradients", subject.model
    variables = model.trainable_variables
    if not variables:
        return failed(test, "no weight trains", "Every layer is frozen.", "Set model.trainable = True.")
    images, labels = subject.pick(BATCH)
    with kept(model.variables):
        sizes = _gradients(model, images, labels)
        if any(size == 0 for size in sizes):
            _train(model, images, labels, rate=1e-3, steps=2)
            sizes = [max(pair) for pair in zip(sizes, _gradients(model, images, labels), strict=True)]
    paths = [variable.path for variable in variables]
    wrong = [path for path, size in zip(paths, sizes, strict=True) if not np.isfinite(size)]
    if wrong:
        return failed(
            test,
            f"no numbers (NaN or infinite) for {_listed(wrong)}",
            "A logarithm or root of zero, a division by a deviation of zero, numbers too large for half precision.",
            "Add a small number inside; look for the layer nearest to the output of those named.",
        )
    still = [path for path, size in zip(paths, sizes, strict=True) if size == 0]
    if still:
        return failed(
            test,
            f"zero for {len(still)} of {len(paths)} weights that train: {_listed(still)}",
            "A layer that the loss does not depend on (stop_gradient, rounding, argmax, an output that is thrown "
            "away), or ReLUs that are all dead: a bias far below zero, a rate that was too high.",
            "Look right behind the last layer that is named: connect it, or start it anew.",
        )
    frozen = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
    note = f"; {len(frozen)} layers are frozen: {_listed(frozen)}" if frozen else ""
    told = f"every one of {len(paths)} weights that train gets one, largest {min(sizes):.1g}–{max(sizes):.1g}"
    return passed(test, told + note)


def check_overfitting(subject, steps):
    """The Finding about one small batch, which a network must be able to learn by heart (Karpathy 2019)."""
    test, model = "overfitting", subject.model
    images, labels = subject.pick(BATCH)
    tried = []
    for rate in _RATES:
        with kept(model.variables):
            loss, taken = _train(model, images, labels, rate=rate, steps=steps, until=_LEARNT)
        if loss <= _LEARNT:
            told = f"{len(images)} images to a loss of {loss:.3f} in {taken} steps of Adam at {rate:g}"
            return passed(test, told)
        tried.append((loss, rate))
    loss, rate = min(tried, key=lambda pair: pair[0] if np.isfinite(pair[0]) else np.inf)
    return failed(
        test,
        f"{len(images)} images: a loss of {loss:.3f} after {steps} steps of Adam at {rate:g}, and no less at others; "
        f"{_LEARNT} is wanted",
        "Softmax applied twice, labels that count otherwise than the outputs, a network too small or mostly frozen, "
        "images that are alike with labels that differ, inputs of the wrong scale.",
        "See the other rows first; then try a larger head, or more steps=.",
    )


def _start(subject):
    """(mean loss, accuracy) before any training; BatchNormalization goes by the batch, as in training."""
    model = subject.model
    images, labels = subject.pick(_STARTED)
    run = traced(lambda rows: model(rows, training=True), [tf.TensorSpec((None, *images.shape[1:]), tf.float32)])
    with kept(model.variables):
        parts = [run(images[at : at + BATCH].astype("float32")).numpy() for at in range(0, len(images), BATCH)]
    probabilities = np.concatenate(parts)
    losses = keras.ops.convert_to_numpy(keras.losses.sparse_categorical_crossentropy(labels, probabilities))
    return float(np.mean(losses)), float(np.mean(probabilities.argmax(-1) == labels))


def _loss(model, images, labels, training):
    loss = keras.losses.sparse_categorical_crossentropy(labels, model(images, training=training))
    return tf.reduce_mean(tf.cast(loss, tf.float32)) + sum(tf.cast(part, tf.float32) for part in model.losses)


def _gradients(model, images, labels):
    """The largest absolute number of each gradient, in training or, where there it is zero, at inference."""

    def sizes(training):
        with tf.GradientTape() as tape:
            loss = _loss(model, images, labels, training)
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        return tf.stack([tf.constant(0.0) if part is None else _largest(part) for part in gradients])

    images = images.astype("float32")
    in_training = traced(lambda: sizes(True), [])().numpy()
    if np.all(in_training != 0):
        return list(in_training)
    at_inference = traced(lambda: sizes(False), [])().numpy()
    return list(np.where((in_training == 0) & np.isfinite(at_inference), at_inference, in_training))


def _largest(gradient):
    return tf.reduce_max(tf.abs(tf.cast(tf.convert_to_tensor(gradient), tf.float32)))


def _train(model, images, labels, rate, steps, until=-1.0):
    """(loss, steps taken) of Adam on one batch, until the loss is low enough or no number."""
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(model.trainable_variables)
    rows = tf.constant(images, tf.float32)

    def step():
        with tf.GradientTape() as tape:
            loss = _loss(model, rows, labels, True)
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    step, loss = traced(step, []), math.inf
    for taken in range(steps):
        loss = float(step())
        if loss <= until or not math.isfinite(loss):
            return loss, taken
    return loss, steps


def _listed(names):
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
