"""What a method did to a network, before anything but its accuracy is measured."""

import dataclasses

import keras


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One step down.

    Args:
        name: of the method, with how far it went: `"units, 30 % of multiply-adds"`.
        model: that came out, flat.
        accuracy: on the validation images, 0–1; None where there are none.
        notes: `{layer: why it was left alone}`.
        is_kept: whether the next step goes on from here; else the accuracy fell too far.
        content: bytes of the file that the accuracy was measured on, where that was a file.
    """

    name: str
    model: keras.Model
    accuracy: float | None
    notes: dict[str, str] = dataclasses.field(default_factory=dict)
    is_kept: bool = True
    content: bytes | None = None


def is_enough(accuracy, floor):
    """Whether an accuracy is at least the floor; without a floor, always."""
    return floor is None or accuracy >= floor - 1e-9
