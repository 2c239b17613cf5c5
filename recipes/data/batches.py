"""Batches out of a split, or of rows that stand for its images, in an order that follows from seed and epoch."""

import collections
import concurrent.futures
import itertools
import os
import weakref

import numpy as np
import tensorflow as tf

from recipes.data.sampling import shuffled
from recipes.values import Split

# TensorFlow keeps every Python function of a graph for ever: they hold a number, and the sources stay free to go.
_sources = weakref.WeakValueDictionary()
_numbers = itertools.count()
# Each thread holds a batch, so that many cores must not mean much memory.
_FETCHING = min(4, os.cpu_count() or 1)
_CHANGING = min(16, os.cpu_count() or 1)
_AHEAD = 2  # batches
_VECTORS = 1024  # that go through a head together, at least
# What has no branches of its own: AutoGraph would parse it for nothing, a third of a second in each run.
plain = tf.autograph.experimental.do_not_convert


def training_batches(source, batch_size, *, epochs, seed, augment=None, replicas=1, start=0, classes=None, order=None):
    """All batches of all epochs, in an order that depends on nothing but the seed and the number of the epoch.

    The last batch of an epoch may be smaller. The caller keeps `source` alive.

    Args:
        source: Split to draw from; or what has `labels`, a length, the `shape` and `dtype` of its rows, and
            `take(epoch, picks)`, which gives those at some positions.
        batch_size: images per batch.
        epochs: how many there are.
        seed: whole number.
        augment: None, or a function of (float32 images, int64 pair that seeds this batch) that gives float32 images.
            One with the attribute `mixes` takes float32 targets `(batch, classes)`, too, and gives both.
        replicas: devices that share a batch; see `_fetch`.
        start: number of the first batch; those before it are not made.
        classes: how many there are, for an `augment` that mixes.
        order: of `recipes.data.sampling`, for as many positions as there are images; None draws each image once.

    Returns:
        `tf.data.Dataset` of (images, labels[, weights]): uint8 `(batch, height, width, channels)`, or float32 when
        augmented; int32 `(batch,)`, or float32 `(batch, classes)` when mixed; `steps_per_epoch(source, batch_size)`
        batches an epoch.
    """
    steps, order = steps_per_epoch(source, batch_size), order or shuffled(len(source))

    @plain
    def epoch_of_batches(epoch):
        seeds = tf.stack([tf.constant(seed, tf.int64), epoch])
        return tf.data.Dataset.from_tensor_slices(order(seeds)).batch(batch_size)

    fetch = _fetch(source, replicas, is_training=True)
    orders = tf.data.Dataset.range(epochs).flat_map(epoch_of_batches).enumerate().skip(start)

    @plain
    def draw(number, picks):
        batch = fetch(number // steps, picks)
        return batch if augment is None else (number, batch)

    batches = orders.map(draw, num_parallel_calls=_FETCHING)
    if augment is None:
        return _finish(batches)

    def change(number, batch):
        images, labels, *others = batch
        images, pair = tf.cast(images, tf.float32), tf.stack([tf.constant(seed, tf.int64), number])
        if getattr(augment, "mixes", False):
            return (*augment(images, pair, tf.one_hot(labels, classes)), *others)
        return (augment(images, pair), labels, *others)

    parallel = None if getattr(augment, "has_state", False) else _CHANGING
    return _finish(batches.map(change, num_parallel_calls=parallel))


def ordered_batches(source, batch_size, replicas=1):
    """Batches of (images or rows, int32 labels[, weights]) in the source's own order; the caller keeps it alive.

    With several replicas the batch size is rounded up to a multiple of them, so that only the last batch is filled up.
    """
    batch_size = -(-batch_size // replicas) * replicas
    fetch = _fetch(source, replicas, is_training=False)
    picks = tf.data.Dataset.range(len(source)).batch(batch_size)
    return _finish(picks.map(plain(lambda picks: fetch(0, picks)), num_parallel_calls=_FETCHING))


def predict_split(model, source, batch_size, run=None, between=None):
    """Probabilities of every image of a Split, or of the rows that stand for them, `(images, classes)`.

    Args:
        model: the classifier, or what comes after its frozen part.
        source: as in `training_batches`.
        batch_size: images per step.
        run: from `compiled`; None lets Keras trace the model, which it does twice when the last batch is smaller.
        between: called after each batch, or None; not where several devices share.
    """
    if run is None:
        batches = ordered_batches(source, batch_size, replicas_of(model))
        return model.predict(batches, verbose=0)[: len(source)]
    parts = []
    if len(form(source)[0]) == 1:  # numbers of pooled features: it is the calls that take the time
        batch_size = max(batch_size, _VECTORS)
    rows, places = (source.store, source.rows) if isinstance(source, Split) else source.view(0)
    for _, batch in ordered_rows(rows, places, range(len(source)), batch_size):
        parts.append(run(batch).numpy())
        if between is not None:
            between()
    return np.concatenate(parts)


def compiled(run, source):
    """A compiled function of batches of `source`, of any size, to what `run(rows, training)` predicts."""
    shape, dtype = form(source)
    return traced(lambda rows: run(rows, False), [tf.TensorSpec((None, *shape), dtype)])


def traced(function, signature, **options):
    """`function` compiled for one signature, traced when it is first called.

    TensorFlow warns of a `tf.function` that is made anew in run after run, which here is meant.
    """
    made = []

    def call(*arguments):
        if not made:
            # AutoGraph would read through all layers for nothing, which takes longer than tracing them.
            made.append(tf.function(function, signature, autograph=False, **options).get_concrete_function())
        return made[0](*tf.nest.map_structure(tf.convert_to_tensor, arguments))

    return call


def ordered_rows(rows, places, picks, batch_size, change=None, seeds=None):
    """(positions, batch) of the rows at `picks`, in their order, one batch ahead of use.

    Args:
        rows: array of images or of what stands for them.
        places: the row of each position.
        picks: positions to go through.
        batch_size: rows per batch.
        change: from `change_each`, or None.
        seeds: int64 `(picks, 2)`, for `change`.
    """
    picks = np.asarray(picks, np.int64)

    def batch(start):
        chosen = picks[start : start + batch_size]
        values = gather(rows, places[chosen])
        return chosen, values if change is None else change(values, seeds[start : start + batch_size])

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ahead = collections.deque()
        for start in range(0, len(picks), batch_size):
            ahead.append(pool.submit(batch, start))
            if len(ahead) > 1:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def change_each(augment):
    """A function of images and one pair of seeds per image, which changes each image by its own.

    One with a state takes the batch as it comes, by the seeds of its first image.
    """
    if getattr(augment, "has_state", False):
        return lambda images, seeds: augment(tf.cast(images, tf.float32), seeds[0])

    def change(images, seeds):
        images = tf.cast(images, tf.float32)
        return tf.map_fn(
            lambda pair: augment(pair[0][None], pair[1])[0], (images, seeds), fn_output_signature="float32"
        )

    return tf.function(change, reduce_retracing=True)


def steps_per_epoch(source, batch_size):
    """Number of batches that hold every image once."""
    return -(-len(source) // batch_size)


def replicas_of(model):
    """Devices that a model computes on in step: 1, unless it was built under a strategy for several."""
    return model.distribute_strategy.num_replicas_in_sync


def _fetch(source, replicas, is_training):
    """A function from an epoch and positions to the images, or what stands for them, and labels there.

    Several replicas must share a batch evenly: it is filled up with copies of weight 0. In training, the weight of its
    own images makes up for that, so that the mean over replicas of their means is the mean over the batch. Elsewhere it
    is 1, so that each image counts once.
    """
    number = next(_numbers)
    _sources[number] = source

    def copy(epoch, picks):
        source = _sources[number]
        filled = np.resize(picks, -(-len(picks) // replicas) * replicas)
        weight = len(filled) / len(picks) if is_training else 1.0
        weights = np.where(np.arange(len(filled)) < len(picks), weight, 0.0).astype(np.float32)
        return take(source, int(epoch), filled), source.labels[filled], weights

    shape, dtype = form(source)

    def fetch(epoch, picks):
        images, labels, weights = tf.numpy_function(copy, [epoch, picks], [dtype, tf.int32, tf.float32])
        batch = tf.ensure_shape(images, (None, *shape)), tf.ensure_shape(labels, (None,))
        return batch if replicas == 1 else (*batch, tf.ensure_shape(weights, (None,)))

    return fetch


def form(source):
    """(shape, TensorFlow type) of a row of a source."""
    if isinstance(source, Split):
        return source.store.shape[1:], tf.uint8
    return source.shape, tf.as_dtype(source.dtype)


def take(source, epoch, picks):
    """The images of a Split at some positions, or the rows that stand for them in an epoch."""
    if not isinstance(source, Split):
        return source.take(epoch, picks)
    return gather(source.store, source.rows[picks])


def gather(rows, places):
    """`rows[places]`, read from the front to the back, as suits a map that is larger than memory."""
    order = np.argsort(places)
    gathered = np.empty((len(places), *rows.shape[1:]), rows.dtype)
    gathered[order] = rows[places[order]]
    return gathered


def _finish(batches):
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    # With its tuning, TensorFlow 2.21 takes seconds to let go of an iterator: its tuner sleeps, and is waited for.
    options.autotune.enabled = False
    return batches.prefetch(_AHEAD).with_options(options)
