"""A classifier of any kind turned into one that votes by its nearest training images."""

import dataclasses
import warnings
from typing import Any

import numpy as np

from recipes.checks import check_choice, check_number, check_whole, complaint
from recipes.data.matching import data_for
from recipes.evaluation import measure
from recipes.neighbours.heads import (
    UNKNOWN,
    extractor,
    features_of,
    make_head,
    nearest_distances,
    neighbour_head,
    with_neighbours,
)
from recipes.saving import open_classifier

_METRICS, _WEIGHTINGS = ("cosine", "euclidean"), ("distance", "uniform")


def fit_knn(
    model: str | Any,
    data: dict[str, Any] | str | Any | None = None,
    *,
    k: int = 5,
    weighting: str = "distance",
    metric: str | None = None,
    unknown: float | None = None,
    batch_size: int = 32,
):
    """Let a classifier vote by its nearest training images, on the features that it has learnt.

    1. Run the training images once through everything but the head.
    2. Put a `layers.KNNClassifier` that holds their features in the head's place, in a copy of the model.
    3. Measure it as `recipes.finetune` does.

    The result saves, exports and serves as any other. `recipes.add_class` gives it new classes without training, and
    with `unknown` it says so when an image is like none that it has seen. It takes features × images × 4 bytes more.

    Args:
        model: `Result`, folder of a saved one, or Keras model.
        data: `Data`, any source that `recipes.load_data` takes, or None for the data that a Result was trained on. Of
            classes that have no images in it, a classifier that votes already keeps its examples.
        k: neighbours that vote.
        weighting: of the votes: `"distance"`, 1/distance, or `"uniform"`.
        metric: `"cosine"`, 1 − cosine, or `"euclidean"`. Default: that of the neighbours that vote already, where they
            do, else cosine.
        unknown: fraction of images of the known classes that may be called unknown, 0–0.5, as the validation images
            have it, or the training images each without itself where there are none. There is then one more class,
            "unknown". None for no such class.
        batch_size: images that run through the model together.

    Returns:
        `Result`.

    Raises:
        TypeError, ValueError: an argument is out of its range; the classifier does not end in a head on features; or
            the data does not fit it.

    Example:
        >>> import recipes
        >>> result = recipes.finetune("small_resnet", "digits", weights=None, epochs=1, verbose=False)
        >>> recipes.fit_knn(result, unknown=0.01).class_names[-1]
        'unknown'

    Source:
        Cover and Hart 1967; Dudani 1976 (votes by distance); Sun et al. 2022, "Out-of-distribution detection with deep
        nearest neighbors" (unknown by the distance of normalised features).
    """
    where = "fit_knn"
    check_whole(where, "k", k)
    check_choice(where, "weighting", weighting, _WEIGHTINGS)
    if metric is not None:
        check_choice(where, "metric", metric, _METRICS)
    if unknown is not None:
        check_number(where, "unknown", unknown, most=0.5)
    check_whole(where, "batch_size", batch_size)
    classifier = open_classifier(model, where)
    before = neighbour_head(classifier.model)
    metric = metric or (before.metric if before is not None else "cosine")
    if before is not None and before.threshold is not None:  # its "unknown" is no class of the data
        classifier = dataclasses.replace(classifier, class_names=classifier.class_names[:-1])
    data = data_for(classifier, data, where)
    if data is None:
        mend = 'Pass data="photos/", or the Result of recipes.finetune.'
        raise ValueError(complaint(where, "the training images must be given", "a classifier without data", mend))
    if UNKNOWN in data.class_names and unknown is not None:
        mend = "Call that class something else, or leave unknown out."
        raise ValueError(complaint(where, f"no class may be called {UNKNOWN!r}", "one of that name", mend))
    names, classes = data.class_names, len(data.class_names)
    body = extractor(classifier.model, where)
    stored, labels = _examples(features_of(body, data.train, batch_size), data.train, metric, where)
    if before is not None:
        stored, labels = _with_others(stored, labels, before, metric, names, where)
    threshold = None
    if unknown is not None:
        held_out = features_of(body, data.valid, batch_size) if len(data.valid) else None
        threshold, names = _threshold(stored, held_out, metric, unknown), (*names, UNKNOWN)
    head = make_head(stored, labels, k=k, weighting=weighting, metric=metric, classes=classes, threshold=threshold)
    made = dataclasses.replace(
        classifier,
        model=with_neighbours(body, head),
        class_names=names,
        resize=data.resize,
        trained_on=classifier.trained_on | {digest.hex() for digest in data.train.digests},
        data=data,
    )
    name = next(name for name in ("test", "valid", "train") if len(getattr(data, name)))
    report = measure(made, getattr(data, name), name, batch_size)
    settings = {**getattr(classifier.report, "settings", {}), "neighbours": {"k": k, "weighting": weighting}}
    settings["neighbours"] |= {"metric": metric, "unknown": unknown, "threshold": threshold}
    return dataclasses.replace(made, report=dataclasses.replace(report, settings=settings))


def _examples(features, split, metric, where):
    """`(features, labels)` of a Split, less those that have no direction where that is what is compared."""
    is_used = features.any(1) if metric == "cosine" else np.ones(len(features), bool)
    if not is_used.all():
        left = [split.files[place] for place in np.flatnonzero(~is_used)[:3]]
        told = (
            f"{where}: {np.sum(~is_used)} left out, whose features are all 0 and have no direction: {', '.join(left)}."
        )
        warnings.warn(told, stacklevel=4)
    return features[is_used], split.labels[is_used]


def _with_others(stored, labels, before, metric, names, where):
    """Examples beside those that the head before holds of classes without images in the data."""
    features, known = before.store.held()
    is_other = ~np.isin(known, labels)
    if not is_other.any():
        return stored, labels
    if before.metric == "cosine" and metric != "cosine":
        rule = f"examples that were stored for the cosine have no length, which metric={metric!r} compares"
        missing = ", ".join(repr(names[label]) for label in np.unique(known[is_other])[:5])
        mend = 'Pass data= with images of all classes, or metric="cosine".'
        raise ValueError(complaint(where, rule, f"no images of {missing}", mend))
    return np.concatenate([stored, features[is_other]]), np.concatenate([labels, known[is_other]])


def _threshold(stored, held_out, metric, unknown):
    """The distance beyond which that fraction of known images lies."""
    own = held_out is None
    distances = nearest_distances(stored, stored if own else held_out, metric, leaves_own=own)
    return max(float(np.quantile(distances, 1 - unknown)), 1e-6)
