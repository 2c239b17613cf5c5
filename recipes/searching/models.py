"""Trials of a function of the user's that builds a model: `build(hp) -> keras.Model`, as KerasTuner has it."""

import tempfile

import keras
import keras_tuner
import tensorflow as tf

from recipes.bases.seeding import globals_kept
from recipes.checks import check_choice, check_whole, complaint
from recipes.data.batches import compiled, predict_split, steps_per_epoch, training_batches
from recipes.evaluation import unmeasured
from recipes.reporting.scores import score
from recipes.saving import ready_to_measure
from recipes.training.augmentation import make_augmentation
from recipes.training.devices import PRECISIONS, dtype_policy
from recipes.training.interrupting import Interrupt
from recipes.training.journal import Journal
from recipes.training.pausing import complete, is_due, pause
from recipes.training.runs import checkpoints_of, held

DEFAULTS = {
    "epochs": 10,
    "batch_size": 32,
    "image_size": None,
    "augmentation": None,
    "augmentation_strength": 1.0,
    "patience": 10,
    "precision": "float32",
    "seed": 0,
}
_DENSE = "categorical_crossentropy"


def check_fit(settings, where):
    """Raise unless these are arguments that a model of the user's can be trained with."""
    for name in ("epochs", "batch_size"):
        check_whole(where, name, settings[name])
    if settings["patience"] is not None:
        check_whole(where, "patience", settings["patience"])
    check_whole(where, "seed", settings["seed"], least=0)
    check_choice(where, "precision", settings["precision"], PRECISIONS)
    _augmentation(settings, where)


def _augmentation(settings, where):
    return make_augmentation(settings["augmentation"], settings["seed"], where, settings["augmentation_strength"])


def explore(build, hp, where):
    """KerasTuner's HyperParameters with all that a function asks for, under every choice."""
    oracle = keras_tuner.oracles.RandomSearchOracle("val_loss", hyperparameters=hp, seed=1)
    with tempfile.TemporaryDirectory() as folder, globals_kept():
        keras_tuner.engine.base_tuner.BaseTuner(oracle, build, directory=folder, project_name="explore")
    found = oracle.get_space()
    if not found.space:
        mend = 'Ask for something: hp.Choice("units", [32, 64]).'
        received = "a function that asks for nothing"
        raise ValueError(complaint(where, "build must ask hp for what is searched", received, mend))
    return found


def train_model(build, values, settings, data, folder, where):
    """Build a model and train it as it is compiled; always ends in a Pause.

    The best weights by validation accuracy are kept. Checkpoints are written between epochs.

    Args:
        build: function of KerasTuner's HyperParameters.
        values: KerasTuner's HyperParameters, with their values.
        settings: all of DEFAULTS.
        data: Data.
        folder: of the run.
        where: for errors.
    """
    keras.utils.set_random_seed(settings["seed"])
    folder.mkdir(exist_ok=True)
    with held(folder, where), dtype_policy(settings["precision"]), Interrupt(terminates=True) as interrupt:
        model = _built(build, values, data, where)
        journal = _journal(model, folder)
        journal.restore()
        journal.begin_stage(model.optimizer)
        if journal.stage == 0:
            _fit(model, settings, data, journal, interrupt, where)
        end = complete(journal, _measurer(model, data, settings)().scores)
        raise end


def restore_model(build, values, settings, data, folder, where):
    """Result, without a report, of the model that a finished `train_model` left in a folder."""
    with dtype_policy(settings["precision"]), globals_kept():
        model = _built(build, values, data, where)
        if not _journal(model, folder).restore():
            rule, mend = "the best trial must have left its weights", 'Pass resume="restart".'
            raise RuntimeError(complaint(where, rule, f"no checkpoint in {str(folder)!r}", mend))
    ready_to_measure(model)
    return unmeasured(model, data)


def _built(build, values, data, where):
    model = build(values)
    if not isinstance(model, keras.Model) or model.optimizer is None:
        mend = "Let it end in model.compile(...); return model."
        raise TypeError(complaint(where, "build must return a compiled keras.Model", type(model).__name__, mend))
    if not model.built:
        model.build((None, *data.image_size, data.channels))
    images, classes = (None, *data.image_size, data.channels), len(data.class_names)
    if tuple(model.input_shape) != images or tuple(model.output_shape) != (None, classes):
        rule = f"build must give a model from {images} to {(None, classes)}"
        mend = "The model takes RGB 0–255 (begin with keras.layers.Rescaling) and ends in a softmax over the classes."
        raise ValueError(complaint(where, rule, f"{model.input_shape} to {model.output_shape}", mend))
    model.optimizer.build(model.trainable_variables)
    return model


def _journal(model, folder):
    return Journal(checkpoints_of(folder), [model.variables, model.variables])


def _fit(model, settings, data, journal, interrupt, where):
    standing = journal.standing
    steps, classes = steps_per_epoch(data.train, settings["batch_size"]), len(data.class_names)
    augment = _augmentation(settings, where)
    is_mixed = getattr(augment, "mixes", False)
    batches = training_batches(
        data.train,
        settings["batch_size"],
        epochs=settings["epochs"],
        seed=settings["seed"],
        augment=augment,
        start=standing.epoch * steps,
        classes=classes,
    )
    takes_numbers = not _takes_one_hot(model.loss)
    if is_mixed and takes_numbers:
        mend = "Compile the model with categorical_crossentropy."
        rule = "labels that augmentation mixes need a loss of shares"
        raise ValueError(complaint(where, rule, f"loss={model.loss!r}", mend))

    def form(images, labels):
        return tf.cast(images, tf.float32), labels if takes_numbers or is_mixed else tf.one_hot(labels, classes)

    keeper = _Keeper(standing, journal, interrupt, _measurer(model, data, settings), settings)
    if not keeper.is_enough():
        model.fit(
            batches.map(form),
            initial_epoch=standing.epoch,
            epochs=settings["epochs"],
            steps_per_epoch=steps,
            callbacks=[keeper],
            shuffle=False,
            verbose=2,
        )
    journal.end_stage("fit", standing)


def _measurer(model, data, settings):
    """A function to a Report of a model on the validation images."""
    valid = data.valid
    run = compiled(lambda rows, training: model(tf.cast(rows, tf.float32), training=training), valid)

    def measure():
        probabilities = predict_split(model, valid, settings["batch_size"], run)
        return score(probabilities, valid.labels, valid.files, data.class_names, "valid")

    return measure


def _takes_one_hot(loss):
    return loss == _DENSE or isinstance(loss, keras.losses.CategoricalCrossentropy)


class _Keeper(keras.callbacks.Callback):
    """Measures after each epoch, keeps the best weights, writes checkpoints, and ends the training in time."""

    def __init__(self, standing, journal, interrupt, measure, settings):
        super().__init__()
        self._standing, self._journal, self._interrupt = standing, journal, interrupt
        self._measure, self._settings = measure, settings

    def is_enough(self):
        """Whether there is nothing left to train."""
        patience = self._settings["patience"]
        is_over = self._standing.epoch >= self._settings["epochs"]
        return is_over or (patience is not None and self._standing.waited >= patience)

    def on_epoch_begin(self, epoch, logs=None):
        if is_due(self._journal.curves, self._standing):
            self._journal.save(self._standing)
            here = pause(self._journal, self._standing)
            raise here

    def on_epoch_end(self, epoch, logs=None):
        standing = self._standing
        report = self._measure()
        standing.sums = [logs["loss"], logs.get("accuracy", float("nan")), 1.0]
        is_best = standing.end_epoch({"val_accuracy": report.scores["accuracy"], "val_loss": report.scores["loss"]})
        if is_best:
            self._journal.keep_best()
        if self._journal.is_due() or self._interrupt.asked is not None:
            self._journal.save(standing)
            self._interrupt.check()
        if self.is_enough():
            self.model.stop_training = True
