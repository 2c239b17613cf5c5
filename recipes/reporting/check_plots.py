"""The pictures of a Checkup: what a network really sees."""

import numpy as np
from matplotlib.figure import Figure

from recipes.reporting.tables import cut

_TITLES = {"images": "as loaded", "augmented": "augmented", "preprocessed": "as the first weights take them in"}


def plot_check(checkup):
    """Draw what a network sees: images as they are loaded, after augmentation, and as its first weights take them in.

    The last row is brought to 0–1 for the eye, each channel alike; its true range stands beside it. Above the images
    stand their labels.

    Args:
        checkup: a `Checkup`, as `recipes.check` gives it.

    Returns:
        A matplotlib `Figure`; `figure.savefig("seen.png")` writes it.

    Example:
        >>> import recipes
        >>> data = recipes.load_data("digits", image_size=16)
        >>> figure = recipes.plot_check(recipes.check("small_resnet", data, augmentation="scan"))
    """
    rows = {name: values for name, values in checkup.seen.items() if values.ndim == 4}
    columns = len(checkup.labels)
    figure = Figure(figsize=(1.3 * columns + 1.2, 1.55 * len(rows) + 0.5), dpi=120, layout="constrained")
    failed = f"failed: {', '.join(checkup.failed)}" if checkup.failed else "all is well"
    figure.suptitle(f"{cut(checkup.network, 40)} · {failed}", fontsize=10, parse_math=False)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for number, (line, (name, values)) in enumerate(zip(grid, rows.items(), strict=True)):
        for axes, image, label in zip(line, values, checkup.labels, strict=True):
            axes.imshow(_visible(image, values if name == "preprocessed" else None), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            if not number:
                axes.set_title(cut(label, 14), fontsize=8, parse_math=False)
        text = f"{_TITLES[name]}\n{values.min():.3g} … {values.max():.3g}"
        line[0].set_ylabel(text, fontsize=7)
    return figure


def _visible(image, scale):
    """An image in 0–1: by 255, or by the range of `scale`; the first three channels, or one."""
    low, high = (0.0, 255.0) if scale is None else (float(scale.min()), float(scale.max()))
    shown = np.clip((image - low) / max(high - low, 1e-12), 0, 1)
    return shown[..., :3] if shown.shape[-1] >= 3 else shown[..., 0]
