"""Peak memory and time of training a dense block, keeping or computing again what the backward pass needs.

    python benchmarks/dense_block_memory.py

One process for each measurement, in turn; the peak of resident memory is what a process has used above its own peak
before the first step. Runs on the backend that KERAS_BACKEND names.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from machine import print_json

MODES = {"plain": False, "remat": True}


def peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(depth, remat, batch, steps):
    """Build one block of growth 12 on 24 channels of 32×32 pixels, train it, print what that took as JSON."""
    import keras
    import numpy as np

    import layers

    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 24))
    x = layers.DenseBlock(depth, 12, remat=remat)(image)
    model = keras.Model(image, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, jit_compile=keras.backend.backend() == "jax")
    random = np.random.default_rng(0)
    images = random.normal(size=(batch, 32, 32, 24)).astype("float32")
    labels = random.integers(0, 10, batch)
    before, seconds, losses = peak_megabytes(), [], []
    for _ in range(steps + 1):
        began = time.perf_counter()
        losses.append(float(model.train_on_batch(images, labels)))
        seconds.append(time.perf_counter() - began)
    figures = {"megabytes": peak_megabytes() - before, "seconds": statistics.median(seconds[1:]), "loss": losses[-1]}
    sys.stdout.write(json.dumps(figures) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 40])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=2, metavar=("DEPTH", "MODE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(int(given.measure[0]), MODES[given.measure[1]], given.batch, given.steps)
        return
    runs = {(depth, mode): [] for depth in given.depths for mode in MODES}
    for _ in range(given.rounds):
        for depth, mode in runs:
            command = [sys.executable, __file__, "--measure", str(depth), mode]
            sizes = ["--batch", str(given.batch), "--steps", str(given.steps)]
            done = subprocess.run([*command, *sizes], check=True, capture_output=True, text=True)
            runs[depth, mode].append(json.loads(done.stdout.splitlines()[-1]))
    figures = {
        f"{depth} layers, {mode}": {
            key: {"median": statistics.median(values), "least": min(values), "most": max(values)}
            for key in ("megabytes", "seconds", "loss")
            for values in [[run[key] for run in measured]]
        }
        for (depth, mode), measured in runs.items()
    }
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    print_json({"backend": backend, "batch": given.batch, "steps": given.steps, "rounds": given.rounds, **figures})


if __name__ == "__main__":
    main()
