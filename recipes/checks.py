"""Argument checks with one wording: where and which rule, what was received, how to mend it."""

import difflib
import math
import numbers


def complaint(where, rule, received, mend):
    """Join the three parts of an error: `where: rule. Received received. mend`."""
    return f"{where}: {rule}. Received {received}. {mend}"


def nearest(name, choices):
    """The choice spelt most like `name`, or None when none is near."""
    close = difflib.get_close_matches(str(name), [str(choice) for choice in choices], n=1, cutoff=0.5)
    return close[0] if close else None


def check_choice(where, name, value, choices):
    """Raise ValueError unless `value` is one of `choices`; suggest what is spelt most like it, or list them all."""
    if value in choices:
        return
    close = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=3)
    if close:
        mend = f"Did you mean {' or '.join(repr(choice) for choice in close)}?"
    else:
        mend = f"Choose one of {', '.join(repr(choice) for choice in choices)}."
    raise ValueError(complaint(where, f"{name} is not known", repr(value), mend))


def check_whole(where, name, value, least=1):
    """Raise unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            complaint(where, f"{name} must be a whole number", repr(value), f"Pass {name}={max(least, 1)}.")
        )
    if value < least:
        raise ValueError(complaint(where, f"{name} must be at least {least}", value, f"Pass {name}={least} or more."))


def check_number(where, name, value, least=0.0, most=math.inf, above=False):
    """Raise unless `value` is a finite number in `least`–`most` (above `least` when `above` is set)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(complaint(where, f"{name} must be a number", repr(value), f"Pass {name}={least + 0.1:g}, say."))
    if not math.isfinite(value) or value < least or value > most or (above and value == least):
        bound = f"above {least:g}" if above else f"at least {least:g}"
        span = bound if most == math.inf else f"{bound} and at most {most:g}"
        raise ValueError(complaint(where, f"{name} must be {span}", value, f"Pass a finite number {span}."))


def check_text(where, name, value):
    """Raise TypeError unless `value` is a string."""
    if not isinstance(value, str):
        raise TypeError(complaint(where, f"{name} must be a string", repr(value), f'Pass {name}="...".'))


def image_size_pair(where, value):
    """(height, width) from a whole number or a pair of them, in pixels."""
    pair = (value, value) if isinstance(value, numbers.Integral) else value
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        rule = "image_size must be a whole number of pixels or a pair (height, width)"
        raise TypeError(complaint(where, rule, repr(value), "Pass image_size=224 or image_size=(240, 320)."))
    for side in pair:
        check_whole(where, "image_size", side)
    return int(pair[0]), int(pair[1])
