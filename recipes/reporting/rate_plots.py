"""A RateSweep as a figure."""

import numpy as np
from matplotlib.figure import Figure

from recipes.reporting.tables import cut

_COLOURS = {"loss": "#0072b2", "steepest": "#009e73", "diverged": "#d55e00", "suggestion": "black"}


def plot_rates(sweep):
    """Draw the loss over the learning rate, with the rates that a range test read off it.

    Points are the losses of single steps (the median over the runs), the line is the smoothed loss.

    Args:
        sweep: a `RateSweep`, as `recipes.find_lr` gives it.

    Returns:
        A matplotlib `Figure`; `figure.savefig("rates.png")` writes it.

    Example:
        >>> import recipes
        >>> data = recipes.load_data("digits", image_size=8)
        >>> sweep = recipes.find_lr("small_resnet", data, weights=None, plan="head", steps=40)
        >>> figure = recipes.plot_rates(sweep)
    """
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(sweep.rates, sweep.raw, ".", color="0.75", markersize=4, label="a step")
    axes.plot(sweep.rates, sweep.losses, color=_COLOURS["loss"], label="smoothed")
    for name in ("steepest", "diverged", "suggestion"):
        rate = getattr(sweep, name)
        if rate is not None:
            style = "-" if name == "suggestion" else ":"
            axes.axvline(rate, color=_COLOURS[name], linestyle=style, label=f"{name} {rate:.2g}")
    top = 1.6 * np.median(sweep.losses[:8])
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(0, max(top, 1.05 * min(sweep.losses))))
    axes.set_title(f"stage {cut(sweep.stage, 40)}", fontsize=10, parse_math=False)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure
