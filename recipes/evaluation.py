"""Measuring a classifier."""

import math
import os
from typing import Any

import numpy as np

from recipes.checks import check_whole, complaint
from recipes.data.loading import load_to_measure
from recipes.prediction import predict_split
from recipes.reporting.pages import write_page
from recipes.reporting.scores import score
from recipes.saving import PAGE, REPORT, open_classifier, versions, writable_folder
from recipes.values import Data


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
    data = data["source"] if isinstance(data, dict) else data
    if isinstance(data, Data):
        split, name = _held_out(data, classifier, where)
    else:
        split, name = load_to_measure(data, classifier, where)
    report = measure(classifier, split, name, batch_size)
    if out is not None:
        folder = writable_folder(out, where)
        report.save(folder / REPORT)
        write_page(report, folder / PAGE)
    return report


def measure(classifier, split, name, batch_size):
    """Report of a classifier on one Split, called `name`."""
    probabilities = predict_split(classifier.model, split, batch_size)
    report = score(probabilities, split.labels, split.files, classifier.class_names, name)
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
    """The test split, or else the validation split, and its name."""
    if (data.image_size, data.channels) != (classifier.image_size, classifier.channels):
        received = f"{data.image_size}×{data.channels}"
        mend = f"Load it with recipes.load_data(..., image_size={classifier.image_size})."
        rule = f"the model takes images of {classifier.image_size}×{classifier.channels}"
        raise ValueError(complaint(where, rule, received, mend))
    if data.class_names != classifier.class_names and classifier.report is not None:
        mend = f"Load it with recipes.load_data(..., class_names={list(classifier.class_names)})."
        rule = "the classes of the data must be those of the model, in the same order"
        raise ValueError(complaint(where, rule, ", ".join(data.class_names), mend))
    for name in ("test", "valid"):
        if len(getattr(data, name)):
            return getattr(data, name), name
    mend = "Load it with valid=0.15 or test=0.15."
    raise ValueError(complaint(where, "the data has neither a test nor a validation split", repr(data), mend))
