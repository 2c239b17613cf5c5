"""Fine-tuning with the frozen part run once, beside Keras' transfer-learning guide written out plainly.

    KERAS_HOME=keras_home python benchmarks/frozen_prefix.py --data hymenoptera_data/

`--data` has folders train and val with a folder per class. Each run is a process of its own; the kinds alternate: the
guide's loop, which trains the whole base in its second stage; the same loop with no more than our top blocks in it;
ours from an empty cache; and ours again with what the run before left. All train 10 epochs of the head and then 5, at
224 pixels and batches of 32. Seconds are from the call, libraries imported, to the report. Expect ten minutes for three
rounds of `mobilenet_v2_035` on 2 cores; `--base vgg16 --weights none` takes hours.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import print_json

HEAD_EPOCHS, BLOCK_EPOCHS, SIZE, BATCH = 10, 5, 224, 32
KINDS = ("guide", "guide, top blocks", "recipes, empty cache", "recipes, second run")
# The top blocks: how many (None for a third), and the layer they begin with.
TOP = {"mobilenet_v2_035": (None, "block_11_expand"), "vgg16": (1, "block5_conv1")}


def guide(asked):
    """The guide's loop: frozen epochs through the base, then fine-tuning of the base, or its top, at a low rate."""
    import keras

    keras.utils.set_random_seed(asked.seed)
    bases = {
        "mobilenet_v2_035": (
            lambda **a: keras.applications.MobileNetV2(alpha=0.35, **a),
            keras.applications.mobilenet_v2,
        ),
        "vgg16": (keras.applications.VGG16, keras.applications.vgg16),
    }
    constructor, module = bases[asked.base]

    def begin():
        options = {"image_size": (SIZE, SIZE), "batch_size": BATCH, "verbose": False}
        read = keras.utils.image_dataset_from_directory
        train, valid = (read(Path(asked.data, name), **options).prefetch(2) for name in ("train", "val"))
        base = constructor(include_top=False, weights=asked.weights, input_shape=(SIZE, SIZE, 3))
        base.trainable = False
        image = keras.Input((SIZE, SIZE, 3))
        features = base(module.preprocess_input(image), training=False)
        features = keras.layers.GlobalAveragePooling2D()(features)
        model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(features))
        settings = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
        model.compile(keras.optimizers.AdamW(1e-3), **settings)
        model.fit(train, epochs=HEAD_EPOCHS, validation_data=valid, verbose=0)
        base.trainable = True
        names = [layer.name for layer in base.layers]
        for layer in base.layers[: names.index(TOP[asked.base][1]) if asked.child != "guide" else 0]:
            layer.trainable = False
        model.compile(keras.optimizers.AdamW(1e-5), **settings)
        model.fit(train, epochs=BLOCK_EPOCHS, validation_data=valid, verbose=0)
        return model.evaluate(valid, verbose=0)[1]

    return begin


def ours(asked):
    import recipes

    def begin():
        result = recipes.finetune(
            asked.base,
            asked.data,
            weights=asked.weights or asked.random_weights,
            image_size=SIZE,
            plan=[
                recipes.Stage("head", HEAD_EPOCHS, 1e-3),
                recipes.Stage("top blocks", BLOCK_EPOCHS, 1e-3, top=0.1, top_blocks=TOP[asked.base][0]),
            ],
            batch_size=BATCH,
            seed=asked.seed,
            verbose=asked.verbose,
        )
        return result.report.scores["accuracy"]

    return begin


def child(asked):
    """One run; its figures as JSON on the last line."""
    import tensorflow as tf

    import recipes.finetuning  # noqa: F401 (both kinds pay for no import)

    tf.config.list_physical_devices()
    begin = guide(asked) if asked.child.startswith("guide") else ours(asked)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    accuracy = begin()
    seconds = time.perf_counter() - start
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    sys.stdout.write(json.dumps({"seconds": seconds, "accuracy": accuracy, "peak_mb_above_import": memory}) + "\n")


def run(kind, asked, seed, folder):
    words = [sys.executable, __file__, "--child", kind, "--seed", str(seed), "--data", asked.data, "--base", asked.base]
    words += ["--weights", asked.weights or "none", "--random_weights", asked.random_weights]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    if not kind.startswith("guide"):
        figures["disk_mb"] = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    return {"kind": kind, "seed": seed, **figures}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with train and val folders")
    parser.add_argument("--base", default="mobilenet_v2_035", choices=("mobilenet_v2_035", "vgg16"))
    parser.add_argument("--weights", default="imagenet", help="imagenet, or none for random ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--random_weights", default="", help="file of random weights, made when there is none")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--verbose", action="store_true")
    asked = parser.parse_args()
    asked.weights = None if asked.weights == "none" else asked.weights
    if asked.child:
        child(asked)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if asked.weights is None:
            # Without weights finetune trains everything; from a file, it treats random weights as trained ones.
            import recipes.bases

            asked.random_weights = str(Path(folder, "random.weights.h5"))
            base = recipes.bases.find_base(asked.base).constructor
            base(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)).save_weights(asked.random_weights)
        for seed in range(asked.rounds):
            cache = Path(folder, "cache")
            shutil.rmtree(cache, ignore_errors=True)
            cache.mkdir()
            rows += [run(kind, asked, seed, cache) for kind in asked.kinds]
    medians = {
        kind: {
            name: round(statistics.median(row[name] for row in rows if row["kind"] == kind), 3)
            for name in ("seconds", "accuracy", "peak_mb_above_import")
        }
        for kind in asked.kinds
    }
    slow, fast = ([kind for kind in asked.kinds if kind.startswith("guide") is is_slow] for is_slow in (True, False))
    ratios = {
        f"{one} / {other}": round(medians[one]["seconds"] / medians[other]["seconds"], 2)
        for one in slow
        for other in fast
    }
    arguments = {"base": asked.base, "weights": asked.weights, "rounds": asked.rounds}
    print_json({"arguments": arguments, "medians": medians, "ratios": ratios, "runs": rows})


if __name__ == "__main__":
    main()
