"""Random changes of where things are in images: flips, zooms, and all that keeps lines straight, in one resampling."""

import math

import tensorflow as tf


def flip(images, seed, chance=0.5):
    """Left for right, by chance."""
    chosen = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed)[:, 0, 0, 0] < chance
    # Of an image that stays, the first column alone is reversed; a slice and a choice would take four times as long.
    return tf.reverse_sequence(images, tf.where(chosen, tf.shape(images)[2], 1), seq_axis=2, batch_axis=0)


def zoom(images, seed, factors, inside, shift=0.1):
    """Zoom every image by its own factor at its own place; `inside` keeps to the image, else shift by up to `shift`."""
    count = tf.shape(images)[0]
    height, width = _sides(images)
    draws = tf.random.stateless_uniform((3, count), seed)
    scale = 1.0 / (factors[0] + (factors[1] - factors[0]) * draws[0])
    if inside:
        left, top = draws[1] * (1.0 - scale) * width, draws[2] * (1.0 - scale) * height
    else:
        left, top = ((1.0 - scale) / 2 + 2 * shift * draw - shift for draw in (draws[1], draws[2]))
        left, top = left * width, top * height
    zeros = tf.zeros_like(scale)
    return _resample(images, [scale, zeros, left, zeros, scale, top], "NEAREST")


def warp(images, seed, *, rotation=0.0, shear=0.0, stretch=0.0, zoom=0.0, shift=0.0, flips=0.5):
    """Flip, turn, shear, stretch, zoom and shift every image about its centre by draws of its own, in one resampling.

    Args:
        images: float32 `(batch, height, width, channels)`.
        seed: pair.
        rotation: degrees at most, either way.
        shear: pixels sideways per pixel down, and down per pixel sideways, at most.
        stretch: logarithm of width by height at most, either way; the area stays.
        zoom: logarithm of the factor at most, either way.
        shift: fraction of the sides at most, either way.
        flips: chance of a flip, left for right.
    """
    count = tf.shape(images)[0]
    height, width = _sides(images)
    draws = tf.random.stateless_uniform((7, count), seed, -1.0, 1.0)
    angle = draws[0] * (rotation * math.pi / 180)
    wide = tf.exp(draws[1] * zoom + draws[2] * stretch / 2)
    tall = tf.exp(draws[1] * zoom - draws[2] * stretch / 2)
    is_flipped = tf.random.stateless_uniform((count,), tf.random.experimental.stateless_fold_in(seed, 1)) < flips
    wide = tf.where(is_flipped, -wide, wide)
    across, down = draws[3] * shear, draws[4] * shear
    # Where a pixel is read: turned, then sheared, then stretched, about the centre.
    cosine, sine = tf.cos(angle), tf.sin(angle)
    rows = [
        wide * (cosine + across * sine),
        wide * (across * cosine - sine),
        tall * (down * cosine + sine),
        tall * (cosine - down * sine),
    ]
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    right = middle_x + draws[5] * shift * width - rows[0] * middle_x - rows[1] * middle_y
    below = middle_y + draws[6] * shift * height - rows[2] * middle_x - rows[3] * middle_y
    return _resample(images, [rows[0], rows[1], right, rows[2], rows[3], below], "REFLECT")


def _sides(images):
    return tuple(tf.cast(side, tf.float32) for side in (tf.shape(images)[1], tf.shape(images)[2]))


def _resample(images, rows, fill_mode):
    """Each image read, bilinearly, where the six numbers of its own say."""
    zeros = tf.zeros_like(rows[0])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([*rows, zeros, zeros], 1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill_mode,
    )
