"""Search spaces in plain words, and the settings that a choice in them stands for."""

import contextlib
import dataclasses
import decimal
import json
import re

import keras_tuner

from recipes.checks import complaint, nearest

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})(\s+log)?(?:\s+by\s+({_NUMBER}))?(\s+log)?\s*")
_MOST = 100_000  # values of a range with steps, and combinations of a grid
_SPELLING = '(0.1, 0.2), "0.0..0.5", "0.0..0.5 by 0.1", "1e-4..1e-1 log", "1e-4..1e-1 log by 10" or "16..64 by 16"'


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One thing that is searched.

    Args:
        name: of its own, `"optimizer=sgd/momentum"` where it stands under a choice.
        argument: that it sets, `"momentum"`.
        choices: its values; empty for a range without steps.
        low, high: the ends of such a range.
        is_log: whether it is even in the logarithm.
        parents: `(name, label)` of the choices under which it stands, from the outermost to the innermost.
    """

    name: str
    argument: str
    choices: tuple = ()
    low: float = 0.0
    high: float = 0.0
    is_log: bool = False
    parents: tuple[tuple[str, object], ...] = ()

    @property
    def labels(self):
        """What stands for the choices in KerasTuner, which takes numbers, or else texts."""
        kinds = {type(choice) for choice in self.choices}
        if kinds in ({int}, {float}):
            return self.choices
        return tuple(label(choice) if is_plain(choice) else self._name(choice) for choice in self.choices)

    def _name(self, choice):
        """An object's text, the same in every process: its class, and its place among the choices."""
        return f"{type(choice).__name__} {[choice is other for other in self.choices].index(True) + 1}"

    def shown(self, label):
        """The value that a label stands for; an object's own label, for it has no better text."""
        value = self.value(label)
        return value if is_plain(value) else label

    def value(self, label):
        """The value that a label stands for."""
        return self.choices[self.labels.index(label)] if self.choices else label

    def declare(self, hp):
        """Enter this into KerasTuner's HyperParameters."""
        for name, value in self.parents:
            with hp.conditional_scope(name, [value]):
                return dataclasses.replace(self, parents=self.parents[1:]).declare(hp)
        if self.choices:
            return hp.Choice(self.name, list(self.labels))
        return hp.Float(self.name, self.low, self.high, sampling="log" if self.is_log else "linear")


@dataclasses.dataclass(frozen=True)
class Space:
    """All that is searched, and what is the same in every trial.

    Args:
        dimensions: in the order of their declaration, parents before children.
        fixed: `{argument: value}`.
    """

    dimensions: tuple[Dimension, ...]
    fixed: dict

    def settings(self, values):
        """`{argument: value}` of a trial from KerasTuner's values of its hyperparameters."""
        chosen = {part.argument: part.value(values[part.name]) for part in self.dimensions if part.name in values}
        return {**self.fixed, **chosen}

    def searched(self, values):
        """As `settings`, without what is the same in every trial, and with words for objects."""
        return {part.argument: part.shown(values[part.name]) for part in self.dimensions if part.name in values}

    @property
    def arguments(self):
        """Names of the arguments that are searched, in order, each once."""
        return tuple(dict.fromkeys(part.argument for part in self.dimensions))

    def hyperparameters(self):
        """KerasTuner's HyperParameters for this space."""
        hp = keras_tuner.HyperParameters()
        for part in self.dimensions:
            part.declare(hp)
        return hp

    def examples(self):
        """Settings in which every choice comes up once, the others being the first that stand beside it."""
        first = {part.name: part.labels[0] if part.choices else part.low for part in self.dimensions}
        for part in self.dimensions:
            for value in part.labels or (part.low, part.high):
                values = first | dict(part.parents) | {part.name: value}
                active = [other for other in self.dimensions if all(values[name] == at for name, at in other.parents)]
                yield self.settings({other.name: values[other.name] for other in active})


def parse_space(space, fixed, known, where):
    """A Space from plain words.

    Args:
        space: `{argument: what}`: a tuple or list of choices; a text such as `"1e-4..1e-1 log"`, see `_SPELLING`; a
            dictionary of choices, each with the space that belongs to it alone; or one value for all trials.
        fixed: `{argument: value}` for all trials.
        known: names of arguments that may stand there.
        where: for errors.

    Raises:
        TypeError, ValueError: something in it is not known, empty, or said twice.
    """
    for given, name in ((space, "space"), (fixed, "settings")):
        if not isinstance(given, dict):
            mend = f'Pass {name}={{"learning_rate": ...}}.'
            raise TypeError(complaint(where, f"{name} must be a dictionary", repr(given), mend))
    fixed, parts = dict(fixed), []
    for argument in fixed:
        _check_known("settings", argument, known, where)
    _read(space, (), "", fixed, parts, known, where)
    _check_once(parts, fixed, where)
    return Space(tuple(parts), fixed)


def grid(hp, where):
    """All combinations of values of KerasTuner's HyperParameters, in order.

    Raises:
        ValueError: there is a range without steps, or too many combinations.
    """
    for part in hp.space:
        if getattr(part, "step", 1) is None:
            mend = f'Give it steps, "{part.min_value:g}..{part.max_value:g} by …", or pass method="random".'
            received = f"{part.min_value:g}..{part.max_value:g}"
            raise ValueError(complaint(where, f"a grid needs steps in {part.name}", received, mend))
    combinations = [{}]
    for part in hp.space:
        choices = [part.value] if isinstance(part, keras_tuner.engine.hyperparameters.Fixed) else list(part.values)
        combinations = [
            more
            for values in combinations
            for more in ([{**values, part.name: one} for one in choices] if _is_active(part, values) else [values])
        ]
        if len(combinations) > _MOST:
            mend = 'Leave choices out, or pass method="random".'
            raise ValueError(complaint(where, f"a grid has {_MOST:,} combinations at most", "more", mend))
    return combinations


def told(hp):
    """KerasTuner's HyperParameters as JSON."""
    return [
        {
            "kind": type(part).__name__,
            "under": [[condition.name, list(condition.values)] for condition in part.conditions],
            "config": {name: value for name, value in part.get_config().items() if name != "conditions"},
        }
        for part in hp.space
    ]


def from_told(parts):
    """KerasTuner's HyperParameters from what `told` gave."""
    hp = keras_tuner.HyperParameters()
    for part in parts:
        with contextlib.ExitStack() as scopes:
            for name, values in part["under"]:
                scopes.enter_context(hp.conditional_scope(name, values))
            getattr(hp, part["kind"])(**part["config"])
    return hp


def is_finite(hp):
    """Whether KerasTuner's HyperParameters have no range without steps."""
    return all(getattr(part, "step", 1) is not None for part in hp.space)


def label(value):
    """A value as text, as a table or a command line shows it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value) if is_plain(value) else type(value).__name__


def is_plain(value):
    """Whether a value is made of texts and numbers alone, so that a file or a command line can say it."""
    if isinstance(value, (tuple, list)):
        return all(is_plain(part) for part in value)
    if isinstance(value, dict):
        return all(is_plain(part) for part in value.values())
    return value is None or isinstance(value, (str, bool, int, float))


def _is_active(part, values):
    return all(condition.is_active(values) for condition in part.conditions)


def _read(space, parents, prefix, fixed, parts, known, where):
    for argument, what in space.items():
        _check_known("space", argument, known, where)
        name = f"{prefix}{argument}"
        if isinstance(what, dict):
            dimension = Dimension(name, argument, _checked(argument, tuple(what), where), parents=parents)
            parts.append(dimension)
            for at, (choice, inner) in zip(dimension.labels, what.items(), strict=True):
                if inner and not isinstance(inner, dict):
                    mend = 'Spell it {"sgd": {"learning_rate": (0.1, 0.01)}, "adam": {}}.'
                    rule = f"{name}: what belongs to the choice {choice!r} must be a dictionary"
                    raise TypeError(complaint(where, rule, repr(inner), mend))
                _read(inner or {}, (*parents, (name, at)), f"{name}={label(choice)}/", fixed, parts, known, where)
        elif isinstance(what, str) and (match := _RANGE.fullmatch(what)):
            parts.append(_ranged(name, argument, what, match, parents, where))
        elif isinstance(what, str) and ".." in what and re.match(_NUMBER, what.strip()):
            raise ValueError(
                complaint(where, f"{name} is no range that can be read", repr(what), f"Spell {_SPELLING}.")
            )
        elif isinstance(what, (tuple, list, range)):
            parts.append(Dimension(name, argument, _checked(argument, tuple(what), where), parents=parents))
        elif parents:  # fixed under a choice alone
            parts.append(Dimension(name, argument, (what,), parents=parents))
        elif argument in fixed:
            _complain_of_two(argument, "settings and space", where)
        else:
            fixed[argument] = what


def _checked(argument, choices, where):
    """The choices of an argument: some, and each another; YAML's lists stand for tuples."""
    if not choices:
        raise ValueError(complaint(where, f"{argument} must have a choice", "none", f"Spell {_SPELLING}."))
    choices = tuple(tuple(choice) if isinstance(choice, list) and _is_flat(choice) else choice for choice in choices)
    if {type(choice) for choice in choices} == {int, float}:
        choices = tuple(float(choice) for choice in choices)
    texts = [label(choice) for choice in choices if is_plain(choice)]
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise ValueError(complaint(where, f"the choices of {argument} must differ", f"{twice} twice", "Leave one out."))
    return choices


def _is_flat(values):
    return all(isinstance(value, (int, float, str)) for value in values)


def _ranged(name, argument, text, match, parents, where):
    low, high, step = (decimal.Decimal(part) if part else None for part in match.group(1, 2, 4))
    is_log = bool(match.group(3) or match.group(5))
    if low >= high or (is_log and low <= 0) or (step is not None and step <= (1 if is_log else 0)):
        rule = f"{name} must go up from its first number" + (", which is above 0, by a factor above 1" * is_log)
        raise ValueError(complaint(where, rule, repr(text), f"Spell {_SPELLING}."))
    is_whole = all(re.fullmatch(r"[-+]?\d+", part) for part in (*match.group(1, 2), match.group(4) or "1"))
    if step is None and (is_log or not is_whole):
        return Dimension(name, argument, (), float(low), float(high), is_log, parents)
    step, values = 1 if step is None else step, [low]
    while len(values) <= _MOST and (following := values[-1] * step if is_log else values[-1] + step) <= high:
        values.append(following)
    if len(values) > _MOST:
        raise ValueError(complaint(where, f"{name} has {_MOST:,} steps at most", repr(text), "Pass a larger step."))
    return Dimension(
        name, argument, tuple(int(value) if is_whole else float(value) for value in values), parents=parents
    )


def _check_known(place, argument, known, where):
    if argument in known:
        return
    close = nearest(argument, known)
    mend = f"Did you mean {close!r}?" if close else f"It may hold {', '.join(known)}."
    raise ValueError(complaint(where, f"an argument in {place} is not known", repr(argument), mend))


def _check_once(parts, fixed, where):
    """Raise where an argument could be set twice at a time."""
    for number, part in enumerate(parts):
        if part.argument in fixed:
            _complain_of_two(part.argument, "settings and space", where)
        for other in parts[:number]:
            if other.argument == part.argument and not _are_apart(other, part):
                _complain_of_two(part.argument, f"{other.name} and {part.name}", where)


def _are_apart(one, other):
    """Whether two dimensions stand under different choices of the same thing, so that only one of them is there."""
    mine, others = dict(one.parents), dict(other.parents)
    return any(mine[name] != others[name] for name in mine.keys() & others.keys())


def _complain_of_two(argument, places, where):
    raise ValueError(complaint(where, f"{argument} must be set in one place", places, "Leave one of them out."))
