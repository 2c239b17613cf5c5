"""Which rank each layer gets: by the energy that is kept, or by the multiply-adds that are to go."""

import dataclasses
import heapq
import itertools

import numpy as np

from recipes.compression.factors import Way

_ROUNDING = 1e-9  # of energies, which are sums


@dataclasses.dataclass(frozen=True)
class Choice:
    """How one layer is factored.

    Args:
        way: Way.
        ranks: whole numbers.
        cost: multiply-adds on one image.
        energy: share of the squared kernel that is kept, 0–1.
    """

    way: Way
    ranks: tuple[int, ...]
    cost: int
    energy: float


class Frontier:
    """What can be had of one layer: the choices than which none is cheaper and keeps more, all below its own cost.

    Args:
        ways: Ways of the layer.
        whole: multiply-adds of the layer as it is.
    """

    def __init__(self, ways, whole):
        self.whole = whole
        self._ways = ways
        counts = [len(way.costs) for way in ways]
        places = np.stack([np.repeat(np.arange(len(ways)), counts), np.concatenate([np.arange(n) for n in counts])], -1)
        costs = np.concatenate([way.costs for way in ways])
        energies = np.concatenate([way.energies for way in ways])
        order = np.lexsort((-energies, costs))
        best = np.maximum.accumulate(energies[order])
        is_better = np.diff(best, prepend=-1.0) > 0
        is_saving = costs[order] < whole
        kept = order[is_better & is_saving]
        self.costs, self.energies = costs[kept], energies[kept]
        self._places = places[kept]

    def choice(self, index):
        """The Choice of a place in `costs`, which rise, as `energies` do."""
        place, row = self._places[index]
        way = self._ways[place]
        ranks = tuple(int(rank) for rank in way.ranks[row])
        return Choice(way, ranks, int(self.costs[index]), float(self.energies[index]))

    def cheapest(self, energy):
        """The cheapest Choice that keeps a share of the energy; None where it would not save."""
        enough = np.flatnonzero(self.energies >= energy - _ROUNDING)
        return self.choice(enough[0]) if len(enough) else None

    def within(self, cost):
        """The Choice that keeps most at no more than a cost; None where there is none."""
        index = int(np.searchsorted(self.costs, cost, side="right")) - 1
        return self.choice(index) if index >= 0 else None

    def steps(self):
        """`(energy lost per multiply-add saved, multiply-adds)` of the choices worth taking, from mild to strong.

        Energies multiply over layers, so what is lost is counted in logarithms; of the choices, the corners of the
        convex hull are worth taking.
        """
        losses = -np.log(np.maximum(self.energies, 1e-12))
        corners = [(float(self.whole), 0.0)]
        for cost, loss in zip(self.costs[::-1].tolist(), losses[::-1].tolist(), strict=True):
            while len(corners) > 1 and _slope(corners[-2], (cost, loss)) <= _slope(corners[-2], corners[-1]):
                corners.pop()
            corners.append((cost, loss))
        return [(_slope(one, other), other[0]) for one, other in itertools.pairwise(corners)]


def _slope(one, other):
    return (other[1] - one[1]) / (one[0] - other[0])


def allot(frontiers, removed):
    """Ranks for all layers that together take away so many multiply-adds and lose least.

    The step that loses the least share of a layer's energy per multiply-add saved comes first, whatever its layer
    (Zhang et al. 2015, section 2.4); where that saves more than was asked for, the rest is given back.

    Args:
        frontiers: `{layer: Frontier}`.
        removed: multiply-adds.

    Returns:
        `{layer: Choice}`; all that can be had where that is not enough.
    """
    taken, saved = {}, 0
    named = [[(slope, name, cost) for slope, cost in frontier.steps()] for name, frontier in frontiers.items()]
    for _, name, cost in heapq.merge(*named, key=lambda step: step[0]):
        if saved >= removed:
            break
        before = taken[name].cost if name in taken else frontiers[name].whole
        taken[name] = frontiers[name].within(max(cost, before - (removed - saved)))
        saved += before - taken[name].cost
    while better := _given_back(frontiers, taken, saved - removed):
        name, choice = better
        saved -= choice.cost - taken[name].cost
        taken[name] = choice
    return taken


def _given_back(frontiers, taken, excess):
    """`(layer, a Choice that keeps more)` of the layer for which multiply-adds saved in excess do most; or None."""
    gains = {}
    for name, choice in taken.items():
        other = frontiers[name].within(choice.cost + excess)
        if other is not None and other.energy > choice.energy:
            gains[name] = other.energy / max(choice.energy, 1e-12), other
    if not gains:
        return None
    name = max(gains, key=lambda name: gains[name][0])
    return name, gains[name][1]


def most(frontiers):
    """The multiply-adds that can be taken away at most."""
    return sum(frontier.whole - frontier.costs[0] for frontier in frontiers.values() if len(frontier.costs))
