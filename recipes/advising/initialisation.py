"""Weights that start on a scale which does not fit their activation."""

import math

import keras
import numpy as np

from recipes.advising.advice import FREE, MISTAKE, advice
from recipes.advising.measuring import CONVOLUTIONS, NORMALIZATIONS, activation_of, kernels_of
from recipes.advising.saturation import SATURATING, is_inside

# A ReLU hands on half of the power; the smooth ones near enough to half.
RELUS = ("relu", "relu6", "leaky_relu", "prelu", "elu", "gelu", "silu")
WITH_KERNEL = (*CONVOLUTIONS, keras.layers.Dense)
LECUN = (keras.initializers.LecunNormal, keras.initializers.LecunUniform)
HE = (keras.initializers.HeNormal, keras.initializers.HeUniform)
# Power of the signal, the mean of its square, as a multiple of that behind the first layer or a normalization.
FADED, BLOWN_UP = 0.6, 1.7
LOST, FLOODED = 0.01, 100
FITTING = (0.75, 1.34)  # what one layer and its ReLU may make of the power


def unfitting_initialisation(graph):
    """Fresh weights on a scale that does not fit: under ReLU, kernels whose start makes the signal fade or grow from
    layer to layer; under SELU, any but LeCun's; under tanh and sigmoid, He's.

    Weights that were trained, and kernels before a normalization, may start as they like: neither is named.
    """
    fresh = [step for step in graph.steps if isinstance(step.operation, WITH_KERNEL) and _is_fresh(step)]
    unfit = [step for step in fresh if _is_unfit(graph, step)]
    followed = _follow_power(graph, fresh)
    suspects = [step for step in fresh if id(step) in followed and not FITTING[0] < followed[id(step)][1] < FITTING[1]]
    powers = [followed[id(step)][0] for step in suspects]
    ends = min(powers, default=1.0), max(powers, default=1.0)
    is_off = ends[0] < FADED or ends[1] > BLOWN_UP
    found = [step for step in graph.steps if step in unfit or (is_off and step in suspects)]
    if not found:
        return None
    is_mistake = bool(unfit) or ends[0] < LOST or ends[1] > FLOODED
    return advice(
        graph,
        "unfitting_initialisation",
        MISTAKE if is_mistake else FREE,
        found,
        what="; ".join([*_power_words(is_off, ends), *_unfit_words(graph, unfit)]) + ".",
        reason="A ReLU lets half of the signal's power pass, which weights of variance 2 / fan in make up for (He et "
        "al. 2015, section 2.2); for tanh and sigmoid 2 / (fan in + fan out) is right (Glorot & Bengio 2010); SELU "
        "normalizes itself only from 1 / fan in (Klambauer et al. 2017). Otherwise the signal changes by a factor "
        "with every layer, or BatchNormalization has to follow.",
        mend="\n".join(dict.fromkeys(_mend(graph, step) for step in found)),
    )


def _power_words(is_off, ends):
    if not is_off:
        return []
    power, way = (ends[0], "fades") if ends[0] < FADED else (ends[1], "grows")
    return [f"at the start the power of the signal {way} to {power:.2g} of what it is behind the first layer"]


def _unfit_words(graph, steps):
    pairs = dict.fromkeys(
        (type(step.operation.kernel_initializer).__name__, _activation(graph, step)) for step in steps
    )
    return [f"{start} before {activation}" for start, activation in pairs]


def _mend(graph, step):
    activation = _activation(graph, step)
    if activation in SATURATING:
        return f'kernel_initializer="glorot_uniform" before {activation}, if that is to stay'
    return f'kernel_initializer="{"lecun_normal" if activation == "selu" else "he_normal"}" before {activation}'


def _activation(graph, step):
    """The activation that a kernel's outputs go to at once; "linear" where there is none or there are several."""
    own = activation_of(step)
    follower = graph.follower(step) if own == "linear" else None
    return own if follower is None else activation_of(follower) or "linear"


def _is_unfit(graph, step):
    activation, start = _activation(graph, step), step.operation.kernel_initializer
    if activation == "selu":
        return not _is_like(start, LECUN, scale=1.0)
    if activation not in SATURATING or not _is_like(start, HE, scale=2.0):
        return False
    # An output or a gate may start steep.
    return is_inside(graph, step if activation_of(step) == activation else graph.follower(step))


def _is_like(start, kinds, scale):
    is_scaled = isinstance(start, keras.initializers.VarianceScaling) and start.mode == "fan_in"
    return isinstance(start, kinds) or (is_scaled and math.isclose(start.scale, scale))


def _is_fresh(step):
    """Whether a layer holds the weights that its initializer gave it, and no trained ones."""
    operation = step.operation
    if operation.use_bias and np.any(keras.ops.convert_to_numpy(operation.bias)):
        return False
    expected = _expected_variance(step)
    if expected is None:  # of another initializer there is no telling but by the bias
        return operation.use_bias
    # The variance of n numbers is off by √(2 / n) of itself; four times that is next to never.
    chance = max(0.05, 4 * math.sqrt(2 / _count(step)))
    return abs(_variance(step) / expected - 1) < chance


def _expected_variance(step):
    start = step.operation.kernel_initializer
    if not isinstance(start, keras.initializers.VarianceScaling):
        return None
    shape = kernels_of(step)[0].shape
    area = math.prod(shape[:-2])
    fans = {"fan_in": area * shape[-2], "fan_out": area * shape[-1]}
    return start.scale / fans.get(start.mode, sum(fans.values()) / 2)


def _variance(step):
    return float(np.mean(keras.ops.convert_to_numpy(kernels_of(step)[0]).astype("float64") ** 2))


def _count(step):
    return math.prod(kernels_of(step)[0].shape)


def _follow_power(graph, fresh):
    """`{id of a step: (power behind its ReLU, factor of it and its ReLU)}`, from the second ReLU layer in a row on.

    The first layer of the network answers for the scale of its inputs. Normalization and trained weights start the
    power anew at 1.
    """
    followed, powers, is_fresh = {}, {}, set(fresh)
    for step in graph.steps:
        known = [powers[id(tensor)] for tensor in step.inputs if id(tensor) in powers]
        power, count = max(known, default=(None, 0))
        if isinstance(step.operation, NORMALIZATIONS) or (kernels_of(step) and step not in is_fresh):
            power, count = 1.0, 0
        elif isinstance(step.operation, WITH_KERNEL):
            is_halved = _activation(graph, step) in RELUS
            factor = _gain(step) / (2 if is_halved else 1)
            power, count = (1.0 if power is None else power * factor), count + is_halved
            if is_halved and count > 1:
                followed[id(step)] = power, factor
        if power is not None:
            powers.update((id(tensor), (power, count)) for tensor in step.outputs)
    return followed


def _gain(step):
    """What a kernel makes of the power of what it takes in."""
    expected = _expected_variance(step) or _variance(step)
    return math.prod(kernels_of(step)[0].shape[:-1]) * expected
