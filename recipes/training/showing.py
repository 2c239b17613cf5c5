"""A picture of what an augmentation does to training images. It needs no display and leaves pyplot alone."""

from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from recipes.checks import check_whole
from recipes.data.loading import check_options, load_data
from recipes.training.augmentation import change, check_channels, make_augmentation

_INCHES = 1.3  # of one image


def plot_augmentation(
    augmentation: str | list[str] | Any,
    data: Any,
    *,
    strength: float = 1.0,
    images: int = 4,
    versions: int = 6,
    seed: int = 0,
):
    """Draw training images and what an augmentation makes of them: a row an image, the original first.

    Args:
        augmentation: as `recipes.finetune` takes it.
        data: `Data`, any source that `recipes.load_data` takes, or a dictionary of its arguments.
        strength: `augmentation_strength` of `recipes.finetune`.
        images: how many, taken from the classes in turn; where images are mixed, they are mixed with each other.
        versions: of each.
        seed: of the draws.

    Returns:
        A matplotlib `Figure`; `figure.savefig("augmentation.png")` writes it.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Example:
        >>> import recipes
        >>> figure = recipes.plot_augmentation("scan", "digits", strength=1.5)
        >>> figure.savefig("augmentation.png")
    """
    where = "plot_augmentation"
    check_whole(where, "images", images)
    check_whole(where, "versions", versions)
    check_whole(where, "seed", seed, least=0)
    augment = make_augmentation(augmentation, seed, where, strength)
    source, options = check_options(data, where)
    data = load_data(source, **options)
    check_channels(augmentation, data.channels, where)
    places = _in_turn(data.train.labels)[:images]
    originals = tf.cast(data.train.store[data.train.rows[places]], tf.float32)
    targets = tf.one_hot(data.train.labels[places], len(data.class_names))
    columns = [
        (originals, targets),
        *(change(augment, originals, tf.constant([seed, k], tf.int64), targets) for k in range(versions)),
    ]
    figure = Figure(figsize=(_INCHES * (versions + 1), _INCHES * 1.12 * len(places)), dpi=120, layout="constrained")
    axes = figure.subplots(len(places), versions + 1, squeeze=False)
    for column, (pixels, shares) in enumerate(columns):
        for row, (image, share) in enumerate(zip(pixels.numpy(), shares.numpy(), strict=True)):
            _draw(axes[row, column], image)
            if column == 0 or getattr(augment, "mixes", False):
                axes[row, column].set_title(_named(share, data.class_names), fontsize=6, parse_math=False)
    return figure


def _in_turn(labels):
    """Positions, the first of each class, then the second of each, and so on."""
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    within = np.arange(len(order)) - np.repeat(starts, counts)
    return order[np.argsort(within, kind="stable")]


def _draw(axes, image):
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    axes.imshow(pixels if pixels.shape[-1] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=255)
    axes.axis("off")


def _named(shares, names):
    """`ant`, or `60 % ant, 40 % bee`."""
    parts = [(share, name) for share, name in zip(shares, names, strict=True) if share > 0.005]
    if len(parts) == 1:
        return parts[0][1]
    return ", ".join(f"{share:.0%} {name}" for share, name in sorted(parts, reverse=True))
