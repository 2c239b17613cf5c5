"""The order in which an epoch draws its images: all of them once, or as many of each class."""

import numpy as np
import tensorflow as tf


def shuffled(count):
    """A function of an int64 pair that seeds an epoch, to all positions below `count`, once each, int64 `(count,)`."""
    return lambda seeds: tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seeds)


def balanced(labels):
    """The same, but for as many positions of each class that there is, as far as that comes out even.

    A class with fewer images than its share has them drawn again, none once more than another; of one with more, other
    images are left out in every epoch.

    Args:
        labels: int `(count,)`.
    """
    labels = np.asarray(labels)
    classes, counts = np.unique(labels, return_counts=True)
    wanted = len(labels) // len(classes) + (np.arange(len(classes)) < len(labels) % len(classes))
    copies = -(-wanted // counts)
    images = [np.tile(np.flatnonzero(labels == each), times) for each, times in zip(classes, copies, strict=True)]
    # By class, then by copy, then by chance: the first so many of each class are drawn.
    rounds = [np.repeat(np.arange(times), count) for count, times in zip(counts, copies, strict=True)]
    places = [rank * (copies.max() + 1) + each for rank, each in enumerate(rounds)]
    taken = np.concatenate([np.arange(len(each)) < number for each, number in zip(images, wanted, strict=True)])
    images, places = np.concatenate(images).astype(np.int64), np.concatenate(places).astype(np.float64)

    def draw(seeds):
        chance = tf.random.stateless_uniform([len(images)], seeds, dtype=tf.float64)
        drawn = tf.gather(images, tf.argsort(places + chance))
        return tf.random.experimental.stateless_shuffle(tf.boolean_mask(drawn, taken), seeds)

    return draw
