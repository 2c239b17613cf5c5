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
import os
import sys
import tempfile
import time

from machine import print_json
from sets import add_arguments, asked_cases, means, subset

import recipes

PLANS = ("head", "default", "all", "auto")


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
    by_plan = means(rows, "plan", 4)
    best = max(by_plan[plan]["accuracy"] for plan in PLANS if plan != "auto")
    return {
        "set": name,
        "base": base,
        "per_class": per_class or round(len(part.train) / len(data.class_names)),
        "images": {split: len(getattr(part, split)) for split in ("train", "valid", "test")},
        "means": by_plan,
        "auto_behind_best": round(best - by_plan["auto"]["accuracy"], 4),
        "runs": rows,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, per_class=[10, 50])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="most epochs of each stage, instead of the plan's own")
    asked = parser.parse_args()
    cases = [case(*which, asked) for which in asked_cases(parser, asked)]
    print_json({"seeds": asked.seeds, "epochs": asked.epochs, "cases": cases})


if __name__ == "__main__":
    main()
