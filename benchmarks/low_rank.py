"""What low rank is worth on VGG16: accuracy, multiply-adds and milliseconds, before and after.

    python benchmarks/low_rank.py --data cifar10_images/ --images 20000 --seeds 3
    python benchmarks/low_rank.py --data cifar10_images/ --images 8000 --epochs 10 --recovery 2 --seeds 3
    python benchmarks/low_rank.py --data cifar10_images/ --images 3000 --width 0.25 --epochs 6 --recovery 1 --large ""

Trains a network of VGG16's thirteen convolutions, each followed by BatchNormalization and `width` times as wide, at 32
pixels from a random start; factors it as far as one point of validation accuracy allows; and times both, their
normalization folded, one image at a time, in turn. Before, it tries each kind of factors at half the multiply-adds
without training, with and without fitting to images. At last it takes as much away from VGG16 itself at 224 pixels,
with random weights, for its milliseconds alone. The README's figures are of the second command, which takes an hour or
two on 2 cores; the third takes some minutes.
"""

import argparse
import statistics

import keras
import numpy as np
from from_scratch import table
from machine import milliseconds, print_json

import recipes
from recipes.compression.factoring import factored

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
MAX_DROP = 0.01


def vgg16(width):
    """The convolutions of Simonyan and Zisserman 2015, table 1 D, at 32 pixels."""
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    for block, (count, filters) in enumerate(BLOCKS, start=1):
        for number in range(1, count + 1):
            x = keras.layers.Conv2D(
                round(width * filters),
                3,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                name=f"block{block}_conv{number}",
            )(x)
            x = keras.layers.BatchNormalization(name=f"block{block}_norm{number}")(x)
            x = keras.layers.ReLU(name=f"block{block}_relu{number}")(x)
        x = keras.layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return keras.Model(image, x, name="vgg16")


def untrained(result):
    """Test accuracy with half the multiply-adds, before any training."""
    none = recipes.Recovery(epochs=0)
    rows = []
    for kind in ("spatial", "tucker", "auto"):
        for is_fitted in (False, True):
            options = {"kind": kind, "is_fitted": is_fitted, "max_drop": None, "recovery": none, "verbose": False}
            small = recipes.factor(result, fraction=0.5, **options)
            rows.append({"kind": kind, "is_fitted": is_fitted, "accuracy": small.report.scores["accuracy"]})
    return rows


def run(data, asked, seed):
    """Figures of one seed."""
    options = {"batch_size": 64, "augmentation": "flip", "seed": seed, "verbose": False}
    result = recipes.finetune(
        vgg16(asked.width), data, weights=None, epochs=asked.epochs, learning_rate=asked.learning_rate, **options
    )
    recovery = recipes.Recovery(epochs=asked.recovery, batch_size=64, augmentation="flip", learning_rate=3e-4)
    rows = untrained(result)
    small = recipes.factor(result, max_drop=MAX_DROP, recovery=recovery, seed=seed, verbose=False)
    kept = [rung for rung in small.rungs if rung.is_kept]
    times = milliseconds({"before": recipes.fold(result.model), "after": recipes.fold(small.model)}, rounds=31)
    return {
        "seed": seed,
        "accuracy": {"before": small.before.scores["accuracy"], "after": small.report.scores["accuracy"]},
        "multiply_adds": {"before": kept[0].multiply_adds, "after": kept[-1].multiply_adds},
        "parameters": {"before": kept[0].parameters, "after": kept[-1].parameters},
        "stored_bytes": {"before": kept[0].stored_bytes, "after": kept[-1].stored_bytes},
        "milliseconds": times,
        "speedup": round(times["before"]["median"] / times["after"]["median"], 2),
        "rungs": [[rung.name, rung.accuracy, rung.multiply_adds, rung.is_kept] for rung in small.rungs],
        "ranks": {layer.name: layer.filters for layer in small.model.layers if hasattr(layer, "filters")},
        "at_half_untrained": rows,
    }


def large(fraction, rounds=7):
    """Milliseconds of VGG16 at 224 pixels, with random weights, before and after."""
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    model = keras.Model(base.input, keras.layers.Dense(1000, activation="softmax")(pooled))
    small, _ = factored(model, fraction=fraction)
    times = milliseconds({"before": model, "after": small}, rounds=rounds)
    adds = {
        name: recipes.cost(one, optimizer=None).multiply_adds for name, one in (("before", model), ("after", small))
    }
    return {
        "multiply_adds": adds,
        "milliseconds": times,
        "speedup": round(times["before"]["median"] / times["after"]["median"], 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with train and test folders")
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--recovery", type=int, default=4, help="epochs after each step")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--large", default="yes", help="empty: without VGG16 at 224 pixels")
    asked = parser.parse_args()
    data = recipes.load_data(table(asked.data, asked.images, max(asked.images // 4, 1000)), image_size=32, valid=0.2)
    runs = [run(data, asked, seed) for seed in range(asked.seeds)]
    removed = [1 - row["multiply_adds"]["after"] / row["multiply_adds"]["before"] for row in runs]
    figures = {
        "arguments": vars(asked),
        "runs": runs,
        "points_lost": [round(100 * (row["accuracy"]["before"] - row["accuracy"]["after"]), 2) for row in runs],
        "multiply_adds_removed": [round(part, 3) for part in removed],
        "mean_speedup": round(float(np.mean([row["speedup"] for row in runs])), 2),
    }
    if asked.large and max(removed) > 0:
        figures["vgg16_at_224_random_weights"] = large(statistics.median(removed))
    print_json(figures)


if __name__ == "__main__":
    main()
