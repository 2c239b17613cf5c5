"""Names and probabilities for new images."""

import os
from typing import Any

import numpy as np

from recipes.checks import check_whole, complaint
from recipes.cropping import check_crops, with_crops
from recipes.data.batches import predict_split
from recipes.data.reading import decode_all
from recipes.data.sources.arrays import check_pixels
from recipes.saving import open_classifier
from recipes.values import Prediction, Split


def predict(
    model: str | Any,
    images: list[str] | Any,
    *,
    batch_size: int = 32,
    crops: int | str = 1,
    average: str = "probabilities",
):
    """Say what is in images.

    1. Decode files or bytes by the decoder that training used, EXIF orientation included; bring arrays to size alike.
    2. Run the model.
    3. Name the classes.

    Args:
        model: `Result`, folder of a saved one, or Keras model.
        images: one image or a list of them: a path, the bytes of an encoded file, or an array `(height, width)`,
            `(height, width, channels)` or `(images, height, width, channels)` of RGB 0–255.
        batch_size: images that run through the model together.
        crops: as in `recipes.export`: 2, 5 or 10 crops of each image, or `"resnet"`, five scales.
        average: of the crops' `"probabilities"` or `"logits"`.

    Returns:
        A `Prediction` for one image, a list of them for several.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: an image cannot be decoded, or an array does not hold 0–255.

    Example:
        >>> import recipes
        >>> predictions = recipes.predict("runs/flowers", ["rose.jpg", "tulip.jpg"])  # doctest: +SKIP
    """
    where = "predict"
    check_whole(where, "batch_size", batch_size)
    check_crops(crops, average, where)
    classifier = with_crops(open_classifier(model, where), crops, average)
    if hasattr(images, "__array__") or hasattr(images, "__array_interface__"):  # arrays, tensors and Pillow's images
        images = np.asarray(images)
    one = isinstance(images, (str, os.PathLike, bytes)) or (isinstance(images, np.ndarray) and images.ndim < 4)
    listed = [images] if one else list(images)
    if not listed:
        return []
    pixels = decode_all(
        [_prepare(image, where) for image in listed],
        classifier.image_size,
        classifier.channels,
        classifier.resize,
        where,
    )
    count = len(pixels)
    split = Split(pixels, np.arange(count), np.zeros(count, np.int32), (), ())
    probabilities = predict_split(classifier.model, split, batch_size)
    predictions = [name_classes(row, classifier.class_names) for row in probabilities]
    return predictions[0] if one else predictions


def name_classes(probabilities, class_names):
    """The Prediction for one row of probabilities; equal ones keep the order of the classes."""
    order = np.argsort(-probabilities, kind="stable")
    ranked = {class_names[index]: float(probabilities[index]) for index in order}
    return Prediction(class_names[order[0]], float(probabilities[order[0]]), ranked)


def _prepare(image, where):
    """Bytes or a path as they are, anything else as a uint8 array `(height, width, channels)`."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, os.PathLike)):
        path = os.path.expanduser(image)
        if not os.path.isfile(path):
            kind = "a folder" if os.path.isdir(path) else "no file"
            raise FileNotFoundError(
                complaint(where, "each path must name a file", f"{kind}: {path!r}", "Mend the path.")
            )
        return path
    image = np.asarray(image)
    if image.dtype.kind == "f" and image.size and 0 < image.max() <= 1:
        mend = "Multiply it by 255: the model holds its own scaling."
        raise ValueError(
            complaint(where, "the image looks already scaled to 0–1", f"a maximum of {image.max():g}", mend)
        )
    pixels = check_pixels(image, "the image", where)
    if pixels.ndim not in (2, 3):
        mend = "Pass (height, width, channels), or a list of those."
        raise ValueError(complaint(where, "an image must have 2 or 3 axes", f"shape {pixels.shape}", mend))
    return pixels if pixels.ndim == 3 else pixels[..., None]
