"""A new class for a classifier that votes by its nearest examples, without training."""

import dataclasses
import warnings
from typing import Any

import numpy as np

from recipes.checks import check_number, check_whole, complaint
from recipes.data.batches import predict_split
from recipes.data.loading import load_one_class, pick
from recipes.data.matching import data_for
from recipes.data.splitting import place
from recipes.evaluation import report_of
from recipes.neighbours.heads import (
    UNKNOWN,
    check_neighbours,
    extractor,
    features_of,
    with_examples,
    with_neighbours,
)
from recipes.saving import open_classifier


def add_class(
    model: str | Any,
    images: list[str] | str | Any,
    *,
    name: str,
    data: dict[str, Any] | str | Any | None = None,
    held_out: float = 0.2,
    batch_size: int = 32,
):
    """Teach a classifier that votes by its nearest examples one more class, in seconds.

    1. Read the images as training did.
    2. Store the features of most of them beside those that are there, in a copy of the model. Nothing trains.
    3. Measure on the rest of them, and on the test images of `data`, or its validation images.

    Args:
        model: `Result` of `recipes.fit_knn` or of `recipes.finetune(..., head="knn")`, or folder of a saved one.
        images: a folder of images, a list of paths, or an array `(images, height, width, channels)` of RGB 0–255. Those
            that the classifier holds already are left out.
        name: of the class. That of a class that is there adds images to it.
        data: what to measure the other classes on: `Data`, or any source that `recipes.load_data` takes; None for the
            data that a Result was trained on. A classifier that was loaded from its folder brings none along: its
            report is then on the new images alone, and a warning says so.
        held_out: fraction of the new images that is measured and not stored, 0–0.9, chosen by their content.
        batch_size: images that run through the model together.

    Returns:
        `Result` with the classes before, then the new one, then "unknown" where there was that. Its report is on the
        images of `data` and those held out of the new ones; images of a class that was added before are not in it,
        unless `data` has them.

    Raises:
        TypeError, ValueError: the classifier does not vote by neighbours, no image can be used, or there is nothing
            left to measure on.
        FileNotFoundError: a path does not exist.

    Example:
        >>> import numpy as np, recipes
        >>> result = recipes.finetune("small_resnet", "digits", weights=None, epochs=1, head="knn", verbose=False)
        >>> stripes = np.tile(np.arange(8) % 2 * 255, (20, 8, 1))[..., None] - np.arange(20).reshape(20, 1, 1, 1)
        >>> recipes.add_class(result, np.abs(stripes), name="stripes").class_names[-1]
        'stripes'

    Source:
        Cover and Hart 1967.
    """
    where = "add_class"
    check_number(where, "held_out", held_out, most=0.9)
    check_whole(where, "batch_size", batch_size)
    classifier = open_classifier(model, where)
    head = check_neighbours(classifier, where)
    before = data_for(classifier, data, where)
    names = classifier.class_names if head.threshold is None else classifier.class_names[:-1]
    _check_name(name, names, where)
    label = names.index(name) if name in names else len(names)
    new = load_one_class(images, classifier, label, where)
    new = _without(new, classifier.trained_on, f"{where}: {{}} left out, because the classifier holds them already.")
    asked = np.array([place(digest, 0) < held_out for digest in new.digests], bool)
    kept, rest = pick(new, np.flatnonzero(~asked)), pick(new, np.flatnonzero(asked))
    old = next((part for part in (before.test, before.valid) if len(part)), None) if before is not None else None
    if old is not None:
        told = f"{where}: {{}} measured on before left out of the report, because the classifier holds them now."
        old = _without(old, {digest.hex() for digest in kept.digests}, told)
    else:
        mend = "pass data= with a test split to measure the other classes too"
        warnings.warn(f"{where}: the report is on the new class alone; {mend}.", stacklevel=3)
    if not len(kept) or not (len(rest) or (old is not None and len(old))):
        lacking = "to store" if not len(kept) else "to measure on"
        mend = "Pass more images, another held_out (0.2, say), or data= with a test split."
        raise ValueError(complaint(where, f"there must be images {lacking}", f"{len(new)} new ones", mend))
    body = extractor(classifier.model, where)
    features = features_of(body, kept, batch_size)
    names = names if name in names else (*names, name)
    grown = with_examples(head, features, np.full(len(kept), label, np.int32), len(names))
    made = dataclasses.replace(
        classifier,
        model=with_neighbours(body, grown),
        class_names=(*names, UNKNOWN) if head.threshold is not None else names,
        trained_on=classifier.trained_on | {digest.hex() for digest in kept.digests},
    )
    parts = [part for part in (old, rest) if part is not None and len(part)]
    probabilities = np.concatenate([predict_split(made.model, part, batch_size) for part in parts])
    labels, files = np.concatenate([part.labels for part in parts]), sum((tuple(part.files) for part in parts), ())
    report = report_of(made, probabilities, labels, files, "test")
    settings = {**getattr(classifier.report, "settings", {}), "added": [*_added(classifier), name]}
    return dataclasses.replace(made, report=dataclasses.replace(report, settings=settings))


def _without(split, digests, told):
    """A Split less the images of these digests, of which a warning tells."""
    places = [place for place, digest in enumerate(split.digests) if digest.hex() not in digests]
    if len(places) == len(split):
        return split
    warnings.warn(told.format(f"{len(split) - len(places)} of {len(split)} images"), stacklevel=4)
    return pick(split, np.array(places, np.int64))


def _added(classifier):
    return getattr(classifier.report, "settings", {}).get("added", [])


def _check_name(name, names, where):
    if not isinstance(name, str) or not name.strip() or (name == UNKNOWN and name not in names):
        rule = f"name must be the name of a class, other than {UNKNOWN!r}"
        raise ValueError(complaint(where, rule, repr(name), 'Pass name="rat", say.'))
