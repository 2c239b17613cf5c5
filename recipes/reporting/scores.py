"""From class probabilities to a Report: every score that follows from them."""

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from recipes.checks import complaint
from recipes.values import Report

# Keras cuts probabilities to this distance from 0 and from 1 before it takes their logarithm.
_EPSILON = 1e-7
_BINS = 15
_PAIRS = 10


def score(probabilities, labels, files, class_names, split):
    """Measure probabilities against the true labels.

    1. Check that shapes, labels and probabilities can be scored.
    2. Take the most probable class of each image as its prediction; of equal ones the first, as argmax does.
    3. Compute scores, per-class scores, confusion matrix, most confused pairs and one row per image.

    Nothing is random and nothing is written.

    Args:
        probabilities: float array, `(images, classes)`, 0–1.
        labels: integer array, one class index per image.
        files: one name per image.
        class_names: names of the classes, in label order, each different. A class may have no image.
        split: what was measured: `"test"`, `"valid"` or `"all"`.

    Returns:
        A `Report` with `scores`, `per_class`, `confusion`, `confused` (at most ten pairs) and `rows`, all of them
        plain Python numbers and strings, and no curves, cost, settings, versions or seconds.

    Raises:
        ValueError: when there is no image, the shapes do not fit, a label has no class, two classes share a name, or
            a probability is not a number in 0–1.
        TypeError: when labels are not whole numbers.

    Example:
        >>> from recipes.reporting.scores import score
        >>> report = score([[0.9, 0.1], [0.6, 0.4]], [0, 1], ["a.jpg", "b.jpg"], ["ant", "bee"], "test")
        >>> report.scores["accuracy"], report.confused
        (0.5, ({'true': 'bee', 'predicted': 'ant', 'images': 1},))
    """
    probabilities, labels, class_names = np.asarray(probabilities, "float64"), np.asarray(labels), tuple(class_names)
    _check_shapes(probabilities, labels, files, class_names)
    _check_labels(labels, class_names)
    _check_probabilities(probabilities, files)
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, predicted, labels=range(len(class_names)))
    return Report(
        scores=_scores(probabilities, labels, predicted),
        split=split,
        class_names=class_names,
        per_class=_per_class(labels, predicted, class_names),
        confusion=tuple(map(tuple, confusion.tolist())),
        confused=_confused(confusion, class_names),
        rows=_rows(probabilities, labels, predicted, files, class_names),
    )


def cross_entropy(probabilities, labels):
    """Mean cross-entropy in nats, as Keras has it: probabilities cut to 1e-7 … 1 - 1e-7, then made to sum to 1."""
    cut = np.clip(probabilities, _EPSILON, 1 - _EPSILON)
    return float(np.mean(np.log(cut.sum(axis=1)) - np.log(cut[np.arange(len(labels)), labels])))


def top_k_accuracy(probabilities, labels, k):
    """Fraction of images for which fewer than `k` classes are more probable than the true one.

    Equal probabilities count in favour, all of them, as in Keras (`keras.ops.in_top_k`); scikit-learn breaks such ties
    by class number instead.
    """
    true = probabilities[np.arange(len(labels)), labels]
    return float(np.mean((probabilities > true[:, None]).sum(axis=1) < k))


def calibration_error(confidences, correct, bins=_BINS):
    """Expected calibration error: |accuracy - mean confidence| in each bin, weighted by the bin's share of images.

    Bins are equally wide and hold their upper edge. Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    edges = np.linspace(0, 1, bins + 1)
    which = np.digitize(confidences, edges[1:-1], right=True)
    gaps = np.bincount(which, weights=correct - confidences, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidences))


def _scores(probabilities, labels, predicted):
    scores = {"accuracy": float(accuracy_score(labels, predicted))}
    if probabilities.shape[1] > 5:
        scores["top_5_accuracy"] = top_k_accuracy(probabilities, labels, k=5)
    scores["loss"] = cross_entropy(probabilities, labels)
    scores["calibration_error"] = calibration_error(probabilities.max(axis=1), predicted == labels)
    return {**scores, "images": len(labels)}


def _per_class(labels, predicted, class_names):
    columns = precision_recall_fscore_support(labels, predicted, labels=range(len(class_names)), zero_division=0)
    fields = ("precision", "recall", "f1", "images")
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {name: dict(zip(fields, row, strict=True)) for name, row in zip(class_names, rows, strict=True)}


def _confused(confusion, class_names):
    mistakes = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-mistakes, axis=None, kind="stable")[:_PAIRS]
    return tuple(
        {"true": class_names[true], "predicted": class_names[predicted], "images": int(mistakes[true, predicted])}
        for true, predicted in zip(*np.unravel_index(order, mistakes.shape), strict=True)
        if mistakes[true, predicted]
    )


def _rows(probabilities, labels, predicted, files, class_names):
    confidences = probabilities.max(axis=1).tolist()
    return tuple(
        {"file": str(file), "true": class_names[true], "predicted": class_names[guess], "probability": confidence}
        for file, true, guess, confidence in zip(files, labels, predicted, confidences, strict=True)
    )


def _check_shapes(probabilities, labels, files, class_names):
    expected = (len(files), len(class_names))
    if not len(files):
        rule = "there must be an image to measure"
        raise ValueError(complaint("score", rule, "no images", "Give the split some images."))
    if probabilities.shape != expected or labels.shape != expected[:1]:
        rule = f"probabilities must have the shape {expected} and labels {expected[:1]}, as files and class_names say"
        received = f"probabilities {probabilities.shape} and labels {labels.shape}"
        raise ValueError(complaint("score", rule, received, "Pass one row, label and file per image."))
    if len(set(class_names)) < len(class_names):
        twice = next(name for name in class_names if class_names.count(name) > 1)
        raise ValueError(complaint("score", "class_names must differ", f"{twice!r} twice", "Rename one of them."))


def _check_labels(labels, class_names):
    if labels.dtype.kind not in "iu":
        mend = 'Pass class indices, labels.astype("int32"), say.'
        raise TypeError(complaint("score", "labels must be whole numbers", f"dtype {labels.dtype}", mend))
    wrong = labels[(labels < 0) | (labels >= len(class_names))]
    if len(wrong):
        rule = f"labels must be in 0–{len(class_names) - 1}, the indices of class_names"
        raise ValueError(complaint("score", rule, wrong[0], "Pass one class name for each label number."))


def _check_probabilities(probabilities, files):
    # Rounding leaves a softmax in half precision a little above 1.
    good = ((probabilities >= 0) & (probabilities <= 1.001)).all(axis=1)
    if good.all():
        return
    first = int(np.argmin(good))
    row = probabilities[first]
    value = row[~((row >= 0) & (row <= 1.001))][0]
    received = f"{value:g} for {str(files[first])!r} ({np.sum(~good)} of {len(good)} images)"
    if np.isfinite(value):
        mend = "Let the model end in softmax, or pass keras.ops.softmax(logits)."
    else:
        mend = "The model's weights have probably diverged: train with a lower learning_rate, or in float32."
    raise ValueError(complaint("score", "probabilities must be numbers in 0–1", received, mend))
