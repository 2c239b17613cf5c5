"""Weight decay as an L2 penalty, which adaptive optimizers scale away."""

import keras

from recipes.advising.advice import MISTAKE, advice

ADAPTIVE = tuple(
    getattr(keras.optimizers, name)
    for name in ("Adadelta", "Adafactor", "Adagrad", "Adam", "Adamax", "Ftrl", "Lion", "Nadam", "RMSprop")
)
SQUARES = (keras.regularizers.L2, keras.regularizers.L1L2)
PENALIZED = ("kernel", "bias", "depthwise", "pointwise", "gamma", "beta")


def penalty_in_adaptive_optimizer(graph):
    """L2 penalties in the layers of a model that is compiled with an adaptive optimizer."""
    optimizer = _innermost(graph.optimizer)
    found = [step for step in graph.steps if _factors(step)]
    if not isinstance(optimizer, ADAPTIVE) or not found:
        return None
    kind = type(optimizer).__name__
    factors = sorted({factor for step in found for factor in _factors(step)})
    shown = ", ".join(f"{factor:g}" for factor in factors)
    decayed = kind if kind != "Adam" else "AdamW"
    return advice(
        graph,
        "penalty_in_adaptive_optimizer",
        MISTAKE,
        found,
        what=f"An L2 penalty of {shown} in {len(found)} layers, trained by {kind}.",
        reason=f"{kind} divides the penalty's gradient by the size of the recent gradients, so the weights with large "
        "gradients decay least; decay apart from the gradient treats all alike: Loshchilov & Hutter 2019, section 2.",
        mend=f"no kernel_regularizer, but keras.optimizers.{decayed}(…, weight_decay=0.004), then, before training, "
        'optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])\n'
        f"Keras' L2(f) is f·w² without a half: under plain SGD it is weight_decay={2 * factors[-1]:g}; here the decay "
        "has to be found anew.",
    )


def _innermost(optimizer):
    """The optimizer within those that only scale losses or rates."""
    while optimizer is not None and not isinstance(optimizer, ADAPTIVE):
        inner = getattr(optimizer, "inner_optimizer", None) or getattr(optimizer, "optimizer", None)
        if inner is None:
            return optimizer
        optimizer = inner
    return optimizer


def _factors(step):
    """The factors of a layer's L2 penalties."""
    names = [f"{name}_regularizer" for name in PENALIZED]
    penalties = [getattr(step.operation, name, None) for name in names]
    penalties = [
        penalty for penalty in penalties if isinstance(penalty, (keras.regularizers.L2, keras.regularizers.L1L2))
    ]
    return [factor for penalty in penalties if (factor := float(penalty.l2)) > 0]
