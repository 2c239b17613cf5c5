"""Optimizers and schedules for one stage, from plain arguments."""

import re

import keras

from recipes.checks import check_choice, complaint
from recipes.training.layerwise import WRAPPERS, LayerwiseOptimizer

OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop", "lion")
SCHEDULES = ("cosine", "constant", "plateau")
_WARM_UP = 0.1  # of the steps of a stage
_DEFAULT_RATE = 1e-3


def make_optimizer(optimizer, rate, weight_decay, ratios, ema=None):
    """A fresh LayerwiseOptimizer.

    Args:
        optimizer: one of OPTIMIZERS (`"sgd"` has Nesterov momentum 0.9), or a Keras optimizer, whose configuration
            is copied.
        rate: learning rate or schedule, the base rate.
        weight_decay: decoupled; None leaves that of a given optimizer as it is.
        ratios: `{layer name: ratio}` of the layers that train.
        ema: momentum of a moving average of the weights; None leaves that of a given optimizer as it is.
    """
    if isinstance(optimizer, keras.optimizers.Optimizer):
        config = optimizer.get_config()
        config["learning_rate"] = rate
        if weight_decay is not None:
            config["weight_decay"] = weight_decay
        inner = type(optimizer).from_config(config)
    else:
        inner = _named(optimizer, rate, weight_decay or None)
    if ema is not None:
        inner = type(inner).from_config(inner.get_config() | {"use_ema": True, "ema_momentum": ema})
    return LayerwiseOptimizer(inner, _by_pattern(ratios))


def check_optimizer(optimizer, where):
    """Raise unless `optimizer` is one of OPTIMIZERS or a Keras optimizer with a plain rate that wraps no other."""
    if isinstance(optimizer, str):
        check_choice(where, "optimizer", optimizer, OPTIMIZERS)
        return
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        mend = f"Pass one of {', '.join(OPTIMIZERS)}, or a Keras optimizer."
        raise TypeError(complaint(where, "optimizer is of no known kind", repr(optimizer), mend))
    if isinstance(optimizer, WRAPPERS):
        mend = "Pass the optimizer inside: rates per layer and loss scaling are added by the recipe."
        raise TypeError(complaint(where, "optimizer must not wrap others", type(optimizer).__name__, mend))
    if isinstance(optimizer.get_config()["learning_rate"], dict):
        mend = 'Give it a number: schedule="cosine", "constant" or "plateau" sets the course.'
        raise ValueError(complaint(where, "optimizer must have a plain rate", "a learning-rate schedule", mend))


def base_rate(optimizer, learning_rate):
    """The rate asked for; else that of a given optimizer; else 1e-3."""
    if learning_rate is not None:
        return learning_rate
    return _DEFAULT_RATE if isinstance(optimizer, str) else float(optimizer.get_config()["learning_rate"])


def make_rate(schedule, learning_rate, steps):
    """The rate over `steps` steps: linear warm-up, then cosine decay (Loshchilov & Hutter 2017); or a constant."""
    if schedule != "cosine":
        return float(learning_rate)
    warm_up = max(1, round(_WARM_UP * steps))
    decay = keras.optimizers.schedules.CosineDecay
    if warm_up == 1:
        return decay(learning_rate, steps)
    # The first step takes 1/warm_up of the rate, not nothing at all.
    return decay(learning_rate / warm_up, steps - warm_up + 1, warmup_target=learning_rate, warmup_steps=warm_up - 1)


def _named(name, rate, weight_decay):
    optimizers = keras.optimizers
    if name == "adamw":
        return optimizers.AdamW(rate, weight_decay=weight_decay or 0.0)  # it takes no None
    if name == "sgd":
        return optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    kinds = {"adam": optimizers.Adam, "rmsprop": optimizers.RMSprop, "lion": optimizers.Lion}
    return kinds[name](rate, weight_decay=weight_decay)


def _by_pattern(ratios):
    """One regular expression per distinct ratio."""
    layers = {}
    for layer, ratio in ratios.items():
        layers.setdefault(ratio, []).append(re.escape(layer))
    return {f"(?:{'|'.join(names)})/.*": ratio for ratio, names in layers.items()}
