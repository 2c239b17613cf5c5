"""Augmentation policies by name, each a function of its strength."""

import math

import tensorflow as tf

import layers
from recipes.training.colouring import clip, jitter, light
from recipes.training.mixing import cut_mix, mix_up
from recipes.training.picking import aug_mix, by_layer, rand_augment
from recipes.training.warping import flip, warp, zoom

_RESNET = (256 / 224, 480 / 224)  # short side by that of the crop


def _flip(strength):
    return lambda images, seed: flip(images, seed, min(0.5, 0.5 * strength))


def _light(strength):
    def augment(images, seed):
        images = warp(images, _fold(seed, 0), zoom=0.05 * strength, shift=0.05 * strength, flips=min(0.5, strength / 2))
        return light(images, _fold(seed, 1), 0.1 * strength)

    return augment


def _photo(strength):
    def augment(images, seed):
        images = zoom(flip(images, seed + 1, min(0.5, 0.5 * strength)), seed + 2, (1.0, 1.0 + 0.3 * strength), True)
        return light(images, seed + 3, 0.2 * strength)

    return augment


def _scan(strength):
    factors = (1.0 - 0.1 * strength, 1.0 + 0.1 * strength)
    return lambda images, seed: zoom(images, seed, factors, False, 0.1 * strength)


def _resnet(strength):
    """Short side in 256–480 for a crop of 224, or as many times the image's own; flip; colours as AlexNet had them."""
    factors = tuple(1 + strength * (edge - 1) for edge in _RESNET)
    colour = _pca_light(strength)

    def augment(images, seed):
        images = flip(images, _fold(seed, 0), min(0.5, 0.5 * strength))
        return colour(zoom(images, _fold(seed, 1), factors, True), _fold(seed, 2))

    return augment


def _strong(strength):
    """All that keeps lines straight in one resampling; a lens for every other image; light and colour."""
    lens = by_layer(layers.LensDistortion((max(-0.3, -0.2 * strength), 0.2 * strength)))
    colour = _pca_light(strength)
    shape = {
        "rotation": 15 * strength,
        "shear": 0.1 * strength,
        "stretch": math.log(4 / 3) * strength,
        "zoom": math.log(1.2) * strength,
        "shift": 0.1 * strength,
        "flips": min(0.5, 0.5 * strength),
    }

    def augment(images, seed):
        images = warp(images, _fold(seed, 0), **shape)
        images = _for_some(lens, images, _fold(seed, 1))
        images = light(images, _fold(seed, 2), 0.3 * strength)
        images = jitter(images, _fold(seed, 3), saturation=0.4 * strength, hue=18 * strength)
        return colour(images, _fold(seed, 4))

    return augment


def _for_some(change, images, seed):
    """`change` for every other image, drawn, since it takes long."""
    chosen = tf.random.stateless_uniform((tf.shape(images)[0],), _fold(seed, 0)) < 0.5
    places = tf.where(chosen)
    changed = change(tf.boolean_mask(images, chosen), _fold(seed, 1))
    return tf.tensor_scatter_nd_update(images, places, changed)


def _pca_light(strength):
    """`layers.PCALighting` within 0–255; images that are not RGB stay as they are."""
    colour = by_layer(layers.PCALighting(0.1 * strength))

    def augment(images, seed):
        return clip(colour(images, seed)) if images.shape[-1] == 3 else images

    return augment


def _fold(seed, number):
    return tf.random.experimental.stateless_fold_in(seed, number)


# From a strength to a function of (float32 images 0–255, pair); of the last two, of (images, pair, targets).
POLICIES = {
    "flip": _flip,
    "light": _light,
    "photo": _photo,
    "scan": _scan,
    "resnet": _resnet,
    "strong": _strong,
    "rand_augment": lambda strength: rand_augment(0.5 * strength),
    "aug_mix": lambda strength: aug_mix(0.3 * strength),
    "mix_up": lambda strength: mix_up(0.2 * strength),
    "cut_mix": lambda strength: cut_mix(strength),
}
FLIPPING = frozenset({"flip", "light", "photo", "resnet", "strong"})
MIXING = frozenset({"mix_up", "cut_mix"})
RGB_ONLY = frozenset({"rand_augment", "aug_mix"})
