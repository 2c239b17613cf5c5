"""What a row of the tables of layers holds."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class LayerCase:
    """One layer under one choice of arguments, to which every layer law applies.

    Args:
        make: a function without arguments that gives a new layer.
        shape: shape of an input, without the batch.
        reference: `(layer, images) → array` in plain NumPy, at inference; None where a test of its own compares values.
        bad: `(arguments, words of the error)`: calls of the class that must raise, naming the argument and its value.
        any_size: whether height and width may be unknown when a model is built.
        tolerance: of the comparison with the reference, relative to the largest output.
        is_random: whether it does something else in training than at inference, at random.
    """

    name: str
    make: Callable
    shape: tuple
    reference: Callable | None = None
    bad: tuple = ()
    any_size: bool = True
    tolerance: float = 1e-5
    is_random: bool = False
