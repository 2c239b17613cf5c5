"""The few values that stand best for many numbers: k-means along a line, sorted once and then by prefix sums."""

import numpy as np

_ROUNDS = 300
_MOVES = 300
_GAIN = 1e-6  # of the loss, that a move must bring


def codebook(numbers, count):
    """At most `count` values, each the mean of the numbers nearest to it.

    Lloyd's rounds from values at equal distances between the smallest and the largest number, which leave rare large
    weights a value of their own (Han, Mao and Dally 2016: linear initialisation). Along a line the numbers of a value
    lie side by side, so a round costs a search for each value and no pass over the numbers. Then, as long as that
    brings the squared distances down, the two values that are easiest to join become one, and the costliest becomes
    two.

    Args:
        numbers: array of finite numbers, one or more.
        count: 1 or more.

    Returns:
        float64 array, rising; the numbers themselves where no more than `count` are distinct.
    """
    ordered = np.sort(np.asarray(numbers, "float64").reshape(-1))
    distinct = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    if len(distinct) <= count:
        return distinct
    line = _Line(ordered)
    values = line.settled(np.linspace(ordered[0], ordered[-1], count))
    for _ in range(_MOVES if count > 2 else 0):
        moved = line.settled(line.moved(values))
        if not line.loss(moved) < line.loss(values) * (1 - _GAIN):
            break
        values = moved
    return values


def nearest_codes(numbers, values):
    """For each number the place of the value nearest to it; of two as near, the larger."""
    return np.searchsorted((values[1:] + values[:-1]) / 2, np.asarray(numbers, "float64"), "right")


class _Line:
    """Numbers in order, with the sums by which the mean and the loss of any run of them is known at once."""

    def __init__(self, ordered):
        self.ordered = ordered
        centred = ordered - ordered.mean()  # so that squares do not swallow the differences between numbers
        self._shift = ordered.mean()
        self._sums = np.concatenate([[0.0], np.cumsum(centred)])
        self._squares = np.concatenate([[0.0], np.cumsum(centred**2)])

    def settled(self, values):
        """Lloyd's rounds from these values until nothing changes."""
        ends = None
        for _ in range(_ROUNDS):
            before, ends = ends, self._ends(values)
            if before is not None and np.array_equal(before, ends):
                break
            values = np.sort(self._means(ends))
        return values

    def loss(self, values):
        """Sum of the squared distances of all numbers from their values."""
        ends = self._ends(values)
        return self._losses(ends[:-1], ends[1:]).sum()

    def moved(self, values):
        """The values after the two neighbours that cost least to join became one, and the costliest was split."""
        ends = self._ends(values)
        begins, stops = ends[:-1], ends[1:]
        losses = self._losses(begins, stops)
        joined = self._losses(begins[:-1], stops[1:]) - losses[:-1] - losses[1:]
        middles = np.searchsorted(self.ordered, values)
        middles = np.clip(middles, begins, stops)
        split = losses - self._losses(begins, middles) - self._losses(middles, stops)
        place = int(np.argmin(joined))
        split[[place, place + 1]] = -np.inf
        chosen = int(np.argmax(split))
        if split[chosen] <= joined[place]:
            return values
        runs = [(begins[place], stops[place + 1]), (begins[chosen], middles[chosen]), (middles[chosen], stops[chosen])]
        others = [one for number, one in enumerate(values) if number not in (place, place + 1, chosen)]
        return np.sort([*others, *(self._mean(*run) for run in runs)])

    def _ends(self, values):
        """Where the numbers of each value begin, and where the last ones end."""
        inner = np.searchsorted(self.ordered, (values[1:] + values[:-1]) / 2)
        return np.concatenate([[0], inner, [len(self.ordered)]])

    def _mean(self, begin, end):
        return self._shift + (self._sums[end] - self._sums[begin]) / np.maximum(end - begin, 1)

    def _losses(self, begins, ends):
        sums = self._sums[ends] - self._sums[begins]
        squares = self._squares[ends] - self._squares[begins]
        return np.maximum(squares - sums**2 / np.maximum(ends - begins, 1), 0)

    def _means(self, ends):
        """The means; a value without numbers goes to a number that is far from its own."""
        means = self._mean(ends[:-1], ends[1:])
        empty = np.flatnonzero(np.diff(ends) == 0)
        used = np.flatnonzero(np.diff(ends))
        # Of the numbers of a value, one of the two at the ends is the farthest from their mean.
        outer = np.concatenate([self.ordered[ends[used]], self.ordered[ends[used + 1] - 1]])
        distances = np.abs(outer - np.tile(means[used], 2))
        farthest = np.argsort(-distances, kind="stable")[: len(empty)]
        means[empty[: len(farthest)]] = outer[farthest]
        return means
