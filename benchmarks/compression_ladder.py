"""The ladder of `recipes.compress`: accuracy, size and latency after each rung, seed by seed.

    python benchmarks/compression_ladder.py --data hymenoptera_data/ --base mobilenet_v2_035 --image_size 224
    python benchmarks/compression_ladder.py --data cifar10/ --width 0.25 --image_size 32 --images 10000

Fine-tunes the base by the default plan, or trains a network shaped like VGG16, so many times as wide, from a random
start; then folds, removes units, factors and quantizes as far as two points of validation accuracy allow, each rung
measured as a LiteRT file of one image on this machine, all rungs in turn.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from low_rank import vgg16
from machine import print_json

import recipes
from recipes.data.loading import pick


def shortened(data, images):
    """The Data with at most so many training images, drawn evenly."""
    count = len(data.train)
    if images is None or images >= count:
        return data
    places = np.linspace(0, count - 1, images).astype(int)
    return dataclasses.replace(data, train=pick(data.train, places), fingerprint=f"{data.fingerprint}-{images}")


def run(data, asked, seed):
    """Figures of one seed."""
    base, weights = asked.base, None if asked.weights == "none" else asked.weights
    if asked.width is not None:
        base, weights = vgg16(asked.width), None
    settings = {
        "weights": weights,
        "epochs": asked.epochs,
        "seed": seed,
        "verbose": False,
        "augmentation": asked.augmentation,
    }
    began = time.monotonic()
    result = recipes.finetune(base, data, **settings)
    trained = time.monotonic() - began
    recovery = {"epochs": asked.recovery, "augmentation": asked.augmentation, "distillation": 0.5}
    small = recipes.compress(
        result, data, steps=asked.steps, max_drop=asked.max_drop, recovery=recovery, seed=seed, verbose=asked.verbose
    )
    sys.stderr.write(f"seed {seed}\n{small}\n")
    rungs = [dataclasses.asdict(rung) | {"notes": len(rung.notes)} for rung in small.rungs]
    return {
        "seed": seed,
        "split": small.report.split,
        "before": small.before.scores["accuracy"],
        "after": small.report.scores["accuracy"],
        "seconds_to_train": round(trained, 1),
        "seconds_to_compress": round(time.monotonic() - began - trained, 1),
        "rungs": rungs,
    }


def summary(runs):
    """Means over the seeds of what the whole ladder saved."""

    def ratio(field):
        return statistics.mean(_kept(one)[0][field] / _kept(one)[-1][field] for one in runs)

    return {
        "accuracy_before": statistics.mean(one["before"] for one in runs),
        "accuracy_after": statistics.mean(one["after"] for one in runs),
        **{f"{field}_ratio": round(ratio(field), 3) for field in ("stored_bytes", "milliseconds", "multiply_adds")},
    }


def _kept(one):
    return [rung for rung in one["rungs"] if rung["is_kept"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="anything that recipes.load_data takes")
    parser.add_argument("--base", default="mobilenet_v2_035")
    parser.add_argument("--width", type=float, help="of a network like VGG16 in place of the base, 1 for all filters")
    parser.add_argument("--weights", default="pretrained", help="pretrained, imagenet, or none")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--images", type=int, help="training images, at most")
    parser.add_argument("--epochs", type=int, help="of each stage of fine-tuning")
    parser.add_argument("--recovery", type=int, default=3, help="epochs of training after each level")
    parser.add_argument("--augmentation", default=None)
    parser.add_argument("--steps", nargs="+", default=["fold", "units", "low_rank", "quantize"])
    parser.add_argument("--max_drop", type=float, default=0.02)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--verbose", action="store_true")
    asked = parser.parse_args()
    data = shortened(recipes.load_data(asked.data, image_size=asked.image_size), asked.images)
    runs = [run(data, asked, seed) for seed in asked.seeds]
    print_json(
        {
            "arguments": vars(asked) | {"data": Path(asked.data).name},
            "data": repr(data),
            "mean": summary(runs),
            "runs": runs,
        }
    )


if __name__ == "__main__":
    main()
