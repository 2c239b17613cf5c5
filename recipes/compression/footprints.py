"""What the steps of a compression saved: parameters, multiply-adds, bytes and milliseconds, side by side."""

import dataclasses
import gzip
import statistics
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np

from recipes.bases.plain import has_algorithms
from recipes.compression.bit_layers import FEW_BITS
from recipes.compression.compressions import Compression, Rung
from recipes.compression.forms import content_of, find_form
from recipes.compression.steps import Step
from recipes.compression.subjects import BATCH
from recipes.costs.costing import cost
from recipes.evaluation import measure
from recipes.timing import alternating

FIRST, PLAIN = "as it came", "in plain layers"  # the second of what `recipes.accelerate` made
_ROUNDS = 7


def finish(subject, steps, form="keras"):
    """The Compression that the steps of a verb make up: everything measured that was not.

    Args:
        subject: Subject that the steps began with.
        steps: list of Step, from `descend` and the like.
        form: name of a Form.

    Returns:
        Compression. Where no step was kept, its model is that of the classifier as it came, and a warning says so.
    """
    kind = find_form(form, subject.where)
    name = PLAIN if has_algorithms(subject.original.model) else FIRST
    first = Step(name, subject.model, subject.first_accuracy)
    kept = [first, *(step for step in steps if step.is_kept)]
    if len(kept) == 1:
        _warn(subject, steps)
    contents = [_content(subject, step, kind) for step in kept]
    times = iter(_milliseconds(subject, kept, contents, kind))
    sizes = iter(contents)
    rungs = [
        _rung(step, next(sizes), next(times)) if step.is_kept else _rejected(step, subject, kind)
        for step in (first, *steps)
    ]
    last = kept[-1] if len(kept) > 1 else dataclasses.replace(first, model=subject.original.model)
    split = next((name for name in ("test", "valid") if subject.data and len(getattr(subject.data, name))), None)
    before, report = None, subject.original.report  # its scores stay where there are no images to measure on
    if split is not None:
        images = getattr(subject.data, split)
        before = measure(subject.original, images, split, BATCH)
        answers = None if last.content is None else _answers(last, kind, images)
        report = measure(dataclasses.replace(subject.original, model=last.model), images, split, BATCH, answers)
    if report is not None:
        report = _with_costs(report, rungs, subject)
    result = dataclasses.replace(subject.original, model=last.model, report=report)
    result = dataclasses.replace(result, data=subject.data if result.data is None else result.data)
    if len(kept) > 1 and subject.data is not None:
        seen = frozenset(digest.hex() for digest in subject.data.train.digests)
        result = dataclasses.replace(result, trained_on=result.trained_on | seen)
    content = None if form == "keras" else contents[-1]
    if form == "packed":  # whose report is to be that of the network in it
        content = content_of(kind, result)
        place = max(number for number, rung in enumerate(rungs) if rung.is_kept)
        rungs[place] = dataclasses.replace(rungs[place], **_sizes(content))
        if report is not None:
            result = dataclasses.replace(result, report=_with_costs(report, rungs, subject))
    return Compression(result, before, tuple(rungs), form, content)


def _warn(subject, steps):
    """Where there is nothing to show, say why."""
    reason = "no layer of the model is of a kind that it changes"
    if steps:
        reason = (
            f"its first step, {steps[0].name}, fell to a validation accuracy of {steps[0].accuracy:.4f} from "
            f"{subject.first_accuracy:.4f}; allow a larger max_drop, a milder step or more epochs of recovery"
        )
    warnings.warn(f"{subject.where}: the model stays as it came: {reason}.", stacklevel=4)


def _content(subject, step, kind):
    if step.content is not None:
        return step.content
    return content_of(kind, dataclasses.replace(subject.original, model=step.model))


def _milliseconds(subject, steps, contents, kind):
    """Of one image, each step in turn."""
    image = subject.data.valid if subject.data is not None and len(subject.data.valid) else None
    shape = (1, *subject.original.image_size, subject.original.channels)
    pixels = np.zeros(shape) if image is None else image.images(0, 1)
    pixels = np.ascontiguousarray(pixels, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for number, (step, content) in enumerate(zip(steps, contents, strict=True)):
            path = Path(folder, f"{number}.{kind.file}")
            path.write_bytes(content)
            run = kind.runner(step.model, path)
            runs[number] = lambda run=run: run(pixels)
        seconds = alternating(runs, rounds=_ROUNDS)
    return [1e3 * statistics.median(taken) for taken in seconds.values()]


def _answers(step, kind, images):
    """Probabilities of a Split by the file itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, kind.file)
        path.write_bytes(step.content)
        run = kind.runner(step.model, path)
        parts = [images.images(start, start + BATCH).astype(np.float32) for start in range(0, len(images), BATCH)]
        return np.concatenate([run(part) for part in parts])


def _rung(step, content, milliseconds):
    return Rung(
        step.name,
        step.accuracy,
        *_counts(step.model),
        **_sizes(content),
        milliseconds=milliseconds,
        notes=step.notes,
    )


def _sizes(content):
    return {"stored_bytes": len(content), "compressed_bytes": len(gzip.compress(content, 9))}


def _rejected(step, subject, kind):
    content = _content(subject, step, kind)
    return dataclasses.replace(_rung(step, content, None), is_kept=False)


def _counts(model):
    """Parameters, those that are not 0, and multiply-adds of an image. A kernel of few bits counts as it computes."""
    kernels = {id(layer.kernel): layer.effective_kernel() for layer in model.layers if isinstance(layer, FEW_BITS)}
    values = [keras.ops.convert_to_numpy(kernels.get(id(weight), weight)) for weight in model.weights]
    nonzero = sum(int(np.count_nonzero(value)) for value in values)
    return sum(value.size for value in values), nonzero, cost(model, optimizer=None).multiply_adds


def _with_costs(report, rungs, subject):
    """The report with what the network costs now, and what was done to it."""
    last = next(rung for rung in reversed(rungs) if rung.is_kept)
    fields = ("parameters", "nonzero", "multiply_adds", "stored_bytes", "compressed_bytes", "milliseconds")
    costs = report.cost | {field: getattr(last, field) for field in fields}
    settings = subject.original.report.settings if subject.original.report is not None else {}
    done = [rung.name for rung in rungs[1:] if rung.is_kept]
    return dataclasses.replace(report, cost=costs, settings=settings | {"compression": done})
