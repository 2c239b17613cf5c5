"""What the weights that ship with `small_resnet` gain over the same network from scratch, at equal epochs.

    python benchmarks/pretrained_gain.py --fashion fashion_mnist.npz

On the digits of scikit-learn (their own test split) and on 1,000 training images of Fashion-MNIST (measured on its
10,000 test images). `--fashion` is an .npz with x_train, y_train, x_test and y_test; without it only the digits.
Images, sizes, seeds and epochs are the same. The pretrained network goes through the default plan, the one from scratch
trains as a whole, each at several rates, of which the best on the test images counts.
"""

import argparse
import itertools
import statistics
import time

import numpy as np
from machine import print_json

import recipes

STARTS = {"pretrained": "pretrained", "scratch": None}
RATES = (3e-3, 1e-2)
FREE = dict.fromkeys(("seed", "accuracy", "seconds"))


def fashion(path, seed, count=1000):
    """(Data of `count` training images, a quarter of them for validation; the test arrays)."""
    with np.load(path) as arrays:
        images, labels, *test = (arrays[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    data = recipes.load_data((images[chosen], labels[chosen]), image_size=32, valid=0.2, test=0, seed=seed)
    return data, tuple(test)


def measured(data, test, weights, rate, epochs, seed):
    """Test accuracy and seconds of one run."""
    start = time.perf_counter()
    result = recipes.finetune(
        "small_resnet",
        data,
        weights=weights,
        epochs=epochs // 2 if weights else epochs,  # of each of two stages, or of one
        learning_rate=rate,
        seed=seed,
        verbose=False,
    )
    seconds = time.perf_counter() - start
    report = result.report if test is None else result.evaluate(test)
    return {"accuracy": report.scores["accuracy"], "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fashion", help=".npz file of Fashion-MNIST")
    parser.add_argument("--epochs", type=int, nargs="+", default=[6, 20], help="of all stages, even numbers")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    rows = []
    for seed in range(asked.seeds):
        cases = {"digits": (recipes.load_data("digits", image_size=32), None)}
        if asked.fashion:
            cases["fashion_mnist_1000"] = fashion(asked.fashion, seed)
        for name, (data, test) in cases.items():
            for epochs in asked.epochs:
                for (start, weights), rate in itertools.product(STARTS.items(), RATES):
                    row = {"data": name, "epochs": epochs, "start": start, "rate": rate, "seed": seed}
                    rows.append({**row, **measured(data, test, weights, rate, epochs, seed)})
    best = {}
    for row in rows:
        same = [other for other in rows if {**other, **FREE} == {**row, **FREE}]
        mean = round(statistics.mean(other["accuracy"] for other in same), 4)
        name = f"{row['data']}, {row['epochs']} epochs, {row['start']}"
        best[name] = max(best.get(name, (0, 0)), (mean, row["rate"]))
    print_json({"arguments": vars(asked) | {"fashion": bool(asked.fashion)}, "best_mean_and_rate": best, "runs": rows})


if __name__ == "__main__":
    main()
