"""How long probing takes, and how well it ranks bases by what they come to when they are fine-tuned.

    python benchmarks/probing.py --data digits
    KERAS_HOME=keras_home python benchmarks/probing.py --data hymenoptera_data/ \\
        --bases mobilenet_025 mobilenet_v2_035 small_resnet squeezenet:none

A base called `NAME:none` has random weights. Each base is probed once with empty caches and once more; then it is
fine-tuned by `--plan`, each seed anew. `rank_correlation` is Spearman's, over the bases, of the best linear accuracy
(and of the nearest neighbours' best) with the mean accuracy after fine-tuning; with as few bases as these it is a hint
and no more. `seconds_per_thousand` are of features and classifiers together. With `--data digits` expect four minutes
on 2 cores.
"""

import argparse
import os
import statistics
import tempfile
import time

import numpy as np
from machine import print_json
from scipy.stats import spearmanr

import recipes

BASES = ("small_resnet", "small_resnet:none", "cifar_resnet20:none", "cifar_densenet40:none")


def named(text):
    """(name, weights) of a base as the command line has it."""
    name, _, weights = text.partition(":")
    return name, None if weights == "none" else weights or "pretrained"


def probed(text, data, seed):
    """Figures of probing one base, twice."""
    name, weights = named(text)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        times, found = [], []
        for _ in range(2):
            start = time.monotonic()
            found.append(recipes.probe(name, data, weights=weights, seed=seed, verbose=False))
            times.append(time.monotonic() - start)
    first = found[0]
    (features,) = first.feature_seconds.values()
    classifiers = sum(row.classifier_seconds for row in first.rows)
    return {
        "base": text,
        "images": first.images,
        "features_seconds": round(features, 2),
        "classifiers_seconds": round(classifiers, 2),
        "seconds_per_thousand": round(1000 * (features + classifiers) / max(1, *first.computed.values()), 2),
        "call_seconds": [round(value, 2) for value in times],
        "linear": {row.block: round(row.linear, 4) for row in first.rows},
        "best_linear": first.best.linear,
        "best_neighbours": max(row.neighbours for row in first.rows),
    }


def tuned(text, data, plan, epochs, seeds):
    """Test accuracies of one base, fine-tuned, and the seconds of all."""
    name, weights = named(text)
    start, accuracies = time.monotonic(), []
    for seed in range(seeds):
        result = recipes.finetune(name, data, weights=weights, plan=plan, epochs=epochs, seed=seed, verbose=False)
        accuracies.append(result.report.scores["accuracy"])
    return {"tuned": accuracies, "tuned_seconds": round(time.monotonic() - start, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="anything that recipes.load_data takes")
    parser.add_argument("--bases", nargs="+", default=BASES)
    parser.add_argument("--plan", default="default", help="of fine-tuning")
    parser.add_argument("--epochs", type=int, help="of each stage")
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    rows = []
    for text in asked.bases:
        figures = probed(text, asked.data, 0)
        rows.append(figures | tuned(text, asked.data, asked.plan, asked.epochs, asked.seeds))
    after = [statistics.mean(row["tuned"]) for row in rows]
    ranks = {
        name: round(float(spearmanr([row[name] for row in rows], after).statistic), 3)
        for name in ("best_linear", "best_neighbours")
        if len(rows) > 2 and np.ptp(after)
    }
    print_json({"data": asked.data, "plan": asked.plan, "rank_correlation": ranks, "bases": rows})


if __name__ == "__main__":
    main()
