"""The end of a search: its best trial is trained to its end and measured, and everything is written down."""

import contextlib
import dataclasses
import math
import shlex
import shutil

from recipes.evaluation import measure
from recipes.finetuning import finetune
from recipes.reporting.searches import write_search_page, write_table
from recipes.saving import CLASSIFIER, REPORT, load, save
from recipes.searching.asking import OBJECTIVES
from recipes.searching.driving import complain_of_failures, ranking
from recipes.searching.models import DEFAULTS, restore_model, train_model
from recipes.searching.records import BEST, PAGE, SHARED, TABLE, folder_of
from recipes.searching.spaces import is_plain, label
from recipes.searching.trials import RUN, finetune_arguments, hyperparameters_at
from recipes.training.pausing import Pause, pausing
from recipes.values import Report, Search, Trial


def finish(common, records, images, folder, told):
    """The Search, written down in its folder; its best trial is measured now, unless it was before.

    Args:
        common: Common.
        records: Records, of a search that is through.
        images: Images.
        folder: of the search.
        told: from `describe`.

    Raises:
        RuntimeError: no trial has a score.
    """
    outcomes, objective = records.last_outcomes(), told["objective"]
    best = next(iter(ranking(outcomes, objective, OBJECTIVES[objective])), None)
    if best is None:
        said = complain_of_failures(outcomes.values(), common.where)
        raise RuntimeError(said)
    values = records["trials"][best]["values"]
    settings = common.space.settings(values)
    data, _ = images.at(settings)
    if records["best"] == best and (folder / BEST / CLASSIFIER).exists():
        result = _brought_back(common, values, settings, data, folder, best)
    else:
        is_paused = outcomes[best].status == "paused"
        result = _trained(common, values, settings, data, folder_of(folder, best) / RUN, is_paused)
        save(result, folder / BEST)
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
        folder=folder,
    )
    write_table(found, folder / TABLE)
    write_search_page(found, folder / PAGE)
    shutil.rmtree(folder / SHARED, ignore_errors=True)
    return found


def _brought_back(common, values, settings, data, folder, best):
    """Result of a search that was complete before."""
    run = folder_of(folder, best) / RUN
    if common.build is None or not run.exists():
        return dataclasses.replace(load(folder / BEST), data=data)
    # What a model of the user's is made of, a file may not be able to say.
    result = _restored(common, values, settings, data, run)
    return dataclasses.replace(result, report=Report.load(folder / BEST / REPORT))


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


def words_of(common, values):
    """The settings of a trial in one line."""
    chosen = _searched(common, values)
    return ", ".join(f"{name}={label(value)}" for name, value in chosen.items())


def _searched(common, values):
    """`{argument: value}` of what was searched in a trial."""
    own = {part.name for part in common.space.dimensions}
    return {**common.space.searched(values), **{name: value for name, value in values.items() if name not in own}}
