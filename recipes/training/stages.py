"""Running one stage: set what trains, compile, fit, bring the best weights back."""

import contextlib
import dataclasses

import keras
import numpy as np
import tensorflow as tf

from recipes.checks import complaint
from recipes.data.batches import compiled, replicas_of, steps_per_epoch, take, training_batches, watched
from recipes.training.callbacks import KeepBest, StopOnInterrupt, StopOnNaN, Validate
from recipes.training.frozen_prefix import DROPOUTS, Caching, FrozenParts, Prepared, frozen_layers
from recipes.training.optimizers import make_optimizer, make_rate
from recipes.training.progress import Clock, fit_verbosity, say

_PLATEAU_PATIENCE = 3  # epochs
_LEAST_MOMENTUM = 0.9  # of BatchNormalization


@dataclasses.dataclass(frozen=True)
class Training:
    """How all stages of a run train; see the arguments of `recipes.finetune`."""

    batch_size: int
    optimizer: object
    schedule: str
    weight_decay: float | None
    label_smoothing: float
    augment: object
    patience: int | None
    seed: int
    verbose: bool
    where: str
    caching: Caching
    augmentation: object  # its JSON-able description, None where no other process could make the same from it


def frozen_parts(network, data, stages, training):
    """FrozenParts for `run_stage`."""

    def free(network, stage):
        _free(network, stage, training.where)

    return FrozenParts(
        network, data, stages, free, training.caching, training.augment, training.augmentation, training.seed
    )


def run_stage(network, data, stage, training, number, best=None, parts=None):
    """Train one stage in place.

    1. Freeze what the stage does not train; BatchNormalization of a pretrained base stays in inference mode, and that
       of any other remembers about one epoch.
    2. Run what is frozen once over the images, where that pays; then only the rest trains, on the outputs.
    3. Compile with the stage's rates and fit, in an order drawn from the seed and the number of the stage.
    4. Bring back the weights with the best validation score, those of the earlier stages included.

    Args:
        network: Network of `recipes.bases`; its model is trained.
        data: Data.
        stage: Stage.
        training: Training.
        number: number of the stage in its plan, from 0.
        best: validation score `(accuracy, -loss)` of the weights the model comes with, or None.
        parts: from `frozen_parts`, or None to take the images as they are.

    Returns:
        `(history, best, seconds)`: per-epoch lists by name, the score of the weights that the model has now, and where
        the time went: the frozen part, training, and waiting for data.
    """
    clock, waits = Clock(), []
    ratios = _free(network, stage, training.where)
    replicas = replicas_of(network.model)
    steps = steps_per_epoch(data.train, training.batch_size)
    if not network.pretrained:
        _shorten_memory(network.model, steps)
    say(training.verbose, describe_stage(network, stage))
    prepared = parts.prepare(number) if parts is not None else None
    if prepared is None:
        prepared = Prepared(network.model, data.train, data.valid, compiled(network.model, data.valid), "")
        augment = training.augment
    else:
        say(training.verbose, prepared.line)
        augment = None
    model, train, valid = prepared.model, prepared.train, prepared.valid
    clock.lap("frozen part")
    rate = make_rate(training.schedule, stage.learning_rate, steps * stage.epochs)
    # Where batches carry weights, accuracy has to count them.
    metrics = {"metrics" if replicas == 1 else "weighted_metrics": ["accuracy"]}
    loss = crossentropy(training.label_smoothing, len(data.class_names))
    model.compile(make_optimizer(training.optimizer, rate, training.weight_decay, ratios), loss=loss, **metrics)
    if replicas == 1:
        _build(model, train, len(data.class_names))
    seed = (training.seed * 1009 + number) % 2**31
    batches = training_batches(
        train, training.batch_size, epochs=stage.epochs, seed=seed, augment=augment, replicas=replicas
    )
    if replicas == 1:
        batches = watched(batches, waits)
    keeper = KeepBest(training.patience, best)
    with _frozen_noise(network, stage), StopOnInterrupt() as interrupt:
        validate = Validate(valid, training.batch_size, loss, prepared.run, [interrupt])
        watchers = _watchers(training, validate, keeper) if len(valid) else []
        history = model.fit(
            batches,
            epochs=stage.epochs,
            steps_per_epoch=steps,
            callbacks=[interrupt, StopOnNaN(training.where, stage.name), *watchers],
            shuffle=False,  # the batches come in their order
            verbose=fit_verbosity(training.verbose),
        )
    clock.lap("training")
    seconds = {**clock.laps, "waiting for data": sum(waits)}
    seconds["training"] -= seconds["waiting for data"]
    return history.history, keeper.best, seconds


def _build(model, source, classes):
    """Make the variables of optimizer, loss and metrics, for which `fit` would trace the whole network once more."""
    if model.losses:
        # Layers hold the losses of their last call: after a traced one they are out of reach, so here is another.
        model(take(source, 0, np.zeros(1, np.int64)))
    labels, probabilities = np.zeros(1, np.int32), np.full((1, classes), 1 / classes, np.float32)
    model.optimizer.build(model.trainable_variables)
    model.compute_loss(y=labels, y_pred=probabilities)
    model.compute_metrics(None, labels, probabilities)
    model.reset_metrics()


def describe_seconds(stage, seconds):
    """One line that says where the time of a stage went."""
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    return f"Stage {stage.name!r} took {sum(seconds.values()):.1f} s: {parts}"


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


def _free(network, stage, where):
    """Set `trainable` of every layer; the ratios of the layers that train, by name."""
    ratios = dict.fromkeys(network.head, stage.head)
    for block, ratio in zip(network.blocks, stage.ratios(len(network.blocks)), strict=True):
        ratios.update(dict.fromkeys(block.layers, ratio))
    head = set(network.head)
    for layer in network.model.layers:
        norm = isinstance(layer, keras.layers.BatchNormalization) and layer.name not in head
        layer.trainable = ratios.get(layer.name, 0.0) > 0 and not (norm and network.pretrained)
    training = {layer.name: ratios[layer.name] for layer in network.model.layers if layer.trainable_variables}
    if not training:
        received, mend = f"{len(network.blocks)} blocks, none with a ratio", "Set head=1.0, or top=1.0."
        raise ValueError(complaint(where, f"stage {stage.name!r} must train something", received, mend))
    return training


def _shorten_memory(model, steps):
    """Let BatchNormalization remember about one epoch of `steps` steps, and ten steps at least.

    The momentum of 0.999 that some networks have was chosen for epochs of thousands of steps. With few images, their
    moving statistics would still be near the values they start from when training ends, and every prediction wrong.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, max(_LEAST_MOMENTUM, 1 - 1 / steps))


@contextlib.contextmanager
def _frozen_noise(network, stage):
    """Within, Dropout in frozen blocks drops nothing: what is frozen gives the same for the same image, always."""
    frozen = [network.model.get_layer(name) for name in frozen_layers(network, stage)]
    noisy = {layer: layer.rate for layer in frozen if isinstance(layer, DROPOUTS)}
    for layer in noisy:
        layer.rate = 0
    try:
        yield
    finally:
        for layer, rate in noisy.items():
            layer.rate = rate


def crossentropy(label_smoothing, classes):
    """Cross-entropy per integer label, which label smoothing turns into a distribution over the classes."""
    if not label_smoothing:
        return keras.losses.sparse_categorical_crossentropy

    def smoothed_crossentropy(labels, probabilities):
        targets = tf.one_hot(tf.cast(tf.reshape(labels, [-1]), tf.int32), classes)
        return keras.losses.categorical_crossentropy(targets, probabilities, label_smoothing=label_smoothing)

    return smoothed_crossentropy


def _watchers(training, validate, keeper):
    """The callbacks that make the validation scores and look at them, in their order."""
    watchers = [validate, keeper]
    if training.schedule == "plateau":
        watchers.append(keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.3, patience=_PLATEAU_PATIENCE))
    if getattr(training.optimizer, "use_ema", False):
        # The averages are what is measured and kept; the next epoch goes on from the weights themselves.
        watchers.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    return watchers
