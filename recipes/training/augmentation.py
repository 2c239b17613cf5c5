"""Random changes to training images that leave their class as it is, drawn from the batch's own seed."""

import keras
import tensorflow as tf

from recipes.bases.seeding import seed_config
from recipes.checks import check_choice, complaint

AUGMENTATIONS = ("flip", "photo", "scan")


def make_augmentation(augmentation, seed, where):
    """A function of (float32 images 0–255, seed pair) from what `finetune` takes as `augmentation`.

    Args:
        augmentation: None; `"flip"`: left and right; `"photo"`: flip, then zoom by 1–1.3 at a random place, then
            brightness and contrast ±20 %; `"scan"`: zoom by 0.9–1.1 and shift by up to 10 %, no flip, for digits and
            the like; a Keras layer; or a function of (images, seed) that follows `tf.random.stateless_uniform`.
        seed: of the run, for layers that have none of their own.
        where: for errors.
    """
    if augmentation is None:
        return None
    if isinstance(augmentation, keras.layers.Layer):
        return _from_layer(augmentation, seed)
    if callable(augmentation):
        return augmentation
    if not isinstance(augmentation, str):
        mend = f"Pass None, one of {', '.join(AUGMENTATIONS)}, a Keras layer or a function of (images, seed)."
        raise TypeError(complaint(where, "augmentation is of no known kind", repr(augmentation), mend))
    check_choice(where, "augmentation", augmentation, AUGMENTATIONS)
    return {"flip": _flip, "photo": _photo, "scan": _scan}[augmentation]


def _from_layer(layer, seed):
    """Keras' random layers draw from a state of their own: a copy is used, one batch after the other, and its state set
    by each batch's seed, so that a batch is the same whatever came before it.
    """
    config = layer.get_config()
    seed_config(config, seed, layer.name)
    with tf.device("CPU"):
        copy = type(layer).from_config(config)
    weights = {id(weight) for weight in copy.weights}
    states = [variable for variable in copy.variables if id(variable) not in weights]

    def augment(images, pair):
        for number, state in enumerate(states):
            drawn = tf.random.stateless_uniform(state.shape, pair + seed + number, 0, 2**31 - 1, tf.int32)
            state.assign(tf.cast(drawn, state.dtype))
        return copy(images, training=True)

    augment.has_state = True
    return augment


def _flip(images, seed):
    chosen = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed) < 0.5
    return tf.where(chosen, images[:, :, ::-1], images)


def _photo(images, seed):
    images = _zoom(_flip(images, seed + 1), seed + 2, (1.0, 1.3), inside=True)
    return _light(images, seed + 3)


def _scan(images, seed):
    return _zoom(images, seed, (0.9, 1.1), inside=False)


def _zoom(images, seed, factors, inside):
    """Zoom every image by its own factor at its own place; `inside` keeps to the image, else shift by up to 10 %."""
    count = tf.shape(images)[0]
    height, width = (tf.cast(side, tf.float32) for side in (tf.shape(images)[1], tf.shape(images)[2]))
    draws = tf.random.stateless_uniform((3, count), seed)
    scale = 1.0 / (factors[0] + (factors[1] - factors[0]) * draws[0])
    if inside:
        left, top = draws[1] * (1.0 - scale) * width, draws[2] * (1.0 - scale) * height
    else:
        left, top = ((1.0 - scale) / 2 + 0.2 * draw - 0.1 for draw in (draws[1], draws[2]))
        left, top = left * width, top * height
    zeros = tf.zeros_like(scale)
    transforms = tf.stack([scale, zeros, left, zeros, scale, top, zeros, zeros], 1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def _light(images, seed):
    """Brightness and contrast, each by its own factor of 0.8–1.2 per image."""
    factors = 0.8 + 0.4 * tf.random.stateless_uniform((2, tf.shape(images)[0], 1, 1, 1), seed)
    mean = tf.reduce_mean(images, (1, 2), keepdims=True)
    return tf.clip_by_value((mean + factors[0] * (images - mean)) * factors[1], 0.0, 255.0)
