"""Batches out of a split, in an order that follows from seed and epoch, read from the memory map ahead of use."""

import numpy as np
import tensorflow as tf


def training_batches(split, batch_size, *, epochs, seed, augment=None, replicas=1):
    """All batches of all epochs, in an order that depends on nothing but the seed and the number of the epoch.

    The last batch of an epoch may be smaller; no image is left out.

    Args:
        split: Split to draw from.
        batch_size: images per batch.
        epochs: how many times each image is drawn.
        seed: whole number.
        augment: None, or a function of (float32 images, int64 pair that seeds this batch) that gives float32 images.
        replicas: devices that share a batch; no batch has fewer images than that.

    Returns:
        `tf.data.Dataset` of (images, labels): uint8 `(batch, height, width, channels)`, or float32 when augmented, and
        int32 `(batch,)`; `steps_per_epoch(split, batch_size, replicas)` batches an epoch.
    """
    count = len(split)

    def epoch_of_batches(epoch):
        seeds = tf.stack([tf.constant(seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seeds)
        return _cut(order, count, batch_size, replicas)

    orders = tf.data.Dataset.range(epochs).flat_map(epoch_of_batches)
    batches = orders.enumerate().map(
        lambda number, rows: (*_fetch(split, rows), tf.stack([tf.constant(seed, tf.int64), number])),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return _finish(batches.map(_augmented(augment), num_parallel_calls=tf.data.AUTOTUNE))


def ordered_batches(split, batch_size, replicas=1):
    """Batches of (uint8 images, int32 labels) in the split's own order, each image once."""
    rows = _cut(tf.range(len(split), dtype=tf.int64), len(split), batch_size, replicas)
    return _finish(rows.map(lambda part: _fetch(split, part), num_parallel_calls=tf.data.AUTOTUNE))


def steps_per_epoch(split, batch_size, replicas=1):
    """Number of batches that hold every image once."""
    return len(_starts(len(split), batch_size, replicas))


def replicas_of(model):
    """Devices that a model computes on in step: 1, unless it was built under a strategy for several."""
    return model.distribute_strategy.num_replicas_in_sync


def _cut(order, count, batch_size, replicas):
    """Dataset of the parts of `order` that make up the batches."""
    starts = _starts(count, batch_size, replicas)
    ends = tf.data.Dataset.from_tensor_slices(tf.constant([*starts[1:], count], tf.int64))
    starts = tf.data.Dataset.from_tensor_slices(tf.constant(starts, tf.int64))
    return tf.data.Dataset.zip(starts, ends).map(lambda start, end: order[start:end])


def _starts(count, batch_size, replicas):
    """Where each batch begins. What is left over for the last one joins the one before when some device had none."""
    starts = list(range(0, count, batch_size))
    return starts[:-1] if len(starts) > 1 and count - starts[-1] < replicas else starts


def _fetch(split, rows):
    """Copy rows out of the memory map; sorted, so that a map larger than memory is read from the front to the back."""

    def copy(rows):
        order = np.argsort(split.rows[rows])
        images = np.empty((len(rows), *split.store.shape[1:]), np.uint8)
        images[order] = split.store[split.rows[rows[order]]]
        return images, split.labels[rows]

    images, labels = tf.numpy_function(copy, [rows], [tf.uint8, tf.int32])
    return tf.ensure_shape(images, (None, *split.store.shape[1:])), tf.ensure_shape(labels, (None,))


def _augmented(augment):
    if augment is None:
        return lambda images, labels, _: (images, labels)
    return lambda images, labels, seeds: (augment(tf.cast(images, tf.float32), seeds), labels)


def _finish(batches):
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)
