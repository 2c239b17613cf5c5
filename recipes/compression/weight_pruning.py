"""recipes.prune_weights: single weights set to zero, as many as the accuracy allows, for good."""

import dataclasses

from recipes.checks import check_choice, check_number, check_whole, complaint
from recipes.compression.descending import descend
from recipes.compression.footprints import finish
from recipes.compression.forms import find_form
from recipes.compression.kernels import check_keep, check_patterns, find_kernels
from recipes.compression.masking import KEEP, SCOPES, gradual, pruned
from recipes.compression.recovering import open_recovery
from recipes.compression.sensitivities import SPARSITIES, measure_sensitivity
from recipes.compression.subjects import open_subject

_WHERE = "prune_weights"
_LADDER = (0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)  # where no sparsity is asked for


@dataclasses.dataclass(frozen=True)
class Pruning:
    """How far to prune, and where; the arguments of `prune_weights` of these names."""

    sparsity: float | dict | None
    scope: str
    keep: tuple[str, ...]
    steps: int


def prune_weights(
    model,
    data=None,
    *,
    sparsity=None,
    scope="layer",
    keep=KEEP,
    steps=4,
    max_drop=0.01,
    recovery=None,
    form="packed",
    seed=0,
    verbose=True,
):
    """Set the weights of a classifier that matter least to zero, as many as its accuracy allows.

    1. Set the smallest weights of each kernel to zero, more with each step.
    2. Train the rest after each step, by the stages of `recipes.finetune`; what is zero stays zero.
    3. Go on as long as the validation accuracy stays within `max_drop` of what it was.
    4. Measure accuracy, size and latency of each step.

    Zeros save bytes in a file that is compressed or packed. They save no time: runtimes multiply by them as by any
    other number. `recipes.prune_units` removes whole filters, which does.

    Args:
        model: Result, folder of a saved one, or Keras model from images of 0–255 to probabilities. It stays as it is.
        data: Data, or any source that `recipes.load_data` takes; None for the data that a Result was trained on.
        sparsity: fraction of the kernels' weights that is to be zero at the end, 0–1; or one per layer,
            `{"fc1": 0.92, "conv.*": 0.34}`, names being regular expressions. None goes from 0.5 as far as 0.99.
        scope: where the smallest weights are looked for. `"layer"`: in each kernel, all at the same fraction.
            `"global"`: in all together. `"deviation"`: in all together, each relative to the standard deviation of its
            kernel. `"sensitivity"`: in each kernel, at the fraction that costs them all alike, by
            `recipes.sensitivity`.
        keep: what stays whole: regular expressions for names of layers, `"first"`, `"last"`, `"conv"`, `"dense"` or
            `"depthwise"`. Biases and normalisation always do.
        steps: on the way to `sparsity`, by a cubic course: large at first.
        max_drop: accuracy, 0–1, that may be lost on the validation images; None takes every step.
        recovery: `recipes.Recovery`, how to train after each step.
        form: what sizes are of: `"packed"`, the file of `recipes.pack`, or another one that compression knows.
        seed: of the training.
        verbose: whether to show progress.

    Returns:
        `Compression`, whose model trains on with its zeros kept, by `layers.ZerosKept`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range; the data does not fit the model.

    Example:
        >>> import keras, recipes
        >>> dense = keras.layers.Dense(10, activation="softmax", name="dense")
        >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), dense])
        >>> small = recipes.prune_weights(network, "digits", sparsity=0.75, steps=2, max_drop=None, verbose=False)
        >>> [rung.name for rung in small.rungs]
        ['as it came', 'weights, 65.6% zero', 'weights, 75.0% zero']
        >>> int((small.model.get_layer("dense").get_weights()[0] == 0).sum())
        480

    Source:
        Han et al. 2015, "Learning both weights and connections for efficient neural networks"; Zhu and Gupta 2017, "To
        prune, or not to prune".
    """
    plan = Pruning(sparsity, scope, keep, steps)
    check_pruning(plan, _WHERE)
    find_form(form, _WHERE)
    recovery = open_recovery(recovery, _WHERE)
    subject = open_subject(model, data, _WHERE, max_drop=max_drop)
    return finish(subject, prune(subject, plan, subject.floor(max_drop), recovery, seed, verbose), form)


def check_pruning(plan, where):
    """Raise unless the fields of a Pruning make sense by themselves."""
    check_choice(where, "scope", plan.scope, SCOPES)
    check_whole(where, "steps", plan.steps)
    is_named = isinstance(plan.sparsity, dict)
    if is_named and plan.scope != "layer":
        rule, mend = "scope is for one sparsity of all layers", "Leave scope out, or pass sparsity=0.9."
        raise ValueError(complaint(where, rule, f"scope={plan.scope!r} and sparsity per layer", mend))
    fractions = plan.sparsity.values() if is_named else () if plan.sparsity is None else (plan.sparsity,)
    for fraction in fractions:
        check_number(where, "sparsity", fraction, most=1.0)
        if fraction == 1:
            rule, mend = "sparsity must leave some weights", "Pass 0.99, say."
            raise ValueError(complaint(where, rule, fraction, mend))


def prune(subject, plan, floor, recovery, seed, verbose):
    """Prune the Subject's model step by step, by a Pruning; a list of Step."""
    check_keep(subject.where, plan.keep, subject.model)
    kernels, _ = find_kernels(subject.model, plan.keep)
    if isinstance(plan.sparsity, dict):
        check_patterns(subject.where, "sparsity", plan.sparsity, kernels)
    if not kernels:
        return []
    curves = None
    if plan.scope == "sensitivity":
        curves = measure_sensitivity(subject, SPARSITIES, plan.keep, verbose)

    def attempt(model, level):
        return pruned(model, level, scope=plan.scope, keep=plan.keep, sensitivity=curves)

    levels = _LADDER if plan.sparsity is None else gradual(plan.sparsity, plan.steps)
    options = {"floor": floor, "recovery": recovery, "seed": seed, "verbose": verbose}
    return descend(subject, levels, attempt, name=_describe, **options)


def _describe(level):
    if not isinstance(level, dict):
        return f"weights, {level:.1%} zero"
    return "weights, " + ", ".join(f"{name} {part:.0%}" for name, part in level.items()) + " zero"
