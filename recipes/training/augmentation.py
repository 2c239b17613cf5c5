"""Random changes to training images that leave their class as it is, drawn from the batch's own seed."""

import keras
import tensorflow as tf

from recipes.bases.seeding import seed_config
from recipes.checks import check_choice, check_number, complaint
from recipes.training.policies import FLIPPING, MIXING, POLICIES, RGB_ONLY

AUGMENTATIONS = ("none", *POLICIES)
MOST = 2.0  # times the usual strength


def make_augmentation(augmentation, seed, where, strength=1.0):
    """A function of (float32 images 0–255, seed pair) from what `finetune` takes as `augmentation`; None for none.

    One that mixes images has the attribute `mixes`, takes targets, one-hot float32 `(batch, classes)`, after these, and
    gives both. One that has the attribute `has_state` is for one batch after the other.

    Args:
        augmentation: None; one of `AUGMENTATIONS` or several one after the other (see `recipes.finetune`); a Keras
            layer; or a function of (images, seed) that follows `tf.random.stateless_uniform`.
        seed: of the run, for layers that have none of their own.
        where: for errors.
        strength: of policies by name, as a multiple of their usual one, 0–2.
    """
    check_number(where, "augmentation_strength", strength, most=MOST)
    if isinstance(augmentation, keras.layers.Layer) or callable(augmentation):
        if strength != 1:
            mend = "Leave augmentation_strength out, or name a policy."
            received = f"augmentation_strength={strength} and {augmentation!r}"
            raise ValueError(complaint(where, "augmentation_strength is for policies by name", received, mend))
        return _from_layer(augmentation, seed) if isinstance(augmentation, keras.layers.Layer) else augmentation
    names = names_of(augmentation, where)
    return _chain([POLICIES[name](strength) for name in names], names) if names and strength else None


def names_of(augmentation, where="augmentation"):
    """The policies that an augmentation names, in order; a layer or a function names none."""
    if augmentation is None or callable(augmentation):
        return ()
    names = (augmentation,) if isinstance(augmentation, str) else augmentation
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        mend = f"Pass None, one or several of {', '.join(POLICIES)}, a Keras layer or a function of (images, seed)."
        raise TypeError(complaint(where, "augmentation is of no known kind", repr(augmentation), mend))
    for name in names:
        check_choice(where, "augmentation", name, AUGMENTATIONS)
    return tuple(name for name in names if name != "none")


def flips(augmentation):
    """Whether an augmentation is known to show images left for right."""
    if isinstance(augmentation, keras.layers.RandomFlip):
        return "horizontal" in str(augmentation.get_config()["mode"])
    return bool(FLIPPING & set(names_of(augmentation)))


def check_channels(augmentation, channels, where):
    """Raise ValueError where a policy does not take images of so many channels."""
    colourful = sorted(RGB_ONLY & set(names_of(augmentation)))
    if colourful and channels != 3:
        mend = 'Pass augmentation="strong" or "scan", say.'
        received = f"images of {channels} channel(s)"
        raise ValueError(complaint(where, f"augmentation={colourful[0]!r} takes RGB images", received, mend))


def change(augment, images, pair, targets):
    """(images, targets) as an augmentation, or None, gives them: float32 images, one-hot float32 targets."""
    if augment is None:
        return images, targets
    return augment(images, pair, targets) if getattr(augment, "mixes", False) else (augment(images, pair), targets)


def _chain(changes, names):
    """One policy after the other, each by a seed of its own."""
    if len(changes) == 1 and names[0] not in MIXING:
        return changes[0]

    def augment(images, pair, targets=None):
        for number, (name, change) in enumerate(zip(names, changes, strict=True)):
            seed = tf.random.experimental.stateless_fold_in(pair, number)
            if name in MIXING:
                images, targets = change(images, seed, targets)
            else:
                images = change(images, seed)
        return images if targets is None else (images, targets)

    augment.mixes = bool(MIXING & set(names))
    return augment


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
