"""Augmentation anew in every epoch, beside a number of views of each image that run through the frozen part once.

    python benchmarks/views.py --sets digits --per-class 10
    KERAS_HOME=keras_home python benchmarks/views.py --sets hymenoptera cifar10 fashion digits \\
        --hymenoptera hymenoptera_data/ --cifar10 cifar10_images/ --fashion fashion_mnist.npz --per-class 10 100

Subsets as in `plans.py`. Of each, the base is fine-tuned, 10 epochs of the head and 5 of the top blocks, with the
augmentation `"photo"`, digits with `"scan"`, which keeps their sides; from an empty cache, so that every run decodes;
the kinds alternate. `accuracy` is that on images that neither plan nor weights saw. Expect fifteen minutes for five
seeds of all `hymenoptera` on 2 cores, half of that for three of a hundred small images a class.
"""

import argparse
import os
import sys
import tempfile
import time

from machine import print_json
from sets import add_arguments, asked_cases, means, subset

import recipes

KINDS = {"live": None, "1 view": 1, "4 views": 4, "8 views": 8}


def measured(name, base, data, views, seed):
    """Accuracy and seconds of one run."""
    plan = [recipes.Stage("head", 10, 1e-3), recipes.Stage("top blocks", 5, 1e-3, top=0.1)]
    policy = "scan" if name == "digits" else "photo"
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        start = time.perf_counter()
        result = recipes.finetune(base, data, plan=plan, augmentation=policy, views=views, seed=seed, verbose=False)
        seconds = time.perf_counter() - start
    return {"accuracy": result.report.scores["accuracy"], "seconds": seconds}


def case(name, base, data, per_class, asked):
    """Figures of all kinds on one set at one size."""
    rows = []
    measured(name, base, subset(data, per_class, asked.test, 0), None, 0)  # which pays for what later ones find warm
    for seed in range(asked.seeds):
        part = subset(data, per_class, asked.test, seed)
        for kind, views in KINDS.items():
            rows.append({"kind": kind, "seed": seed, **measured(name, base, part, views, seed)})
            print(name, len(part.train), rows[-1], file=sys.stderr, flush=True)
    how_many = {"train_images": len(part.train), "test_images": len(part.test)}
    return {"set": name, "base": base, **how_many, "means": means(rows, "kind", 3), "runs": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, per_class=[10])
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    print_json({"seeds": asked.seeds, "cases": [case(*which, asked) for which in asked_cases(parser, asked)]})


if __name__ == "__main__":
    main()
