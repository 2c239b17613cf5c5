"""Memory that `recipes.cost` foretells beside what TensorFlow takes, at inference and in training.

    python benchmarks/cost_memory.py

Every figure comes from a process of its own. Measured is what TensorFlow's allocator has in use at its peak, in the
third step, above what it had before the network was built: weights, what the optimizer keeps, images and tensors
between layers. On a CPU it does not count tensors below 256 kB; weights of that size, and what the optimizer keeps of
them, are added by their sizes. The process takes more: "process" is the growth of its resident memory since TensorFlow
was warm, with the network's code, graphs and what building it left behind. A step is compiled by `tf.function` for any
batch size, as Keras does without XLA; the optimizer is AdamW. Needs Linux and, on a CPU, a TensorFlow with oneDNN,
whose allocator counts. Expect half an hour on one core.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from machine import print_json

NETWORKS = ("small_resnet", "mobilenet_v2", "resnet50", "densenet121", "inception_v3", "vgg16")
BATCHES = (1, 8, 32)
MODES = ("inference", "training")
STEPS = 3
SMALL = 2**18  # bytes


def opened(name):
    """The network as `recipes.cost` builds it."""
    from recipes.costs.opening import open_model

    return open_model(name, None)[0]


def make_step(model, mode, batch):
    """A function without arguments that runs a step on a batch of noise, compiled."""
    import keras
    import tensorflow as tf

    shape = model.input_shape[1:]
    images, labels = tf.random.uniform((batch, *shape)), tf.zeros((batch,), tf.int32)
    signature = [tf.TensorSpec((None, *shape)), tf.TensorSpec((None,), tf.int32)]
    if mode == "inference":
        run = tf.function(lambda images, labels: model(images, training=False), signature, autograph=False)
        return lambda: run(images, labels)
    optimizer = keras.optimizers.AdamW(1e-3)
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy()

    def train(images, labels):
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        gradients = tape.gradient(value, [variable.value for variable in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        return value

    run = tf.function(train, signature, autograph=False)
    return lambda: run(images, labels)


def warm_up():
    """Make TensorFlow load what every network uses."""
    import keras

    image = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(image))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.DepthwiseConv2D(3)(x))
    make_step(keras.Model(image, keras.layers.Dense(3, activation="softmax")(x)), "training", 2)()


def resident(field):
    """Bytes of this process by a field of Linux's status: `VmRSS` now, `VmHWM` at most since it was reset."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def measure(name, mode, batch):
    """Peak bytes of TensorFlow's allocator and of the process."""
    import tensorflow as tf

    device = "GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0"
    warm_up()
    before = tf.config.experimental.get_memory_info(device)["current"]
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
    process = resident("VmRSS")
    model = opened(name)
    while gc.collect():  # of what the network was copied from, and then of what was kept for it by weak references
        pass
    step = make_step(model, mode, batch)
    for _ in range(STEPS):
        tf.config.experimental.reset_memory_stats(device)
        step()
    peak = tf.config.experimental.get_memory_info(device)["peak"]
    uncounted = 0 if device == "GPU:0" else small_bytes(model, copies=3 if mode == "training" else 1)
    return {"measured": peak - before + uncounted, "process": resident("VmHWM") - process}


def small_bytes(model, copies):
    """Bytes of the weights that a CPU's allocator does not count, `copies` times where they train: AdamW keeps two."""
    sizes = {weight.path: 4 * int(np.prod(weight.shape)) for weight in model.weights}
    times = {weight.path: copies for weight in model.trainable_weights}
    return sum(size * times.get(path, 1) for path, size in sizes.items() if size < SMALL)


def foretell(name, batch):
    """What `recipes.cost` says of both modes."""
    import time

    import recipes

    start = time.perf_counter()
    cost = recipes.cost(name, batch_size=batch)
    seconds = round(time.perf_counter() - start, 1)
    return {"inference": cost.inference_bytes, "training": cost.training_bytes, "seconds": seconds}


def fresh(*words):
    """The figures of a process of its own."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--child", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        name, batch, *mode = asked.child
        figures = measure(name, *mode, int(batch)) if mode else foretell(name, int(batch))
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    rows = []
    for name in asked.networks:
        for batch in asked.batches:
            told = fresh(name, batch)
            for mode in MODES:
                taken = fresh(name, batch, mode)
                megabytes = {key: round(size / 1e6, 1) for key, size in taken.items()}
                ratio = round(told[mode] / taken["measured"], 3)
                foretold = round(told[mode] / 1e6, 1)
                rows.append(
                    {"case": f"{name}, batch {batch}, {mode}", "foretold": foretold, **megabytes, "ratio": ratio}
                )
                sys.stderr.write(f"{rows[-1]}\n")
    worst = max(rows, key=lambda row: abs(row["ratio"] - 1))
    print_json(
        {
            "unit": "MB",
            "within_20_percent": sum(abs(row["ratio"] - 1) <= 0.2 for row in rows),
            "of": len(rows),
            "worst": worst,
            "cases": rows,
        }
    )


if __name__ == "__main__":
    main()
