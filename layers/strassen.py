"""Strassen's matrix product: seven products of halves instead of eight."""

import keras

from layers._arguments import check_whole, complaint

ops = keras.ops


def strassen_product(left, right, *, levels=1):
    """The product of two matrices by Strassen's seven products of half the size.

    Each level takes 7/8 of the multiplications and 18 additions of halves, and rounds a little worse. Products of less
    than a few thousand rows are faster as they are: this is here to be read and tried.

    Args:
        left: `(rows, inner)`.
        right: `(inner, columns)`.
        levels: how often the matrices are halved, 0 or more. Sides that do not halve are padded with zeros.

    Returns:
        `(rows, columns)`, exact where sums and products are, as for small whole numbers.

    Raises:
        TypeError, ValueError: levels is no whole number of 0 or more, or the matrices do not fit.

    Reference:
        Strassen 1969, "Gaussian elimination is not optimal".

    Example:
        >>> import numpy as np, layers
        >>> layers.strassen_product(np.eye(3), np.arange(9.0).reshape(3, 3)).numpy().tolist()[2]
        [6.0, 7.0, 8.0]
    """
    check_whole("strassen_product", "levels", levels, least=0)
    left, right = ops.convert_to_tensor(left), ops.convert_to_tensor(right)
    if len(left.shape) != 2 or len(right.shape) != 2 or left.shape[1] != right.shape[0]:
        received = f"shapes {tuple(left.shape)} and {tuple(right.shape)}"
        mend = "Pass (rows, inner) and (inner, columns)."
        raise ValueError(complaint("strassen_product", "left and right must fit as matrices", received, mend))
    parts = 2**levels
    rows, columns = left.shape[0], right.shape[1]
    product = _product(_padded(left, parts), _padded(right, parts), levels)
    return product[:rows, :columns]


def _padded(matrix, parts):
    return ops.pad(matrix, [(0, -side % parts) for side in matrix.shape])


def _product(left, right, levels):
    if not levels:
        return ops.matmul(left, right)
    (a, b), (c, d) = _quarters(left)
    (e, f), (g, h) = _quarters(right)
    pairs = ((a, f - h), (a + b, h), (c + d, e), (d, g - e), (a + d, e + h), (b - d, g + h), (a - c, e + f))
    p, q, r, s, t, u, v = (_product(one, other, levels - 1) for one, other in pairs)
    top = ops.concatenate([t + s - q + u, p + q], axis=1)
    bottom = ops.concatenate([r + s, p + t - r - v], axis=1)
    return ops.concatenate([top, bottom], axis=0)


def _quarters(matrix):
    return [ops.split(half, 2, axis=1) for half in ops.split(matrix, 2, axis=0)]
