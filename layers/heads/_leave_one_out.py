"""Leave-one-out classification of each element of a batch by the others."""

import abc

import keras
from keras import ops

_EXCLUDED = -1e30  # a logarithm that no weight has


class LeaveOneOutLoss(keras.losses.Loss, abc.ABC):
    """A loss of embeddings, of which each is classified by the others of its batch, by weights that fall with distance.

    Subclasses say the weights, as `log_weights`.
    """

    @abc.abstractmethod
    def log_weights(self, squares):
        """Logarithm of the weight of elements, from their squared distances, of any shape."""

    def call(self, y_true, y_pred):
        """−log of the weight that the others of the same label have among all others, one an element.

        An element that is alone of its label in the batch cannot be classified and has loss 0.
        """
        labels, log_weights = ops.reshape(y_true, (-1,)), self._of_others(y_pred)
        one, same = _pairs(labels)
        # Not infinity: a row without any other of its label would have NaN for a gradient, masked or not.
        alike = ops.where(same, log_weights, _EXCLUDED)
        loss = ops.logsumexp(ops.where(one, _EXCLUDED, log_weights), axis=1) - ops.logsumexp(alike, axis=1)
        return ops.where(ops.any(same, axis=1), loss, 0.0)

    def hits(self, y_true, y_pred):
        """Whether the others of an element's label weigh as much as those of any other label, or more.

        Args:
            y_true: integer labels, `(batch,)`.
            y_pred: embeddings, `(batch, width)`.

        Returns:
            bool `(batch,)`: False for an element that is alone of its label in the batch.
        """
        labels, log_weights = ops.reshape(y_true, (-1,)), self._of_others(y_pred)
        one, same = _pairs(labels)
        weights = ops.where(one, 0.0, ops.exp(log_weights))
        alike = ops.logical_or(same, one)
        # Column j: the summed weight of the label of j. Columns of one label may be added up in another order each, and
        # then differ in the last bit, so an element is compared with those of other labels alone.
        totals = ops.matmul(weights, ops.cast(alike, weights.dtype))
        own = ops.sum(ops.where(one, totals, 0.0), axis=1)
        return ops.logical_and(own > 0, own >= ops.max(ops.where(alike, 0.0, totals), axis=1))

    def _of_others(self, embeddings):
        """`log_weights`, shifted so that the largest of the others is 0 in each row: a shift changes no share, and what
        is masked stays below them all, however far the embeddings run away.
        """
        log_weights = self.log_weights(squared_distances(embeddings))
        one = ops.eye(ops.shape(log_weights)[0]) > 0
        most = ops.max(ops.where(one, -float("inf"), log_weights), axis=1, keepdims=True)
        most = ops.where(ops.isfinite(most), most, 0.0)  # of one element by itself
        return log_weights - ops.stop_gradient(most)


def squared_distances(embeddings):
    """`(batch, batch)` from one matrix product, relative to the mean so that a common offset costs no digits."""
    embeddings = embeddings - ops.stop_gradient(ops.mean(embeddings, axis=0))
    norms = ops.sum(ops.square(embeddings), axis=1)
    squares = norms[:, None] + norms[None, :] - 2.0 * ops.matmul(embeddings, ops.transpose(embeddings))
    return ops.maximum(squares, 0.0)


def _pairs(labels):
    """(whether two elements are the same one, whether they are two of the same label), bool `(batch, batch)`."""
    one = ops.eye(ops.shape(labels)[0]) > 0
    return one, ops.logical_and(labels[:, None] == labels[None, :], ops.logical_not(one))
