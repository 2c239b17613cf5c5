"""Whether showing images left for right would change what they are, as far as the data tells."""

import re
import warnings

import numpy as np
import tensorflow as tf

_KNOWN, _ASKED = 1500, 750  # images, at most
_LEAST = 30  # images to ask; fewer tell nothing
_SIDE = 16  # pixels of a thumbnail
# What counts as clearly worse: 66 of 99 % on digits, but 21 of 77 % on Fashion-MNIST, whose shoes all point to the left
# and stay shoes, and up to 7 of 30 % on 1,500 images of CIFAR-10.
_DROP, _SHARE = 0.15, 1 / 3
_SIGMAS = 3.0


def warn_of_flips(data, where):
    """Warn where class names speak of left and right or are letters, or where flipped images are told clearly worse.

    1. Look at the names of the classes.
    2. Bring up to 1,500 training images to grey thumbnails, and give up to 750 held-out images, as they are and
       flipped, the class of the thumbnail that is most alike. Where this goes clearly worse for the flipped ones, they
       are not what the training images are. Names that are numbers say nothing by themselves: many classes have such.

    Args:
        data: Data, the training images of which will be flipped.
        where: the verb that warns.
    """
    reason = _named(data.class_names) or _measured(data)
    if reason:
        warnings.warn(
            f"{where}: the augmentation shows images left for right, which may change what they are: {reason}. "
            'Pass augmentation="scan", which has no flips, or go on where a mirror image has the same class.',
            stacklevel=3,
        )


def _named(names):
    """What the names of the classes say against flips, or None."""
    words = {word for name in names for word in re.split(r"[^a-z]+", name.lower())}
    if {"left", "right"} <= words:
        return "class names speak of left and right"
    letters = [name for name in names if len(name) == 1 and name.isalpha()]
    if len(letters) >= 5 and len(letters) > len(names) / 2:
        return f"class names are letters ({', '.join(letters[:5])}, …)"
    return None


def _measured(data):
    """What the nearest of small grey images say against flips, or None."""
    random = np.random.default_rng(0)
    train, asked = (random.permutation(len(split)) for split in (data.train, data.valid))
    known, other = train[:_KNOWN], data.valid
    if len(asked) < _LEAST:  # then of the training images, those that are not known
        known, asked, other = train[len(train) // 3 :][:_KNOWN], train[: len(train) // 3], data.train
    asked = asked[:_ASKED]
    if len(asked) < _LEAST:
        return None
    memory, labels = _thumbnails(data.train, known), data.train.labels[known]
    images, wanted = _thumbnails(other, asked), other.labels[asked]
    straight, flipped = (_nearest(memory, labels, part) == wanted for part in (images, images[:, :, ::-1]))
    drop = straight.mean() - flipped.mean()
    # Of the images for which it makes a difference, as many should turn right as turn wrong (McNemar).
    turned = np.sum(straight != flipped)
    if drop < max(_DROP, _SHARE * straight.mean()) or drop * len(asked) < _SIGMAS * np.sqrt(turned):
        return None
    return (
        f"of {len(asked)} images, those most alike among {len(known)} tell {straight.mean():.0%} right as they are and "
        f"{flipped.mean():.0%} flipped"
    )


def _thumbnails(split, places):
    """float32 `(images, side, side)`, grey, each with mean 0 and length 1."""
    parts = []
    for part in np.array_split(np.sort(split.rows[places]), max(1, len(places) // 64)):
        grey = tf.reduce_mean(tf.cast(split.store[part], tf.float32), -1, keepdims=True)
        parts.append(tf.image.resize(grey, (_SIDE, _SIDE), "area").numpy()[..., 0])
    small = np.concatenate(parts)
    order = np.argsort(np.argsort(split.rows[places], kind="stable"), kind="stable")
    small -= small.mean((1, 2), keepdims=True)
    small /= np.maximum(np.linalg.norm(small, axis=(1, 2), keepdims=True), 1e-6)
    return small[order]


def _nearest(memory, labels, images):
    likeness = images.reshape(len(images), -1) @ memory.reshape(len(memory), -1).T
    return labels[likeness.argmax(1)]
