"""What it brings on a CPU that TensorFlow keeps the memory of its tensors, as in commands and trials of a search.

    python benchmarks/kept_memory.py
    python benchmarks/kept_memory.py --onednn

Steps of training and of inference, in processes that take turns: as TensorFlow starts by itself, which is what a loop
written by hand gets, and with `TF_CPU_ALLOCATOR_USE_BFC=true`. The ratios are of the rounds, above 1 where keeping is
faster. The second command turns oneDNN on in both, which TensorFlow does by itself on some processors. Half an hour on
2 cores.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from machine import print_json

from recipes.bases import build_network

CASES = (
    ("train", "small_resnet", 32, 32),
    ("train", "mobilenet_v2", 224, 32),
    ("train", "resnet50", 224, 8),
    ("infer", "mobilenet_v2", 224, 1),
    ("infer", "mobilenet_v2", 224, 32),
    ("infer", "resnet50", 224, 1),
    ("infer", "vgg16", 224, 1),
    ("infer", "vgg16", 224, 16),
)
WAYS = {"by itself": "false", "kept": "true"}


def seconds_of(kind, base, size, batch, budget=4.0):
    """Median seconds of a step, of as many as fit into the budget."""
    import tensorflow as tf

    model = build_network(base, weights=None, image_size=size, class_count=10).model
    random = np.random.default_rng(0)
    images = tf.constant(random.uniform(0, 255, (batch, size, size, 3)).astype("float32"))
    if kind == "train":
        labels = tf.constant(random.integers(0, 10, batch))
        model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)

        def step():
            model.train_on_batch(images, labels)
    else:
        graph = tf.function(lambda images: model(images, training=False), autograph=False)

        def step():
            graph(images)

    taken = []
    for number in range(40):
        begin = time.perf_counter()
        step()
        if number > 1:  # the first one traces
            taken.append(time.perf_counter() - begin)
        if len(taken) > 2 and sum(taken) > budget:
            break
    return statistics.median(taken)


def run(way, is_onednn):
    """The seconds of all cases in a process of its own, and its largest memory in GiB."""
    environment = {**os.environ, "TF_CPU_ALLOCATOR_USE_BFC": WAYS[way], "TF_CPP_MIN_LOG_LEVEL": "3"}
    if is_onednn:
        environment["TF_ENABLE_ONEDNN_OPTS"] = "1"
    command = [sys.executable, __file__, "--child"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--onednn", action="store_true", help="turn oneDNN on in both")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        figures = {" ".join(map(str, case)): seconds_of(*case) for case in CASES}
        figures["GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    rounds = [{way: run(way, asked.onednn) for way in WAYS} for _ in range(asked.rounds)]
    ratios = {case: [one["by itself"][case] / one["kept"][case] for one in rounds] for case in rounds[0]["kept"]}
    print_json(
        {
            "ratio": {case: round(statistics.median(of), 3) for case, of in ratios.items()},
            "range": {case: [round(min(of), 3), round(max(of), 3)] for case, of in ratios.items()},
            "seconds": rounds,
            "oneDNN turned on": asked.onednn,
        }
    )


if __name__ == "__main__":
    main()
