"""Argument checks of the layers, with one wording: layer and rule, what was received, how to mend it."""

import math
import numbers


def complaint(layer, rule, received, mend):
    """Join the three parts of an error: `layer: rule. Received received. mend`."""
    return f"{layer}: {rule}. Received {received}. {mend}"


def check_whole(layer, name, value, least=1, odd=False):
    """Raise unless `value` is a whole number of at least `least`, and odd where that is asked for."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole:
        mend = f"Pass {name}={max(least, 1)}, say."
        raise TypeError(complaint(layer, f"{name} must be a whole number", f"{name}={value!r}", mend))
    if value < least:
        mend = f"Pass {name}={least} or more."
        raise ValueError(complaint(layer, f"{name} must be at least {least}", f"{name}={value}", mend))
    if odd and value % 2 == 0:
        mend = f"Pass {name}={value - 1} or {name}={value + 1}."
        raise ValueError(complaint(layer, f"{name} must be odd", f"{name}={value}", mend))


def check_number(layer, name, value, least=-math.inf, most=math.inf, above=False):
    """Raise unless `value` is a finite number in `least`–`most` (above `least` when `above` is set)."""
    span = f"above {least:g}" if above else f"at least {least:g}"
    span = f"{span} and at most {most:g}" if most < math.inf else span
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(complaint(layer, f"{name} must be a number", f"{name}={value!r}", f"Pass a number {span}."))
    if not math.isfinite(value) or value < least or value > most or (above and value == least):
        raise ValueError(complaint(layer, f"{name} must be {span}", f"{name}={value}", f"Pass a number {span}."))


def check_choice(layer, name, value, choices):
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        mend = f"Choose one of {', '.join(repr(choice) for choice in choices)}."
        raise ValueError(complaint(layer, f"{name} is not known", f"{name}={value!r}", mend))


def pair(layer, name, value, least=1):
    """(height, width) from a whole number or a pair of them."""
    values = (value, value) if isinstance(value, numbers.Integral) else value
    if not isinstance(values, (tuple, list)) or len(values) != 2:
        mend = f"Pass {name}=3 or {name}=(3, 5), say."
        rule = f"{name} must be a whole number or a pair (height, width)"
        raise TypeError(complaint(layer, rule, f"{name}={value!r}", mend))
    for one in values:
        check_whole(layer, name, one, least)
    return int(values[0]), int(values[1])
