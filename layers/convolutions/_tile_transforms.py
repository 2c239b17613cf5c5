"""The matrices of Winograd's minimal filtering, exact, for any size of tile (Cook and Toom's construction)."""

import fractions
import functools

import numpy as np

# With these, in this order, the coefficients stay smallest.
_POINTS = tuple(fractions.Fraction(*pair) for pair in ((0, 1), (1, 1), (-1, 1), (2, 1), (-2, 1), (1, 2), (-1, 2)))


@functools.cache
def tile_transforms(tile, taps=3):
    """The three matrices by which `tile` outputs of a filter of `taps` taps take `tile + taps - 1` products.

    `outputs = output @ ((kernel @ taps) * (input @ pixels))`, exactly.

    Args:
        tile: outputs at a time, 1 or more.
        taps: of the filter.

    Returns:
        `(input, kernel, output)`: float64 arrays of shapes `(n, n)`, `(n, taps)`, `(tile, n)`, n = tile + taps - 1. All
        entries of the first and the last are whole numbers or binary fractions: float32 holds them exactly.
    """
    points = _POINTS[: tile + taps - 2]
    scales = [_product(point - other for other in points if other != point) for point in points]
    inputs = [[*_polynomial([other for other in points if other != point]), 0] for point in points]
    inputs.append(_polynomial(points))
    kernels = [[point**power / scale for power in range(taps)] for point, scale in zip(points, scales, strict=True)]
    kernels.append([0] * (taps - 1) + [1])
    outputs = [[point**power for point in points] + [int(power == tile - 1)] for power in range(tile)]
    return tuple(np.array(rows, dtype=np.float64) for rows in (inputs, kernels, outputs))


def _product(values):
    product = fractions.Fraction(1)
    for value in values:
        product *= value
    return product


def _polynomial(roots):
    """Coefficients of the product of `x - root`, the constant first."""
    coefficients = [fractions.Fraction(1)]
    for root in roots:
        shifted = [fractions.Fraction(0), *coefficients]
        coefficients = [above - root * here for above, here in zip(shifted, [*coefficients, 0], strict=True)]
    return coefficients


def combine(weights, tensors):
    """The sum of `tensors`, each times its weight, in few operations: equal weights are added first."""
    groups = {}
    for weight, tensor in zip(weights, tensors, strict=True):
        if weight:
            groups.setdefault(abs(float(weight)), []).append((weight < 0, tensor))
    parts = [_sum(size, terms) for size, terms in sorted(groups.items(), key=lambda group: group[0])]
    is_negative, total = _added(parts)
    return -total if is_negative else total


def _sum(size, terms):
    is_negative, total = _added(terms)
    return is_negative, total if size == 1 else size * total


def _added(terms):
    """(whether the sum is to be subtracted, the sum) of terms of the same kind."""
    (is_negative, total), *rest = sorted(terms, key=lambda term: term[0])
    for negative, tensor in rest:
        total = total + tensor if negative == is_negative else total - tensor
    return is_negative, total
