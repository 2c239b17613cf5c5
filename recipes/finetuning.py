"""Fine-tuning a network on images: the main recipe."""

import dataclasses
import functools
import os
from typing import Any

from recipes.bases import network_for
from recipes.bases.drop_paths import with_drop_paths, without_drop_paths
from recipes.data.batches import predict_split
from recipes.evaluation import measure, unmeasured
from recipes.neighbours.fitting import fit_knn
from recipes.probing.fitting import fit_head
from recipes.probing.planning import CHOSEN, noted_choice, planned
from recipes.saving import ready_to_measure
from recipes.training.augmentation import flips
from recipes.training.checkpoints import Remembered
from recipes.training.devices import dtype_policy, is_deterministic, placement
from recipes.training.given_data import open_data
from recipes.training.journal import Journal
from recipes.training.learning_rate_finder import found_rates
from recipes.training.mirroring import warn_of_flips
from recipes.training.objectives import embedding_width, objective_of
from recipes.training.opening import images_together, warn_of_whole_paths
from recipes.training.pausing import complete, is_pausing
from recipes.training.preparing import BATCH, check_alone, for_data, prepare
from recipes.training.progress import Clock, collector_spared, say
from recipes.training.runs import begin_run, checkpoints_of, finish_run, run_folder
from recipes.training.snapshots import taken_averages
from recipes.training.stages import changing_variables, describe_place, frozen_parts, train_stages

_NEIGHBOURS = 5  # that vote, where there are so many images


def finetune(
    base: str | Any,
    data: dict[str, Any] | str | Any,
    *,
    weights: str | None = "pretrained",
    image_size: int | tuple[int, int] | None = None,
    head: str | tuple[int, ...] = "linear",
    head_start: str = "random",
    features: str | None = None,
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
    class_weights: str | dict[str, float] | None = None,
    sampling: str = "all",
    loss: str | Any | None = None,
    stochastic_depth: float = 0.0,
    ema: float | None = None,
    augmentation: str | list[str] | Any | None = None,
    augmentation_strength: float = 1.0,
    patience: int | None = 10,
    snapshots: int | None = None,
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
        head: `"linear"`, or the widths of hidden layers before the last: `(256,)`; or `"knn"`, which trains as
            `"linear"`, or by `loss`, and then lets the nearest training images vote, as `recipes.fit_knn` does, so that
            `result.add_class` can give it new classes without training.
        head_start: `"random"`, or `"fitted"`: a linear head starts as the logistic regression on the features of the
            base, which takes seconds, and whose strength of regularisation is chosen in folds of the training images.
        features: name of the block of the base at whose end the head stands, such as `"block_6"`: what comes after it
            is left out. `recipes.probe` names the blocks, and says what each is worth. None: the last one.
        plan: `"default"`, `"head"`, `"all"`, `"auto"`, or a list of `recipes.Stage`. `"auto"` measures, on the training
            images alone, how well features of each block tell the classes apart, and what training the last block
            gains. Then it chooses plan, `features` and `head_start`, and says why, in a line and in
            `report.settings["chosen"]`; passing what it names does the same. Images like those of the base, which its
            second half tells apart, take the head alone, and the last blocks too where there are many; images unlike
            those take all blocks, or, with fewer than ten of a class, the head on the best block.
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
        class_weights: where some classes have few images: `"balanced"` weighs all classes alike; a dictionary
            multiplies the losses of the classes that it names. Validation scores, by which the best weights are chosen,
            are weighted in the same way: with `"balanced"`, accuracy is about the mean of the classes'.
        sampling: `"all"`: each epoch draws each image once; `"balanced"`: as many images, but evenly of each class:
            those of rare classes several times, of others a part that changes. Validation scores are then weighted as
            with `class_weights="balanced"`.
        loss: None: cross-entropy. With `head="knn"` also `"knn"` or `"nca"`, or a KNNLoss, NCALoss or StudentNCALoss of
            `layers`: instead of a softmax, a linear layer of 64 units is put on the base, and what trains is how well
            the images of a batch classify each other by the distances of its outputs (for `"knn"` with weights of
            1/distance⁴); validation images are told by each other likewise. A batch should hold ten of each class.
        stochastic_depth: probability with which the last residual branch is dropped in training, for each image by
            itself; it rises evenly from the first branch on (0–1). For networks with residual sums. The network that
            comes out is the plain one.
        ema: momentum of a moving average of the weights, which is what is measured and kept (0–1); it goes back over
            about 1 / (1 - ema) steps, which should be an epoch or two. BatchNormalization that trains is then given
            the statistics of the training images under the averaged weights.
        augmentation: random changes to training images: None or `"none"`; `"flip"`: left for right; `"light"`: flip,
            zoom and shift by up to 5 %, brightness and contrast ±10 %; `"photo"`: flip, zoom by 1–1.3 at a random
            place, brightness and contrast ±20 %; `"scan"`: zoom by 0.9–1.1 and shift by up to 10 %, no flip, for digits
            and the like; `"resnet"`: flip, short side in 256–480 for a crop of 224, or as many times the image's own,
            and colour noise along principal components; `"strong"`: flip, rotation ±15°, shear ±0.1, stretch 3/4–4/3,
            zoom 1/1.2–1.2, shift ±10 %, for every other image a lens that distorts, brightness and contrast ±30 %,
            saturation ±40 %, hue ±18°, colour noise; `"rand_augment"`: 2 of 11 operations at half their magnitude, and
            `"aug_mix"`: three chains of operations, blended, neither with flips, both for RGB; `"mix_up"` and
            `"cut_mix"`: images blended with, or pasted into, others of their batch, labels likewise. Several names are
            applied in their order: `["photo", "mix_up"]`. Or a Keras layer, or a function of (images, seed).
            A warning says where flips seem to change what images are.
        augmentation_strength: of policies by name: their ranges times this, 0–2; 0 changes nothing.
        patience: epochs without a better validation score after which a stage ends; None never ends one early. The
            best weights of all stages are kept in any case.
        snapshots: number of epochs, 2 or more: at the end of each stage the weights of its last so many epochs are
            averaged, the statistics of BatchNormalization that trains measured anew, and the average kept where its
            validation score is better than that of the best epoch, or where there are no validation images;
            `report.settings["averages_taken"]` says of which stages. They are kept in memory and in checkpoints.
        precision: `"float32"`, `"mixed_float16"`, `"mixed_bfloat16"`, or `"auto"`: mixed_float16 on GPUs with tensor
            cores, else float32. On processors with AMX, mixed_bfloat16 trains networks of large convolutions faster,
            and those of depthwise ones slower.
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
        (rates per layer); Loshchilov & Hutter 2017, 2019 (cosine schedule, decoupled weight decay); Kumar et al. 2022,
        "Fine-tuning can distort pretrained features and underperform out-of-distribution" (a fitted head first); Huang
        et al. 2016 (stochastic depth); Polyak & Juditsky 1992 (averages of weights); Izmailov et al. 2018 (averaged
        snapshots). Augmentation: He et al. 2015 and Krizhevsky et al. 2012 (resnet), Cubuk et al. 2020, Hendrycks et
        al. 2020, Zhang et al. 2018 (λ of Beta(0.2, 0.2)), Yun et al. 2019 (λ of Beta(1, 1)).
    """
    setup, where = prepare(locals()), "finetune"
    settings, training, stages_of = setup.settings, setup.training, setup.stages_of
    clock = Clock()
    with run_folder(out, where) as folder, collector_spared():
        data = open_data(data, base, weights, image_size, where)
        training = for_data(training, data, augmentation)
        settings["data_fingerprint"] = data.fingerprint
        finished = begin_run(folder, settings, resume, where)
        if finished is not None:
            say(verbose, f"The run in {folder} is complete.")
            return dataclasses.replace(finished, data=data)
        if augmentation_strength and flips(augmentation):
            warn_of_flips(data, where)
        clock.lap("data")
        strategy = placement()
        with strategy.scope(), dtype_policy(precision):
            check_alone(strategy, training)
            make = functools.partial(
                network_for,
                data,
                base,
                weights=weights,
                head=head,
                features=features,
                embedding=embedding_width(training),
                dropout=dropout,
                seed=seed,
                where=where,
            )
            network, chosen = make(), None
            clock.lap("building")
            checkpoints = checkpoints_of(folder) if folder is not None else Remembered() if on_nan == "retry" else None
            stages = stages_of(pretrained=network.pretrained)
            if plan == "auto":
                noted = noted_choice(checkpoints)
                network, stages, chosen = planned(network, head, make, data, training, stages_of, noted)
                head_start = chosen.head_start
                say(verbose, chosen.line)
                clock.lap("choosing")
            if stochastic_depth:
                network = with_drop_paths(network, stochastic_depth, seed, where)
                warn_of_whole_paths(network, stages, where)
            variables = changing_variables(network, stages, training)
            journal = Journal(checkpoints, variables, checkpoint_steps, checkpoint_seconds, snapshots or 0)
            has_begun = journal.restore()
            if has_begun:
                say(verbose, f"The run in {folder} goes on: {describe_place(journal, stages)}.")
            parts = frozen_parts(network, data, stages, training, journal.decided)
            if not has_begun:
                if head_start == "fitted":
                    fit_head(network, data, seed=seed, accelerate=accelerate, is_kept=cache is not False)
                if chosen is not None:
                    journal.decided[CHOSEN] = dataclasses.asdict(chosen)
                journal.save(journal.standing)  # what was decided, before anything changes the ground for it
            train_stages(network, data, stages, training, parts, journal, {"decoding": clock.laps["data"]})
            if is_pausing():
                end = complete(journal, _scores(network.model, data, training, journal, parts))
                raise end
            if stochastic_depth:
                network = without_drop_paths(network)
            ready_to_measure(network.model)
        clock.lap("training")
        result = _measured(network.model, data, training, journal, parts, head)
        clock.lap("measuring")
        found = found_rates(journal.decided) | taken_averages(journal.decided)
        found |= {CHOSEN: dataclasses.asdict(chosen)} if chosen is not None else {}
        extras = {
            "curves": journal.curves,
            "settings": result.report.settings | settings | found,
            "seconds": clock.laps,
            "is_repeatable": is_deterministic() and not accelerate,
        }
        result = dataclasses.replace(result, report=dataclasses.replace(result.report, **extras))
        if folder is not None:
            finish_run(folder, result)
        return result


def _scores(model, data, training, journal, parts):
    """Of the best weights on the validation images, by the measure that training goes by."""
    if training.loss is None:
        return _measured(model, data, training, journal, parts, "linear").report.scores
    outputs = predict_split(model, data.valid, images_together(training, journal))
    losses, hits = objective_of(training, len(data.class_names), None).measure(data.valid.labels, outputs)
    return {"accuracy": float(hits.mean()), "loss": float(losses.mean())}


def _measured(model, data, training, journal, parts, head):
    """Result with a Report on the test split, or on the validation split, or, where there is neither, on all images.

    What the frozen part gave for the images of that split is not computed again.
    """
    result, together = unmeasured(model, data), images_together(training, journal)
    k = min(_NEIGHBOURS, len(data.train))
    if training.loss is not None:
        return fit_knn(result, k=k, metric="euclidean", batch_size=together)
    name = next(name for name in ("test", "valid", "train") if len(getattr(data, name)))
    probabilities = parts.predict(name, together) if name != "train" else None
    report = measure(result, getattr(data, name), name, together, probabilities)
    result = dataclasses.replace(result, report=report)
    return fit_knn(result, k=k, batch_size=together) if head == "knn" else result
