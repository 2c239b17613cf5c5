"""Figures of a Search: the best so far, parallel coordinates, and the score by each setting."""

import json
import math

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recipes.checks import complaint
from recipes.reporting.tables import cut

_COLUMNS = 3  # of panels of settings
_MAP = "viridis"
_WORDS = 14  # columns of a label


def plot_search(search):
    """Draw a search: the best so far, parallel coordinates of the settings, and the score by each setting.

    In parallel coordinates every trial is a line through its settings to its score, the better the brighter.

    Args:
        search: a `Search`.

    Returns:
        A matplotlib `Figure`; `figure.savefig("search.png")` writes it.

    Raises:
        ValueError: when no trial has a score.

    Example:
        >>> import recipes
        >>> search = recipes.search("digits", "small_resnet", space={"dropout": (0.0, 0.5)}, method="grid",
        ...     settings={"plan": "head", "epochs": 1}, verbose=False)
        >>> len(recipes.plot_search(search).axes) >= 3
        True
    """
    trials = [trial for trial in search.trials if trial.score is not None]
    if not trials:
        rule, mend = "a search needs a trial with a score", "See Trial.reason for why they failed."
        raise ValueError(complaint("plot_search", rule, f"{len(search.trials)} failures", mend))
    names = list(dict.fromkeys(name for trial in trials for name in trial.settings))
    rows = math.ceil(len(names) / _COLUMNS)
    figure = Figure(figsize=(11, 3.6 + 2.8 * rows), dpi=120, layout="constrained")
    top, below = figure.subfigures(2, 1, height_ratios=[3.6, 2.8 * rows])
    left, right = top.subplots(1, 2, width_ratios=[1, 1.6])
    _draw_progress(left, search, trials)
    _draw_parallel(right, search, trials, names)
    panels = below.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for axes, name in zip(panels, names, strict=False):
        _draw_setting(axes, search, trials, name)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    return figure


def _draw_progress(axes, search, trials):
    best = np.maximum.accumulate if search.is_more_better else np.minimum.accumulate
    numbers, scores = [trial.number for trial in trials], np.array([trial.score for trial in trials])
    axes.plot(numbers, scores, "o", markersize=4, color="0.6", label="trial")
    axes.step(numbers, best(scores), where="post", color="#0072b2", label="best so far")
    axes.set(xlabel="trial", ylabel=search.objective)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _clean(axes)
    axes.legend(frameon=False)


def _draw_parallel(axes, search, trials, names):
    columns = [*(_places(trials, name) for name in names), _scale([trial.score for trial in trials])]
    scores = np.array([trial.score for trial in trials])
    quality = scores if search.is_more_better else -scores
    norm = Normalize(quality.min(), max(quality.max(), quality.min() + 1e-12))
    colours = _colours()
    for place in np.argsort(quality):  # the best last, on top
        heights = [places[place] for places, _, _ in columns]
        axes.plot(range(len(columns)), heights, color=colours(norm(quality[place])), alpha=0.8, linewidth=1.3)
    for column, (_, ticks, texts) in enumerate(columns):
        axes.axvline(column, color="0.7", linewidth=0.8)
        for tick, text in zip(ticks, texts, strict=True):
            axes.annotate(
                cut(text, _WORDS),
                (column, tick),
                xytext=(3, 0),
                textcoords="offset points",
                fontsize=7,
                va="center",
                parse_math=False,
            )
    labels = [cut(name, _WORDS) for name in (*names, search.objective)]
    axes.set_xticks(range(len(columns)), labels, fontsize=8, rotation=20, ha="right", parse_math=False)
    axes.set_yticks([])
    axes.set(xlim=(-0.2, len(columns) - 0.4), ylim=(-0.06, 1.06))
    axes.spines[:].set_visible(False)


def _draw_setting(axes, search, trials, name):
    chosen = [trial for trial in trials if name in trial.settings]
    values, scores = [trial.settings[name] for trial in chosen], [trial.score for trial in chosen]
    if _are_numbers(values):
        axes.plot(values, scores, "o", markersize=4, color="#0072b2")
        if _is_log(values):
            axes.set_xscale("log")
    else:
        texts = list(dict.fromkeys(_text(value) for value in values))
        axes.plot([texts.index(_text(value)) for value in values], scores, "o", markersize=4, color="#0072b2")
        labels = [cut(text, _WORDS) for text in texts]
        axes.set_xticks(range(len(texts)), labels, fontsize=8, rotation=20, ha="right", parse_math=False)
        axes.set_xlim(-0.5, len(texts) - 0.5)
    axes.set(ylabel=search.objective)
    axes.set_title(cut(name, 36), fontsize=9, parse_math=False)
    _clean(axes)


def _places(trials, name):
    """(height of each trial from 0 to 1, heights of the ticks, their texts) of a setting; -0.04 where it is not set."""
    given = [trial.settings[name] for trial in trials if name in trial.settings]
    if _are_numbers(given) and len(set(given)) > 1:
        change = np.log if _is_log(given) else np.asarray
        heights, ticks, _ = _scale(change(np.array(given, float)))
        at = dict(zip(given, heights, strict=True))
        ticks, texts = [0.0, 1.0], [f"{min(given):.3g}", f"{max(given):.3g}"]
    else:
        texts = list(dict.fromkeys(_text(value) for value in given))
        ticks = np.linspace(0, 1, len(texts)) if len(texts) > 1 else [0.5]
        at = {value: ticks[texts.index(_text(value))] for value in map(_hashable, given)}
    return [at[_hashable(trial.settings[name])] if name in trial.settings else -0.04 for trial in trials], ticks, texts


def _scale(values):
    values = np.asarray(values, float)
    low, high = values.min(), values.max()
    heights = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    ends = [(low, 0.0), (high, 1.0)] if high > low else [(low, 0.5)]
    return heights.tolist(), [place for _, place in ends], [f"{value:.4g}" for value, _ in ends]


def _are_numbers(values):
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _is_log(values):
    return min(values) > 0 and max(values) / min(values) >= 30


def _text(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _hashable(value):
    return value if value is None or isinstance(value, (str, int, float)) else _text(value)


def _colours():
    import matplotlib

    return matplotlib.colormaps[_MAP]


def _clean(axes):
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
