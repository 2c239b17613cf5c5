"""One trial: a plain function of a plain job, run in a process of its own."""

import dataclasses
import errno
import inspect
import math
import traceback
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from recipes.finetuning import finetune
from recipes.searching.heads import rehearse, rows_for, train_head, trains_heads_alone
from recipes.searching.models import DEFAULTS, explore, train_model
from recipes.searching.spaces import Space, told
from recipes.training.devices import grow_memory
from recipes.training.pausing import Pause, pausing
from recipes.training.preparing import prepare

RUN, LOG = "run", "log.txt"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(finetune).parameters.items()}
# What a search sees to itself.
RESERVED = ("data", "out", "resume", "verbose", "checkpoint_steps")


@dataclasses.dataclass(frozen=True)
class Common:
    """What all trials of a search share.

    Args:
        space: Space.
        hyperparameters: KerasTuner's.
        build: function of the user's, or None.
        where: for errors.
    """

    space: Space
    hyperparameters: object
    build: Callable | None
    where: str


@dataclasses.dataclass(frozen=True)
class Job:
    """What one trial is to do.

    Args:
        number: of the trial.
        values: KerasTuner's values, by name.
        epochs: after which it pauses; None for all.
        folder: of the trial; None where it has none that outlives its process.
        shared: folder that the trials share, for what the first finds out about a base.
    """

    number: int
    values: dict
    epochs: int | None
    folder: str
    shared: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a trial, or a leg of it, ended; JSON-able.

    Args:
        status: `"done"`, `"paused"`, or `"failed"`.
        scores: on the validation images, by names such as `"val_accuracy"`.
        epochs: trained.
        reason: of a failure.
        may_pass: whether the same might go well another time.
        is_wrong: whether it is a mistake in the settings or the code.
        is_full: whether the disk was full.
        seconds: of wall time, all attempts together.
        attempts: number of them.
        peak_bytes: most memory that the process took, what it shares with others included.
    """

    status: str
    scores: dict = dataclasses.field(default_factory=dict)
    epochs: int = 0
    reason: str = ""
    may_pass: bool = False
    is_wrong: bool = False
    is_full: bool = False
    seconds: float = 0.0
    attempts: int = 1
    peak_bytes: int = 0


def run_trial(common, job, data):
    """Outcome of a trial, from its start or from its last checkpoint.

    Args:
        common: Common.
        job: Job.
        data: Data, without a test split.
    """
    grow_memory()
    try:
        with pausing(math.inf if job.epochs is None else job.epochs):
            _train(common, job, data)
    except Pause as pause:
        return Outcome("done" if pause.is_complete else "paused", pause.scores, pause.epochs)
    except Exception as error:
        traceback.print_exc()
        return failure(error)


def failure(error):
    """Outcome of a trial that ended in an error."""
    words = " ".join(str(error).split())
    known = isinstance(error, (TypeError, ValueError, OSError, ImportError, ArithmeticError, MemoryError))
    reason = words if known and words else f"{type(error).__name__}: {words[:500]}"
    is_late = isinstance(error, TimeoutError)
    # A row that another process has cleared away is made anew.
    may_pass = isinstance(error, (MemoryError, OSError, tf.errors.ResourceExhaustedError)) or type(error) is LookupError
    is_wrong = isinstance(error, (TypeError, ValueError, ImportError, AttributeError, NameError, KeyError, IndexError))
    return Outcome(
        "failed", reason=reason, may_pass=may_pass and not is_late, is_wrong=is_wrong, is_full=_is_full(error)
    )


def _is_full(error):
    """Whether an error, or what it came from, says that the disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def finetune_arguments(settings, folder):
    """All arguments of `recipes.finetune`, but for the data, for the run of a trial in a folder."""
    return {**_DEFAULTS, "verbose": True, **settings, "out": folder, "data": None}


def _train(common, job, data):
    folder = Path(job.folder) / RUN
    settings = common.space.settings(job.values)
    if common.build is not None:
        hp = hyperparameters_at(common.hyperparameters, job.values)
        train_model(common.build, hp, {**DEFAULTS, **settings}, data, folder, common.where)
    arguments = finetune_arguments(settings, folder)
    setup = prepare(arguments)
    if trains_heads_alone(setup, arguments):
        rows = rows_for(setup, arguments, data, job.shared)
        if rows is not None:
            train_head(setup, arguments, data, rows, folder)
    finetune(**arguments | {"data": data})


def hyperparameters_at(hp, values):
    """KerasTuner's HyperParameters with these values."""
    hp = hp.copy()
    hp.values = dict(values)
    return hp


def explored(common):
    """KerasTuner's HyperParameters, with all that the function of the user's asks for, as JSON."""
    grow_memory()
    return told(explore(common.build, common.space.hyperparameters(), common.where))


def warm_up():
    """Do, before the trial is known, what takes TensorFlow and Keras long when they do it for the first time."""
    settings = {"base": "small_resnet", "plan": "head", "epochs": 2, "batch_size": 4, "head": (2,), "dropout": 0.5}
    arguments = finetune_arguments(settings | {"verbose": False}, None)
    rehearse(prepare(arguments), arguments)
