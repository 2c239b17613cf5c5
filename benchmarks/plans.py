"""What the plan is worth: fixed plans and `plan="auto"` on data sets of several sizes, accuracy and seconds.

    python benchmarks/plans.py --sets digits --per-class 10 50
    KERAS_HOME=keras_home python benchmarks/plans.py --sets hymenoptera cifar10 fashion digits \\
        --hymenoptera hymenoptera_data/ --cifar10 cifar10_images/ --fashion fashion_mnist.npz --per-class 10 100 1000

Of each set, so many training images a class are taken (of `hymenoptera` all, too) and a fourth as many for validation,
the same for all plans and others for each seed. A plan is chosen and trained on these; its accuracy is that on at most
`--test` images that neither plan nor weights saw. `hymenoptera` has no test split: a third of its val folder serves for
validation, the rest is measured. `seconds` are those of the call with an empty cache, in which `auto` also measures.
`auto_behind_best` is by how much `auto` is behind the best fixed plan, in the mean over the seeds; below 0 it is ahead.
Each run is printed to stderr as it ends. With the first line expect six minutes on 2 cores; of 10,000 images, a plan
that trains most of the network takes about an hour, which `--epochs` bounds.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import print_json

import recipes
from recipes.data.loading import pick

PLANS = ("head", "default", "all", "auto")
SETS = ("hymenoptera", "cifar10", "fashion", "digits")
# Which base is tried on which set: photos at 224 pixels, small images at 32.
BASES = {
    "hymenoptera": "mobilenet_v2_035",
    "cifar10": "small_resnet",
    "fashion": "small_resnet",
    "digits": "small_resnet",
}


def load(name, base, asked):
    """The Data of a set at the size of a base, with as large a test split as there is."""
    size = 224 if base.startswith("mobilenet") else 32
    if name == "digits":
        return recipes.load_data("digits", image_size=size, valid=0.15, test=0.4)
    if name == "fashion":
        with np.load(asked.fashion) as arrays:
            x = np.concatenate([arrays["x_train"], arrays["x_test"]])
            y = np.concatenate([arrays["y_train"], arrays["y_test"]])
        taken = np.random.default_rng(0).permutation(len(x))[: asked.pool]
        return recipes.load_data((x[taken], y[taken]), image_size=size, valid=0.2, test=0.2)
    if name == "cifar10":
        return recipes.load_data(asked.cifar10, image_size=size, valid=0.2, test=0.2)
    data = recipes.load_data(asked.hymenoptera, image_size=size)
    return data if len(data.test) else divided(data)


def divided(data):
    """A third of the validation images stays, the rest becomes the test split."""
    order = np.argsort([digest.hex() for digest in data.valid.digests])
    third = len(order) // 3
    valid, test = (pick(data.valid, np.sort(places)) for places in (order[:third], order[third:]))
    return dataclasses.replace(data, valid=valid, test=test)


def subset(data, per_class, most, seed):
    """So many training images a class, a fourth as many for validation, and at most `most` to measure."""
    random = np.random.default_rng(seed)

    def some(split, count):
        groups = [random.permutation(np.flatnonzero(split.labels == label)) for label in np.unique(split.labels)]
        return pick(split, np.sort(np.concatenate([group[:count] for group in groups])))

    train = data.train if per_class is None else some(data.train, per_class)
    valid = data.valid if per_class is None else some(data.valid, max(2, per_class // 4))
    test = some(data.test, -(-most // len(data.class_names)))
    return dataclasses.replace(data, train=train, valid=valid, test=test)


def run(data, base, plan, seed, epochs):
    """Figures of one plan."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        start = time.monotonic()
        result = recipes.finetune(base, data, plan=plan, seed=seed, epochs=epochs, verbose=False)
        seconds = time.monotonic() - start
    figures = {"plan": plan, "seed": seed, "accuracy": result.report.scores["accuracy"], "seconds": round(seconds, 1)}
    if plan == "auto":
        chosen = result.report.settings["chosen"]
        figures |= {name: chosen[name] for name in ("features", "head_start", "reason")} | {"chosen": chosen["plan"]}
        figures["seconds_choosing"] = round(result.report.seconds["choosing"], 1)
    return figures


def case(name, base, data, per_class, asked):
    """Figures of all plans on one set at one size."""
    rows = []
    for seed in range(asked.seeds):
        part = subset(data, per_class, asked.test, seed)
        for plan in PLANS:
            rows.append(run(part, base, plan, seed, asked.epochs))
            print(name, len(part.train), rows[-1], file=sys.stderr, flush=True)
    means = {
        plan: {
            what: round(statistics.mean(row[what] for row in rows if row["plan"] == plan), 4)
            for what in ("accuracy", "seconds")
        }
        for plan in PLANS
    }
    best = max(means[plan]["accuracy"] for plan in PLANS if plan != "auto")
    return {
        "set": name,
        "base": base,
        "per_class": per_class or round(len(part.train) / len(data.class_names)),
        "images": {split: len(getattr(part, split)) for split in ("train", "valid", "test")},
        "means": means,
        "auto_behind_best": round(best - means["auto"]["accuracy"], 4),
        "runs": rows,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["digits"])
    parser.add_argument("--per-class", nargs="+", type=int, default=[10, 50], help="training images")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="most epochs of each stage, instead of the plan's own")
    parser.add_argument("--test", type=int, default=2000, help="most images that are measured")
    parser.add_argument("--pool", type=int, default=30000, help="images of fashion that the subsets are drawn from")
    parser.add_argument("--base", help="instead of the one for each set")
    parser.add_argument("--hymenoptera", type=Path, help="folder with train and val folders")
    parser.add_argument("--cifar10", type=Path, help="folder with a folder of images a class")
    parser.add_argument("--fashion", type=Path, help="fashion_mnist.npz")
    asked = parser.parse_args()
    for name in asked.sets:
        if name != "digits" and getattr(asked, name) is None:
            parser.error(f"--sets {name} needs --{name}")
    cases = []
    for name in asked.sets:
        base = asked.base or BASES[name]
        data = load(name, base, asked)
        most = np.bincount(data.train.labels).min()
        sizes = [count for count in asked.per_class if count <= most] + [None] * (name == "hymenoptera")
        cases += [case(name, base, data, per_class, asked) for per_class in sizes]
    print_json({"seeds": asked.seeds, "epochs": asked.epochs, "cases": cases})


if __name__ == "__main__":
    main()
