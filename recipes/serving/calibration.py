"""Images on which the ranges of a network's activations are found."""

import numpy as np

from recipes.checks import complaint
from recipes.data.loading import check_options, load_sized
from recipes.values import Data

IMAGES = 100


def images_for_ranges(calibration, result, where, count=IMAGES):
    """uint8 or float32 images at the size of a classifier, spread evenly over what is given.

    Args:
        calibration: Data or any source that `recipes.load_data` takes, whose training images are meant; an array
            `(images, height, width, channels)` of 0–255; or None for the Data that the Result was trained on.
        result: Result.
        where: verb to name in errors.
        count: of images at most.

    Raises:
        ValueError: there are none, or they are of another size.
    """
    calibration = result.data if calibration is None else calibration
    if calibration is None:
        rule = "the ranges of int8 are found on real images"
        mend = 'Pass calibration="photos/", say, or the Result of recipes.finetune.'
        raise ValueError(complaint(where, rule, "calibration=None, and a model without data", mend))
    size = (*result.image_size, result.channels)
    if not isinstance(calibration, np.ndarray):
        if not isinstance(calibration, Data):
            source, options = check_options(calibration, where)
            options = {"resize": result.resize} | {
                name: value for name, value in options.items() if name != "image_size"
            }
            calibration = load_sized(source, lambda _: result.image_size, where, **options)
        _check_size((*calibration.image_size, calibration.channels), size, where)
        train = calibration.train
        return train.store[np.sort(train.rows[spread(len(train), count)])]
    _check_size(calibration.shape[1:], size, where)
    if not len(calibration):
        raise ValueError(complaint(where, "calibration must hold an image", "none", "Pass some."))
    return calibration[spread(len(calibration), count)]


def spread(total, count):
    """At most `count` of the numbers below `total`, spread evenly."""
    return np.linspace(0, total - 1, min(count, total)).astype(int)


def _check_size(received, size, where):
    if tuple(received) != size:
        rule = f"calibration images must be {size[0]}×{size[1]}×{size[2]}, as the model takes them"
        mend = f"Load them with image_size={size[:2]}."
        raise ValueError(complaint(where, rule, f"images of {'×'.join(map(str, received))}", mend))
