"""Measuring a classifier."""

import math
import os
from typing import Any

import numpy as np

from recipes.checks import check_whole, complaint
from recipes.data.batches import predict_split
from recipes.data.loading import check_options, leave_trained_out, load_to_measure, pick, translate
from recipes.reporting.pages import write_page
from recipes.reporting.scores import score
from recipes.saving import PAGE, REPORT, open_classifier, versions, writable_folder
from recipes.values import Data, Result


def evaluate(
    model: str | Any,
    data: dict[str, Any] | str | Any,
    *,
    batch_size: int = 32,
    out: str | os.PathLike | None = None,
):
    """Measure a classifier on images that it was not trained on.

    1. Open the images: the test split where there is one, else the validation split, else all of them.
    2. Run the model over them once.
    3. Compute every score from the same probabilities.

    Args:
        model: `Result`, folder of a saved one, or Keras model.
        data: `Data`, or any source that `recipes.load_data` takes. Class names must be among the model's.
        batch_size: images that run through the model together.
        out: folder for `report.json` and `report.html`.

    Returns:
        `Report` without curves. Its accuracy is that of `model.evaluate`.

    Raises:
        ValueError: the data has classes that the model does not know, or images that it does not take.

    Example:
        >>> import recipes
        >>> data = recipes.load_data("digits", image_size=16)
        >>> result = recipes.finetune("small_resnet", data, weights=None, epochs=1, verbose=False)
        >>> report = recipes.evaluate(result, data)
    """
    where = "evaluate"
    check_whole(where, "batch_size", batch_size)
    classifier = open_classifier(model, where)
    if isinstance(data, Data):
        split, name = _held_out(data, classifier, where)
    else:
        source, options = check_options(data, where, known=("source", "on_bad"))
        split, name = load_to_measure(source, classifier, where, **options)
    report = measure(classifier, split, name, batch_size)
    if out is not None:
        folder = writable_folder(out, where)
        report.save(folder / REPORT)
        write_page(report, folder / PAGE)
    return report


def unmeasured(model, data):
    """Result without a report of a model that was trained on a Data."""
    return Result(
        model=model,
        class_names=data.class_names,
        image_size=data.image_size,
        channels=data.channels,
        resize=data.resize,
        report=None,
        trained_on=frozenset(digest.hex() for digest in data.train.digests),
        data=data,
    )


def measure(classifier, split, name, batch_size, probabilities=None):
    """Report of a classifier on one Split, called `name`, whose probabilities are computed unless they are known."""
    if probabilities is None:
        probabilities = predict_split(classifier.model, split, batch_size)
    return report_of(classifier, probabilities, split.labels, split.files, name)


def report_of(classifier, probabilities, labels, files, name):
    """Report of what a classifier said of images of the split called `name`; see `score`."""
    report = score(probabilities, labels, files, classifier.class_names, name)
    report.versions.update(versions())
    report.cost.update(cost_of(classifier.model))
    return report


def cost_of(model):
    """`parameters`, `trainable_parameters` (as the last stage left them) and `weight_bytes` of a model."""

    def count(weights):
        return sum(math.prod(weight.shape) for weight in weights)

    size = sum(math.prod(weight.shape) * np.dtype(str(weight.dtype)).itemsize for weight in model.weights)
    return {
        "parameters": count(model.weights),
        "trainable_parameters": count(model.trainable_weights),
        "weight_bytes": size,
    }


def _held_out(data, classifier, where):
    """The test split, or else the validation split, and its name; labels go by the names of their classes."""
    form = (data.image_size, data.channels, data.resize)
    if form != (classifier.image_size, classifier.channels, classifier.resize):
        expected = f"{classifier.image_size}×{classifier.channels}, resize={classifier.resize!r}"
        mend = f"Load it with recipes.load_data(..., image_size={classifier.image_size}, resize={classifier.resize!r})."
        rule = f"the classifier takes images of {expected}"
        raise ValueError(complaint(where, rule, f"Data of {form[0]}×{form[1]}, resize={form[2]!r}", mend))
    name = next((name for name in ("test", "valid") if len(getattr(data, name))), None)
    if name is None:
        mend = "Load it with valid=0.15 or test=0.15."
        raise ValueError(complaint(where, "the data has neither a test nor a validation split", repr(data), mend))
    split = getattr(data, name)
    if classifier.report is not None:  # a bare model has no names: its classes are those of the data, in order
        labels = translate(split.labels, data.class_names, classifier.class_names, where)
        split = pick(split, range(len(split)), labels)
    return leave_trained_out(split, classifier, where), name
