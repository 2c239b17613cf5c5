"""Optimizers and schedules for one stage, from plain arguments."""

import re

import keras

from recipes.checks import check_choice, complaint
from recipes.training.layerwise import LayerwiseOptimizer

OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop", "lion")
SCHEDULES = ("cosine", "constant", "plateau")
_WARM_UP = 0.1  # of the steps of a stage


def make_optimizer(optimizer, rate, weight_decay, ratios):
    """A fresh LayerwiseOptimizer.

    Args:
        optimizer: one of OPTIMIZERS (`"sgd"` has Nesterov momentum 0.9), or a Keras optimizer, whose configuration
            is copied.
        rate: learning rate or schedule, the base rate.
        weight_decay: decoupled; None leaves that of a given optimizer as it is.
        ratios: `{layer name: ratio}` of the layers that train.
    """
    if isinstance(optimizer, keras.optimizers.Optimizer):
        config = optimizer.get_config()
        config["learning_rate"] = rate
        if weight_decay is not None:
            config["weight_decay"] = weight_decay
        inner = type(optimizer).from_config(config)
    else:
        inner = _named(optimizer, rate, weight_decay or None)
    return LayerwiseOptimizer(inner, _by_pattern(ratios))


def check_optimizer(optimizer, where):
    """Raise unless `optimizer` is one of OPTIMIZERS or a Keras optimizer."""
    if isinstance(optimizer, str):
        check_choice(where, "optimizer", optimizer, OPTIMIZERS)
    elif not isinstance(optimizer, keras.optimizers.Optimizer):
        mend = f"Pass one of {', '.join(OPTIMIZERS)}, or a Keras optimizer."
        raise TypeError(complaint(where, "optimizer is of no known kind", repr(optimizer), mend))


def make_rate(schedule, learning_rate, steps):
    """The rate over `steps` steps: linear warm-up, then cosine decay (Loshchilov & Hutter 2017); or a constant."""
    if schedule != "cosine":
        return float(learning_rate)
    warm_up = max(1, round(_WARM_UP * steps))
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=learning_rate, warmup_steps=warm_up
    )


def _named(name, rate, weight_decay):
    optimizers = keras.optimizers
    if name == "sgd":
        return optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    kinds = {"adamw": optimizers.AdamW, "adam": optimizers.Adam, "rmsprop": optimizers.RMSprop, "lion": optimizers.Lion}
    return kinds[name](rate, weight_decay=weight_decay)


def _by_pattern(ratios):
    """One regular expression per distinct ratio."""
    layers = {}
    for layer, ratio in ratios.items():
        layers.setdefault(ratio, []).append(re.escape(layer))
    return {f"(?:{'|'.join(names)})/.*": ratio for ratio, names in layers.items()}
