"""Work that the next layer undoes or could do after it: biases before BatchNormalization, ReLU before max-pooling."""

import math

import keras

from recipes.advising.advice import FREE, advice
from recipes.advising.measuring import (
    CONVOLUTIONS,
    DEPTHWISE,
    SEPARABLE,
    TRANSPOSED,
    activation_of,
    kernels_of,
    size,
)

WITH_BIAS = (*CONVOLUTIONS, *TRANSPOSED, *SEPARABLE, *DEPTHWISE, keras.layers.Dense)
POOLINGS = (keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)
GLOBAL_POOLINGS = (
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalMaxPooling3D,
)
PADDINGS = (keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D)
# Activations that never fall and leave 0 at 0, so that they may change places with a maximum and with padding by 0.
RISING = ("relu", "relu6", "leaky_relu", "elu", "selu")


def bias_before_normalization(graph):
    """A bias whose output goes to a BatchNormalization over the same channels and nowhere else."""
    found = [step for step in graph.steps if _is_cancelled(graph, step)]
    if not found:
        return None
    biases = {id(step.operation): math.prod(step.operation.bias.shape) for step in found}
    count = sum(biases.values())
    return advice(
        graph,
        "bias_before_normalization",
        FREE,
        found,
        what=f"{_counted(len(biases), 'layer')} with a bias right before BatchNormalization: {count:,} parameters "
        "without effect.",
        reason="BatchNormalization subtracts the mean of each channel, and the bias with it; its own beta does the "
        "bias' work: Ioffe & Szegedy 2015, section 3.2.",
        mend="use_bias=False. In a trained network, subtract the bias from moving_mean first: the outputs stay the "
        "same, up to rounding.",
        parameters=count,
    )


def relu_before_max_pool(graph):
    """A ReLU (or another activation that never falls) all of whose outputs go through one max-pooling that makes the
    map smaller, with or without padding by zeros between.
    """
    pairs = [(step, pool) for step in graph.steps if (pool := _pooling_after(graph, step)) is not None]
    if not pairs:
        return None
    saved = [_pooled_away(step, pool) for step, pool in pairs]
    total = None if None in saved else sum(saved)
    share = "" if total is None else f" {100 * total / sum(size(step.outputs[0]) for step, _ in pairs):.0f} % of"
    names = ", ".join(dict.fromkeys(activation_of(step) for step, _ in pairs))
    return advice(
        graph,
        "relu_before_max_pool",
        FREE,
        [step for step, _ in pairs],
        what=f"{names} before max-pooling, which throws away{share} what it computes.",
        reason="An activation that never falls may change places with the maximum, bit for bit: max(relu(x)) = "
        "relu(max(x)), padding by zeros between them or not. Little time is gained where convolution and ReLU run as "
        "one kernel; memory in training is.",
        mend=f"keras.layers.{type(pairs[0][1].operation).__name__}(…) first, keras.layers.Activation(…) after it; no "
        "activation= in the layer before.",
        activations=total,
    )


def _is_cancelled(graph, step):
    operation = step.operation
    if not isinstance(operation, WITH_BIAS) or not operation.use_bias or not kernels_of(step):
        return False
    follower = graph.follower(step)
    if follower is None or not isinstance(follower.operation, keras.layers.BatchNormalization):
        return False
    # One that is frozen adds the same constants always: then a bias that trains does something.
    is_frozen = operation.trainable and not follower.operation.trainable
    is_shared = graph.calls(operation) > 1 or graph.calls(follower.operation) > 1
    if is_frozen or is_shared or activation_of(step) != "linear":
        return False
    rank = len(step.outputs[0].shape)
    is_first = getattr(operation, "data_format", None) == "channels_first"
    return follower.operation.axis % rank == (1 if is_first else rank - 1)


def _pooling_after(graph, step):
    """The step of max-pooling that takes all that this activation gives; None where there is none."""
    if activation_of(step) not in RISING or not _keeps_order(step.operation):
        return None
    follower = graph.follower(step)
    if follower is not None and isinstance(follower.operation, PADDINGS):
        follower = graph.follower(follower)
    if follower is None or isinstance(follower.operation, GLOBAL_POOLINGS):
        return follower
    # With a stride of 1 as many values come out as went in.
    is_pooling = isinstance(follower.operation, POOLINGS)
    return follower if is_pooling and any(stride > 1 for stride in follower.operation.strides) else None


def _keeps_order(operation):
    """Whether a layer's own settings leave its activation rising, and 0 at 0."""
    if isinstance(operation, keras.layers.ReLU):
        return operation.threshold == 0 and operation.negative_slope >= 0
    if isinstance(operation, keras.layers.LeakyReLU):
        return operation.negative_slope >= 0
    return not isinstance(operation, keras.layers.ELU) or operation.alpha >= 0


def _pooled_away(step, pool):
    before, after = size(step.outputs[0]), size(pool.outputs[0])
    return None if None in (before, after) else before - after


def _counted(count, noun):
    return f"{count:,} {noun}{'s' * (count != 1)}"
