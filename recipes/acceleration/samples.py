"""Real photographs to compare a network with what became of it."""

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_sample_images


def sample_photos(count, size, channels):
    """Parts of two photographs that come with scikit-learn, at different places and scales.

    Args:
        count: of images.
        size: `(height, width)` in pixels.
        channels: grey is the mean of the colours, more than three repeat them.

    Returns:
        float32 array `(count, height, width, channels)` in 0–255.
    """
    photos = load_sample_images().images
    random = np.random.default_rng(0)
    images = []
    for number in range(count):
        photo = photos[number % len(photos)]
        side = int(min(photo.shape[:2]) * random.uniform(0.3, 1.0))
        top, left = (int(random.uniform(0, whole - side)) for whole in photo.shape[:2])
        part = photo[top : top + side, left : left + side].astype(np.float32)
        images.append(tf.image.resize(part, size, antialias=True).numpy())
    colours = np.clip(np.stack(images), 0, 255)
    if channels == 1:
        return colours.mean(axis=-1, keepdims=True)
    return colours[..., np.arange(channels) % 3]
