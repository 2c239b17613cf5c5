"""What a search is asked to do, checked before any work, and what of it decides its course."""

import functools
import hashlib
import inspect
import re

from recipes.checks import check_choice, check_number, check_whole, complaint
from recipes.finetuning import finetune
from recipes.searching.choosing import METHODS
from recipes.searching.models import DEFAULTS, check_fit
from recipes.searching.spaces import is_plain, parse_space
from recipes.searching.trials import RESERVED, finetune_arguments
from recipes.training.preparing import prepare
from recipes.training.settings import describe_settings

OBJECTIVES = {"val_accuracy": 1, "val_loss": -1, "val_top_5_accuracy": 1, "val_calibration_error": -1}
_IN_TIME = ("val_accuracy", "val_loss")  # what is known of a run on its way
_TUNABLE = tuple(name for name in inspect.signature(finetune).parameters if name not in RESERVED)


def check_choices(method, objective, resume, where):
    """Raise unless the method, the objective and the way to go on are known, and fit."""
    check_choice(where, "method", method, METHODS)
    check_choice(where, "objective", objective, OBJECTIVES)
    check_choice(where, "resume", resume, ("auto", "retry", "restart"))
    if method == "hyperband" and objective not in _IN_TIME:
        mend = f"Pass objective={' or '.join(map(repr, _IN_TIME))}."
        raise ValueError(complaint(where, "hyperband goes by what is known of a run on its way", objective, mend))


def check_numbers(trials, workers, retries, time_limit, keep, seed, accuracy, where):
    """Raise unless these are numbers that a search can have; `workers` may be `"ray"`."""
    if trials is not None:
        check_whole(where, "trials", trials)
    if workers != "ray":
        if isinstance(workers, str):
            mend = 'Pass workers=2, or workers="ray".'
            raise ValueError(complaint(where, 'workers must be a whole number or "ray"', repr(workers), mend))
        check_whole(where, "workers", workers)
    check_whole(where, "retries", retries, least=0)
    check_whole(where, "keep", keep)
    check_whole(where, "seed", seed, least=0)
    if time_limit is not None:
        check_number(where, "time_limit", time_limit, above=True)
    if accuracy is not None:
        check_number(where, "assert_accuracy_at_least", accuracy, most=1.0)


def parse(base, space, build, settings, seed, where):
    """The Space, with base and seed in it."""
    space, settings = {} if space is None else space, {} if settings is None else dict(settings)
    known = _TUNABLE if build is None else tuple(DEFAULTS)
    if build is not None and not callable(build):
        mend = "Pass a function of hp that returns a compiled keras.Model."
        raise TypeError(complaint(where, "build must be a function", repr(build), mend))
    if build is not None and base is not None:
        rule, mend = "a search is over a base or over a function's models", "Leave base or build out."
        raise ValueError(complaint(where, rule, "both base and build", mend))
    if base is not None:
        settings["base"] = base
    if isinstance(space, dict) and "seed" not in {**space, **settings}:
        settings["seed"] = seed
    parsed = parse_space(space, settings, known, where)
    if build is not None:
        return parsed
    if not parsed.dimensions:
        mend = 'Pass space={"learning_rate": "1e-4..1e-2 log"}, say.'
        raise ValueError(complaint(where, "the space must hold something to choose", repr(space), mend))
    if "base" not in parsed.fixed and "base" not in parsed.arguments:
        mend = 'Pass base="mobilenet_v2", or let space choose among bases.'
        raise ValueError(complaint(where, "a search needs a base", "none", mend))
    return parsed


def check_settings(space, build, method, objective, where):
    """Complain now of choices that a trial would refuse; most epochs of a trial."""
    for name in ("label_smoothing", "loss"):
        if method == "hyperband" and objective == "val_loss" and name in space.arguments:
            mend = 'Pass objective="val_accuracy".'
            rule = "the loss of a run on its way is of its own kind, so that it tells nothing about another's"
            raise ValueError(complaint(where, rule, f"{name} in the space of hyperband", mend))
    for name in ("class_weights", "sampling"):
        if method == "hyperband" and name in space.arguments:
            rule = f"{name} decides how the scores of a run on its way are weighted, so that others do not compare"
            mend = "Pass it in settings, the same for all trials, or another method."
            raise ValueError(complaint(where, rule, f"{name} in the space of hyperband", mend))
    epochs = []
    for settings in space.examples() if space.dimensions else [space.fixed]:
        if build is not None:
            check_fit({**DEFAULTS, **settings}, where)
            epochs.append({**DEFAULTS, **settings}["epochs"])
            continue
        if "base" not in settings:
            mend = "Let every choice have a base, or pass base=..."
            raise ValueError(complaint(where, "every trial needs a base", f"none with {settings}", mend))
        arguments = finetune_arguments(settings, "out")
        setup = prepare(arguments, where)
        if setup.training.loss is not None and objective not in _IN_TIME:
            rule, mend = "a run with loss= has no probabilities before its end", 'Pass objective="val_accuracy".'
            raise ValueError(complaint(where, rule, f"objective={objective!r}", mend))
        stages = setup.stages_of(pretrained=arguments["weights"] is not None)
        epochs.append(sum(stage.epochs for stage in stages))
    return max(epochs)


def describe(parsed, base, settings, build, method, objective, seed, trials):
    """All that decides the course of a search, JSON-able."""
    objects = {
        f"{part.name} {place}": choice
        for part in parsed.dimensions
        for place, choice in enumerate(part.choices)
        if not is_plain(choice)
    }
    arguments = {"base": base, "weights": parsed.fixed.get("weights"), "data": None, "objects": objects}
    told = describe_settings(arguments | {"settings": settings or {}})
    del told["data"], told["weights"]
    told |= {"method": method, "objective": objective, "seed": seed}
    told["fixed"] = {name: value for name, value in parsed.fixed.items() if is_plain(value)}
    told["space"] = [
        [part.name, list(part.labels), part.low, part.high, part.is_log, list(map(list, part.parents))]
        for part in parsed.dimensions
    ]
    if build is not None:
        told["build"] = _words_of(build)
    if method in ("grid", "hyperband"):
        told["trials"] = trials
    return told


def _words_of(function):
    """What is known of a function without calling it: its source, and the values that are bound to it.

    What it calls is not seen.
    """
    if isinstance(function, functools.partial):
        return f"{_words_of(function.func)} with {function.args} {function.keywords}"
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return f"a {type(function).__name__} of unknown source"
    inner = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    bound = [_words_of(value) if callable(value) else repr(value) for value in inner]
    text = f"{source} {bound} {getattr(function, '__defaults__', None)}"
    digest = hashlib.blake2b(re.sub(r" at 0x[0-9a-f]+", "", text).encode(), digest_size=8).hexdigest()
    return f"{getattr(function, '__qualname__', 'build')} {digest}"
