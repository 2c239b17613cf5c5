"""How much each neighbour's vote counts, from its squared distance."""

from keras import ops

WEIGHTINGS = ("distance", "uniform", "power", "softmax")


def vote_weights(kind, squares, power, temperature):
    """Weights `(queries, k)` from squared distances, nearest first, up to a factor of each query.

    Each is taken relative to the nearest, so that none overflows: with d₁ the nearest, (d₁/d)^power or
    exp((d₁² − d²)/temperature). With `"distance"` and `"power"`, where a distance is zero those of zero alone count.
    """
    nearest = squares[:, :1]
    if kind == "uniform":
        return ops.cast(squares < float("inf"), squares.dtype)  # what is not there does not count
    if kind == "softmax":
        return ops.exp((nearest - squares) / temperature)
    exponent = 0.5 * (1.0 if kind == "distance" else power)
    # No zero may be divided by, nor raised, or gradients would be NaN also where they are not used.
    safe = ops.where(squares == 0, 1.0, squares)
    ratio = ops.where(nearest == 0, 1.0, nearest) / safe
    weights = ops.power(ratio, exponent)
    return ops.where(nearest == 0, ops.cast(squares == 0, squares.dtype), weights)
