"""Running one stage: set what trains, compile, fit, bring the best weights back."""

import dataclasses

import keras
import tensorflow as tf

from recipes.data.batches import ordered_batches, replicas_of, steps_per_epoch, training_batches
from recipes.training.callbacks import KeepBest, StopOnNaN
from recipes.training.optimizers import make_optimizer, make_rate
from recipes.training.progress import fit_verbosity, say

_PLATEAU_PATIENCE = 3  # epochs


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


def run_stage(network, data, stage, training, number, best=None):
    """Train one stage in place.

    1. Freeze what the stage does not train; BatchNormalization of a pretrained base stays in inference mode.
    2. Compile with the stage's rates and fit, in an order drawn from the seed and the number of the stage.
    3. Bring back the weights with the best validation score, those of the earlier stages included.

    Args:
        network: Network of `recipes.bases`; its model is trained.
        data: Data.
        stage: Stage.
        training: Training.
        number: number of the stage in its plan, from 0.
        best: validation score `(accuracy, -loss)` of the weights the model comes with, or None.

    Returns:
        `(history, best)`: per-epoch lists by name, and the score of the weights that the model has now.
    """
    ratios = _free(network, stage)
    replicas = replicas_of(network.model)
    steps = steps_per_epoch(data.train, training.batch_size, replicas)
    rate = make_rate(training.schedule, stage.learning_rate, steps * stage.epochs)
    network.model.compile(
        make_optimizer(training.optimizer, rate, training.weight_decay, ratios),
        loss=_loss(training, len(data.class_names)),
        metrics=["accuracy"],
    )
    say(training.verbose, describe_stage(network, stage))
    seed = (training.seed * 1009 + number) % 2**31
    batches = training_batches(
        data.train, training.batch_size, epochs=stage.epochs, seed=seed, augment=training.augment, replicas=replicas
    )
    keeper = KeepBest(training.patience, best)
    history = network.model.fit(
        batches,
        epochs=stage.epochs,
        steps_per_epoch=steps,
        validation_data=ordered_batches(data.valid, training.batch_size, replicas) if len(data.valid) else None,
        callbacks=[StopOnNaN(training.where, stage.name), *_watchers(training, data, keeper)],
        shuffle=False,  # the batches come in their order
        verbose=fit_verbosity(training.verbose),
    )
    return history.history, keeper.best


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


def _free(network, stage):
    """Set `trainable` of every layer; the ratios of the layers that train, by name."""
    ratios = dict.fromkeys(network.head, stage.head)
    for block, ratio in zip(network.blocks, stage.ratios(len(network.blocks)), strict=True):
        ratios.update(dict.fromkeys(block.layers, ratio))
    head = set(network.head)
    for layer in network.model.layers:
        norm = isinstance(layer, keras.layers.BatchNormalization) and layer.name not in head
        layer.trainable = ratios.get(layer.name, 0.0) > 0 and not (norm and network.pretrained)
    return {layer.name: ratios[layer.name] for layer in network.model.layers if layer.trainable_variables}


def _loss(training, classes):
    """Cross-entropy of integer labels, which label smoothing turns into distributions over the classes."""
    if not training.label_smoothing:
        return keras.losses.SparseCategoricalCrossentropy()

    def smoothed_crossentropy(labels, probabilities):
        targets = tf.one_hot(tf.cast(tf.reshape(labels, [-1]), tf.int32), classes)
        return keras.losses.categorical_crossentropy(targets, probabilities, label_smoothing=training.label_smoothing)

    return smoothed_crossentropy


def _watchers(training, data, keeper):
    if not len(data.valid):
        return []
    if training.schedule != "plateau":
        return [keeper]
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.3, patience=_PLATEAU_PATIENCE)
    return [plateau, keeper]
