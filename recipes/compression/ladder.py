"""recipes.compress: one method after another, each as far as its share of the allowance goes."""

import functools
import inspect
import os
from typing import Any

from recipes.checks import check_choice, check_number, check_whole, complaint
from recipes.compression import methods
from recipes.compression.descending import last_kept
from recipes.compression.footprints import finish
from recipes.compression.forms import find_form
from recipes.compression.recovering import open_recovery
from recipes.compression.subjects import open_subject
from recipes.saving import writable_folder
from recipes.training.progress import say

METHODS = {
    "fold": methods.fold,
    "units": methods.units,
    "low_rank": methods.low_rank,
    "weights": methods.weights,
    "share": methods.sharing,
    "few_bits": methods.few_bits,
    "quantize": methods.quantize,
}
AUTO = ("fold", "units", "low_rank", "quantize")
_EXACT = ("fold",)  # loses nothing, and needs no share of the allowance
_GIVEN = ("where", "form")  # by the ladder itself
# What each method's savings show in: zeros and codes in a packed file, whole numbers in LiteRT.
_FORMS = {"weights": "packed", "share": "packed", "few_bits": "packed", "quantize": "litert"}


def compress(
    model: str | Any,
    data: dict[str, Any] | str | Any = None,
    *,
    steps: str | list[str | dict[str, Any]] | dict[str, Any] = "auto",
    max_drop: float = 0.01,
    form: str | None = None,
    recovery: dict[str, Any] | Any = None,
    seed: int = 0,
    out: str | os.PathLike | None = None,
    served: str | os.PathLike | None = None,
    verbose: bool = True,
):
    """Make a classifier smaller and faster, step by step, as far as its accuracy allows.

    1. Open the classifier and its data; it stays as it is, all work is done on a copy.
    2. Take one method after another. Each goes down level by level, trains after each, and stops before the validation
       accuracy has fallen by more than its share of `max_drop`; what it leaves of its share goes to the next.
    3. Write every rung in the form that the last one is for, and measure size and latency of all of them side by side.
    4. Measure the test split once, before and after.

    Args:
        model: `Result`, folder of a saved one, or Keras model from images of 0–255 to probabilities.
        data: `Data`, or any source that `recipes.load_data` takes; None for the data that a Result was trained on.
        steps: `"auto"`: fold, units, low_rank, quantize. Or a list of `"fold"` (BatchNormalization into convolutions),
            `"units"` (filters and neurons removed), `"low_rank"` (layers as products of thin ones), `"weights"`
            (weights set to 0), `"share"` (few distinct weights), `"few_bits"` (binary or ternary layers) and
            `"quantize"` (int8, comes last); or with arguments of its own: `{"units": {"fraction": 0.3}}`. A dictionary
            of several is taken in its order.
        max_drop: how far the validation accuracy may fall in all, 0–1.
        form: file that sizes and latency are of: `"keras"`, `"litert"`, `"onnx"` or `"packed"`. Default: what the steps
            are for.
        recovery: `recipes.Recovery`, or a dictionary of its fields: how the network trains between steps.
        seed: of the training.
        out: folder to save the compressed classifier to, as `recipes.save` does, with `compression.json`.
        served: folder to export it to for serving: the file that was measured, proved in a fresh process.
        verbose: whether to show progress.

    Returns:
        `Compression`; prints as a table of accuracy, size and latency after each rung.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range, or data and model do not fit.

    Example:
        >>> import recipes
        >>> result = recipes.finetune("small_resnet", "digits", weights=None, epochs=1, verbose=False)
        >>> small = recipes.compress(result, steps=["fold"], verbose=False)
        >>> [rung.name for rung in small.rungs]
        ['as it came', 'fold']

    Source:
        Han, Mao and Dally 2016; Li et al. 2017; Kim et al. 2016; Jacob et al. 2018.
    """
    where = "compress"
    plan = _plan(steps, where)
    check_number(where, "max_drop", max_drop, most=1.0)
    check_whole(where, "seed", seed, least=0)
    chosen = form or next((_FORMS[name] for name, _ in reversed(plan) if name in _FORMS), "keras")
    form = find_form(chosen, where).name
    methods_of_plan = _methods(plan, form, where)
    recovery = open_recovery(recovery, where)
    for folder in (out, served):
        if folder is not None:
            writable_folder(folder, where)
    subject = open_subject(model, data, where, max_drop=max_drop)
    done = _climb_down(subject, methods_of_plan, max_drop, recovery=recovery, seed=seed, verbose=verbose)
    compression = finish(subject, done, form)
    if out is not None:
        compression.save(out)
    if served is not None:
        compression.export(served)
    return compression


def _climb_down(subject, plan, max_drop, **options):
    """All steps of a plan, each method starting from what the last one left."""
    shares = [name for name, _ in plan if name not in _EXACT]
    done, here, used = [], subject, 0
    for name, method in plan:
        used += name not in _EXACT
        share = 1.0 if name in _EXACT else used / len(shares)
        floor = subject.floor(max_drop * share)
        say(options["verbose"], f"— {name}, down to a validation accuracy of {floor:.4f}")
        steps = method(here, floor=floor, **options)
        done += steps
        here = last_kept(here, steps)
    return done


def _plan(steps, where):
    """`[(name, arguments)]`, checked."""
    if isinstance(steps, str):
        check_choice(where, "steps", steps, ("auto", *METHODS))
        steps = AUTO if steps == "auto" else (steps,)
    steps = [{name: arguments} for name, arguments in steps.items()] if isinstance(steps, dict) else steps
    plan = [_step(step, where) for step in steps]
    names = [name for name, _ in plan]
    if not names:
        raise ValueError(complaint(where, "steps must name a method", "none", f"Pass {list(AUTO)}, say."))
    if "quantize" in names[:-1]:
        rule, mend = '"quantize" gives a file, and must be the last step', "Put it at the end, once."
        raise ValueError(complaint(where, rule, names, mend))
    return plan


def _methods(plan, form, where):
    """`[(name, function of a Subject)]`, all arguments checked before any work."""
    given = {"quantize": {"form": form}}
    return [(name, METHODS[name](where, **arguments, **given.get(name, {}))) for name, arguments in plan]


def _step(step, where):
    pairs = [(step, {})] if isinstance(step, str) else list(step.items()) if isinstance(step, dict) else []
    if len(pairs) != 1 or not isinstance(pairs[0][1], dict):
        rule, mend = "a step is a name, or {name: {argument: value}}", 'Pass {"units": {"fraction": 0.3}}, say.'
        raise TypeError(complaint(where, rule, repr(step), mend))
    name, arguments = pairs[0]
    check_choice(where, "a step", name, METHODS)
    for argument in arguments:
        check_choice(where, f"an argument of {name}", argument, _arguments(name))
    return name, dict(arguments)


@functools.cache
def _arguments(name):
    return tuple(key for key in inspect.signature(METHODS[name]).parameters if key not in _GIVEN)
