"""How long training takes to begin, and what rates per layer cost in each step.

    python benchmarks/first_step.py

First: seconds from the call to the end of the first optimizer step of MobileNetV2 (width 0.35, 96 pixels, all of it
trained by AdamW), `keras.Model.fit` beside `recipes.finetune`, alternating, each run a process of its own. Second: the
median step of the same network, batch 32, with plain AdamW and with a LayerwiseOptimizer of three rates around it,
alternating in one process. Expect three minutes on 2 cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
from machine import print_json

SIZE, BATCH = 96, 32


def images(count):
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8), np.arange(count) % 2


def plain_model(optimizer):
    import keras

    base = keras.applications.MobileNetV2(
        alpha=0.35, include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg"
    )
    image = keras.Input((SIZE, SIZE, 3))
    features = base(keras.layers.Rescaling(1 / 127.5, offset=-1)(image))
    model = keras.Model(image, keras.layers.Dense(2, activation="softmax", name="head")(features))
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def child(kind):
    """One start; its seconds as JSON."""
    import keras
    import tensorflow as tf

    import recipes.finetuning
    from recipes.training.looping import Loop

    tf.config.list_physical_devices()
    ends = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            ends.append(time.perf_counter())

    x, y = images(64)
    start = time.perf_counter()
    if kind == "keras":
        model = plain_model(keras.optimizers.AdamW(1e-3))
        model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0, callbacks=[Watch()])
    else:
        original = Loop._book

        def watch(self, standing, sums, line):
            original(self, standing, sums, line)
            ends.append(time.perf_counter())

        Loop._book = watch
        data = recipes.load_data((x, y), valid=0.25, test=0.0)
        plan = [recipes.Stage("all", 1, 1e-3, 1.0, 1.0, 1.0, 1.0)]
        recipes.finetune("mobilenet_v2_035", data, weights=None, plan=plan, batch_size=BATCH, verbose=False)
    sys.stdout.write(json.dumps(ends[0] - start) + "\n")


def starts(rounds):
    """{kind: seconds of each round}"""
    seconds = {"keras": [], "recipes": []}
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    for _ in range(rounds):
        for kind, values in seconds.items():
            words = [sys.executable, __file__, "--child", kind]
            done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
            values.append(json.loads(done.stdout.splitlines()[-1]))
    return seconds


def steps(count):
    """{optimizer: seconds of each step}"""
    import keras

    import recipes

    ratios = {"(Conv1|bn_Conv1|expanded|block_[0-5]_).*": 0.01, "(block_|Conv_1).*": 0.1}
    models = {
        "plain": plain_model(keras.optimizers.AdamW(1e-3)),
        "layerwise": plain_model(recipes.LayerwiseOptimizer(keras.optimizers.AdamW(1e-3), ratios)),
    }
    x, y = images(BATCH)
    x = x.astype("float32")
    for model in models.values():
        for _ in range(3):
            model.train_on_batch(x, y)
    seconds = {name: [] for name in models}
    for _ in range(count):
        for name, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(x, y)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child)
        return
    start, step = starts(asked.rounds), steps(asked.steps)
    medians = {name: statistics.median(values) for name, values in (*start.items(), *step.items())}
    print_json(
        {
            "seconds_to_first_step": {name: [round(value, 2) for value in values] for name, values in start.items()},
            "keras_over_recipes": medians["keras"] / medians["recipes"],
            "median_step_ms": {name: round(1000 * medians[name], 2) for name in step},
            "layerwise_over_plain": medians["layerwise"] / medians["plain"],
        }
    )


if __name__ == "__main__":
    main()
