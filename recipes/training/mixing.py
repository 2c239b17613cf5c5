"""Changes that mix each image with the one before it in its batch, and their labels alike."""

import tensorflow as tf


def mix_up(alpha):
    """Blend: λ x + (1 - λ) x', with λ ~ Beta(`alpha`, `alpha`) for each image.

    Source:
        Zhang et al. 2018, "mixup: beyond empirical risk minimization" (there one λ a batch).
    """

    def augment(images, seed, targets):
        share = _beta(alpha, tf.shape(images)[0], seed)
        pixels, labels = share[:, None, None, None], share[:, None]
        return (
            pixels * images + (1 - pixels) * _one_before(images),
            labels * targets + (1 - labels) * _one_before(targets),
        )

    return augment


def cut_mix(alpha):
    """Paste a box of 1 - λ of the area, λ ~ Beta(`alpha`, `alpha`), at a random place; labels go by the pixels pasted.

    Source:
        Yun et al. 2019, "CutMix: regularization strategy to train strong classifiers with localizable features" (there
        one box a batch).
    """

    def augment(images, seed, targets):
        count, height, width = (tf.shape(images)[axis] for axis in range(3))
        side = tf.sqrt(1 - _beta(alpha, count, seed))
        places = tf.random.stateless_uniform((2, count), tf.random.experimental.stateless_fold_in(seed, 2))
        inside = tf.ones((count, 1, 1), tf.bool)
        for axis, (pixels, place) in enumerate(zip((height, width), tf.unstack(places), strict=True)):
            long = tf.cast(pixels, tf.float32)
            # The box is cut off at the border, as the paper has it.
            first, last = (tf.round((place + way * side / 2) * long)[:, None] for way in (-1, 1))
            numbers = tf.range(long)[None]
            within = (numbers >= first) & (numbers < last)
            inside &= within[:, :, None] if axis == 0 else within[:, None, :]
        share = 1 - tf.reduce_mean(tf.cast(inside, tf.float32), (1, 2))[:, None]
        mask = tf.cast(inside, tf.float32)[..., None]
        mixed = (1 - mask) * images + mask * _one_before(images)  # half the time of a choice
        return mixed, share * targets + (1 - share) * _one_before(targets)

    return augment


def _one_before(rows):
    """The row before each, the last before the first; what tf.roll gives, in two thirds of the time."""
    count = tf.shape(rows)[0]
    return tf.gather(rows, (tf.range(count) - 1) % count)


def _beta(alpha, count, seed):
    """float32 `(count,)`, Beta(`alpha`, `alpha`)."""
    # In double precision: of a small alpha, nearly all draws are next to 0, and their ratio is what counts.
    draws = tf.random.stateless_gamma((2, count), seed, tf.constant(alpha, tf.float64), dtype=tf.float64)
    total = draws[0] + draws[1]
    return tf.cast(tf.where(total > 0, draws[0] / total, 1.0), tf.float32)
