"""Batches out of a split, in an order that follows from seed and epoch, read from the memory map ahead of use."""

import itertools
import weakref

import numpy as np
import tensorflow as tf

# TensorFlow keeps every Python function of a graph for ever: they hold a number, and the splits stay free to go.
_splits = weakref.WeakValueDictionary()
_numbers = itertools.count()


def training_batches(split, batch_size, *, epochs, seed, augment=None, replicas=1):
    """All batches of all epochs, in an order that depends on nothing but the seed and the number of the epoch.

    The last batch of an epoch may be smaller; no image is left out. The caller keeps `split` alive.

    Args:
        split: Split to draw from.
        batch_size: images per batch.
        epochs: how many times each image is drawn.
        seed: whole number.
        augment: None, or a function of (float32 images, int64 pair that seeds this batch) that gives float32 images.
        replicas: devices that share a batch; see `_fetch`.

    Returns:
        `tf.data.Dataset` of (images, labels[, weights]): uint8 `(batch, height, width, channels)`, or float32 when
        augmented; int32 `(batch,)`; `steps_per_epoch(split, batch_size)` batches an epoch.
    """
    count = len(split)

    def epoch_of_batches(epoch):
        seeds = tf.stack([tf.constant(seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seeds)
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    fetch = _fetch(split, replicas, is_training=True)
    orders = tf.data.Dataset.range(epochs).flat_map(epoch_of_batches).enumerate()
    batches = orders.map(lambda number, rows: (number, fetch(rows)), num_parallel_calls=tf.data.AUTOTUNE)
    if augment is None:
        return _finish(batches.map(lambda _, batch: batch))

    def change(number, batch):
        images, *others = batch
        return (augment(tf.cast(images, tf.float32), tf.stack([tf.constant(seed, tf.int64), number])), *others)

    parallel = None if getattr(augment, "has_state", False) else tf.data.AUTOTUNE
    return _finish(batches.map(change, num_parallel_calls=parallel))


def ordered_batches(split, batch_size, replicas=1):
    """Batches of (uint8 images, int32 labels[, weights]) in the split's own order; the caller keeps `split` alive.

    With several replicas the batch size is rounded up to a multiple of them, so that only the last batch is filled up.
    """
    batch_size = -(-batch_size // replicas) * replicas
    rows = tf.data.Dataset.range(len(split)).batch(batch_size)
    return _finish(rows.map(_fetch(split, replicas, is_training=False), num_parallel_calls=tf.data.AUTOTUNE))


def steps_per_epoch(split, batch_size):
    """Number of batches that hold every image once."""
    return -(-len(split) // batch_size)


def replicas_of(model):
    """Devices that a model computes on in step: 1, unless it was built under a strategy for several."""
    return model.distribute_strategy.num_replicas_in_sync


def _fetch(split, replicas, is_training):
    """A function from row numbers to the images and labels in those rows.

    Several replicas must share a batch evenly: it is filled up with copies of weight 0. In training, the weight of its
    own images makes up for that, so that the mean over replicas of their means is the mean over the batch. Elsewhere it
    is 1, so that each image counts once.
    """
    number = next(_numbers)
    _splits[number] = split

    def copy(rows):
        split = _splits[number]
        filled = np.resize(rows, -(-len(rows) // replicas) * replicas)
        # Sorted, so that a map larger than memory is read from the front to the back.
        order = np.argsort(split.rows[filled])
        images = np.empty((len(filled), *split.store.shape[1:]), np.uint8)
        images[order] = split.store[split.rows[filled[order]]]
        weight = len(filled) / len(rows) if is_training else 1.0
        weights = np.where(np.arange(len(filled)) < len(rows), weight, 0.0).astype(np.float32)
        return images, split.labels[filled], weights

    shape = split.store.shape[1:]

    def fetch(rows):
        images, labels, weights = tf.numpy_function(copy, [rows], [tf.uint8, tf.int32, tf.float32])
        batch = tf.ensure_shape(images, (None, *shape)), tf.ensure_shape(labels, (None,))
        return batch if replicas == 1 else (*batch, tf.ensure_shape(weights, (None,)))

    return fetch


def _finish(batches):
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)
