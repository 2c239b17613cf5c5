"""Random changes of light and colour."""

import math

import tensorflow as tf

_GREY = (0.299, 0.587, 0.114)  # what the eye makes of red, green and blue
_CHROMA = ((0.596, -0.274, -0.322), (0.211, -0.523, 0.312))  # the other two axes of YIQ


def light(images, seed, share=0.2):
    """Brightness and contrast, each by its own factor of 1 - `share` to 1 + `share` per image."""
    factors = (1 - share) + 2 * share * tf.random.stateless_uniform((2, tf.shape(images)[0], 1, 1, 1), seed)
    mean = tf.reduce_mean(images, (1, 2), keepdims=True)
    return clip(images * (factors[0] * factors[1]) + mean * ((1 - factors[0]) * factors[1]))


def jitter(images, seed, *, saturation, hue):
    """Saturation and hue, for images of three channels, as one matrix for the colours of each image.

    Args:
        images: float32 `(batch, height, width, channels)`; with other than three channels they stay.
        seed: pair.
        saturation: fraction by which it may be more or less.
        hue: degrees on the circle of colours, at most, either way.

    Source:
        Haeberli 1993, "Matrix operations for image processing".
    """
    if images.shape[-1] != 3:
        return images
    count = tf.shape(images)[0]
    draws = tf.random.stateless_uniform((2, count), seed, -1.0, 1.0)
    factor, angle = 1.0 + saturation * draws[0], draws[1] * (hue * math.pi / 180)
    to_axes = tf.constant((_GREY, *_CHROMA))
    zeros, ones = tf.zeros_like(factor), tf.ones_like(factor)
    cosine, sine = factor * tf.cos(angle), factor * tf.sin(angle)
    turned = tf.stack([ones, zeros, zeros, zeros, cosine, -sine, zeros, sine, cosine], 1)
    matrix = tf.linalg.inv(to_axes) @ tf.reshape(turned, (-1, 3, 3)) @ to_axes
    pixels = tf.reshape(images, (count, -1, 3))
    return clip(tf.reshape(tf.matmul(pixels, matrix, transpose_b=True), tf.shape(images)))


def clip(images):
    """Within 0–255."""
    return tf.clip_by_value(images, 0.0, 255.0)
