"""tf.data datasets: one, or one each for training and validation (and test), batched or not."""

import itertools

import numpy as np
import tensorflow as tf

from recipes.checks import complaint
from recipes.data.listing import SPLITS, Chunk, Listing
from recipes.data.sources.arrays import check_pixels

_IMAGES_PER_CHUNK = 64


def list_streams(datasets, where):
    """Listing of up to three `tf.data.Dataset` of (image, label). They are gone through once, in their order."""
    if len(datasets) > 3:
        mend = "Pass one dataset, (train, valid) or (train, valid, test)."
        raise ValueError(complaint(where, "there can be at most three datasets", len(datasets), mend))
    given = SPLITS[: len(datasets)] if len(datasets) > 1 else (None,)
    for dataset in datasets:
        _check(dataset, where)
    image = datasets[0].element_spec[0]
    counts = [-1 if _is_batched(dataset) else int(dataset.cardinality()) for dataset in datasets]
    return Listing(
        chunks=(
            chunk for dataset, split in zip(datasets, given, strict=True) for chunk in stream(dataset, split, where)
        ),
        natural_size=_natural_size(image),
        channels=3 if image.dtype == tf.string else _channels(datasets[0], where),
        given_splits=tuple(split for split in given if split),
        count=sum(counts) if min(counts) >= 0 else None,
    )


def stream(dataset, split, where, prefix=None):
    """Chunks of a dataset of (image, label); images are pixels or the bytes of encoded files, batched or not."""
    prefix, number = prefix or split or "data", itertools.count()
    if not _is_batched(dataset):
        # Images of unequal shapes cannot be batched: take them one by one and put equal neighbours together.
        elements = (([image], [label]) for image, label in dataset.as_numpy_iterator())
        batches = _gather(elements)
    else:
        batches = dataset.as_numpy_iterator()
    for images, labels in batches:
        names = tuple(f"{prefix}[{next(number)}]" for _ in range(len(images)))
        if isinstance(images[0], bytes):
            yield Chunk(tuple(images), labels, names, split)
        else:
            images = check_pixels(images, "images", where)
            yield Chunk(images[..., None] if images.ndim == 3 else images, labels, names, split)


def _gather(elements):
    """Join neighbouring one-image batches of equal shape into larger ones."""

    def shape(element):
        return np.shape(element[0][0])

    for _, group in itertools.groupby(elements, key=shape):
        while part := list(itertools.islice(group, _IMAGES_PER_CHUNK)):
            images, labels = [images[0] for images, _ in part], [labels[0] for _, labels in part]
            yield (images if isinstance(images[0], bytes) else np.stack(images)), np.stack(labels)


def _check(dataset, where):
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2 or not all(isinstance(part, tf.TensorSpec) for part in spec):
        mend = "Map it to pairs: dataset.map(lambda element: (element['image'], element['label']))."
        raise ValueError(complaint(where, "a dataset must yield pairs (image, label)", f"elements {spec}", mend))
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        mend = "Leave out .repeat(): the recipe repeats for itself."
        raise ValueError(complaint(where, "a dataset must end", "an infinite one", mend))


def _is_batched(dataset):
    image, label = dataset.element_spec
    if image.shape.rank is None:
        image, label = next(iter(dataset.take(1)))
    if image.dtype == tf.string:
        return image.shape.rank == 1
    # A batch of grey images without a channel axis looks like one image with many channels; labels and width tell.
    grey = image.shape.rank == 3 and label.shape.rank == 1 and image.shape[-1] not in (1, 3, 4)
    return image.shape.rank == 4 or grey


def _natural_size(image):
    if image.dtype == tf.string or image.shape.rank is None:
        return None
    size = image.shape[1:3] if image.shape.rank == 4 else image.shape[:2]
    return tuple(size) if all(size) else None


def _channels(dataset, where):
    for image, _ in dataset.take(1).as_numpy_iterator():
        batched = _is_batched(dataset)
        return image.shape[-1] if image.ndim == 3 + batched else 1
    raise ValueError(complaint(where, "a dataset must not be empty", "no elements", "Check the steps that filter it."))
