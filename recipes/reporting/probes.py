"""A Probe as text and as a figure."""

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from recipes.reporting.costs import short
from recipes.reporting.tables import WIDTH, cut

_NAME = 24  # columns
_WORDS = {"logistic": "logistic regression", "svm": "support vector machine"}


def probe_table(probe):
    """A probe as plain text, at most 100 columns wide, a row for each base and block; `*` marks the best."""
    rows = [["base", "block", "depth", "features", "multiply-adds", "linear", f"{probe.k}-nn", "seconds", ""]]
    rows += [_cells(row, row is probe.best) for row in probe.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [cut(_line(row, widths), WIDTH) for row in rows]
    error = probe.error_of(probe.best.linear)
    lines += ["", f"{where_measured(probe)}; {probe.classes:,} classes, the largest {probe.chance:.4f}"]
    lines.append(f"linear: {_WORDS[probe.classifier]}; standard error of the best {error:.4f}")
    for base, seconds in probe.feature_seconds.items():
        lines.append(cut(f"{base}: features in {seconds:.1f} s, {probe.computed[base]:,} images computed", WIDTH))
    return "\n".join(lines)


def where_measured(probe):
    """Words for the images that were measured, and by what."""
    if probe.split == "valid":
        return f"{probe.images:,} validation images, by what was fitted to the training images"
    return f"{probe.images:,} training images in {probe.folds} folds, each by what was fitted to the others"


def plot_probe(probe):
    """Draw accuracy over the depth of the blocks, a line for each base: linear in full, nearest neighbours dashed.

    The bar at each linear accuracy is one standard error up and down; the dotted line is what always saying the largest
    class would give.

    Args:
        probe: a `Probe`.

    Returns:
        A matplotlib `Figure`; `figure.savefig("probe.png")` writes it.

    Example:
        >>> import recipes
        >>> figure = recipes.plot_probe(recipes.probe("small_resnet", "digits", verbose=False))
        >>> len(figure.axes)
        1
    """
    figure = Figure(figsize=(7.5, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for number, base in enumerate(dict.fromkeys(row.base for row in probe.rows)):
        rows = [row for row in probe.rows if row.base == base]
        depths, linear = [row.depth for row in rows], [row.linear for row in rows]
        errors = [probe.error_of(accuracy) for accuracy in linear]
        # A base named _so would be left out of the legend, and a $ would be read as mathematics.
        label = f"{cut(base, _NAME)}".replace("$", r"\$").lstrip("_")
        axes.errorbar(depths, linear, errors, marker="o", markersize=4, capsize=2, color=f"C{number}", label=label)
        axes.plot(depths, [row.neighbours for row in rows], "--", linewidth=1, alpha=0.7, color=f"C{number}")
        if len(probe.feature_seconds) == 1:
            for row in rows:
                axes.annotate(
                    cut(row.block, _NAME),
                    (row.depth, row.linear),
                    xytext=(4, -10),
                    textcoords="offset points",
                    fontsize=7,
                    parse_math=False,
                )
    axes.axhline(probe.chance, linestyle=":", color="0.5", linewidth=1)
    axes.set(xlabel="depth, of all blocks", ylabel=f"accuracy (linear; {probe.k} nearest neighbours dashed)")
    axes.set_title(where_measured(probe), fontsize=9)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _cells(row, is_best):
    numbers = [f"{row.depth:.0%}", f"{row.features:,}", short(row.multiply_adds)]
    scores = [f"{row.linear:.4f}", f"{row.neighbours:.4f}", f"{row.classifier_seconds:.1f}"]
    return [cut(row.base, _NAME), cut(row.block, _NAME), *numbers, *scores, "*" * is_best]


def _line(row, widths):
    left = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
    return "  ".join([*left, *(cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True))]).rstrip()
