"""Groups of units that are alike, and the multiply-adds that go with each unit of them."""

import collections
import dataclasses
import math

import numpy as np

from recipes.bases import multiply_adds
from recipes.compression.unit_slices import OUT, TRANSPOSED, kernels, sliced_axes


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Units that the same layers make and read, so that each costs the same.

    Args:
        layers: names of those that make them.
        units: ids, one per unit.
    """

    layers: tuple[str, ...]
    units: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """The multiply-adds of one call of one kernel: a factor times the channels that it reads times those it makes.

    Args:
        factor: positions times kernel sides.
        taken: ids of the channels that it reads; None where they do not count one by one.
        made: ids of the channels that it makes, likewise.
    """

    factor: float
    taken: np.ndarray | None
    made: np.ndarray | None


def products(channels):
    """Every Product of a model, and the multiply-adds of the layers that are not known, where they are called once."""
    found, unknown = [], []
    calls = collections.Counter(step.name for step in channels.steps)
    for step in channels.steps:
        if step.output is None or not getattr(step.operation, "weights", ()):
            unknown += [step.operation] if calls[step.name] == 1 else []
            continue
        read = step.inputs[0] if isinstance(step.operation, TRANSPOSED) else step.output
        positions = math.prod(side for axis, side in enumerate(read.shape) if axis not in (0, read.axis))
        for kernel in kernels(step.operation):
            sides = sliced_axes(step.operation)[kernel.name]
            taken = None if set(sides.values()) == {OUT} else step.taken
            made = step.output.ids if OUT in sides.values() else None
            counted = math.prod(len(ids) for ids in (taken, made) if ids is not None)
            found.append(Product(positions * math.prod(kernel.shape) / counted, taken, made))
    return found, multiply_adds(unknown)


def find_groups(channels, found):
    """The Groups of units that can be removed, the largest first in the order of the layers."""
    roots = channels.ties.roots(np.arange(len(channels.ties)))
    makers, alike = {}, {}
    for name, ids in channels.made.items():
        for unit in np.unique(roots[ids]).tolist():
            if channels.ties.reason(unit) is None:
                makers.setdefault(unit, []).append(name)
    marks = {unit: [] for unit in makers}
    sides = [ids for product in found for ids in (product.taken, product.made)]
    for number, ids in enumerate(sides):
        if ids is not None:
            for unit, count in zip(*(part.tolist() for part in np.unique(roots[ids], return_counts=True)), strict=True):
                if unit in marks:
                    marks[unit].append((number, count))
    for unit, mark in marks.items():
        alike.setdefault((tuple(makers[unit]), tuple(mark)), []).append(unit)
    return [Group(names, np.array(units)) for (names, _), units in alike.items()]


class Costs:
    """The multiply-adds of a model as a function of how many units each group keeps.

    Args:
        channels: Channels of the model.

    Attributes:
        groups: list of Group.
        whole: multiply-adds of the model as it is.
    """

    def __init__(self, channels):
        found, self._constant = products(channels)
        self.groups = find_groups(channels, found)
        self.sizes = np.array([len(group.units) for group in self.groups], dtype=np.int64)
        self._factors = np.array([product.factor for product in found])
        roots = channels.ties.roots(np.arange(len(channels.ties)))
        groups = np.full(len(roots), len(self.groups))
        for number, group in enumerate(self.groups):
            groups[group.units] = number
        groups = groups[roots]
        self._taken = self._counts([product.taken for product in found], groups)
        self._made = self._counts([product.made for product in found], groups)
        self.whole = self.total(self.sizes)

    def _counts(self, sides, groups):
        """(channels that stay anyhow, channels per unit of each group) of one side of each Product."""
        count = len(self.groups)
        whole = np.array([np.bincount([count] if ids is None else groups[ids], minlength=count + 1) for ids in sides])
        whole = whole.reshape(len(sides), count + 1)
        return whole[:, count], whole[:, :count] / np.maximum(self.sizes, 1)

    def total(self, kept):
        """Multiply-adds where each group keeps so many units."""
        taken, made = (fixed + rates @ kept for fixed, rates in (self._taken, self._made))
        return float(self._constant + np.sum(self._factors * taken * made))

    def marginal(self, kept):
        """Of each group, the multiply-adds that one unit less would save, the others as they are."""
        taken, made = (fixed + rates @ kept for fixed, rates in (self._taken, self._made))
        return (self._factors * made) @ self._taken[1] + (self._factors * taken) @ self._made[1]
