"""Transposed convolutions that paint a checkerboard."""

import math

import keras

from recipes.advising.advice import MISTAKE, advice
from recipes.advising.measuring import TRANSPOSED


def checkerboard(graph):
    """Transposed convolutions with a side of the kernel that is no multiple of the stride."""
    found = [step for step in graph.steps if isinstance(step.operation, TRANSPOSED) and _unevenness(step) > 1]
    if not found:
        return None
    worst = max(found, key=_unevenness)
    operation = worst.operation
    ratio = _unevenness(worst)
    more = f"{ratio:g} times as many inputs as others"
    seen = f"some pixels get {'no input at all' if math.isinf(ratio) else more}"
    multiples = tuple(
        -(-side // step) * step for side, step in zip(operation.kernel_size, operation.strides, strict=True)
    )
    return advice(
        graph,
        "checkerboard",
        MISTAKE,
        found,
        what=f"A kernel of {_by(operation.kernel_size)} with stride {_by(operation.strides)}: {seen}.",
        reason="Kernels overlap unevenly unless their sides are multiples of the stride, and the pattern shows in the "
        "image: Odena et al. 2016. A multiple makes the overlap even, but each pixel of a stride still has weights of "
        "its own, which random weights start uneven; enlarging first makes all pixels alike.",
        mend=f"{_enlarging(operation)}\nor kernel_size={multiples}, for even overlap alone",
    )


def _unevenness(step):
    """Most over fewest inputs of a pixel."""
    ratio = 1.0
    for side, stride in zip(step.operation.kernel_size, step.operation.strides, strict=True):
        if side % stride:
            ratio *= math.ceil(side / stride) / (side // stride) if side > stride else math.inf
    return ratio


def _enlarging(operation):
    """What enlarges the map first and then convolves it."""
    strides = tuple(operation.strides)
    factor = strides[0] if len(set(strides)) == 1 else strides
    if isinstance(operation, keras.layers.Conv2DTranspose):
        serving = "layers.collapse_resize_conv makes one transposed convolution of it for serving"
        return f"layers.ResizeConv({operation.filters}, 3, factor={factor}); {serving}"
    rank = len(strides)
    return f"keras.layers.UpSampling{rank}D({factor}) → keras.layers.Conv{rank}D({operation.filters}, 3)"


def _by(sides):
    return "×".join(map(str, sides))
