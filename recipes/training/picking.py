"""Policies that pick for each image a few of many operations: RandAugment and AugMix, of Keras' layers.

Keras' own layers of these names compute every operation for every image and pick then (RandAugment), or pick once, when
they are compiled, by Python's random numbers (AugMix). Here each image has its own, and only those are computed.
"""

import contextlib
import threading

import keras
import tensorflow as tf

_DEGREES, _SHEAR, _SHIFT, _BLEND = 30, 0.3, 0.45, 0.9  # at magnitude 1, as in the papers' code


class PairSeeds(keras.random.SeedGenerator):
    """Gives Keras layers, in place of a state, draws that follow from the pair which seeds a batch."""

    def __init__(self):
        super().__init__(0)
        self._here = threading.local()

    @contextlib.contextmanager
    def of(self, pair):
        """Within, this thread's draws follow from `pair`."""
        self._here.pair, self._here.count = pair, 0
        try:
            yield
        finally:
            self._here.pair = None

    def next(self, ordered=True):
        """The seed of the next draw."""
        self._here.count += 1
        return tf.random.experimental.stateless_fold_in(self._here.pair, self._here.count)


def by_layer(layer):
    """A function of (images, pair) from a Keras layer that draws from its attribute `generator`, if at all."""
    seeds = PairSeeds()
    layer.generator = seeds

    def augment(images, pair):
        if not layer.built:
            with tf.init_scope(), tf.device("CPU"):
                layer.build(images.shape)
        with seeds.of(pair):
            return layer(images, training=True)

    return augment


def rand_augment(magnitude, count=2):
    """`count` of eleven operations for each image, at `magnitude` 0–1.

    Source:
        Cubuk et al. 2020, "RandAugment: practical automated data augmentation with a reduced search space".
    """
    layers, whole = keras.layers, (0, 255)
    colours = [
        layers.RandomBrightness(_BLEND * magnitude, value_range=whole),
        layers.RandomColorDegeneration(_BLEND * magnitude),
        layers.RandomContrast(_BLEND * magnitude, value_range=whole),
        layers.RandomSharpness(_BLEND * magnitude),
    ]
    apply = _several([*_shapes_and_tones(magnitude), *colours], count)
    return _each(apply)


def aug_mix(magnitude, chains=3, depth=3):
    """For each image, `chains` of one to `depth` operations at `magnitude` 0–1, averaged by random weights, and blended
    with the image. Its loss on pairs of such versions is not part of it.

    Source:
        Hendrycks et al. 2020, "AugMix: a simple data processing method to improve robustness and uncertainty".
    """
    apply = _several(_shapes_and_tones(magnitude), depth)

    def change(image, pair):
        lengths = tf.random.stateless_uniform((chains,), _fold(pair, 100), 1, depth + 1, tf.int32)
        # Both distributions of the paper with their parameter 1: Dirichlet by exponential draws, Beta is uniform.
        weights = -tf.math.log(tf.random.stateless_uniform((chains,), _fold(pair, 101), 1e-6, 1.0))
        share = tf.random.stateless_uniform((), _fold(pair, 102))

        def add_chain(mixed, given):
            number, weight, length = given
            return mixed + weight * apply(image, _fold(pair, number), length)

        weights = (1 - share) * weights / tf.reduce_sum(weights)
        return tf.foldl(add_chain, (tf.range(chains), weights, lengths), share * image)

    return _each(change)


def _shapes_and_tones(magnitude):
    layers, whole, fill = keras.layers, (0, 255), {"fill_mode": "constant", "fill_value": 128}
    turn = _DEGREES / 360 * magnitude
    return [
        layers.RandomShear(x_factor=_SHEAR * magnitude, y_factor=_SHEAR * magnitude, **fill),
        layers.RandomTranslation(_SHIFT * magnitude, _SHIFT * magnitude, **fill),
        layers.RandomRotation(turn, **fill),
        layers.RandomPosterization(max(4, 8 - round(4 * magnitude)), value_range=whole),
        layers.Solarization(addition_factor=_SHIFT * magnitude, threshold_factor=magnitude, value_range=whole),
        layers.AutoContrast(value_range=whole),
        layers.Equalization(value_range=whole),
    ]


def _several(layers, most):
    """A function that changes one image by up to `most` of the layers, drawn from a pair."""
    changes = [*(by_layer(layer) for layer in layers), lambda images, pair: images]

    def pick(image, given):
        number, pair = given
        drawn = tf.random.stateless_uniform((), _fold(pair, 0), 0, len(layers), tf.int32)

        def branch(change):
            return lambda: tf.ensure_shape(tf.cast(change(image[None], pair)[0], tf.float32), image.shape)

        return tf.switch_case(tf.where(number >= 0, drawn, len(layers)), [branch(change) for change in changes])

    def apply(image, pair, length=most):
        numbers = tf.range(most)
        pairs = tf.stack([_fold(pair, number) for number in range(most)])
        # A loop, so that the operations stand in the graph once.
        return tf.foldl(pick, (tf.where(numbers < length, numbers, -1), pairs), image)

    return apply


def _each(change):
    """`change` for every image of a batch, each by a pair of its own."""

    def augment(images, pair):
        def one(given):
            number, image = given
            return change(image, _fold(pair, number))

        numbers = tf.range(tf.shape(images)[0])
        return tf.map_fn(one, (numbers, images), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32))

    return augment


def _fold(pair, number):
    return tf.random.experimental.stateless_fold_in(pair, number)
