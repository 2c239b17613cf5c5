"""A Cost as a figure."""

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from recipes.checks import check_whole
from recipes.reporting.costs import costliest, short
from recipes.reporting.tables import amount, cut

_COLOURS = {"multiply_adds": "#0072b2", "parameters": "#009e73", "memory": "#d55e00", "time": "#cc79a7"}
_NAME = 36  # columns of a label


def plot_cost(cost, *, layers=40):
    """Draw what the layers of a network cost, one bar each, from the input to the output.

    Panels: multiply-adds, parameters, memory (what training keeps, or else what the layer gives) and, where it was
    measured, time. Above them stand the totals.

    Args:
        cost: a `Cost`, as `recipes.cost` gives it.
        layers: how many are drawn at most: those that cost most, in their order.

    Returns:
        A matplotlib `Figure`; `figure.savefig("cost.png")` writes it.

    Raises:
        TypeError, ValueError: layers is no whole number of at least 1.

    Example:
        >>> import recipes
        >>> figure = recipes.plot_cost(recipes.cost("small_resnet", optimizer=None))
        >>> len(figure.axes)
        3
    """
    check_whole("plot_cost", "layers", layers)
    rows = costliest(cost, layers)
    panels = _panels(cost, rows)
    figure = Figure(figsize=(4 + 2.6 * len(panels), 1.6 + 0.19 * len(rows)), dpi=120, layout="constrained")
    figure.suptitle(_title(cost, rows), fontsize=10, parse_math=False)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for place, (title, values, colour, text) in zip(axes, panels, strict=True):
        _draw(place, title, values, colour, text)
    axes[0].set_yticks(range(len(rows)), [cut(row.name, _NAME) for row in rows], fontsize=7, parse_math=False)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


def _panels(cost, rows):
    """(title, values, colour, value as text) of each."""
    is_trained = cost.kept_bytes is not None
    memory = [row.kept_bytes if is_trained else row.activation_bytes for row in rows]
    kept = "kept for training" if is_trained else "output"
    panels = [
        ("multiply-adds, an image", [row.multiply_adds for row in rows], _COLOURS["multiply_adds"], short),
        ("parameters", [row.parameters for row in rows], _COLOURS["parameters"], short),
        (f"{kept}, batch of {cost.batch_size}", memory, _COLOURS["memory"], _bytes),
    ]
    if cost.milliseconds is not None:
        times = [row.milliseconds or 0 for row in rows]
        panels.append((f"ms, batch of {cost.batch_size}", times, _COLOURS["time"], "{:.3g}".format))
    return panels


def _title(cost, rows):
    size = "" if cost.image_size is None else f", {cost.image_size[0]}×{cost.image_size[1]}"
    memory = f"inference {_bytes(cost.inference_bytes)}"
    if cost.training_bytes is not None:
        memory += f", training {_bytes(cost.training_bytes)}"
    some = f"\nthe {len(rows)} costliest of {len(cost.layers)} layers" if len(rows) < len(cost.layers) else ""
    totals = f"{short(cost.parameters)} parameters · {short(cost.multiply_adds)} multiply-adds · {memory}"
    return f"{cut(cost.name, 40)}{size} · {totals}{some}"


def _draw(axes, title, values, colour, text):
    axes.barh(range(len(values)), values, color=colour, height=0.75)
    axes.set_title(title, fontsize=9)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axes.locator_params(axis="x", nbins=4)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=7)
    axes.tick_params(axis="y", length=0)


def _bytes(size):
    return amount("bytes", size)
