"""What `ema`, `stochastic_depth`, `label_smoothing` and `dropout` gain on few images, each by itself and all at once.

    python benchmarks/regularising.py --fashion fashion_mnist.npz --images 1000 --epochs 6 --seeds 2

All of `small_resnet` trains, from its weights of CIFAR-10, on so many images of Fashion-MNIST, a fifth of them for
validation; measured on 4,000 test images. Images, rate, epochs and seeds are the same for all; gains are in points of
accuracy against the run of the same seed without. Expect a minute and a half a run on a core, six runs a seed.
"""

import argparse
import statistics
import time

import numpy as np
from machine import print_json

import recipes

WAYS = {
    "plain": {},
    "ema": {"ema": 0.97},  # goes back over an epoch of 1,000 images
    "stochastic_depth": {"stochastic_depth": 0.2},
    "label_smoothing": {"label_smoothing": 0.1},
    "dropout": {"dropout": 0.2},
    "all of them": {"ema": 0.97, "stochastic_depth": 0.2, "label_smoothing": 0.1, "dropout": 0.2},
}


def load(path, images, seed):
    """(Data of so many training images, the test arrays)."""
    with np.load(path) as arrays:
        x, y = arrays["x_train"], arrays["y_train"]
        test = arrays["x_test"][:4000], arrays["y_test"][:4000]
    chosen = np.random.default_rng(seed).permutation(len(x))[:images]
    return recipes.load_data((x[chosen], y[chosen]), image_size=32, valid=0.2, test=0, seed=seed), test


def run(data, test, way, epochs, seed):
    """Figures of one run."""
    start = time.monotonic()
    options = {"plan": "all", "epochs": epochs, "patience": None, "seed": seed, "verbose": False}
    result = recipes.finetune("small_resnet", data, **options, **WAYS[way])
    seconds = time.monotonic() - start
    scores = result.evaluate(test).scores
    return {"way": way, "seed": seed, "accuracy": scores["accuracy"], "loss": scores["loss"], "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fashion", required=True, help="fashion_mnist.npz")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    rows = []
    for seed in range(asked.seeds):
        data, test = load(asked.fashion, asked.images, seed)
        rows += [run(data, test, way, asked.epochs, seed) for way in WAYS]
    plain = {row["seed"]: row for row in rows if row["way"] == "plain"}
    gains = {
        way: [round(100 * (row["accuracy"] - plain[row["seed"]]["accuracy"]), 2) for row in rows if row["way"] == way]
        for way in WAYS
    }
    means = {way: round(statistics.mean(values), 2) for way, values in gains.items()}
    print_json({"arguments": vars(asked), "mean_gain_in_points": means, "gains": gains, "runs": rows})


if __name__ == "__main__":
    main()
