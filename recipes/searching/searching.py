"""The search verb: which settings of a recipe are best, found by trying them."""

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import math
import os
import pickle
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import keras_tuner
import tensorflow as tf

from recipes.checks import check_choice, check_number, check_whole, complaint
from recipes.data import load_data
from recipes.data.loading import check_options
from recipes.evaluation import measure
from recipes.finetuning import finetune, open_data
from recipes.reporting.searches import write_search_page, write_table
from recipes.saving import CLASSIFIER, REPORT, load, save
from recipes.searching.choosing import METHODS, make_chooser
from recipes.searching.driving import Drive, complain_of_failures, ranking
from recipes.searching.local import LocalEngine
from recipes.searching.models import DEFAULTS, check_fit, restore_model, train_model
from recipes.searching.nursery import JOB
from recipes.searching.records import STATE, Records, search_folder
from recipes.searching.sharing import share
from recipes.searching.spaces import Space, from_told, is_plain, label, parse_space
from recipes.searching.trials import RESERVED, RUN, Common, Job, finetune_arguments, hyperparameters_at
from recipes.searching.view import View
from recipes.training.devices import grow_memory
from recipes.training.pausing import Pause, pausing
from recipes.training.preparing import prepare
from recipes.training.progress import say
from recipes.training.runs import move_aside
from recipes.training.settings import describe_settings
from recipes.values import Data, Report, Search, Trial

OBJECTIVES = {"val_accuracy": 1, "val_loss": -1, "val_top_5_accuracy": 1, "val_calibration_error": -1}
_IN_TIME = ("val_accuracy", "val_loss")  # what is known of a run on its way
_SHARED, _TRIALS, _BEST, _TABLE, _PAGE, _COMMON = "shared", "trials", "best", "trials.csv", "search.html", "common.pkl"
_TUNABLE = tuple(name for name in inspect.signature(finetune).parameters if name not in RESERVED)
_EXPLORING = -1  # number of the job that finds out what a function of the user's asks for
_ROUNDING = 1e-12


def search(
    data: dict[str, Any] | str | Any,
    base: str | Any | None = None,
    *,
    space: dict[str, Any] | None = None,
    build: Callable | None = None,
    settings: dict[str, Any] | None = None,
    method: str = "random",
    trials: int | None = None,
    objective: str = "val_accuracy",
    workers: int | str = 1,
    retries: int = 2,
    time_limit: float | None = None,
    keep: int = 3,
    seed: int = 0,
    out: str | os.PathLike | None = None,
    resume: str = "auto",
    assert_accuracy_at_least: float | None = None,
    verbose: bool = True,
):
    """Find the best settings of a fine-tuning, or of a model of your own, by trying them.

    1. Check the space, and open the data: all trials map the same decoded images, and see no test image.
    2. Let the grid, or one of KerasTuner's oracles, choose trials. Each trains in a process of its own.
    3. Note down every event in `out` before the next: the same call goes on where a search was stopped, in whatever
       way, to the same table.
    4. Train the best trial to its end, where it has paused, and measure it once on the test split.
    5. Write `trials.csv`, `search.html` and `best`, a folder for `recipes.load`.

    Trials that train a head on a frozen base share what the base gives for the images, and do not build it again.

    Args:
        data: anything that `recipes.load_data` takes, a `Data`, or a dictionary of `load_data`'s arguments.
        base: as in `recipes.finetune`; left out where `space` has it, or with `build`.
        space: what is searched, by the names of `finetune`'s arguments. A tuple (in a job file a list) holds choices.
            `"1e-4..1e-1 log"` is a range, even in the logarithm; `"0.0..0.5"` one that is even; `"0.0..0.5 by 0.1"`,
            `"16..64 by 16"` and `"1e-4..1e-1 log by 10"` have steps; `"1..4"` holds whole numbers. A dictionary holds
            choices with what belongs to each alone: `{"sgd": {"learning_rate": (0.1, 0.01)}, "adamw": {}}`.
        build: function of KerasTuner's `hp` that gives a compiled `keras.Model`, from RGB 0–255 to class
            probabilities, in place of `base`. Then `space` and `settings` may hold epochs, batch_size, image_size,
            augmentation, patience, precision and seed. A search that goes on sees whether it has changed, but not
            whether what it calls has.
        settings: arguments of `finetune` that are the same in every trial.
        method: `"random"`; `"grid"`: every combination, once; `"bayesian"`: where a Gaussian process expects most, so
            many trials ahead as there are workers when the search begins;
            `"hyperband"`: many trials for a few epochs, and a third of them, the best, for three times as long, and so
            on, each from where it paused.
        trials: most trials. Default: 20; the grid takes all, and hyperband counts them itself.
        objective: `"val_accuracy"`, `"val_loss"`, `"val_top_5_accuracy"` or `"val_calibration_error"`.
        workers: trials at a time on this machine, which share out its GPUs; or `"ray"`: tasks on a Ray cluster.
        retries: how often a trial that was killed, crashed or ran out of memory is run again, from its last checkpoint.
        time_limit: seconds after which a trial is ended as a failure; None for no limit.
        keep: how many of the best trials keep what they trained; the others leave their scores.
        seed: whole number that decides the choice of trials and, unless the space or `settings` have a seed, each
            training.
        out: folder for the search. None keeps it in a temporary one, which is removed.
        resume: `"auto"`; `"retry"`, which runs failed trials anew; or `"restart"`, which begins anew and keeps the old
            search in a folder within `out`.
        assert_accuracy_at_least: accuracy (0–1) on the test split that the best trial must reach; a lower one is an
            error, after everything is written.
        verbose: whether to show progress.

    Returns:
        `Search`: trials, best, result, objective, seconds, folder.

    Raises:
        TypeError, ValueError: an argument or the space is wrong, or the data makes training senseless.
        FileExistsError: `out` holds a search with other settings.
        BlockingIOError: `out` is in use by another search.
        OSError: the disk is full; nothing is lost.
        RuntimeError: no trial succeeded, or the best is less accurate than asked.
        ImportError: `workers="ray"` without Ray.

    Example:
        >>> import recipes
        >>> search = recipes.search("digits", "small_resnet", space={"dropout": (0.0, 0.5)}, method="grid",
        ...     settings={"plan": "head", "epochs": 1}, verbose=False)
        >>> [trial.settings for trial in search.trials]
        [{'dropout': 0.0}, {'dropout': 0.5}]

    Source:
        Bergstra & Bengio 2012 (random search); Li et al. 2018 (hyperband); Snoek et al. 2012 (Bayesian optimization).
    """
    where = "search"
    check_choice(where, "method", method, METHODS)
    check_choice(where, "objective", objective, OBJECTIVES)
    check_choice(where, "resume", resume, ("auto", "retry", "restart"))
    _check_numbers(trials, workers, retries, time_limit, keep, seed, assert_accuracy_at_least, where)
    if method == "hyperband" and objective not in _IN_TIME:
        mend = f"Pass objective={' or '.join(map(repr, _IN_TIME))}."
        raise ValueError(complaint(where, "hyperband goes by what is known of a run on its way", objective, mend))
    parsed = _parse(base, space, build, settings, seed, where)
    if method == "hyperband" and objective == "val_loss" and "label_smoothing" in parsed.arguments:
        mend = 'Pass objective="val_accuracy".'
        rule = "the loss of a run on its way holds its label smoothing, so that it tells nothing about another's"
        raise ValueError(complaint(where, rule, "label_smoothing in the space of hyperband", mend))
    epochs = _check_settings(parsed, build, where)
    target = keras_tuner.Objective(objective, "max" if OBJECTIVES[objective] > 0 else "min")
    if build is None:  # complains now about what would otherwise fail after the data is read
        make_chooser(method, parsed.hyperparameters(), target, trials, epochs, 1, seed, where)
    told = _describe(parsed, base, settings, build, method, objective, seed, trials)
    with _folder(out, resume, where) as folder, contextlib.ExitStack() as stack:
        records = Records(folder, told, where)
        engine = stack.enter_context(contextlib.closing(_make_engine(workers, time_limit, folder, where)))
        grow_memory()
        images = _Images(data, build, records, folder / _SHARED, where)
        images.at(next(parsed.examples(), parsed.fixed))
        if resume != "restart":
            records.forget_failures(only_if_all=resume == "auto")
        common = Common(parsed, None, build, where)
        common = dataclasses.replace(common, hyperparameters=_hyperparameters(common, records, engine, folder))
        _write_common(common, folder)
        # So many are chosen before the first of them is known: the same as when the search began.
        at_a_time = records["at a time"] or (engine.capacity if workers == "ray" else workers)
        records["at a time"] = at_a_time
        before = [trial["values"] for trial in records["trials"]]
        common_choice = (method, common.hyperparameters, target, trials, epochs)
        chooser = make_chooser(*common_choice, at_a_time, seed, where, before)
        view = View(objective, OBJECTIVES[objective], lambda number: _words(common, records, number), verbose)
        stack.callback(view.close)
        drive = Drive(
            chooser=chooser,
            records=records,
            engine=engine,
            write_job=lambda leg, home: _write_job(common, leg, home, images, folder),
            folder_of=lambda number: _folder_of(folder, number),
            objective=objective,
            sign=OBJECTIVES[objective],
            retries=retries,
            keep=keep,
            view=view,
            where=where,
        )
        try:
            drive.run()
        except KeyboardInterrupt:
            view.say("Stopped. The same call goes on from here." if out is not None else "Stopped.")
            raise
        engine.close()
        view.close()
        found = _finish(common, records, images, folder, told, out)
    accuracy = found.result.report.scores["accuracy"]
    if assert_accuracy_at_least is not None and accuracy < assert_accuracy_at_least - _ROUNDING:
        say(verbose, str(found))
        split = found.result.report.split
        rule = f"the best trial must reach an accuracy of {assert_accuracy_at_least} on the {split} split"
        mend = "Search on: more trials, a wider space, more epochs, more data."
        raise RuntimeError(complaint(where, rule, f"{accuracy:.4f}", mend))
    return found


def _check_numbers(trials, workers, retries, time_limit, keep, seed, accuracy, where):
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


def _parse(base, space, build, settings, seed, where):
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


def _check_settings(space: Space, build, where):
    """Complain now of choices that `finetune` would refuse; most epochs of a run."""
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
        stages = prepare(arguments, where).stages_of(pretrained=arguments["weights"] is not None)
        epochs.append(sum(stage.epochs for stage in stages))
    return max(epochs)


def _describe(parsed, base, settings, build, method, objective, seed, trials):
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


@contextlib.contextmanager
def _folder(out, resume, where):
    if out is None:
        with tempfile.TemporaryDirectory(prefix="recipes-search-") as folder:
            yield Path(folder)
        return
    with search_folder(out, where) as folder:
        if resume == "restart":
            move_aside(folder, last=STATE)
        yield folder


def _folder_of(folder, number):
    return folder / _TRIALS / f"{number:04d}"


def _make_engine(workers, time_limit, folder, where):
    if workers == "ray":
        from recipes.searching.cluster import RayEngine

        return RayEngine(folder, time_limit, where)
    return LocalEngine(workers, len(tf.config.list_physical_devices("GPU")), time_limit)


class _Images:
    """The Data of a search, at each size that its trials ask for, opened when the first asks."""

    def __init__(self, source, build, records, folder, where):
        self._source, self._build, self._records, self._folder, self._where = source, build, records, folder, where
        self._opened = {}

    @property
    def source_words(self):
        """The source as a command line spells it; None where it cannot."""
        source = os.fspath(self._source) if isinstance(self._source, os.PathLike) else self._source
        if isinstance(source, dict) and all(is_plain(value) for value in source.values()):
            return json.dumps(source)
        return source if isinstance(source, str) else None

    def at(self, settings):
        """(Data, the path to what trials see of it) for the settings of a trial."""
        asked = settings.get("base"), settings.get("weights", "pretrained"), settings.get("image_size")
        key = repr(asked)
        if key not in self._opened:
            data = self._open(*asked)
            if not len(data.valid):
                mend = "Load the data with valid=0.15."
                raise ValueError(complaint(self._where, "a search needs validation images", repr(data), mend))
            self._records.check_data(data.image_size, data.fingerprint)
            self._opened[key] = data, share(data, self._folder)
        return self._opened[key]

    def _open(self, base, weights, image_size):
        if self._build is None or isinstance(self._source, Data):
            return open_data(self._source, base, weights, image_size, self._where)
        source, options = check_options(self._source, self._where)
        if image_size is not None and options.get("image_size") is not None:
            received, mend = f"image_size={image_size} and {options['image_size']} in data", "Pass it once."
            raise ValueError(complaint(self._where, "image_size must be given once", received, mend))
        return load_data(source, **options | ({} if image_size is None else {"image_size": image_size}))


def _hyperparameters(common, records, engine, folder):
    """KerasTuner's HyperParameters: those of the space, and what the function of the user's asks for."""
    if common.build is None:
        return common.space.hyperparameters()
    if records["space"] is None:
        home = folder / _SHARED / "exploring"
        home.mkdir(parents=True, exist_ok=True)
        job = ("explore", str(_write_common(common, folder, "exploring.pkl")), None, None)
        (home / JOB).write_bytes(pickle.dumps(job))
        records["space"] = engine.explore(_EXPLORING, home)
    return from_told(records["space"])


def _write_common(common, folder, name=_COMMON):
    path = folder / _SHARED / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(cloudpickle.dumps(common))
    return path


def _write_job(common, leg, home, images, folder):
    shared = folder / _SHARED
    _, path = images.at(common.space.settings(leg.values))
    job = Job(leg.trial, leg.values, leg.epochs, str(home), str(shared))
    (home / JOB).write_bytes(pickle.dumps(("trial", str(shared / _COMMON), job, str(path))))


def _searched(common, values):
    """`{argument: value}` of what was searched in a trial."""
    own = {part.name for part in common.space.dimensions}
    return {**common.space.searched(values), **{name: value for name, value in values.items() if name not in own}}


def _words(common, records, number):
    chosen = _searched(common, records["trials"][number]["values"])
    return ", ".join(f"{name}={label(value)}" for name, value in chosen.items())


def _finish(common, records, images, folder, told, out):
    """The Search, written down; its best trial is measured now, unless it was before."""
    outcomes, objective = records.last_outcomes(), told["objective"]
    best = next(iter(ranking(outcomes, objective, OBJECTIVES[objective])), None)
    if best is None:
        said = complain_of_failures(outcomes.values(), common.where)
        raise RuntimeError(said)
    values = records["trials"][best]["values"]
    settings = common.space.settings(values)
    data, _ = images.at(settings)
    if records["best"] == best and (folder / _BEST / CLASSIFIER).exists():
        result = _brought_back(common, values, settings, data, folder, best)
    else:
        is_paused = outcomes[best].status == "paused"
        result = _trained(common, values, settings, data, _folder_of(folder, best) / RUN, is_paused)
        save(result, folder / _BEST)
        records["best"] = best
    made = tuple(
        _trial(common, records, number, outcome, objective, images.source_words) for number, outcome in outcomes.items()
    )
    found = Search(
        trials=made,
        best=next(trial for trial in made if trial.number == best),
        result=result,
        objective=objective,
        is_more_better=OBJECTIVES[objective] > 0,
        method=told["method"],
        seconds=records["seconds"],
        folder=folder if out is not None else None,
    )
    write_table(found, folder / _TABLE)
    write_search_page(found, folder / _PAGE)
    shutil.rmtree(folder / _SHARED, ignore_errors=True)
    return found


def _brought_back(common, values, settings, data, folder, best):
    """Result of a search that was complete before."""
    run = _folder_of(folder, best) / RUN
    if common.build is None or not run.exists():
        return dataclasses.replace(load(folder / _BEST), data=data)
    # What a model of the user's is made of, a file may not be able to say.
    result = _restored(common, values, settings, data, run)
    return dataclasses.replace(result, report=Report.load(folder / _BEST / REPORT))


def _trained(common, values, settings, data, run, is_paused):
    """Result of the run of a trial, which is trained to its end and measured on the test split."""
    if common.build is None:
        arguments = finetune_arguments(settings, run) | {"data": data, "verbose": False}
        return finetune(**arguments)
    if is_paused:
        hp = hyperparameters_at(common.hyperparameters, values)
        with contextlib.suppress(Pause), pausing(math.inf):
            train_model(common.build, hp, {**DEFAULTS, **settings}, data, run, common.where)
    result = _restored(common, values, settings, data, run)
    name = "test" if len(data.test) else "valid"
    report = measure(result, getattr(data, name), name, {**DEFAULTS, **settings}["batch_size"])
    return dataclasses.replace(result, report=report)


def _restored(common, values, settings, data, run):
    hp = hyperparameters_at(common.hyperparameters, values)
    return restore_model(common.build, hp, {**DEFAULTS, **settings}, data, run, common.where)


def _trial(common, records, number, outcome, objective, source):
    values = records["trials"][number]["values"]
    return Trial(
        number=number,
        settings=_searched(common, values),
        status=outcome.status,
        score=outcome.scores.get(objective),
        scores=outcome.scores,
        epochs=outcome.epochs,
        seconds=outcome.seconds,
        attempts=outcome.attempts,
        peak_bytes=outcome.peak_bytes,
        reason=outcome.reason,
        command=_command(common, values, source),
    )


def _command(common, values, source):
    """What trains a trial again: a command where its settings can be spelt in one, else a call."""
    settings = common.space.settings(values)
    if common.build is not None:
        hp = {name: value for name, value in values.items() if name in common.hyperparameters.values}
        return f"build(hp) with hp.values = {hp}, then fit with { ({**DEFAULTS, **settings}) }"
    if source is None or not all(is_plain(value) for value in settings.values()):
        listed = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        return f"recipes.finetune(data=data, {listed})"
    words = {"base": settings["base"], "data": source, **settings}
    return "recipes finetune " + " ".join(f"--{name} {shlex.quote(_spelt(value))}" for name, value in words.items())


def _spelt(value):
    return repr(value) if isinstance(value, float) else label(value)
