"""What `recipes.finetune` is asked to do, checked before any work."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from recipes.bases import HEADS, check_base, check_head
from recipes.checks import check_choice, check_number, check_text, check_whole, complaint
from recipes.training.augmentation import check_channels, make_augmentation
from recipes.training.devices import PRECISIONS
from recipes.training.frozen_prefix import Caching
from recipes.training.learning_rate_finder import AUTO, LIGHT
from recipes.training.objectives import open_loss
from recipes.training.opening import Training, class_weights
from recipes.training.optimizers import SCHEDULES, base_rate, check_optimizer
from recipes.training.plans import make_plan
from recipes.training.settings import check_repeatable, describe_settings, is_repeatable

BATCH = 32  # images
# Arguments that decide nothing that comes out.
_IGNORED = ("cache", "memory_budget", "out", "resume", "checkpoint_steps", "checkpoint_seconds", "verbose")


@dataclasses.dataclass(frozen=True)
class Setup:
    """A run that is to be.

    Args:
        settings: JSON-able dictionary of all that decides the outcome, but for the fingerprint of the data.
        training: how all stages train.
        stages_of: function of the keyword `pretrained`, and of `plan` where that is chosen later, to the stages.
    """

    settings: dict
    training: Training
    stages_of: Callable


def prepare(arguments, where="finetune"):
    """The Setup that the arguments of `recipes.finetune` ask for, all of them in a dictionary.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, out of its range, or at odds with another.
    """
    settings = describe_settings(arguments, _IGNORED)
    if arguments["out"] is not None:
        check_repeatable(settings, where)
    _check_numbers(arguments, where)
    _check_choices(arguments, where)
    _check_class_weights(arguments["class_weights"], where)
    check_base(arguments["base"], arguments["weights"], arguments["image_size"], where)
    check_head(where, arguments["head"], arguments["dropout"])
    check_choice(where, "head_start", arguments["head_start"], ("random", "fitted"))
    if arguments["head_start"] == "fitted" and arguments["head"] not in HEADS:
        mend = 'Pass head="linear", or head_start="random".'
        raise ValueError(complaint(where, 'head_start="fitted" is for a linear head', repr(arguments["head"]), mend))
    if arguments["features"] is not None:
        check_text(where, "features", arguments["features"])
    strength = arguments["augmentation_strength"]
    augment = make_augmentation(arguments["augmentation"], arguments["seed"], where, strength)
    _check_caching(arguments, augment, where)
    is_told = is_repeatable(settings["augmentation"])
    is_parted = arguments["batch_size"] == "auto"
    finds_rate = _finds_rate(arguments)
    as_given = ("optimizer", "schedule", "weight_decay", "label_smoothing", "patience", "seed", "verbose", "precision")
    as_given += ("on_nan", "ema", "snapshots", "class_weights", "sampling")
    training = Training(
        **{name: arguments[name] for name in as_given},
        batch_size=BATCH if is_parted else arguments["batch_size"],
        augment=augment,
        where=where,
        caching=Caching(*(arguments[name] for name in ("cache", "views", "refresh_views", "memory_budget"))),
        augmentation=[settings["augmentation"], strength] if is_told else None,
        is_parted=is_parted,
        is_accelerated=arguments["accelerate"],
        finds_rate=finds_rate,
        loss=_opened_loss(arguments, augment, where),
    )
    if not isinstance(arguments["plan"], str):
        _check_given_plan(arguments, where)
    stages_of = functools.partial(
        make_plan,
        plan=arguments["plan"],
        epochs=arguments["epochs"],
        learning_rate=base_rate(arguments["optimizer"], None if finds_rate else arguments["learning_rate"]),
        layer_ratios=arguments["layer_ratios"],
        layer_decay=arguments["layer_decay"],
        where=where,
    )
    stages_of(pretrained=arguments["weights"] is not None)
    return Setup(settings, training, stages_of)


def for_data(training, data, augmentation=None):
    """A Training with a weight for each class of a Data.

    Raises:
        ValueError: the Data lacks images that the Training goes by, or a class that it weighs; or has more classes than
            can meet in a batch; or the augmentation does not take its images.
    """
    if training.schedule == "plateau" and not len(data.valid):
        mend = 'Load the data with valid=0.15, or pass schedule="cosine".'
        raise ValueError(complaint(training.where, 'schedule="plateau" needs validation images', repr(data), mend))
    check_channels(augmentation, data.channels, training.where)
    if training.loss is not None:
        _check_company(training, data)
    weights = class_weights(training.class_weights, data, training.where)
    is_balanced = training.sampling == "balanced"
    scored = class_weights("balanced", data, training.where) if is_balanced else weights
    return dataclasses.replace(training, class_weights=weights, score_weights=scored)


def _check_company(training, data):
    """Raise where images that classify each other would be alone of their class, in a batch or in validation."""
    classes, together = len(data.class_names), training.batch_size
    if together < 2 * classes:
        rule = "where the images of a batch classify each other, it must hold two of each class, better ten"
        received, mend = f"batches of {together}, {classes} classes", f"Pass batch_size={10 * classes}."
        raise ValueError(complaint(training.where, rule, received, mend))
    counts = np.bincount(data.valid.labels, minlength=classes)
    if (counts == 1).any():
        name = data.class_names[int(np.argmax(counts == 1))]
        rule = "where images classify each other, a class must have two validation images or none"
        mend = "Load the data with a larger valid, 0.3 say, or with valid=0."
        raise ValueError(complaint(training.where, rule, f"one of class {name!r}", mend))


def _finds_rate(arguments):
    """AUTO where that is asked; LIGHT where neither argument nor optimizer nor plan gives a rate; else None."""
    if arguments["learning_rate"] == AUTO:
        return AUTO
    is_given = arguments["learning_rate"] is not None or not isinstance(arguments["plan"], str)
    return None if is_given or not isinstance(arguments["optimizer"], str) else LIGHT


def check_alone(strategy, training):
    """Raise where batches are to be parted, or to stay together, and several devices share them."""
    if not tf.distribute.has_strategy() or strategy.num_replicas_in_sync == 1:
        return
    received = f"a {type(strategy).__name__} of {strategy.num_replicas_in_sync}"
    if training.is_parted:
        mend = "Pass a number, the images that all devices take together."
        raise ValueError(complaint(training.where, 'batch_size="auto" is for a device by itself', received, mend))
    if training.loss is not None:
        rule = "the images of a batch classify each other on a device by itself"
        mend = "Show one device (CUDA_VISIBLE_DEVICES=0), or leave loss out."
        raise ValueError(complaint(training.where, rule, received, mend))


def _check_numbers(arguments, where):
    for name in ("dropout", "label_smoothing", "stochastic_depth"):
        check_number(where, name, arguments[name], most=0.99)
    if arguments["ema"] is not None:
        check_number(where, "ema", arguments["ema"], most=0.99999, above=True)
    if arguments["batch_size"] != "auto":
        check_whole(where, "batch_size", arguments["batch_size"])
    for name in ("patience", "checkpoint_steps"):
        if arguments[name] is not None:
            check_whole(where, name, arguments[name])
    if arguments["snapshots"] is not None:
        check_whole(where, "snapshots", arguments["snapshots"], least=2)
    if arguments["weight_decay"] is not None:
        check_number(where, "weight_decay", arguments["weight_decay"])
    if arguments["layer_decay"] is not None:
        check_number(where, "layer_decay", arguments["layer_decay"], most=1.0, above=True)
    check_number(where, "checkpoint_seconds", arguments["checkpoint_seconds"])
    check_whole(where, "seed", arguments["seed"], least=0)
    if not isinstance(arguments["accelerate"], bool):
        received = f"accelerate={arguments['accelerate']!r}"
        raise TypeError(complaint(where, "accelerate must be True or False", received, "Pass accelerate=True, say."))


def _check_choices(arguments, where):
    check_choice(where, "precision", arguments["precision"], PRECISIONS)
    check_choice(where, "schedule", arguments["schedule"], SCHEDULES)
    check_optimizer(arguments["optimizer"], where)
    if isinstance(arguments["learning_rate"], str):
        check_choice(where, "learning_rate", arguments["learning_rate"], (AUTO,))
    check_choice(where, "on_nan", arguments["on_nan"], ("stop", "retry"))
    check_choice(where, "resume", arguments["resume"], ("auto", "restart"))
    check_choice(where, "sampling", arguments["sampling"], ("all", "balanced"))
    if arguments["sampling"] == "balanced" and arguments["class_weights"] is not None:
        rule, mend = 'sampling="balanced" makes up for rare classes by itself', "Leave out one of the two."
        raise ValueError(complaint(where, rule, f"class_weights={arguments['class_weights']!r} too", mend))


def _opened_loss(arguments, augment, where):
    """The loss of embeddings, or None; raise where other arguments are at odds with it."""
    loss = open_loss(arguments["loss"], where)
    if loss is None:
        return None
    needs = (
        ("head", 'head="knn"', arguments["head"] == "knn"),
        ("head_start", 'head_start="random"', arguments["head_start"] == "random"),
        ("label_smoothing", "label_smoothing=0", arguments["label_smoothing"] == 0),
        ("batch_size", "a number for batch_size", arguments["batch_size"] != "auto"),
        ("augmentation", "an augmentation of one image at a time", not getattr(augment, "mixes", False)),
    )
    for name, needed, is_so in needs:
        if not is_so:
            rule = f"{type(loss).__name__} is of the distances between images, and needs {needed}"
            mend = f"Pass {needed}, or leave loss out, which trains by cross-entropy."
            raise ValueError(complaint(where, rule, f"{name}={arguments[name]!r}", mend))
    return loss


def _check_class_weights(asked, where):
    if asked is None or asked == "balanced":
        return
    if not isinstance(asked, dict) or not asked:
        mend = 'Pass class_weights="balanced", or {"rare": 5.0}.'
        rule = 'class_weights must be "balanced", or a dictionary of class names'
        raise TypeError(complaint(where, rule, repr(asked), mend))
    for name, weight in asked.items():
        check_number(where, f"the weight of class {name!r}", weight, above=True)


def _check_caching(arguments, augment, where):
    if arguments["cache"] not in ("auto", True, False):
        mend = 'Pass cache="auto", True or False.'
        raise ValueError(complaint(where, 'cache must be "auto", True or False', repr(arguments["cache"]), mend))
    views = arguments["views"]
    for name in ("views", "refresh_views"):
        if arguments[name] is not None:
            check_whole(where, name, arguments[name])
    if views is not None and augment is None:
        mend = 'Pass augmentation="flip", say, or leave views out.'
        raise ValueError(complaint(where, "views needs an augmentation", f"views={views}", mend))
    if views is not None and getattr(augment, "mixes", False):
        mend = "Leave views out: then images are mixed anew in every epoch."
        received = f"augmentation={arguments['augmentation']!r} and views={views}"
        raise ValueError(complaint(where, "views are of one image each, which mixing is not", received, mend))
    if arguments["refresh_views"] is not None and views is None:
        raise ValueError(complaint(where, "refresh_views needs views", "views=None", "Pass views=4, say."))
    check_whole(where, "memory_budget", arguments["memory_budget"], least=0)


def _check_given_plan(arguments, where):
    """Raise where an argument would say what the stages of a given plan say for themselves."""
    given = [name for name in ("epochs", "learning_rate", "layer_decay") if arguments[name] is not None]
    if given:
        mend = "Set it in recipes.Stage(...)."
        raise ValueError(complaint(where, f"a plan of stages sets its own {given[0]}", f"a plan and {given[0]}", mend))
