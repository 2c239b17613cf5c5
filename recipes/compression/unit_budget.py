"""Which units go, for a share of the multiply-adds."""

import numpy as np

from recipes.checks import complaint

_ROUNDING = 1e-9


def choose_units(costs, scores, target, judging, where):
    """Ids of the units without which a model needs no more than so many multiply-adds.

    Args:
        costs: Costs of the model.
        scores: importance of each unit, by its id.
        target: multiply-adds.
        judging: Judging. With the scope `"global"`, again and again those units go that matter least for the
            multiply-adds that they save, where what is left of a group matters as much as the whole did: so no group
            is emptied before others are thinned. With `"layer"`, the least important units, the same share of all.
        where: the verb named in errors.

    Returns:
        int array.
    """
    lower = least_units(costs, judging)
    reach, wanted = (1 - part / max(costs.whole, 1) for part in (costs.total(lower), target))
    check_reach(reach, wanted, where)
    target = max(target, costs.total(lower)) * (1 + _ROUNDING)
    order = [group.units[np.argsort(scores[group.units], kind="stable")] for group in costs.groups]
    if judging.scope == "layer":
        kept = _alike(costs, lower, target, judging.divisor)
    else:
        kept = _ranked(costs, [scores[units] for units in order], lower, target, judging.divisor)
    gone = [units[: len(units) - keep] for units, keep in zip(order, kept, strict=True)]
    return np.concatenate([np.zeros(0, np.int64), *gone])


def check_reach(reach, wanted, where):
    """Raise unless a share of the multiply-adds can go."""
    if wanted > reach + _ROUNDING:
        rule = f"fraction must be at most {np.floor(1e4 * reach) / 1e4:.4f} for this model: what is left then must stay"
        raise ValueError(complaint(where, rule, f"{wanted:.4g}", "Ask for less, or pass a smaller least or divisor."))


def least_units(costs, judging):
    """The least number of units that each group keeps: a multiple of the divisor, or all."""
    whole = -(-judging.least // judging.divisor) * judging.divisor
    return np.minimum(costs.sizes, whole)


def _alike(costs, lower, target, divisor):
    """Units that stay where every group keeps the same share: the largest that saves enough."""

    def kept(share):
        rounded = np.round(costs.sizes * share / divisor).astype(np.int64) * divisor
        return np.clip(np.where(rounded >= costs.sizes, costs.sizes, rounded), lower, costs.sizes)

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if costs.total(kept(middle)) <= target else (low, middle)
    fewer, units = kept(low), kept(high)
    # Many groups are rounded at the same share: of those, no more give than must, the cheap ones first.
    order = np.argsort(costs.marginal(units) * (units - fewer), kind="stable")
    for group in order:
        if costs.total(units) <= target:
            break
        units[group] = fewer[group]
    for group in reversed(order):  # the last to give may have given so much that others need not
        more = units.copy()
        more[group] = min(units[group] + divisor, costs.sizes[group])
        units = more if costs.total(more) <= target else units
    return units


def _ranked(costs, scores, lower, target, divisor):
    """Units that stay where, again and again, the group is thinned that loses least for what it saves."""
    sums = [np.concatenate([[0.0], np.cumsum(values)]) for values in scores]
    kept = costs.sizes.copy()
    steps, losses = np.zeros(len(kept), np.int64), np.full(len(kept), np.inf)
    waiting = range(len(kept))
    while costs.total(kept) > target:
        for group in waiting:
            fewer = (kept[group] - 1) // divisor * divisor
            steps[group] = kept[group] - fewer
            gone = costs.sizes[group] - kept[group]
            lost, left = (sums[group][place] - sums[group][gone] for place in (gone + steps[group], -1))
            losses[group] = lost * sums[group][-1] / max(left, 1e-30) if fewer >= lower[group] else np.inf
        group = int(np.argmin(losses / np.maximum(costs.marginal(kept) * steps, 1e-30)))
        kept[group] -= steps[group]
        waiting = (group,)
    return kept
