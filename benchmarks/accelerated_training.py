"""A step of training of VGG16's blocks 3–5: as Keras convolves, and by the fastest algorithm for each convolution.

    python benchmarks/accelerated_training.py

Nine convolutions of 3×3, from 56×56×128 on, pooling between the blocks, a linear head; outputs, all gradients and an
SGD step, compiled as one graph. Both step alike as `recipes.finetune` takes them, with and without `accelerate=True`;
they alternate in one run, medians of the ratios. Expect a quarter of an hour on 2 cores.
"""

import argparse
import os
import statistics
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from machine import print_json

from recipes.acceleration.choosing import fastest_algorithms
from recipes.bases import folded
from recipes.timing import alternating


def blocks(size):
    """VGG16 from the third block on, on the outputs of the second."""
    image = keras.Input((size, size, 128))
    x = image
    for width in (256, 512, 512):
        for _ in range(3):
            x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        x = keras.layers.MaxPooling2D(2)(x)
    outputs = keras.layers.Dense(10, "softmax")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, outputs)


def stepper(model, run, rate=1e-3):
    variables = [weight.value for weight in model.trainable_weights]

    @tf.function(autograph=False)
    def step(rows, labels):
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(labels, run(rows, True))
            loss = tf.reduce_mean(losses)
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(rate * gradient)
        return loss

    return step


def measure(batch, size, rounds):
    model = blocks(size)
    start = model.get_weights()
    random = np.random.default_rng(0)
    rows = tf.constant(np.maximum(random.normal(size=(batch, size, size, 128)), 0).astype("float32"))
    labels = tf.constant(random.integers(0, 10, batch))
    algorithms = fastest_algorithms(model, batch, is_trained=True)
    steps = {
        "keras": stepper(model, lambda rows, training: model(rows, training=training)),
        "accelerated": stepper(model, folded(model, is_trained=True, algorithms=algorithms)),
    }
    after = {}
    for name, step in steps.items():
        model.set_weights(start)
        step(rows, labels)
        after[name] = model.get_weights()
    moved = [np.abs(one - old).max() for one, old in zip(after["keras"], start, strict=True)]
    apart = [np.abs(one - other).max() for one, other in zip(after["keras"], after["accelerated"], strict=True)]
    runs = {name: lambda step=step: step(rows, labels) for name, step in steps.items()}
    seconds = alternating(runs, rounds=rounds)
    ratios = [one / other for one, other in zip(seconds["keras"], seconds["accelerated"], strict=True)]
    return {
        "batch": batch,
        "seconds": {name: round(statistics.median(taken), 3) for name, taken in seconds.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "algorithms": len(algorithms),
        "largest_difference_of_a_step": float(max(one / other for one, other in zip(apart, moved, strict=True))),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--size", type=int, default=56)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        print_json({"rows": [measure(batch, arguments.size, arguments.rounds) for batch in arguments.batches]})


if __name__ == "__main__":
    main()
