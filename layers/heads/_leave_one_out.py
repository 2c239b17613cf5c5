"""Leave-one-out classification of each element of a batch by the others."""

from keras import ops


def squared_distances(embeddings):
    """`(batch, batch)` from one matrix product, relative to the mean so that a common offset costs no digits."""
    embeddings = embeddings - ops.stop_gradient(ops.mean(embeddings, axis=0))
    norms = ops.sum(ops.square(embeddings), axis=1)
    squares = norms[:, None] + norms[None, :] - 2.0 * ops.matmul(embeddings, ops.transpose(embeddings))
    return ops.maximum(squares, 0.0)


def leave_one_out_loss(labels, log_weights):
    """−log of the weight that the others of the same label have among all others, one an element.

    An element that is alone of its label in the batch cannot be classified and has loss 0.

    Args:
        labels: `(batch,)`.
        log_weights: `(batch, batch)`, logarithm of the weight each element has for each other.
    """
    one = ops.eye(ops.shape(labels)[0], dtype=log_weights.dtype)
    # Not infinity: a row without any other of its label would have NaN for a gradient, masked or not.
    excluded = -1e9
    others = ops.where(one > 0, excluded, log_weights)
    same = ops.logical_and(labels[:, None] == labels[None, :], one == 0)
    alike = ops.where(same, log_weights, excluded)
    loss = ops.logsumexp(others, axis=1) - ops.logsumexp(alike, axis=1)
    return ops.where(ops.any(same, axis=1), loss, 0.0)
