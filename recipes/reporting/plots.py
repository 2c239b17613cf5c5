"""Figures of a Report. They need no display and leave pyplot, its backend and its settings alone."""

import itertools
import math

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recipes.checks import complaint
from recipes.reporting.tables import cut

_COLOURS = {"training": "#0072b2", "validation": "#d55e00"}
_COUNTED = 20
_NAMED = 60


def plot_curves(report):
    """Draw loss and accuracy over the epochs, training and validation side by side, with the stages marked.

    Args:
        report: a `Report` with curves, as `recipes.finetune` gives it.

    Returns:
        A matplotlib `Figure` with two axes, loss and accuracy; `figure.savefig("curves.png")` writes it.

    Raises:
        ValueError: when the report has no curves.

    Example:
        >>> import recipes
        >>> report = recipes.Report.load("runs/flowers/report.json")  # doctest: +SKIP
        >>> recipes.plot_curves(report).savefig("curves.png")  # doctest: +SKIP
    """
    if not report.curves.get("loss"):
        rule = "the report must have curves"
        mend = "Pass the report of recipes.finetune; one of recipes.evaluate has none."
        raise ValueError(complaint("plot_curves", rule, "a report of no epochs", mend))
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        _draw_metric(axes, report.curves, metric)
        _mark_stages(axes, report.curves.get("stage", []))
    return figure


def plot_confusion(report):
    """Draw the confusion matrix: colour is the share of the true class, numbers are images (up to 20 classes).

    Of more than 60 classes, evenly spaced ones are named.

    Args:
        report: a `Report`.

    Returns:
        A matplotlib `Figure`; `figure.savefig("confusion.png")` writes it.

    Example:
        >>> import recipes
        >>> report = recipes.Report.load("runs/flowers/report.json")  # doctest: +SKIP
        >>> recipes.plot_confusion(report).savefig("confusion.png")  # doctest: +SKIP
    """
    counts = np.asarray(report.confusion)
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(3.2, 1.6 + 0.42 * classes), 13)
    figure = Figure(figsize=(side + 1.2, side), dpi=120, layout="compressed")
    axes = figure.subplots()
    # A mistake of one in a hundred should be seen: colours go by the square root of the share.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    axes.set(xlabel="predicted", ylabel="true")
    _name_classes(axes, report.class_names)
    if classes <= _COUNTED:
        for row, column in np.ndindex(counts.shape):
            _write_count(axes, row, column, counts[row, column], shares[row, column])
    return figure


def _draw_metric(axes, curves, metric):
    for name, key in (("training", metric), ("validation", f"val_{metric}")):
        values = np.array(curves.get(key) or [], dtype=float)
        if len(values):
            epochs = np.arange(1, len(values) + 1)
            marker = "o" if len(values) <= 30 else None
            axes.plot(epochs, values, label=name, color=_COLOURS[name], marker=marker, markersize=3.5)
    axes.set(xlabel="epoch", ylabel=metric, xlim=(0.5, len(curves["loss"]) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False)


def _mark_stages(axes, stages):
    start = 1
    for name, epochs in itertools.groupby(stages):
        if start > 1:
            axes.axvline(start - 0.5, color="0.5", linestyle=":", linewidth=1)
        # A name may hold a $, which must not be read as mathematics.
        axes.annotate(
            cut(name, 24),
            (start - 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, 3),
            textcoords="offset points",
            rotation=25,
            fontsize=8,
            color="0.35",
            parse_math=False,
        )
        start += len(list(epochs))


def _name_classes(axes, class_names):
    classes = len(class_names)
    places = range(0, classes, math.ceil(classes / _NAMED))
    names = [cut(class_names[place], 24) for place in places]
    size = 9 if classes <= _COUNTED else 7
    axes.set_yticks(places, names, fontsize=size, parse_math=False)
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if classes <= _COUNTED else {"rotation": 90}
    axes.set_xticks(places, names, fontsize=size, parse_math=False, **slant)


def _write_count(axes, row, column, count, share):
    colour = "white" if share > 0.35 else "black" if count else "0.75"
    axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
