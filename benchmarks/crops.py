"""Averages over crops, five scales, an ensemble and averaged snapshots: accuracy and cost beside a single crop.

    KERAS_HOME=keras_home python benchmarks/crops.py --data hymenoptera_data/ --base mobilenet_025
    python benchmarks/crops.py --data cifar10_images/ --base small_resnet --size 32 --most 600

`--data` is anything that `recipes.load_data` takes. Trains the head on frozen features with three seeds, measures each
with a single crop and with each kind of crops, on the same held-out files, then the three as an ensemble. Expect two
minutes on 2 cores for 398 photos.
"""

import argparse
import os
import statistics
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from machine import print_json

KINDS = (
    (2, "probabilities"),
    (10, "probabilities"),
    (10, "logits"),
    ("resnet", "logits"),
)


def thinned(data, most):
    """The Data with at most so many images in each split, drawn of all classes."""
    random = np.random.default_rng(0)
    import dataclasses

    from recipes.data.loading import pick

    parts = {name: getattr(data, name) for name in ("train", "valid", "test")}
    places = {name: np.sort(random.permutation(len(part))[:most]) for name, part in parts.items()}
    return dataclasses.replace(data, **{name: pick(part, places[name]) for name, part in parts.items()})


def told(report):
    """The figures of one report."""
    found = {name: round(report.scores[name], 4) for name in ("accuracy", "loss")}
    if report.crops:
        found |= {name: round(report.crops[name], 2) for name in ("passes", "milliseconds", "single_milliseconds")}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--base", default="mobilenet_025")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--most", type=int, default=10**9, help="images of each split")
    parser.add_argument("--plan", default="head")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        import recipes

        data = thinned(recipes.load_data(asked.data, image_size=asked.size), asked.most)
        options = {"plan": asked.plan, "epochs": asked.epochs, "verbose": False}
        results, rows = [], {}
        for seed in range(asked.seeds):
            result = recipes.finetune(asked.base, data, seed=seed, **options)
            results.append(result)
            rows.setdefault("single crop", []).append(told(recipes.evaluate(result, data)))
            for crops, average in KINDS:
                report = recipes.evaluate(result, data, crops=crops, average=average)
                rows.setdefault(f"{crops} {average}", []).append(told(report))
            averaged = recipes.finetune(asked.base, data, seed=seed, snapshots=5, patience=None, **options)
            rows.setdefault("average of 5 snapshots", []).append(told(averaged.report))
        if len(results) > 1:
            rows["ensemble"] = [told(recipes.ensemble(results).report)]
            rows["ensemble, 10 crops"] = [told(recipes.evaluate(recipes.ensemble(results), data, crops=10))]
    means = {
        kind: {name: round(statistics.mean(row[name] for row in found), 4) for name in found[0]}
        for kind, found in rows.items()
    }
    print_json({"images": len(data.test) or len(data.valid), "means": means, "runs": rows})


if __name__ == "__main__":
    main()
