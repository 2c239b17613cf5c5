"""Which layers a verb's `keep` means."""

import re

from recipes.checks import complaint, nearest


def kept_names(keep, names, where):
    """The names among `names`, in the order of the calls, that `keep` means.

    Args:
        keep: tuple of regular expressions for whole names, `"first"` and `"last"`.
        names: of the layers that there are.
        where: the verb named in errors.

    Raises:
        TypeError, ValueError: it is no tuple of such, or one of them means no layer.
    """
    if isinstance(keep, str) or not isinstance(keep, (tuple, list)) or not all(isinstance(one, str) for one in keep):
        rule, mend = "keep must be a tuple of names of layers", 'Pass keep=("first", "fc.*"), say.'
        raise TypeError(complaint(where, rule, repr(keep), mend))
    words = {"first": names[:1], "last": names[-1:]}
    kept = set()
    for pattern in keep:
        found = words[pattern] if pattern in words else _matching(pattern, names, where)
        if not found and names:
            mend = f"Did you mean {nearest(pattern, names) or names[0]!r}? Others are {', '.join(names[:5])}."
            raise ValueError(complaint(where, "keep must name layers that there are", repr(pattern), mend))
        kept.update(found)
    return kept


def _matching(pattern, names, where):
    try:
        return [name for name in names if re.fullmatch(pattern, name)]
    except re.error as error:
        rule = f"keep must hold regular expressions ({error})"
        raise ValueError(complaint(where, rule, repr(pattern), 'Pass the name of a layer, "fc1" say.')) from error
