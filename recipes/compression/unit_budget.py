"""Which units go, for a share of the multiply-adds."""

import numpy as np

from recipes.checks import complaint

_ROUNDING = 1e-9


def choose_units(costs, scores, fraction, *, scope, least, divisor, where):
    """Ids of the units whose removal saves a share of the multiply-adds.

    Args:
        costs: Costs of the model.
        scores: importance of each unit, by its id.
        fraction: of the multiply-adds to save, 0–1.
        scope: `"global"`: again and again, the units whose share of what is left of their group's importance is
            smallest for the multiply-adds they save. `"layer"`: the same share of every group, the least important
            first.
        least: units that each group keeps at least, where it has so many.
        divisor: groups keep a multiple of this, or all.
        where: the verb named in errors.

    Returns:
        int array.
    """
    lower = np.array([_least(size, least, divisor) for size in costs.sizes.tolist()], dtype=np.int64)
    target = costs.whole * (1 - fraction) * (1 + _ROUNDING)
    reach = 1 - costs.total(lower) / costs.whole if costs.whole else 0.0
    if costs.total(lower) > target:
        rule = f"fraction must be at most {np.floor(1e4 * reach) / 1e4:.4f} for this model, some of whose layers stay"
        raise ValueError(complaint(where, rule, fraction, "Ask for less, or pass a smaller least or divisor."))
    order = [group.units[np.argsort(scores[group.units], kind="stable")] for group in costs.groups]
    if scope == "layer":
        kept = _alike(costs, lower, target, divisor)
    else:
        kept = _ranked(costs, [scores[units] for units in order], lower, target, divisor)
    gone = [units[: len(units) - keep] for units, keep in zip(order, kept, strict=True)]
    return np.concatenate([np.zeros(0, np.int64), *gone])


def _least(size, least, divisor):
    whole = -(-least // divisor) * divisor
    return min(size, max(whole, 1))


def _alike(costs, lower, target, divisor):
    """Units that stay where every group keeps the same share: the largest that saves enough."""

    def kept(share):
        rounded = np.round(costs.sizes * share / divisor).astype(np.int64) * divisor
        return np.clip(np.where(rounded >= costs.sizes, costs.sizes, rounded), lower, costs.sizes)

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if costs.total(kept(middle)) <= target else (low, middle)
    return kept(low)


def _ranked(costs, scores, lower, target, divisor):
    """Units that stay where the group goes on that loses least, of what is left of it, for what it saves."""
    sums = [np.concatenate([[0.0], np.cumsum(values)]) for values in scores]
    weights = np.array([len(group.layers) for group in costs.groups], dtype=np.float64)
    kept = costs.sizes.copy()
    steps, losses = np.zeros(len(kept), np.int64), np.full(len(kept), np.inf)
    waiting = range(len(kept))
    while costs.total(kept) > target:
        for group in waiting:
            fewer = (kept[group] - 1) // divisor * divisor
            steps[group] = kept[group] - fewer
            gone = costs.sizes[group] - kept[group]
            lost, left = (sums[group][place] - sums[group][gone] for place in (gone + steps[group], -1))
            losses[group] = weights[group] * lost / max(left, 1e-30) if fewer >= lower[group] else np.inf
        group = int(np.argmin(losses / np.maximum(costs.marginal(kept) * steps, 1e-30)))
        kept[group] -= steps[group]
        waiting = (group,)
    return kept
