"""Augmentation policies: images a second, beside plain Keras layers in a `tf.data` map and beside what a step needs.

    python benchmarks/augmentation.py
    python benchmarks/augmentation.py --size 96 --rounds 3

Each kind makes batches of 32 images from a store in memory, as training does. Ours and Keras' alternate; medians of the
rounds. A step is of MobileNet (α = 0.25) with random weights: of the head alone on frozen features that run live, and
of all layers. Expect three minutes on 2 cores.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from machine import print_json

BATCH = 32


def keras_layers(name):
    """The same in plain Keras layers, as its documentation has them; None where Keras has none."""
    layers, whole = keras.layers, (0, 255)
    flip = layers.RandomFlip("horizontal")
    jitter = {"brightness_factor": 0.3, "contrast_factor": 0.3, "saturation_factor": 0.4, "hue_factor": 0.05}
    chains = {
        "flip": [flip],
        "light": [flip, layers.RandomTranslation(0.05, 0.05), layers.RandomZoom(0.05), layers.RandomContrast(0.1)],
        "photo": [
            flip,
            layers.RandomZoom((-0.23, 0.0)),
            layers.RandomBrightness(0.2),
            layers.RandomContrast(0.2),
        ],
        "scan": [layers.RandomZoom(0.1), layers.RandomTranslation(0.1, 0.1)],
        "strong": [
            flip,
            layers.RandomRotation(15 / 360),
            layers.RandomShear(0.1, 0.1),
            layers.RandomZoom((-0.2, 0.2), (-0.2, 0.2)),
            layers.RandomTranslation(0.1, 0.1),
            layers.RandomColorJitter(value_range=whole, **jitter),
        ],
        "rand_augment": [layers.RandAugment()],
        "aug_mix": [layers.AugMix()],
        "mix_up": [layers.MixUp()],
        "cut_mix": [layers.CutMix()],
    }
    return chains.get(name)


def keras_batches(name, images, labels):
    """Batches through Keras' layers, in as many calls at a time as TensorFlow likes."""
    chain = keras_layers(name)
    if chain is None:
        return None
    for layer in chain:
        layer.build((None, *images.shape[1:]))

    def change(pixels, targets):
        pixels = tf.cast(pixels, tf.float32)
        for layer in chain:
            if isinstance(layer, (keras.layers.MixUp, keras.layers.CutMix)):
                mixed = layer({"images": pixels, "labels": targets}, training=True)
                pixels, targets = mixed["images"], mixed["labels"]
            else:
                pixels = layer(pixels, training=True)
        return pixels, targets

    rows = tf.data.Dataset.from_tensor_slices((images, tf.one_hot(labels, 4)))
    batches = rows.shuffle(len(images)).repeat().batch(BATCH)
    return batches.map(change, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def our_batches(name, split):
    """Batches as `recipes.finetune` makes them."""
    from recipes.data.batches import training_batches
    from recipes.training.augmentation import make_augmentation

    augment = make_augmentation(name, 0, "benchmark")
    return training_batches(split, BATCH, epochs=10**6, seed=0, augment=augment, classes=4)


def clock(batches, seconds):
    """A function that draws batches for so long; images a second."""
    iterator = iter(batches)
    for _ in range(3):
        next(iterator)

    def draw():
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            count += len(next(iterator)[0])
        return count / (time.perf_counter() - start)

    return draw


def steps(images, labels):
    """Images a second of a training step, nothing else running."""
    base = keras.applications.MobileNet(
        input_shape=images.shape[1:], alpha=0.25, include_top=False, weights=None, pooling="avg"
    )
    model = keras.Sequential([base, keras.layers.Dense(4, activation="softmax")])
    found = {}
    for kind, trainable in (("step of the head, live", False), ("step of all layers", True)):
        base.trainable = trainable
        model.compile("sgd", "sparse_categorical_crossentropy")
        batch = images[:BATCH].astype("float32"), labels[:BATCH]
        model.train_on_batch(*batch)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            model.train_on_batch(*batch)
            times.append(time.perf_counter() - start)
        found[kind] = round(BATCH / statistics.median(times), 1)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="a round of one kind")
    asked = parser.parse_args()
    from recipes.training.augmentation import AUGMENTATIONS
    from recipes.values import Split

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (128, asked.size, asked.size, 3), np.uint8)
    labels = (np.arange(128) % 4).astype(np.int32)
    split = Split(images, np.arange(128), labels, (), ())
    rows = {}
    for name in AUGMENTATIONS:
        kinds = {"ours": our_batches(name, split), "keras": keras_batches(name, images, labels)}
        draws = {kind: clock(batches, asked.seconds) for kind, batches in kinds.items() if batches is not None}
        rounds = {kind: [] for kind in draws}
        for _ in range(asked.rounds):
            for kind, draw in draws.items():
                rounds[kind].append(draw())
        medians = {kind: round(statistics.median(found), 1) for kind, found in rounds.items()}
        spread = {f"{kind} from, to": [round(min(f), 1), round(max(f), 1)] for kind, f in rounds.items()}
        ratio = round(medians["ours"] / medians["keras"], 2) if "keras" in medians else None
        rows[name] = {**medians, "ratio": ratio, **spread}
    print_json({"images a second": rows, "a step takes": steps(images, labels), "size": asked.size})


if __name__ == "__main__":
    main()
