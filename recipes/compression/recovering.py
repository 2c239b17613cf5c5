"""Training after a cut, so that a network finds back what it lost: through the stages of `recipes.finetune`."""

import dataclasses

import keras

from recipes.bases import Network
from recipes.checks import check_choice, check_number, check_whole, complaint
from recipes.compression.teaching import Teaching
from recipes.training.augmentation import make_augmentation
from recipes.training.frozen_prefix import Caching
from recipes.training.journal import Journal
from recipes.training.opening import Training
from recipes.training.optimizers import SCHEDULES, check_optimizer
from recipes.training.progress import collector_spared
from recipes.training.stages import changing_variables, frozen_parts, train_stages
from recipes.values import Stage

_ENOUGH = 2000  # images, from which on BatchNormalization finds better statistics than it has


@dataclasses.dataclass(frozen=True)
class Recovery:
    """How a network is trained between two cuts, all of it, by the project's own stages.

    Args:
        epochs: after each cut; 0 trains nothing.
        learning_rate: after warm-up.
        optimizer: `"adamw"`, `"adam"`, `"sgd"` (Nesterov momentum 0.9), `"rmsprop"` or `"lion"`.
        schedule: `"cosine"` or `"constant"`, within the epochs of each cut.
        weight_decay: decoupled, as a multiple of the rate per step.
        batch_size: images per step.
        augmentation: as in `recipes.finetune`, at its usual strength.
        distillation: share of the loss that goes by the answers of the network as it came, instead of the labels,
            0–0.99.
        temperature: by which both answers are softened for that, above 0.
        normalization: `"trained"` lets BatchNormalization follow the images, `"frozen"` leaves it as it is, `"auto"`
            lets it follow where there are 2,000 training images or more.

    Example:
        >>> import recipes
        >>> recipes.Recovery(epochs=5, distillation=0.5).learning_rate
        0.0003

    Source:
        Hinton, Vinyals and Dean 2015 (distillation).
    """

    epochs: int = 3
    learning_rate: float = 3e-4
    optimizer: str = "adamw"
    schedule: str = "cosine"
    weight_decay: float = 0.01
    batch_size: int = 32
    augmentation: object = None
    distillation: float = 0.0
    temperature: float = 3.0
    normalization: str = "auto"

    def __post_init__(self):
        where = "Recovery"
        check_whole(where, "epochs", self.epochs, least=0)
        check_number(where, "learning_rate", self.learning_rate, above=True)
        check_optimizer(self.optimizer, where)
        check_choice(where, "schedule", self.schedule, [name for name in SCHEDULES if name != "plateau"])
        check_number(where, "weight_decay", self.weight_decay)
        check_whole(where, "batch_size", self.batch_size)
        check_number(where, "distillation", self.distillation, most=0.99)
        check_number(where, "temperature", self.temperature, above=True)
        check_choice(where, "normalization", self.normalization, ("auto", "trained", "frozen"))


def open_recovery(recovery, where):
    """The Recovery that a verb's argument means: one, a dictionary of its fields, or None for the usual one."""
    if recovery is None:
        return Recovery()
    if isinstance(recovery, Recovery):
        return recovery
    if not isinstance(recovery, dict):
        rule, mend = "recovery must be a recipes.Recovery", "Pass recovery=recipes.Recovery(epochs=3), say."
        raise TypeError(complaint(where, rule, repr(recovery), mend))
    fields = [field.name for field in dataclasses.fields(Recovery)]
    for name in recovery:
        check_choice(where, "a field of recovery", name, fields)
    return Recovery(**recovery)


def recover(model, subject, recovery, *, seed=0, verbose=True, teacher=None):
    """Train a model in place on the training images; the epoch with the best validation score is kept, and where none
    is better than before, what was before.

    Args:
        model: flat functional model; constraints on its weights hold.
        subject: Subject, whose data it is.
        recovery: Recovery.
        seed: of the order of the images and of augmentation.
        verbose: whether to show progress.
        teacher: whose answers count where `recovery.distillation` is above 0; None means the classifier as it came.
    """
    if not recovery.epochs or not model.weights:
        return
    data, taught = subject.data, model
    before, values = subject.accuracy(model), model.get_weights()
    if recovery.distillation:
        teacher = subject.original.model if teacher is None else teacher
        taught = Teaching(teacher, recovery.distillation, recovery.temperature).over(model)
    training = Training(
        batch_size=recovery.batch_size,
        optimizer=recovery.optimizer,
        schedule=recovery.schedule,
        weight_decay=recovery.weight_decay,
        label_smoothing=0.0,
        augment=make_augmentation(recovery.augmentation, seed, subject.where),
        patience=None,
        seed=seed,
        verbose=verbose,
        where=subject.where,
        precision="float32",
        caching=Caching(mode=False),
        augmentation=None,
    )
    trained = {layer.name: layer.trainable for layer in model.layers}
    is_frozen = recovery.normalization == "frozen" or (recovery.normalization == "auto" and len(data.train) < _ENOUGH)
    network = Network(taught, (), tuple(_training(model, is_frozen)), is_frozen, model.name)
    stages = [Stage("recovery", epochs=recovery.epochs, learning_rate=recovery.learning_rate)]
    with collector_spared():
        journal = Journal(None, changing_variables(network, stages, training))
        parts = frozen_parts(network, data, stages, training, journal.decided)
        train_stages(network, data, stages, training, parts, journal, {})
    for layer in model.layers:
        layer.trainable = trained[layer.name]
    if before is not None and subject.accuracy(model) < before:
        model.set_weights(values)


def _training(model, is_frozen):
    """Names of the layers that train."""
    normalization = keras.layers.BatchNormalization
    return [layer.name for layer in model.layers if not (is_frozen and isinstance(layer, normalization))]
