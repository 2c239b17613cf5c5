"""What training brings down, and how validation is told: cross-entropy, or the votes of neighbours in a batch."""

import keras
import numpy as np
import tensorflow as tf

import layers
from recipes.checks import check_choice, complaint

LOSSES = {"knn": lambda: layers.KNNLoss(power=4.0), "nca": layers.NCALoss}  # for embeddings, by name
_OF_EMBEDDINGS = (layers.KNNLoss, layers.NCALoss, layers.StudentNCALoss)
_TOGETHER = 512  # images that are classified at a time in validation
_WIDTH = 64  # units of an embedding


class CrossEntropy:
    """Cross-entropy per integer label, or per row of shares `(batch, classes)`, where an augmentation has mixed images;
    label smoothing turns either into a distribution over the classes.

    Args:
        label_smoothing: fraction of each label that is spread over the classes.
        classes: how many there are.
        weights: one a class, by which losses are multiplied; None for none.
    """

    def __init__(self, label_smoothing, classes, weights=None):
        self._label_smoothing, self._classes, self._weights = label_smoothing, classes, weights

    def __call__(self, labels, probabilities):
        """The loss of each image, `(batch,)`."""
        is_whole = len(labels.shape) == 1
        if is_whole and not self._label_smoothing:
            losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
        else:
            targets = tf.one_hot(tf.cast(labels, tf.int32), self._classes) if is_whole else labels
            smoothing = self._label_smoothing
            losses = keras.losses.categorical_crossentropy(targets, probabilities, label_smoothing=smoothing)
        return weighted(losses, labels, self._weights)

    def hits(self, labels, probabilities):
        """Whether each image is told right, float32 `(batch,)`; of mixed labels the largest share counts."""
        if len(labels.shape) == 2:
            labels = tf.argmax(labels, -1)
        return tf.cast(tf.argmax(probabilities, -1, labels.dtype) == labels, tf.float32)

    def measure(self, labels, probabilities):
        """(losses, hits) of many images, as arrays."""
        return np.asarray(self(labels, probabilities)), probabilities.argmax(-1) == labels


class Neighbours:
    """Each image of a batch is classified by the others, by the distances of their embeddings.

    Args:
        loss: of `layers`: KNNLoss, NCALoss or StudentNCALoss.
        weights: as in `CrossEntropy`.
    """

    def __init__(self, loss, weights=None):
        self._loss, self._weights = loss, weights

    def __call__(self, labels, embeddings):
        """The loss of each image, `(batch,)`."""
        return weighted(self._loss.call(labels, embeddings), labels, self._weights)

    def hits(self, labels, embeddings):
        """Whether each image is told right by the others, float32 `(batch,)`."""
        return tf.cast(self._loss.hits(labels, embeddings), tf.float32)

    def measure(self, labels, embeddings):
        """(losses, hits) of many images, as arrays: each classified by all others."""
        points = embeddings.astype(np.float64) - embeddings.mean(0)
        norms, shares = np.square(points).sum(1), np.eye(labels.max() + 1)[labels]
        losses, hits = np.zeros(len(labels)), np.zeros(len(labels))
        for start in range(0, len(labels), _TOGETHER):
            rows = np.arange(start, min(start + _TOGETHER, len(labels)))
            squares = np.maximum(norms[rows, None] + norms - 2 * points[rows] @ points.T, 0)
            weights = np.array(self._loss.log_weights(tf.constant(squares, tf.float32)), np.float64)
            weights[np.arange(len(rows)), rows] = -np.inf
            votes = np.exp(weights - weights.max(1, keepdims=True)) @ shares
            own = votes[np.arange(len(rows)), labels[rows]]
            hits[rows] = (own > 0) & (own >= votes.max(1))
            losses[rows] = np.log(votes.sum(1)) - np.log(np.maximum(own, np.finfo(float).tiny))
        return np.asarray(weighted(tf.constant(losses, tf.float32), labels, self._weights)), hits


def embedding_width(training):
    """Units of the embedding that a Training trains, as `build_network` takes it; None for a softmax."""
    return None if training.loss is None else _WIDTH


def objective_of(training, classes, weights):
    """The objective of a Training; `weights`, one a class, or None, multiply the losses."""
    if training.loss is not None:
        return Neighbours(training.loss, weights)
    return CrossEntropy(training.label_smoothing, classes, weights)


def open_loss(asked, where):
    """The loss of embeddings that `finetune` takes as `loss`; None for cross-entropy."""
    if asked is None or isinstance(asked, _OF_EMBEDDINGS):
        return asked
    if not isinstance(asked, str):
        rule = f"loss must be None, {', '.join(map(repr, LOSSES))}, or a KNNLoss, NCALoss or StudentNCALoss of layers"
        raise TypeError(complaint(where, rule, repr(asked), 'Pass loss="knn", or leave it out for cross-entropy.'))
    check_choice(where, "loss", asked, tuple(LOSSES))
    return LOSSES[asked]()


def weighted(losses, labels, weights):
    """Losses, multiplied by the weight of each image: from its label, or its shares of the classes, and `weights`, one
    a class; None leaves them.
    """
    if weights is None:
        return losses
    weights = tf.constant(weights, tf.float32)
    if len(labels.shape) == 1:
        return losses * tf.gather(weights, tf.cast(labels, tf.int32))
    return losses * tf.linalg.matvec(tf.cast(labels, tf.float32), weights)
