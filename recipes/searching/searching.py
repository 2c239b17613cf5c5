"""The search verb: which settings of a recipe are best, found by trying them."""

import contextlib
import dataclasses
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import keras_tuner
import tensorflow as tf

from recipes.checks import complaint
from recipes.searching.asking import OBJECTIVES, check_choices, check_numbers, check_settings, describe, parse
from recipes.searching.choosing import make_chooser
from recipes.searching.driving import Drive
from recipes.searching.finishing import finish, words_of
from recipes.searching.images import Images
from recipes.searching.local import LocalEngine
from recipes.searching.nursery import JOB
from recipes.searching.records import SHARED, STATE, Records, folder_of, search_folder
from recipes.searching.spaces import from_told
from recipes.searching.trials import Common, Job
from recipes.searching.view import View
from recipes.training.devices import grow_memory
from recipes.training.progress import say
from recipes.training.runs import move_aside

_COMMON, _EXPLORING = "common.pkl", "exploring.pkl"
_ALONE = -1  # number of the job that finds out what a function of the user's asks for
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
            augmentation, augmentation_strength, patience, precision and seed. A search that goes on sees whether it has
            changed, but not whether what it calls has.
        settings: arguments of `finetune` that are the same in every trial.
        method: `"random"`; `"grid"`: every combination, once; `"bayesian"`: where a Gaussian process expects most, so
            many trials ahead as there are workers when the search begins;
            `"hyperband"`: many trials for a few epochs, and a third of them, the best, for three times as long, and so
            on, each from where it paused.
        trials: most trials. Default: 20; the grid takes all, and hyperband counts them itself.
        objective: `"val_accuracy"`, `"val_loss"`, `"val_top_5_accuracy"` or `"val_calibration_error"`. Trials with
            `head="knn"` are compared by what trains, a softmax or, with `loss`, the others of a batch.
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
    check_choices(method, objective, resume, where)
    check_numbers(trials, workers, retries, time_limit, keep, seed, assert_accuracy_at_least, where)
    space = parse(base, space, build, settings, seed, where)
    epochs = check_settings(space, build, method, objective, where)
    target = keras_tuner.Objective(objective, "max" if OBJECTIVES[objective] > 0 else "min")
    if build is None:  # complains now about what would otherwise fail after the data is read
        make_chooser(method, space.hyperparameters(), target, trials, epochs, 1, seed, where)
    told = describe(space, base, settings, build, method, objective, seed, trials)
    with _folder(out, resume, where) as folder, contextlib.ExitStack() as stack:
        records = Records(folder, told, where)
        engine = stack.enter_context(contextlib.closing(_make_engine(workers, time_limit, folder, where)))
        grow_memory()
        images = Images(data, build, records, folder / SHARED, where)
        images.at(next(space.examples(), space.fixed))
        records.forget_failures(only_if_all=resume != "retry")
        common = _common(space, build, records, engine, folder, where)
        # So many are chosen before the first of them is known: as many as when the search began.
        at_a_time = records["at a time"] = records["at a time"] or engine.capacity
        before = [trial["values"] for trial in records["trials"]]
        choosing = (method, common.hyperparameters, target, trials, epochs)
        chooser = make_chooser(*choosing, at_a_time, seed, where, before)

        def settings_of(number):
            return words_of(common, records["trials"][number]["values"])

        def write_job(leg, home):
            _, path = images.at(space.settings(leg.values))
            job = Job(leg.trial, leg.values, leg.epochs, str(home), str(folder / SHARED))
            (home / JOB).write_bytes(pickle.dumps(("trial", str(folder / SHARED / _COMMON), job, str(path))))

        view = View(objective, OBJECTIVES[objective], settings_of, verbose)
        stack.callback(view.close)
        drive = Drive(
            chooser=chooser,
            records=records,
            engine=engine,
            write_job=write_job,
            folder_of=lambda number: folder_of(folder, number),
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
        found = finish(common, records, images, folder, told)
    if out is None:
        found = dataclasses.replace(found, folder=None)
    _check_accuracy(found, assert_accuracy_at_least, verbose, where)
    return found


def _check_accuracy(found, least, verbose, where):
    """Raise where the best trial is less accurate than asked; what was found is shown first."""
    report = found.result.report
    if least is None or report.scores["accuracy"] >= least - _ROUNDING:
        return
    say(verbose, str(found))
    rule = f"the best trial must reach an accuracy of {least} on the {report.split} split"
    mend = "Search on: more trials, a wider space, more epochs, more data."
    raise RuntimeError(complaint(where, rule, f"{report.scores['accuracy']:.4f}", mend))


def _common(space, build, records, engine, folder, where):
    """Common, written down for the trials; a function of the user's is explored first, unless it was before."""
    common = Common(space, None, build, where)
    if build is not None and records["space"] is None:
        home = folder / SHARED / "exploring"
        home.mkdir(parents=True, exist_ok=True)
        job = ("explore", str(_written(common, folder, _EXPLORING)), None, None)
        (home / JOB).write_bytes(pickle.dumps(job))
        records["space"] = engine.explore(_ALONE, home)
    hp = space.hyperparameters() if build is None else from_told(records["space"])
    common = dataclasses.replace(common, hyperparameters=hp)
    _written(common, folder, _COMMON)
    return common


def _written(common, folder, name):
    path = folder / SHARED / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(cloudpickle.dumps(common))
    return path


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


def _make_engine(workers, time_limit, folder, where):
    if workers == "ray":
        from recipes.searching.cluster import RayEngine

        return RayEngine(folder, time_limit, where)
    return LocalEngine(workers, len(tf.config.list_physical_devices("GPU")), time_limit)
