"""Advices as plain text for a terminal, at most 100 columns wide."""

import textwrap

from recipes.reporting.tables import WIDTH, cut

_NAMED = 6  # layers
_QUANTITIES = {"parameters": "parameters", "multiply_adds": "multiply-adds", "activations": "activations"}


def advice_list(advices):
    """Show what `recipes.advise` found: a line on the network, then each advice with its reason, saving and mend."""
    return "\n".join([_head(advices), *(line for advice in advices for line in ("", *_lines(advice)))])


def _head(advices):
    found = {0: "nothing to change", 1: "one thing to change"}.get(len(advices), f"{len(advices)} things to change")
    cost = f"{advices.parameters:,} parameters"
    if advices.multiply_adds is not None:
        cost += f", {advices.multiply_adds:,} multiply-adds"
    return cut(f"{advices.network} ({cost}): {found}", WIDTH)


def _lines(advice):
    names = ", ".join(advice.layers[:_NAMED])
    more = len(advice.layers) - _NAMED
    title = f"{advice.rule.replace('_', ' ')} ({advice.kind})" + (f": {names}" if names else "")
    yield from _wrap("", title + (f" and {more} more" if more > 0 else ""))
    yield from _wrap("found  ", advice.what)
    yield from _wrap("why    ", advice.reason)
    if advice.saving:
        yield from _wrap("saves  ", " · ".join(_amounts(advice.saving)))
    for label, line in zip(("mend   ", *(" " * 7,) * 99), advice.mend.splitlines(), strict=False):
        yield from _wrap(label, line)


def _amounts(saving):
    for quantity, title in _QUANTITIES.items():
        if quantity in saving:
            yield f"{saving[quantity]:,} {title} ({100 * saving[f'{quantity}_fraction']:.3g} % of all)"


def _wrap(label, text):
    indent = "  " if label else ""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent + label,
        subsequent_indent="  " + " " * len(label),
        break_on_hyphens=False,
    )
