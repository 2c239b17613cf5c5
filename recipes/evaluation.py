"""Measuring a classifier."""

import functools
import math
import os
import warnings
from typing import Any

import numpy as np

from recipes.checks import check_whole, complaint
from recipes.cropping import check_crops, passes_of, with_crops
from recipes.data.batches import compiled, predict_split
from recipes.data.loading import check_options, leave_trained_out, load_to_measure, pick, translate
from recipes.data.reading import decode_all
from recipes.reporting.pages import write_page
from recipes.reporting.scores import score
from recipes.saving import PAGE, REPORT, open_classifier, versions, writable_folder
from recipes.timing import alternating
from recipes.values import Data, Result, Split

_TOGETHER = 256  # images that are brought to another size at a time


def evaluate(
    model: str | Any,
    data: dict[str, Any] | str | Any,
    *,
    batch_size: int = 32,
    crops: int | str = 1,
    average: str = "probabilities",
    out: str | os.PathLike | None = None,
):
    """Measure a classifier on images that it was not trained on.

    1. Open the images: the test split where there is one, else the validation split, else all of them.
    2. Run the model over them once.
    3. Compute every score from the same probabilities.
    4. With crops: do the same with a single crop and measure the time of both.

    Args:
        model: `Result`, folder of a saved one, or Keras model.
        data: `Data`, or any source that `recipes.load_data` takes. Class names must be among the model's.
        batch_size: images that run through the model together.
        crops: 2, 5 or 10 to average over crops of an image that is taken 8/7 as large, or `"resnet"` for five scales,
            up to 20/7, with mirror images: the same as `recipes.export(..., crops=...)` serves. Of a `Data` at the
            model's size, files are read again where they are still there; other images are enlarged.
        average: of the crops' `"probabilities"` or `"logits"`.
        out: folder for `report.json` and `report.html`.

    Returns:
        `Report` without curves. Its accuracy is that of `model.evaluate`. With crops, `report.crops` says what they
        bring over a single crop and what they cost.

    Raises:
        ValueError: the data has classes that the model does not know, or images that it does not take.

    Example:
        >>> import recipes
        >>> data = recipes.load_data("digits", image_size=16)
        >>> result = recipes.finetune("small_resnet", data, weights=None, epochs=1, verbose=False)
        >>> report = recipes.evaluate(result, data)
        >>> recipes.evaluate(result, data, crops=10).crops["passes"]
        10.0

    Source:
        Krizhevsky et al. 2012 (ten crops); He et al. 2015 (five scales).
    """
    where = "evaluate"
    check_whole(where, "batch_size", batch_size)
    check_crops(crops, average, where)
    classifier = open_classifier(model, where)
    if crops == 1:
        report = measure(classifier, *_to_measure(data, classifier, where), batch_size)
    else:
        report = _measure_crops(classifier, with_crops(classifier, crops, average), data, batch_size, where)
        report.crops.update(crops=crops, average=average)
    if out is not None:
        folder = writable_folder(out, where)
        report.save(folder / REPORT)
        write_page(report, folder / PAGE)
    return report


def _to_measure(data, classifier, where):
    """(Split, its name) of a Data or of another source, at the classifier's size."""
    if isinstance(data, Data):
        return _held_out(data, classifier, where)
    source, options = check_options(data, where, known=("source", "on_bad"))
    return load_to_measure(source, classifier, where, **options)


def _measure_crops(single, many, data, batch_size, where):
    """Report of a classifier that averages over crops, and in `crops` that of the single crop beside it."""
    if isinstance(data, Data):
        split, name = _held_out(data, many if data.image_size == many.image_size else single, where)
        splits = split, split
    else:
        split, name = _to_measure(data, many, where)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is left out, it has been told
            splits = _to_measure(data, single, where)[0], split
    reports = [
        measure(kind, images, name, batch_size, _probabilities(kind, images, batch_size, where))
        for kind, images in zip((single, many), splits, strict=True)
    ]
    image = np.zeros((1, *many.image_size, many.channels), np.float32)
    parts = {"single": (single, image[:, : single.image_size[0], : single.image_size[1]]), "many": (many, image)}
    runs = {key: functools.partial(kind.model.predict_on_batch, images) for key, (kind, images) in parts.items()}
    milliseconds = {key: 1000 * float(np.median(times)) for key, times in alternating(runs, rounds=5).items()}
    reports[1].crops.update(
        passes=passes_of(many),
        milliseconds=milliseconds["many"],
        single_milliseconds=milliseconds["single"],
        single={key: value for key, value in reports[0].scores.items() if key != "images"},
    )
    return reports[1]


def _probabilities(classifier, split, batch_size, where):
    """Those of a Split, whose images are brought to the classifier's size where they have another."""
    if split.store.shape[1:3] == classifier.image_size:
        return predict_split(classifier.model, split, batch_size)
    form, parts = (classifier.image_size, classifier.channels, classifier.resize), []
    run = None
    for start in range(0, len(split), _TOGETHER):
        picks = range(start, min(start + _TOGETHER, len(split)))
        images = [_original(split, place) for place in picks]
        pixels = decode_all(images, *form, where)
        part = Split(pixels, np.arange(len(pixels)), np.zeros(len(pixels), np.int32), (), ())
        run = run or compiled(lambda rows, training: classifier.model(rows, training=training), part)
        parts.append(predict_split(classifier.model, part, batch_size, run))
    return np.concatenate(parts)


def _original(split, place):
    """The file of an image where it is still there, else its pixels."""
    path = split.files[place]
    return path if os.path.isfile(path) else split.store[split.rows[place]]


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
    if not classifier.is_bare:  # whose classes are those of the data, in order
        labels = translate(split.labels, data.class_names, classifier.class_names, where)
        split = pick(split, range(len(split)), labels)
    return leave_trained_out(split, classifier, where), name
