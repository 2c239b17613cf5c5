"""Linear classifiers and nearest neighbours on given features, measured on images that they were not fitted to."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

CLASSIFIERS = ("logistic", "svm")
# What is paid for a wrong answer against weights, for features whose squares sum to 1 on average, so that it means the
# same for ten features and for thousands. From the strongest regularisation to the weakest.
STRENGTHS = {"logistic": (1.0, 10.0, 100.0, 1000.0), "svm": (0.1, 1.0, 10.0, 100.0)}
_ITERATIONS, _TOLERANCE = 200, 1e-4
_INNER = 5


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a classifier says of each image, fitted without it.

    Args:
        images: position of each image.
        predicted: its class.
        losses: cross-entropy in nats, or 0 and 1 where the classifier gives no probabilities.
        strengths: `(strength of each part, …)` that were chosen; empty for nearest neighbours.
    """

    images: np.ndarray
    predicted: np.ndarray
    losses: np.ndarray
    strengths: tuple[float, ...] = ()


def stratified(labels, folds, seed):
    """`(positions to fit to, positions to measure on)` of each fold, the classes alike in all."""
    chance = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(chance.split(np.zeros(len(labels)), labels))


def linear_answers(rows, labels, parts, *, kind="logistic", seed=0):
    """Answers of a linear classifier on features brought to mean 0 and deviation 1.

    It is fitted at each strength from the strongest regularisation on, each time from where it was, until the loss of
    the held-out images rises. A part takes the strength that is best for the images of the other parts; where there is
    one part, that of a fifth of the images it is fitted to, held out of them.

    Args:
        rows: `(images, features)`.
        labels: `(images,)`.
        parts: `(positions to fit to, positions to measure on)` of each part.
        kind: of CLASSIFIERS.
        seed: whole number.
    """
    with _one_thread_each(len(parts)) as spread:
        if len(parts) == 1:
            fitted = parts[0][0]
            inner = [tuple(fitted[picks] for picks in stratified(labels[fitted], _INNER, seed)[0])]
            tried = _path(rows, labels, inner, STRENGTHS[kind], kind, seed, spread, is_ended=True)
            best = _best([path[0] for path in tried])
            outcomes = _path(rows, labels, parts, STRENGTHS[kind][: best + 1], kind, seed, spread)
            chosen = [best]
        else:
            outcomes = _path(rows, labels, parts, STRENGTHS[kind], kind, seed, spread, is_ended=True)
            chosen = [
                _best([np.concatenate(path[:part] + path[part + 1 :], axis=1) for path in outcomes])
                for part in range(len(parts))
            ]
    answers = np.concatenate([outcomes[best][part] for part, best in enumerate(chosen)], axis=1)
    held = np.concatenate([held for _, held in parts])
    return Answers(held, answers[0].astype(int), answers[1], tuple(STRENGTHS[kind][best] for best in chosen))


def neighbour_answers(rows, labels, parts, neighbours):
    """Answers of the `neighbours` nearest, by the distance of features brought to mean 0 and deviation 1."""

    def measured(part):
        fitted, held = part
        near, far = _scaled(rows, fitted, held)
        return KNeighborsClassifier(neighbours).fit(near, labels[fitted]).predict(far)

    with _one_thread_each(len(parts)) as spread:
        predicted = np.concatenate(list(spread(measured, parts)))
    held = np.concatenate([held for _, held in parts])
    return Answers(held, predicted, (predicted != labels[held]).astype(float))


def fitted_linear(rows, labels, seed=0):
    """`(kernel, bias)` of logistic regression on features as they are: `softmax(rows @ kernel + bias)`.

    The strength is that of the least loss over five folds, or over as many as the smallest class has images; where that
    is one, it is the second strongest.
    """
    kind = "logistic"
    folds = min(_INNER, np.bincount(labels)[np.unique(labels)].min())
    everything = np.arange(len(labels))
    best = 1
    with _one_thread_each(folds) as spread:
        if folds > 1:
            parts = stratified(labels, folds, seed)
            tried = _path(rows, labels, parts, STRENGTHS[kind], kind, seed, spread, is_ended=True)
            best = _best([np.concatenate(path, axis=1) for path in tried])
        mean, deviation = _scale(rows, everything)
        near = ((rows - mean) / deviation / np.sqrt(rows.shape[1])).astype(np.float32)
        model = _make(kind, seed)
        for strength in STRENGTHS[kind][: best + 1]:
            model.set_params(C=strength).fit(near, labels)
    coefficients, offsets = model.coef_, model.intercept_
    if len(coefficients) == 1:  # of two classes: what the second is above the first
        coefficients, offsets = (
            np.concatenate([-coefficients, coefficients]) / 2,
            np.concatenate([-offsets, offsets]) / 2,
        )
    kernel = coefficients.T / (deviation * np.sqrt(rows.shape[1]))[:, None]
    return kernel, offsets - mean @ kernel


def _best(outcomes):
    """The place of the outcome with the least mean loss, the more regularised of equals."""
    return int(np.argmin([outcome[1].mean() for outcome in outcomes]))


def _path(rows, labels, parts, strengths, kind, seed, spread, is_ended=False):
    """For each strength, for each part, `(predicted, losses)` of its held-out images as one array."""
    models = [_make(kind, seed) for _ in parts]
    fit = functools.partial(_fit, rows, labels)
    path = []
    for strength in strengths:
        path.append(list(spread(fit, parts, models, [strength] * len(parts))))
        losses = [np.concatenate(outcome, axis=1)[1].mean() for outcome in path[-2:]]
        if is_ended and losses[-1] > losses[0]:
            break
    return path


def _make(kind, seed):
    if kind == "svm":
        return LinearSVC(random_state=seed)
    return LogisticRegression(warm_start=True, tol=_TOLERANCE, max_iter=_ITERATIONS)


def _fit(rows, labels, part, model, strength):
    fitted, held = part
    near, far = (values / np.sqrt(values.shape[1]) for values in _scaled(rows, fitted, held))
    model.set_params(C=strength).fit(near, labels[fitted])
    truth = labels[held]
    if isinstance(model, LinearSVC):
        predicted = model.predict(far)
        return np.stack([predicted, predicted != truth]).astype(float)
    logs = model.predict_log_proba(far)
    return np.stack(
        [model.classes_[logs.argmax(1)], -logs[np.arange(len(truth)), np.searchsorted(model.classes_, truth)]]
    )


def _scale(rows, fitted):
    """(mean, deviation) of each feature over the rows at `fitted`."""
    mean, deviation = rows[fitted].mean(0, dtype=np.float64), rows[fitted].std(0, dtype=np.float64)
    deviation[deviation < 1e-6 * (1 + np.abs(mean))] = 1  # a feature that says nothing
    return mean, deviation


def _scaled(rows, fitted, held):
    """The rows to fit to, which get mean 0 and deviation 1, and those to measure on, brought to scale by the same."""
    mean, deviation = _scale(rows, fitted)
    return tuple(((rows[picks] - mean) / deviation).astype(np.float32) for picks in (fitted, held))


@contextlib.contextmanager
def _one_thread_each(parts):
    """A `map` in which each part has a thread: of the matrices at hand, none is worth several that wait for another."""
    threads = min(parts, os.cpu_count() or 1)
    with (
        threadpool_limits(1),
        warnings.catch_warnings(),
        concurrent.futures.ThreadPoolExecutor(threads) as pool,
    ):
        # Where it ends early, it is as near to the least loss as the accuracy can show.
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield pool.map
