"""Arrays: one pair (x, y), or a pair each for training and validation (and test)."""

import numpy as np

from recipes.checks import complaint
from recipes.data.listing import SPLITS, Chunk, Listing

_BYTES_PER_CHUNK = 16 << 20


def list_arrays(parts, where):
    """Listing of `(x, y)`, `((x, y), (x_valid, y_valid))` or three such pairs.

    Images are `(images, height, width)` or `(images, height, width, channels)`, 0–255; floats are rounded to whole
    numbers. Labels are whole numbers, one-hot rows or names.
    """
    pairs = parts if all(isinstance(part, (tuple, list)) and len(part) == 2 for part in parts) else (parts,)
    if len(pairs) > 3 or any(len(pair) != 2 for pair in pairs):
        mend = "Pass (x, y), or ((x, y), (x_valid, y_valid)), or three such pairs."
        raise TypeError(complaint(where, "arrays must come as pairs of images and labels", f"{len(parts)} parts", mend))
    given = SPLITS[: len(pairs)] if len(pairs) > 1 else (None,)
    checked = [_check_pair(x, y, where) for x, y in pairs]
    shapes = {x.shape[1:] for x, _ in checked}
    if len(shapes) > 1:
        mend = "Give the splits the same height, width and channels."
        raise ValueError(complaint(where, "the images of all splits must have one shape", sorted(shapes), mend))
    height, width, channels = checked[0][0].shape[1:]
    return Listing(
        chunks=(chunk for (x, y), split in zip(checked, given, strict=True) for chunk in _chunks(x, y, split, where)),
        natural_size=(height, width),
        channels=channels,
        given_splits=tuple(split for split in given if split),
        count=sum(len(x) for x, _ in checked),
    )


def list_digits():
    """Listing of the 1,797 scans of handwritten digits (8×8, grey) in scikit-learn (Alpaydin & Kaynak 1998)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return list_arrays((images, digits.target), "digits")


def check_pixels(images, name, where):
    """uint8 images from an array; ValueError where it holds anything but 0–255, or looks scaled to 0–1."""
    images = np.asarray(images)
    if images.dtype.kind not in "buif":
        raise TypeError(
            complaint(where, f"{name} must hold numbers", f"dtype {images.dtype}", "Pass uint8 images, 0–255.")
        )
    if images.size and images.dtype.kind == "f" and not np.isfinite(images).all():
        place = tuple(int(axis) for axis in np.argwhere(~np.isfinite(images))[0])
        mend = "Find where it comes from, or leave that image out."
        raise ValueError(complaint(where, f"{name} must be finite", f"{images[place]} at index {place}", mend))
    low, high = (images.min(), images.max()) if images.size else (0, 0)
    if low < 0 or high > 255:
        mend = "Undo your scaling (x * 255, (x + 1) * 127.5), or bring 16 bits to 8 (x // 257)."
        raise ValueError(complaint(where, f"{name} must lie in 0–255", f"{low:g} to {high:g}", mend))
    return images if images.dtype == np.uint8 else np.rint(images).astype(np.uint8)


def _check_pair(x, y, where):
    x, y = _as_images(x, where), np.asarray(y)
    if len(x) != len(y):
        mend = "Pass one label per image."
        raise ValueError(complaint(where, "x and y must be equally long", f"{len(x)} images, {len(y)} labels", mend))
    if not len(x):
        raise ValueError(
            complaint(where, "there must be images", f"an array of shape {x.shape}", "Pass at least a few.")
        )
    return x, y


def _as_images(x, where):
    try:
        x = np.asarray(x)
    except ValueError as error:
        mend = "Bring them to one shape, or save them as files and pass the folder."
        raise ValueError(complaint(where, "images must have one shape", f"mixed ones ({error})", mend)) from error
    if x.dtype == object:
        mend = "Bring them to one shape, or save them as files and pass the folder."
        raise ValueError(complaint(where, "images must have one shape", "an array of objects of mixed shapes", mend))
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4:
        mend = "Pass x of shape (images, height, width, channels)."
        raise ValueError(complaint(where, "x must have 3 or 4 axes", f"shape {x.shape}", mend))
    if not 1 <= x.shape[-1] <= 64:
        mend = "Put the channels last: (images, height, width, channels)."
        raise ValueError(complaint(where, "the last axis of x must be the channels", f"shape {x.shape}", mend))
    return x


def _chunks(x, y, split, where):
    step = max(1, _BYTES_PER_CHUNK // x[0].size)
    for start in range(0, len(x), step):
        images = check_pixels(x[start : start + step], "x", where)
        names = tuple(f"{split or 'x'}[{start + offset}]" for offset in range(len(images)))
        yield Chunk(images, y[start : start + step], names, split)
