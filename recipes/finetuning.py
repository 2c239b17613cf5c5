"""Fine-tuning a network on images: the main recipe."""

import dataclasses
import os
from typing import Any

from recipes.bases import build_network, default_image_size
from recipes.bases.drop_paths import with_drop_paths, without_drop_paths
from recipes.checks import complaint, image_size_pair
from recipes.data.loading import check_options, load_sized
from recipes.evaluation import measure, unmeasured
from recipes.training.checkpoints import Remembered
from recipes.training.devices import dtype_policy, is_deterministic, placement
from recipes.training.journal import Journal
from recipes.training.learning_rate_finder import found_rates
from recipes.training.opening import images_together
from recipes.training.pausing import complete, is_pausing
from recipes.training.preparing import BATCH, check_alone, check_data, prepare
from recipes.training.progress import Clock, collector_spared, say
from recipes.training.runs import begin_run, checkpoints_of, finish_run, run_folder
from recipes.training.stages import changing_variables, describe_place, frozen_parts, train_stages
from recipes.values import Data


def finetune(
    base: str | Any,
    data: dict[str, Any] | str | Any,
    *,
    weights: str | None = "pretrained",
    image_size: int | tuple[int, int] | None = None,
    head: str | tuple[int, ...] = "linear",
    plan: str | list[dict[str, Any]] | Any = "default",
    epochs: int | tuple[int, ...] | None = None,
    learning_rate: float | str | None = None,
    layer_ratios: tuple[float, float, float] = (1.0, 0.1, 0.01),
    layer_decay: float | None = None,
    batch_size: int | str = BATCH,
    optimizer: str | Any = "adamw",
    schedule: str = "cosine",
    weight_decay: float | None = 0.01,
    dropout: float = 0.0,
    label_smoothing: float = 0.0,
    stochastic_depth: float = 0.0,
    ema: float | None = None,
    augmentation: str | Any | None = None,
    patience: int | None = 10,
    precision: str = "auto",
    seed: int = 0,
    cache: str | bool = "auto",
    views: int | None = None,
    refresh_views: int | None = None,
    memory_budget: int = 2**30,
    accelerate: bool = False,
    on_nan: str = "stop",
    out: str | os.PathLike | None = None,
    resume: str = "auto",
    checkpoint_steps: int | None = None,
    checkpoint_seconds: float = 60.0,
    verbose: bool = True,
):
    """Turn images into a classifier.

    1. Open the data: every image is inspected and decoded once.
    2. Build one flat network: preprocessing, base, head.
    3. Run the stages of the plan: by default the head on the frozen base, then also the top blocks at 1/10 and the
       intermediate ones at 1/100 of the head's rate; a base without weights trains as a whole.
    4. Measure on the test split, or on the validation split where there is no other.

    Args:
        base: name in `recipes.list_bases()`, a `keras.Model`, or the path of a `.keras` file. A model is taken to
            accept RGB 0–255 and to hold its own preprocessing.
        data: anything that `recipes.load_data` takes, a `Data`, or a dictionary of `load_data`'s arguments
            (`{"source": "photos/", "on_bad": "error"}`).
        weights: `"pretrained"`: those published for the base, of ImageNet for the networks of `keras.applications`
            (downloaded when Keras does not have them yet), of CIFAR-10 for `"small_resnet"` (in this package). They may
            be called by name, `"imagenet"` or `"cifar10"`. None for a random start, or the path of a file with weights
            of the base.
        image_size: pixels, one number or `(height, width)`. Default: what the base was trained on; for a base without
            weights the images' own size, within what the base takes.
        head: `"linear"`, or the widths of hidden layers before the last: `(256,)`.
        plan: `"default"`, `"head"`, `"all"`, or a list of `recipes.Stage`.
        epochs: most epochs of each stage, or one number per stage. Default: 10 and 10, or 30 for `"all"`.
        learning_rate: rate of the head after warm-up. Default: that of a given Keras optimizer; else found by a range
            test, as `recipes.find_lr` does, where the head trains alone (a second or two, unless images are augmented
            anew in every epoch), and 1e-3 where blocks train. `"auto"` finds it before each stage.
        layer_ratios: rates of head, top blocks and intermediate blocks, as multiples of `learning_rate`.
        layer_decay: instead of the last two ratios, a factor from block to block downwards (0–1).
        batch_size: images per step. `"auto"`: 32, in as many parts as it takes to fit into memory.
        optimizer: `"adamw"`, `"adam"`, `"sgd"` (Nesterov momentum 0.9), `"rmsprop"`, `"lion"`, or a Keras optimizer.
        schedule: `"cosine"` (with warm-up over a tenth of the steps), `"constant"`, or `"plateau"`, which lowers the
            rate when the validation loss stands still.
        weight_decay: decoupled, as a multiple of the rate per step; biases and normalisation are spared. None leaves a
            given optimizer's own.
        dropout: fraction of the head's inputs dropped in training (0–1).
        label_smoothing: fraction of each label spread over the classes (0–1).
        stochastic_depth: probability with which the last residual branch is dropped in training, for each image by
            itself; it rises evenly from the first branch on (0–1). For networks with residual sums. The network that
            comes out is the plain one.
        ema: momentum of a moving average of the weights, which is what is measured and kept (0–1); it goes back over
            about 1 / (1 - ema) steps, which should be an epoch or two. BatchNormalization that trains is then given
            the statistics of the training images under the averaged weights.
        augmentation: None, `"flip"`, `"photo"`, `"scan"`, a Keras layer or a function of (images, seed).
        patience: epochs without a better validation score after which a stage ends; None never ends one early. The
            best weights of all stages are kept in any case.
        precision: `"float32"`, `"mixed_float16"`, `"mixed_bfloat16"`, or `"auto"`: mixed where that is faster.
        seed: whole number that decides the head's start, the order of the images, dropout and augmentation. It does
            not change the split: that is `load_data`'s seed.
        cache: whether the part of the network that a stage leaves as it is runs once over the images, and its outputs
            are kept on disk for this and later runs: `"auto"` where that saves time, True wherever it can be, or False,
            which runs the network as it is. The weights that come out are the same, up to rounding.
        views: with augmentation: how many changed versions of each image go through the frozen part, once, unless
            `cache` is False; the epochs use them in turn. None changes the images anew in every epoch, and nothing is
            kept.
        refresh_views: epochs after which the views are drawn anew; None keeps them for the stage.
        memory_budget: bytes up to which outputs of the frozen part are held in memory, rather than mapped from disk.
        accelerate: whether each convolution trains, and runs in what is frozen, by the algorithm that is fastest for
            it on this machine, as `recipes.accelerate` finds it. The network that comes out is a plain one, the same up
            to rounding; in that algorithms differ, so a machine that chooses otherwise ends with other last digits. The
            first time on a machine, some seconds go into timing each convolution.
        on_nan: what to do when the loss or a gradient is not finite any more: `"stop"`, or `"retry"` once in a
            stage, from a checkpoint before, at a tenth of the rates. Which that is depends on time, unless
            `checkpoint_steps` is set; so a run that was killed may then end otherwise.
        out: folder for the run: settings, checkpoints, report and model. The same call again goes on where the run was
            stopped, in whatever way, to the same end; or brings the finished run back.
        resume: `"auto"`, or `"restart"`, which begins anew and keeps the old run in a folder within `out`.
        checkpoint_steps: with `out`, steps from one checkpoint to the next; None goes by seconds.
        checkpoint_seconds: seconds from one checkpoint to the next; more where saving would take over 2 % of the time.
        verbose: whether to show progress.

    Returns:
        `Result`: model, class_names, report and how images are brought to size.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range, or the data makes training
            senseless; see `recipes.load_data`. Raised before any training.
        ConnectionError: the weights are not here and cannot be fetched.
        FileExistsError: `out` holds a run with other settings.
        BlockingIOError: `out` is in use by another process.
        FloatingPointError: the loss or a gradient is not finite any more; the last checkpoint stays.
        MemoryError: a step does not fit into memory; says what to set.

    Example:
        >>> import recipes
        >>> result = recipes.finetune("small_resnet", "digits", weights=None, epochs=1, verbose=False)
        >>> result.class_names[:3]
        ('0', '1', '2')

    Source:
        Yosinski et al. 2014, "How transferable are features in deep neural networks?"; Howard & Ruder 2018
        (rates per layer); Loshchilov & Hutter 2017, 2019 (cosine schedule, decoupled weight decay); Huang et al. 2016
        (stochastic depth); Polyak & Juditsky 1992 (averages of weights).
    """
    setup, where = prepare(locals()), "finetune"
    settings, training, stages_of = setup.settings, setup.training, setup.stages_of
    clock = Clock()
    with run_folder(out, where) as folder, collector_spared():
        data = open_data(data, base, weights, image_size, where)
        check_data(data, training)
        settings["data_fingerprint"] = data.fingerprint
        finished = begin_run(folder, settings, resume, where)
        if finished is not None:
            say(verbose, f"The run in {folder} is complete.")
            return dataclasses.replace(finished, data=data)
        clock.lap("data")
        strategy = placement()
        with strategy.scope(), dtype_policy(precision):
            check_alone(strategy, training)
            network = build_network(
                base,
                weights=weights,
                image_size=data.image_size,
                channels=data.channels,
                class_count=len(data.class_names),
                head=head,
                dropout=dropout,
                seed=seed,
                where=where,
            )
            if stochastic_depth:
                network = with_drop_paths(network, stochastic_depth, seed, where)
            clock.lap("building")
            stages = stages_of(pretrained=network.pretrained)
            checkpoints = checkpoints_of(folder) if folder is not None else Remembered() if on_nan == "retry" else None
            variables = changing_variables(network, stages, training)
            journal = Journal(checkpoints, variables, checkpoint_steps, checkpoint_seconds)
            has_begun = journal.restore()
            if has_begun:
                say(verbose, f"The run in {folder} goes on: {describe_place(journal, stages)}.")
            parts = frozen_parts(network, data, stages, training, journal.decided)
            if not has_begun:
                journal.save(journal.standing)  # what was decided, before anything changes the ground for it
            train_stages(network, data, stages, training, parts, journal, {"decoding": clock.laps["data"]})
            if is_pausing():
                measured = _measured(network.model, data, images_together(training, journal), parts)
                end = complete(journal, measured.report)
                raise end
            if stochastic_depth:
                network = without_drop_paths(network)
            # With an optimizer that has no state the saved file is small, and plain Keras loads and measures it.
            network.model.compile("sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        clock.lap("training")
        result = _measured(network.model, data, images_together(training, journal), parts)
        clock.lap("measuring")
        extras = {
            "curves": journal.curves,
            "settings": settings | found_rates(journal.decided),
            "seconds": clock.laps,
            "is_repeatable": is_deterministic() and not accelerate,
        }
        result = dataclasses.replace(result, report=dataclasses.replace(result.report, **extras))
        if folder is not None:
            finish_run(folder, result)
        return result


def open_data(data, base, weights, image_size, where):
    """The Data, at the size that the caller asks for or the base wants."""
    wanted = image_size_pair(where, image_size) if image_size is not None else None
    if isinstance(data, Data):
        if wanted not in (None, data.image_size):
            received = f"Data of {data.image_size} and image_size={image_size}"
            mend = "Leave image_size out, or pass it to recipes.load_data."
            raise ValueError(complaint(where, "image_size must be that of the Data", received, mend))
        return data
    source, options = check_options(data, where)
    own = options.pop("image_size", None)
    if own is not None and wanted is not None:
        received, mend = f"image_size={image_size} and {own} in data", "Pass it once."
        raise ValueError(complaint(where, "image_size must be given once", received, mend))
    wanted = wanted or (image_size_pair(where, own) if own is not None else None)

    def choose_size(natural_size):
        return wanted or default_image_size(base, weights, natural_size)

    return load_sized(source, choose_size, where, **options)


def _measured(model, data, batch_size, parts):
    """Result with a Report on the test split, or on the validation split, or, where there is neither, on all images.

    What the frozen part gave for the images of that split is not computed again.
    """
    result = unmeasured(model, data)
    name = next(name for name in ("test", "valid", "train") if len(getattr(data, name)))
    probabilities = parts.predict(name, batch_size) if name != "train" else None
    report = measure(result, getattr(data, name), name, batch_size, probabilities)
    return dataclasses.replace(result, report=report)
