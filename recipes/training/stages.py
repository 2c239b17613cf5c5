"""Running one stage: set what trains, run what is frozen once, train the rest, bring the best weights back."""

import warnings

import keras
import numpy as np

from recipes.data.batches import predict_split, replicas_of, steps_per_epoch, training_batches
from recipes.training.averaging import Averages
from recipes.training.frozen_prefix import FrozenParts, frozen_layers, is_fixed
from recipes.training.interrupting import Interrupt
from recipes.training.learning_rate_finder import is_sought, swept_images, with_found_rate
from recipes.training.looping import Loop
from recipes.training.objectives import objective_of
from recipes.training.opening import (
    complaint_about_memory,
    drawn_positions,
    free_layers,
    frozen_noise,
    images_together,
    make_stepper,
    open_optimizer,
    order_of,
    shorten_memory,
)
from recipes.training.optimizers import make_rate
from recipes.training.pausing import is_due, pause
from recipes.training.progress import Clock, say
from recipes.training.snapshots import average_snapshots
from recipes.training.stepping import distribute

_RETRY_FACTOR = 0.1  # of the rates, after a loss that is no number


def frozen_parts(network, data, stages, training, decided=None):
    """FrozenParts for `run_stage`."""

    def free(network, stage):
        free_layers(network, stage, training.where)

    description = training.augmentation
    accelerated = training.batch_size if training.is_accelerated else None
    return FrozenParts(
        network,
        data,
        stages,
        free,
        training.caching,
        training.augment,
        description,
        training.seed,
        decided,
        accelerated,
        [swept_images(network, stage, training) for stage in stages],
    )


def reopen_last(network, data, stages, training, parts):
    """Bring the network's layers, and `parts`, to where the last stage leaves them, when it ran in another process."""
    free_layers(network, stages[-1], training.where)
    if not network.pretrained:
        shorten_memory(network.model, steps_per_epoch(data.train, training.batch_size))
    parts.prepare(len(stages) - 1)


def changing_variables(network, stages, training):
    """For each stage, the variables that may be otherwise at its end than at the start of the run; at last once more
    those of the last one.
    """
    model, changing, by_stage = network.model, set(), []
    for stage in stages:
        free_layers(network, stage, training.where)
        quiet = frozen_layers(network, stage)
        changing |= {layer.name for layer in model.layers if not is_fixed(model, layer.name, quiet)}
        layers = [layer for layer in model.layers if layer.name in changing]
        by_stage.append([variable for layer in layers for variable in layer.variables])
    return [*by_stage, by_stage[-1]]


def train_stages(network, data, stages, training, parts, journal, before):
    """Run the stages that are left.

    Args:
        network: Network.
        data: Data.
        stages: of the plan.
        training: Training.
        parts: from `frozen_parts`.
        journal: Journal, restored.
        before: seconds spent on the first stage so far, by what they went to.

    Raises:
        Pause: the run was to pause on the way.
    """
    if journal.stage == len(stages):
        reopen_last(network, data, stages, training, parts)
    try:
        for number, stage in list(enumerate(stages))[journal.stage :]:
            if is_due(journal.curves, journal.standing):
                here = pause(journal, journal.standing)
                raise here
            seconds = run_stage(network, data, stage, training, number, parts, journal)
            say(training.verbose, describe_seconds(stage, (before if not number else {}) | seconds))
    except (KeyboardInterrupt, SystemExit):
        if journal.is_kept:
            place = describe_place(journal, stages)
            say(training.verbose, f"Stopped. The same call goes on from here: {place}.")
        raise


def run_stage(network, data, stage, training, number, parts, journal):
    """Train one stage in place, from its start or from where the journal says.

    1. Find the rate, where that is asked.
    2. Freeze what the stage does not train; BatchNormalization of a pretrained base stays in inference mode, and that
       of any other remembers about one epoch.
    3. Run what is frozen once over the images, where that pays; then only the rest trains, on the outputs.
    4. Train at the stage's rates, in an order drawn from the seed and the number of the stage.
    5. Bring back the weights with the best validation score, those of the earlier stages included.

    Args:
        network: Network of `recipes.bases`; its model is trained.
        data: Data.
        stage: Stage.
        training: Training.
        number: number of the stage in its plan, from 0.
        parts: from `frozen_parts`.
        journal: Journal.

    Returns:
        Where the time went, in seconds: the frozen part, training, and waiting for data.
    """
    clock = Clock()
    stage = with_found_rate(network, data, stage, number, training, parts, journal.decided)
    if is_sought(network, stage, training):
        clock.lap("finding the rate")
    ratios = free_layers(network, stage, training.where)
    if not network.pretrained:
        shorten_memory(network.model, steps_per_epoch(data.train, training.batch_size))
    say(training.verbose, describe_stage(network, stage))
    prepared = parts.prepare(number)
    if prepared.line:
        say(training.verbose, prepared.line)
    clock.lap("frozen part")
    out_of_memory = complaint_about_memory(data, training)
    with out_of_memory, frozen_noise(network, stage), Interrupt(terminates=journal.is_kept) as interrupt:
        try:
            waited = _train(prepared, stage, training, ratios, journal, interrupt)
        except FloatingPointError as error:
            if training.on_nan == "stop" or journal.standing.rate_factor < 1:
                raise
            if not journal.go_back(_RETRY_FACTOR):
                raise
            warnings.warn(f"{error} The run goes back to a checkpoint, at a tenth of the rate.", stacklevel=4)
            waited = _train(prepared, stage, training, ratios, journal, interrupt)
    clock.lap("training")
    seconds = {**clock.laps, "waiting for data": waited}
    seconds["training"] -= waited
    return seconds


def _train(prepared, stage, training, ratios, journal, interrupt):
    """Train a stage that is prepared; the seconds that it waited for data."""
    standing = journal.standing
    loop = _make_loop(prepared, stage, training, ratios, standing, journal, interrupt)
    loop.run(standing)
    if not len(prepared.valid):
        loop.averages.bring()
    if training.snapshots:
        average_snapshots(prepared, journal, standing, loop.measure, stage.name, training)
    journal.end_stage(stage.name, standing)
    return loop.waited


def _make_loop(prepared, stage, training, ratios, standing, journal, interrupt):
    model, replicas = prepared.model, replicas_of(prepared.model)
    steps = steps_per_epoch(prepared.train, training.batch_size)
    classes = model.output_shape[-1]
    rate = make_rate(training.schedule, stage.learning_rate * standing.rate_factor, steps * stage.epochs)
    optimizer = open_optimizer(model, training, rate, ratios)
    slowed = journal.begin_stage(optimizer)
    if slowed != 1 and training.schedule != "cosine":
        optimizer.learning_rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate)) * slowed
    objective = objective_of(training, classes, training.class_weights)
    batches = training_batches(
        prepared.train,
        training.batch_size,
        epochs=stage.epochs,
        seed=(training.seed * 1009 + journal.stage) % 2**31,
        augment=prepared.augment,
        replicas=replicas,
        start=standing.epoch * steps + standing.step,
        classes=classes,
        order=order_of(prepared.train, training),
    )
    batches = distribute(model, batches)

    def measure():
        if not len(prepared.valid):
            return {}
        together, weights = images_together(training, journal), training.score_weights
        return validate(prepared, together, objective_of(training, classes, weights), interrupt.check, weights)

    return Loop(
        where=training.where,
        stage=stage.name,
        batches=batches,
        step=make_stepper(prepared, optimizer, objective, batches, training, journal.decided),
        steps=steps,
        epochs=stage.epochs,
        patience=training.patience,
        rate=stage.learning_rate,
        optimizer=optimizer,
        has_plateau=training.schedule == "plateau",
        measure=measure,
        averages=Averages(
            prepared,
            optimizer,
            images_together(training, journal),
            interrupt.check,
            drawn_positions(prepared.train, training),
        ),
        journal=journal,
        interrupt=interrupt,
        verbose=training.verbose,
    )


def validate(prepared, batch_size, objective, between=None, weights=None):
    """`{"val_accuracy", "val_loss"}`, without penalties on weights; with `weights`, one a class, means by these."""
    outputs = predict_split(prepared.model, prepared.valid, batch_size, prepared.predict, between)
    labels = prepared.valid.labels
    losses, hits = objective.measure(labels, outputs)  # the losses are weighted themselves
    shares = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)[labels]
    accuracy = np.average(hits, weights=shares)
    return {"val_accuracy": float(accuracy), "val_loss": float(losses.mean() * len(labels) / shares.sum())}


def describe_seconds(stage, seconds):
    """One line that says where the time of a stage went."""
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    return f"Stage {stage.name!r} took {sum(seconds.values()):.1f} s: {parts}"


def describe_place(journal, stages):
    """Words for where a run stands."""
    if journal.stage == len(stages):
        return "all stages are trained"
    standing = journal.standing
    return f"stage {stages[journal.stage].name!r}, epoch {standing.epoch + 1}, after step {standing.step}"


def describe_stage(network, stage):
    """One line that says what a stage trains, and at which rates."""
    groups = [("head", stage.head * stage.learning_rate, "")]
    rates = [ratio * stage.learning_rate for ratio in stage.ratios(len(network.blocks))]
    for block, rate in reversed(list(zip(network.blocks, rates, strict=True))):
        if groups[-1][1] == rate and groups[-1][2]:
            groups[-1] = (block.name, rate, groups[-1][2])
        else:
            groups.append((block.name, rate, block.name))
    said = [
        f"{first if first == last or not last else f'{first} … {last}'} {f'at {rate:.3g}' if rate else 'frozen'}"
        for first, rate, last in groups
    ]
    return f"Stage {stage.name!r}, at most {stage.epochs} epochs: {', '.join(said)}"
