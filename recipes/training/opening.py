"""What a stage needs before its first step: what trains and what keeps still, optimizer, loss and step."""

import contextlib
import dataclasses
import warnings

import keras
import numpy as np
import tensorflow as tf

from recipes.bases.drop_paths import drops_paths
from recipes.checks import check_choice, complaint
from recipes.data.sampling import balanced
from recipes.training.frozen_prefix import DROPOUTS, Caching, frozen_layers
from recipes.training.optimizers import make_optimizer
from recipes.training.stepping import Stepper

_LEAST_MOMENTUM = 0.9  # of BatchNormalization
_TOGETHER = "images together"  # that fit into memory, as the run found out


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
    precision: str
    caching: Caching
    augmentation: object  # its JSON-able description, None where no other process could make the same from it
    on_nan: str = "stop"
    is_parted: bool = False  # whether a batch may go through in parts
    is_accelerated: bool = False  # whether convolutions run by the fastest algorithm
    ema: float | None = None  # momentum of a moving average of the weights
    finds_rate: str | None = None  # "auto": of each stage; "head": where the head trains alone, in no time; or of none
    snapshots: int | None = None  # epochs at the end of a stage whose weights are averaged
    class_weights: str | dict | None = None  # by which the losses of images are multiplied
    score_weights: object = None  # one a class, by which validation scores are means; None for all alike
    loss: object = None  # of embeddings; None for cross-entropy
    sampling: str = "all"  # "balanced": as many images of each class in every epoch


def images_together(training, journal):
    """Images that may go through the model at a time."""
    return journal.decided.get(_TOGETHER, training.batch_size)


@contextlib.contextmanager
def complaint_about_memory(data, training):
    """Within, an error of TensorFlow about memory becomes one that says what to set."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        height, width = data.image_size
        rule = "a step must fit into the memory of the device"
        received = f"{training.batch_size} images of {height}×{width} pixels together (precision {training.precision})"
        ways = [] if training.is_parted else ['batch_size="auto", which takes as many as fit at a time']
        ways += ['precision="mixed_float16"', "a smaller image_size", "a plan that trains fewer blocks"]
        mend = f"Pass {', or '.join(ways)}. In a network of your own, layers.DenseBlock(remat=True) keeps less."
        raise MemoryError(complaint(training.where, rule, received, mend)) from error


def free_layers(network, stage, where):
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


def warn_of_whole_paths(network, stages, where):
    """Say so where `stochastic_depth` was asked for, but no stage trains a block that drops paths."""
    for stage in stages:
        frozen = frozen_layers(network, stage)
        if any(drops_paths(layer) and layer.name not in frozen for layer in network.model.layers):
            return
    plan = ", ".join(repr(stage.name) for stage in stages)
    warnings.warn(
        f"{where}: stochastic_depth drops nothing: no stage of the plan ({plan}) trains a block that has residual "
        'sums, and what is frozen runs whole. Pass plan="default", or leave stochastic_depth out.',
        stacklevel=4,
    )


def shorten_memory(model, steps):
    """Let BatchNormalization remember about one epoch of `steps` steps, and ten steps at least.

    The momentum of 0.999 that some networks have was chosen for epochs of thousands of steps. With few images, their
    moving statistics would still be near the values they start from when training ends, and every prediction wrong.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, max(_LEAST_MOMENTUM, 1 - 1 / steps))


@contextlib.contextmanager
def frozen_noise(network, stage):
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


def class_weights(asked, data, where):
    """One weight a class, as an array, from what `finetune` takes as `class_weights`; None for None."""
    if asked is None:
        return None
    counts = np.bincount(data.train.labels, minlength=len(data.class_names))
    if asked == "balanced":
        return (len(data.train) / (len(counts) * np.maximum(counts, 1))).astype("float32")
    for name in asked:
        check_choice(where, "a class in class_weights", name, data.class_names)
    return np.array([asked.get(name, 1.0) for name in data.class_names], "float32")


def order_of(source, training):
    """How an epoch draws its images, as `training_batches` takes it."""
    return balanced(source.labels) if training.sampling == "balanced" else None


def drawn_positions(source, training):
    """Where the images of one epoch stand in a source, in rising order: what BatchNormalization sees of it."""
    order = order_of(source, training)
    return np.arange(len(source)) if order is None else np.sort(order(tf.constant([training.seed, 0], tf.int64)))


def open_optimizer(model, training, rate, ratios):
    """A fresh optimizer for what trains in a model, built; `rate` is a number or a schedule."""
    optimizer = make_optimizer(training.optimizer, rate, training.weight_decay, ratios, training.ema)
    optimizer.build(model.trainable_variables)
    if model.dtype_policy.name == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(model.trainable_variables)
    return optimizer


def make_stepper(prepared, optimizer, objective, batches, training, decided):
    """A Stepper for whole batches, or for the largest parts of them that fit into memory."""

    def make(size):
        return Stepper(prepared.model, prepared.run, optimizer, objective, batches, size)

    if not training.is_parted:
        return make(None)
    size = decided.get(_TOGETHER, training.batch_size)
    batch = next(iter(batches), None)
    if batch is None:  # all steps are done
        return make(None)
    while (error := make(size).shortage(batch)) is not None:
        if size == 1:
            raise error
        size //= 2
    decided[_TOGETHER] = size
    return make(size if size < training.batch_size else None)
