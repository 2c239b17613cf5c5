"""What can be traded: kernel size for depth, width for depth, both, and each the other way round."""

import dataclasses
from fractions import Fraction

_DEEPER = (Fraction(3, 2), 2, 3, 4, 6)
_SHALLOWER = tuple(1 / Fraction(factor) for factor in _DEEPER)
_SMALLER, _LARGER = (2, 3), (3, 5, 7)
_LEAST = 1 / 8  # of a width that is traded away
KERNEL_FOR_DEPTH, DEPTH_FOR_KERNEL = "kernel for depth", "depth for kernel"
WIDTH_FOR_DEPTH, DEPTH_FOR_WIDTH = "width for depth", "depth for width"
BOTH_FOR_DEPTH, DEPTH_FOR_BOTH = "kernel and width for depth", "depth for kernel and width"


def moves(stages):
    """Every (what is traded, stages, places of those that changed), with widths that have yet to be fitted.

    Kernels are traded in every run of neighbouring stages, widths in each stage and in all, both in all.
    """
    places = range(len(stages))
    whole = tuple(places)
    for first in places:
        for end in range(first + 1, len(stages) + 1):
            yield from _kernels(stages, tuple(range(first, end)))
    for scope in dict.fromkeys([*((place,) for place in places), whole]):
        yield from _depths(stages, scope, _DEEPER, WIDTH_FOR_DEPTH)
        yield from _depths(stages, scope, _SHALLOWER, DEPTH_FOR_WIDTH)
    for what, changed, scope in _kernels(stages, whole):
        is_deeper = what == KERNEL_FOR_DEPTH
        factors, both = (_DEEPER, BOTH_FOR_DEPTH) if is_deeper else (_SHALLOWER, DEPTH_FOR_BOTH)
        for _, new, others in _depths(changed, whole, factors, both):
            yield both, new, tuple(sorted({*scope, *others}))


def has_its_price(move, stages, before):
    """Whether width is paid, or bought, in every stage that changed, if the move says so; at most seven eighths."""
    is_paid, is_bought = ("width" in side for side in move.split(" for "))
    widths = [(new.width, old.width) for new, old in zip(stages, before, strict=True) if new != old]
    is_fair = all((new < old or not is_paid) and (new > old or not is_bought) for new, old in widths)
    return is_fair and all(new >= _LEAST * old for new, old in widths)


def _kernels(stages, scope):
    for size in _SMALLER:
        yield from _changed(stages, scope, lambda stage, size=size: _with_smaller(stage, size), KERNEL_FOR_DEPTH)
    for size in _LARGER:
        yield from _changed(stages, scope, lambda stage, size=size: _with_larger(stage, size), DEPTH_FOR_KERNEL)


def _depths(stages, scope, factors, what):
    for factor in factors:
        yield from _changed(stages, scope, lambda stage, factor=factor: _with_depth(stage, factor), what)


def _changed(stages, scope, change, what):
    """The stages with those in `scope` changed, if any of them can be."""
    new = tuple(change(stage) if place in scope else stage for place, stage in enumerate(stages))
    changed = tuple(place for place, stage in enumerate(stages) if new[place] != stage)
    if changed:
        yield what, new, changed


def _with_smaller(stage, size):
    """As many smaller kernels as see what the larger ones saw: two of 3 for one of 5, two of 2 for one of 3."""
    more, rest = divmod(stage.kernel_size - 1, size - 1)
    if more < 2 or rest:
        return stage
    return _with_kernel(stage, size, stage.depth * more)


def _with_larger(stage, size):
    """One larger kernel for as many smaller ones."""
    fewer, rest = divmod(size - 1, stage.kernel_size - 1) if stage.kernel_size > 1 else (0, 0)
    if fewer < 2 or rest or stage.depth % fewer:
        return stage
    return _with_kernel(stage, size, stage.depth // fewer)


def _with_kernel(stage, size, depth):
    """Even kernels are padded by turns; odd ones need not be."""
    odd = "same" if stage.padding == "alternating" else stage.padding
    padding = odd if size % 2 else "alternating"
    return dataclasses.replace(stage, kernel_size=size, depth=depth, padding=padding)


def _with_depth(stage, factor):
    """Even kernels that are padded by turns stay in pairs, so that the map does."""
    pair = 2 if stage.padding == "alternating" and stage.kernel_size % 2 == 0 and stage.depth % 2 == 0 else 1
    return dataclasses.replace(stage, depth=max(1, round(stage.depth * factor / pair)) * pair)
