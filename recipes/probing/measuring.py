"""Which images are measured by what was fitted to which others, and what the features of a block are then worth."""

import dataclasses
import time

import numpy as np

from recipes.checks import complaint
from recipes.data.loading import pick
from recipes.probing.classifiers import linear_answers, neighbour_answers, stratified
from recipes.probing.probes import ProbedBlock
from recipes.values import Split

FOLDS = 5
_LARGE = 1000  # validation images: the standard error of an accuracy is then 0.016 at most


@dataclasses.dataclass(frozen=True, eq=False)
class Ground:
    """Images to probe with.

    Args:
        images: Split of all of them, each once.
        parts: `(positions to fit to, positions to measure)` of each part.
        split: that is measured: `"train"` or `"valid"`.
    """

    images: Split
    parts: list
    split: str


def make_ground(data, folds, neighbours, seed, where):
    """The Ground of a Data; see the arguments of `recipes.probe`.

    Raises:
        ValueError: a class has too few images, or there are no validation images where they are asked for.
    """
    train, valid = _once(data.train), _once(data.valid)
    is_valid = folds is None or (folds == "auto" and len(valid) >= _LARGE)
    if is_valid and not len(valid):
        mend = "Load the data with valid=0.15, or pass folds=5."
        raise ValueError(complaint(where, "folds=None measures validation images", "none", mend))
    wanted = FOLDS if is_valid or folds == "auto" else folds
    _check_classes(train, data.class_names, wanted, is_valid, where)
    if is_valid:
        places = np.arange(len(train) + len(valid))
        images, parts = _joined(train, valid), [(places[: len(train)], places[len(train) :])]
    else:
        images, parts = train, stratified(train.labels, wanted, seed)
    least = min(len(fitted) for fitted, _ in parts)
    if neighbours > least:
        rule = f"neighbours must be at most {least}, the images that are fitted to"
        raise ValueError(complaint(where, rule, neighbours, f"Pass neighbours={min(least, 5)}."))
    return Ground(images, parts, "valid" if is_valid else "train")


def measure_block(network, place, features, number, ground, name, classifier, neighbours, seed):
    """(ProbedBlock, Answers of the linear classifier) of a block.

    Args:
        network: Network.
        place: of the block in it.
        features: PooledFeatures, prepared.
        number: of the block in them.
        ground: Ground.
        name: of the base.
        classifier: of CLASSIFIERS.
        neighbours: number that vote.
        seed: whole number.
    """
    start = time.monotonic()
    labels, rows = ground.images.labels, features.rows(ground.images, number)
    linear = linear_answers(rows, labels, ground.parts, kind=classifier, seed=seed)
    near = neighbour_answers(rows, labels, ground.parts, neighbours)
    row = ProbedBlock(
        base=name,
        block=network.blocks[place].name,
        depth=(place + 1) / len(network.blocks),
        features=features.widths[number],
        multiply_adds=features.multiply_adds[number],
        linear=float(np.mean(linear.predicted == labels[linear.images])),
        neighbours=float(np.mean(near.predicted == labels[near.images])),
        loss=float(np.mean(linear.losses)),
        strengths=linear.strengths,
        classifier_seconds=time.monotonic() - start,
    )
    return row, linear


def _once(split):
    """A Split in which equal images stand once, so that none is measured by what was fitted to itself."""
    first = {}
    for place, digest in enumerate(split.digests):
        first.setdefault(digest, place)
    return split if len(first) == len(split) else pick(split, np.array(list(first.values()), np.int64))


def _joined(one, other):
    """Two Splits of one store, one after the other."""
    rows, labels = (np.concatenate([getattr(part, name) for part in (one, other)]) for name in ("rows", "labels"))
    return Split(one.store, rows, labels, one.files + other.files, one.digests + other.digests)


def _check_classes(train, class_names, wanted, is_valid, where):
    counts = np.bincount(train.labels, minlength=len(class_names))
    if np.count_nonzero(counts) < 2:
        mend = "Add images of another class: with one class there is nothing to tell apart."
        raise ValueError(complaint(where, "there must be at least two classes", "one", mend))
    fewest = int(np.argmin(counts))
    if counts[fewest] < wanted:
        rule = f"every class needs {wanted} different training images, one for each fold"
        received = f"{counts[fewest]} of {class_names[fewest]!r}"
        mend = "Add images of it, or leave the class out"
        raise ValueError(complaint(where, rule, received, mend + _or_less(counts[fewest], is_valid)))


def _or_less(count, is_valid):
    return "." if is_valid or count < 2 else f", or pass folds={count}."
