"""Whether a SavedModel answers as the model that was measured."""

import numpy as np
import tensorflow as tf

from recipes.checks import complaint
from recipes.data.reading import decode_all

_SAMPLES = 64
_TOLERANCE = 1e-5  # of a probability, in float32
_MIXED_TOLERANCE = 1e-2  # half precision rounds at 1e-3, differently in each batch size


def check_parity(result, folder, where):
    """Raise RuntimeError unless the SavedModel in `folder` gives the model's classes and probabilities.

    What is compared: raw files of the measured split where they are still there, else its images as PNG, else made-up
    images of several sizes; at most 64.
    """
    loaded = tf.saved_model.load(folder)
    serve = loaded.signatures["serving_default"]
    if result.channels in (1, 3):
        samples = _files(result) or _encoded_pixels(result) or _made_up(result.channels)
        images = decode_all(samples, result.image_size, result.channels, result.resize, where)
        contents = [sample if isinstance(sample, bytes) else _read(sample) for sample in samples]
        answers = serve(image_bytes=tf.constant(contents))
    else:
        shape = (8, *result.image_size, result.channels)
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        answers = serve(images=tf.cast(images, tf.float32))
    expected = result.model.predict(images, verbose=0)
    _compare(answers, expected, result, where)


def _compare(answers, expected, result, where):
    precise = all(layer.compute_dtype == "float32" for layer in result.model.layers)
    tolerance = _TOLERANCE if precise else _MIXED_TOLERANCE
    ranked = -np.sort(-expected, axis=1)
    worst = float(np.abs(answers["probabilities"].numpy() - ranked).max())
    served = [row[0].decode() for row in answers["classes"].numpy()]
    places = [result.class_names.index(name) for name in served]
    # Where two classes are equally probable to within rounding, either may come first.
    falls_short = float((ranked[:, 0] - expected[np.arange(len(places)), places]).max())
    if not worst <= tolerance or not falls_short <= tolerance:
        rule = f"the SavedModel must answer as the model does, within {tolerance:g}"
        received = (
            f"probabilities that differ by up to {worst:.2g}, and first classes that fall {falls_short:.2g} short"
        )
        mend = "Nothing was published. Please report it with the base's name and the versions."
        raise RuntimeError(complaint(where, rule, received, mend))


def _files(result):
    """Paths of measured files that are still there."""
    from pathlib import Path

    if result.report is None:
        return []
    return [row["file"] for row in result.report.rows if Path(row["file"]).is_file()][:_SAMPLES]


def _encoded_pixels(result):
    """PNG bytes of measured images, for classifiers trained on arrays."""
    if result.data is None:
        return []
    split = next(split for split in (result.data.test, result.data.valid, result.data.train) if len(split))
    return [tf.io.encode_png(image).numpy() for image in split.images(0, _SAMPLES)]


def _made_up(channels):
    """PNG bytes of noise in several sizes, when there is nothing better."""
    random = np.random.default_rng(0)
    sizes = [(64, 64), (33, 97), (200, 150), (17, 17)]
    return [tf.io.encode_png(random.integers(0, 256, (*size, channels), np.uint8)).numpy() for size in sizes]


def _read(path):
    with open(path, "rb") as file:
        return file.read()
