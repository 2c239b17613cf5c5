"""Whether labels belong to their images: true ones must be learnt, shuffled ones must not."""

import math

import keras
import numpy as np

from recipes.sanity.checkup import failed, passed, skipped
from recipes.sanity.subject import balanced, turns

_IMAGES = 400  # to learn from, and as many to measure
_LEAST = 20  # to measure
_SIDE = 8  # pixels to which images are averaged
_RIDGE = 0.3
_SHUFFLES = 5
_SIGMAS = 3.0


def check_labels(subject):
    """The Finding about labels: a linear classifier on small pictures and on the network's own pooled features, as it
    stands, learns from true labels and from shuffled ones, and is measured on held-out images with true labels.
    """
    test, data = "labels", subject.data
    train, held = _split(data, subject.seed)
    if len(held[1]) < _LEAST:
        return skipped(test, f"{len(held[1])} images to measure; {_LEAST} are needed.")
    rows, others = _features(subject.model, train[0], held[0])
    weights = _class_weights(held[1])
    true = _accuracy(rows, train[1], others, held[1], subject.classes, weights)
    random = np.random.default_rng(subject.seed)
    shuffled = [
        _accuracy(rows, random.permutation(train[1]), others, held[1], subject.classes, weights)
        for _ in range(_SHUFFLES)
    ]
    chance = 1 / len(np.unique(held[1]))
    spread = math.sqrt(chance * (1 - chance) * float(np.sum(weights**2)))
    told = (
        f"{len(held[1])} held-out images: {true:.2f} from true labels, {np.mean(shuffled):.2f} from shuffled ones "
        f"(mean over classes; chance is {chance:.2f})"
    )
    if true < np.mean(shuffled) + _SIGMAS * spread:
        return failed(
            test,
            told,
            "Labels that belong to other images (a table sorted otherwise than its files, images shuffled without "
            "their labels), classes that cannot be seen at this size, or too few images.",
            "Look at images with their labels (recipes.plot_check); compare the order of both lists.",
        )
    return passed(test, told)


def _split(data, seed):
    """((images, labels) to learn from, the same to measure)."""
    train = balanced(data.train, 2 * _IMAGES, seed)
    is_held = turns(data.train.labels[train]) % 2 == 1  # every other one of each class
    held_split, held = next(
        ((split, balanced(split, _IMAGES, seed)) for split in (data.valid, data.test) if len(split) >= _LEAST),
        (data.train, train[is_held]),
    )
    train = train[~is_held] if held_split is data.train else train[:_IMAGES]
    return [
        (split.store[split.rows[places]], split.labels[places])
        for split, places in ((data.train, train), (held_split, held))
    ]


def _features(model, train, held):
    """Standardized rows of both: small pictures, and what the last layer with a kernel takes in."""
    last = next((layer for layer in reversed(model.layers) if getattr(layer, "kernel", None) is not None), None)
    parts = [_small(train)], [_small(held)]
    if last is not None and len(last.input.shape) == 2:
        probe = keras.Model(model.input, last.input)
        for images, rows in zip((train, held), parts, strict=True):
            rows.append(probe.predict(images.astype("float32"), batch_size=32, verbose=0))
    rows, others = (np.concatenate([_finite(part) for part in side], 1) for side in parts)
    mean, deviation = rows.mean(0), rows.std(0)
    is_used = deviation > 1e-6
    return tuple((side[:, is_used] - mean[is_used]) / deviation[is_used] for side in (rows, others))


def _small(images):
    height, width = (min(_SIDE, side) for side in images.shape[1:3])
    rows = np.array_split(images.astype("float64"), height, axis=1)
    small = [[part.mean((1, 2)) for part in np.array_split(row, width, axis=2)] for row in rows]
    return np.stack([np.stack(row, 1) for row in small], 1).reshape(len(images), -1)


def _finite(rows):
    return np.nan_to_num(rows.astype("float64"), nan=0.0, posinf=0.0, neginf=0.0)


def _class_weights(labels):
    """Weights of images with which every class counts alike; they sum to 1."""
    counts = np.bincount(labels)
    return 1 / counts[labels] / np.count_nonzero(counts)


def _accuracy(rows, labels, others, truth, classes, weights):
    """Mean over the classes of the share told right by ridge regression to one-hot targets."""
    if not rows.shape[1]:
        return float(weights[truth == labels[0]].sum())
    targets = np.eye(classes)[labels]
    offset = targets.mean(0)
    width = rows.shape[1]
    inner = rows @ rows.T / width + _RIDGE * np.eye(len(rows))
    told = others @ rows.T / width @ np.linalg.solve(inner, targets - offset) + offset
    return float(weights[told.argmax(1) == truth].sum())
