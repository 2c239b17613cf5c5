"""Widths that bring a network to a budget."""

import dataclasses
import itertools

from recipes.redesigning.stages import convolutions

TOLERANCE = 0.05  # of the budget, as in the paper
# Vector units are filled by multiples of eight; finer steps where those miss the budget.
_STEPS = (8, 4, 2, 1)
_MOST, _HALVINGS = 64.0, 40


def fitted(stages, scope, budget, image_size, where, *, may_stay=True):
    """The stages with the widths of those in `scope` (places) multiplied by one factor, so that the budget is met.

    Widths that meet it stay as they are, unless they may not. Where widths are so few that no factor meets it, one of
    them is set by itself. None where that does not either.
    """
    cost = _cost_by_widths(stages, image_size, where)
    own = [stage.width for stage in stages]
    for widths in itertools.chain([own] * may_stay, _proposals(own, scope, budget, cost)):
        if abs(cost(widths) / budget - 1) <= TOLERANCE:
            pairs = zip(stages, widths, strict=True)
            return tuple(dataclasses.replace(stage, width=width) for stage, width in pairs)
    return None


def _proposals(own, scope, budget, cost):
    for step in _STEPS:
        widths = _nearest(own, scope, step, budget, cost)
        yield widths
    for place in scope:
        yield _nearest(widths, (place,), 1, budget, cost)


def _nearest(own, scope, step, budget, cost):
    """The widths whose cost is nearest to the budget: it grows with the factor, which is closed in on by halves."""

    def widths_at(factor):
        return [_rounded(width * factor, step) if place in scope else width for place, width in enumerate(own)]

    low, high = 0.0, _MOST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(widths_at(middle)) <= budget else (low, middle)
    return min(widths_at(low), widths_at(high), key=lambda widths: abs(cost(widths) - budget))


def _rounded(width, step):
    """A multiple of the step, or of so fine a one that a narrow width stays within a twelfth of what it should be."""
    while step > 1 and width < 6 * step:
        step //= 2
    return max(1, round(width / step) * step)


def _cost_by_widths(stages, image_size, where):
    """The multiply-adds as a function of the widths: every map and kernel stays as it is."""
    layers = convolutions(stages, image_size, where)
    places = [place for place, stage in enumerate(stages) for _ in range(stage.depth)]
    # The price of a layer is per pair of an input and an output channel. Place -1 is the input image.
    prices = {}
    for layer, before, place in zip(layers, (-1, *places), places, strict=False):
        price = layer.multiply_adds // (layer.channels * layer.filters)
        prices[before, place] = prices.get((before, place), 0) + price

    def cost(widths):
        channels = [*widths, layers[0].channels]
        return sum(price * channels[before] * channels[place] for (before, place), price in prices.items())

    return cost
