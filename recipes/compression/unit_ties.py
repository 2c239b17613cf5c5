"""Which channels of a network must be removed together, as sets that grow while the network is walked through."""

import dataclasses

import numpy as np

FIXED = 0  # the unit of everything that always stays, such as the channels of the images


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """What stands along the channels of a tensor.

    Args:
        shape: of the tensor, batch first, None for unknown sides.
        axis: that of the channels, 1 or more.
        ids: int array, the unit that each position along `axis` belongs to.
    """

    shape: tuple[int | None, ...]
    axis: int
    ids: np.ndarray

    @classmethod
    def of_one(cls, shape, unit=FIXED):
        """Labels of a tensor that all belongs to one unit, which stays."""
        size = shape[-1] if len(shape) > 1 else 0
        return cls(tuple(shape), max(len(shape) - 1, 1), np.full(size or 0, unit))


class Ties:
    """Sets of units, each of which is removed as a whole or stays as a whole, with the reason why it stays."""

    def __init__(self):
        self._parents = [FIXED]
        self._reasons = {FIXED: "the model's inputs stay as they are"}

    def new(self, count):
        """Ids of `count` new units, each a set of its own."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def __len__(self):
        return len(self._parents)

    def roots(self, ids):
        """The id that stands for the set of each unit."""
        return np.fromiter((self._root(unit) for unit in np.ravel(ids).tolist()), dtype=np.int64)

    def tie(self, first, second):
        """Join the sets of two arrays of units, one by one; either may be a single unit."""
        first, second = np.broadcast_arrays(first, second)
        for one, other in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True):
            one, other = sorted((self._root(one), self._root(other)))
            if one != other:
                self._parents[other] = one
                if other in self._reasons:
                    self._reasons.setdefault(one, self._reasons[other])

    def fix(self, ids, reason):
        """Say why units stay; what was said first counts."""
        for root in np.unique(self.roots(ids)).tolist():
            self._reasons.setdefault(root, reason)

    def stays(self, ids):
        """Whether all units of an array are known to stay."""
        return all(unit in self._reasons for unit in np.unique(self.roots(np.unique(ids))).tolist())

    def reason(self, unit):
        """Why the set of a unit stays; None where it may be removed."""
        return self._reasons.get(self._root(unit))

    def _root(self, unit):
        parents = self._parents
        while parents[unit] != unit:
            parents[unit] = parents[parents[unit]]
            unit = parents[unit]
        return unit
