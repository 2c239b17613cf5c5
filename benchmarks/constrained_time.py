"""Deeper or wider at the same cost: plain networks of 3 to 24 convolutions on CIFAR-10, by `redesign` and `search`.

    python benchmarks/constrained_time.py --data cifar10_images/ --batch_normalization --kernel_sizes 3 --out deeper/

Trains on the first images of each class of the train folder. Measures on half as many of the test folder after each
epoch, and takes the best epoch. All have the same epochs, Adam, and a rate that warms up and falls along a cosine. The
networks of He & Sun 2014 have no BatchNormalization, and take far longer to train; without the flag, neither have
these. Expect six convolutions to beat three by one or two points, nine to be worse than three, and more to be worse
still, in a quarter of an hour on one core. The same call goes on where it was stopped.
"""

import argparse
import statistics

import keras
from from_scratch import table
from machine import print_json

import recipes

BATCH = 64


def alternatives(depths, kernel_sizes):
    """Networks of the same cost with equally deep stages and one kernel size, their training steps timed."""
    stages = [recipes.ConvStage(2, 24, strides=2), recipes.ConvStage(2, 48, pool=2), recipes.ConvStage(2, 96, pool=2)]

    def is_even(design):
        kinds = {(stage.depth, stage.kernel_size) for stage in design.stages}
        return len(kinds) == 1 and design.depth in depths and design.stages[0].kernel_size in kernel_sizes

    return recipes.redesign(stages, image_size=32, classes=10).only(is_even).timed("train", batch_size=BATCH)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with train and test folders")
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 6, 9, 12, 24])
    parser.add_argument("--kernel_sizes", type=int, nargs="+", default=[2, 3, 5])
    parser.add_argument("--batch_normalization", action="store_true")
    parser.add_argument("--out", help="folder for the search")
    asked = parser.parse_args()
    designs = alternatives(asked.depths, asked.kernel_sizes)
    rows = table(asked.data, asked.images, asked.images // 2)
    rows["split"] = ["valid" if split == "test" else split for split in rows["split"]]
    data = recipes.load_data(rows, image_size=32)
    steps = asked.epochs * -(-len(data.train) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 10, warmup_target=asked.learning_rate, warmup_steps=steps // 10
    )
    found = recipes.search(
        data,
        build=designs.builder(keras.optimizers.Adam(rate), asked.batch_normalization),
        space={"seed": tuple(asked.seeds)},
        settings={"epochs": asked.epochs, "batch_size": BATCH, "augmentation": "flip", "patience": None},
        method="grid",
        out=asked.out,
    )
    print_json({"arguments": vars(asked), "designs": [row(design, found) for design in designs]})


def row(design, found):
    """What a design is, and what it came to over the seeds."""
    trials = [trial for trial in found.trials if trial.settings["design"] == design.name]
    accuracies = [trial.scores["val_accuracy"] for trial in trials if trial.score is not None]
    return {
        "name": design.name,
        "depth": design.depth,
        "cost_ratio": round(design.ratio, 3),
        "time_ratio": round(design.time_ratio, 2),
        "parameters": design.parameters,
        "accuracies": accuracies,
        "mean_accuracy": round(statistics.mean(accuracies), 4) if accuracies else None,
        "seconds": [round(trial.seconds, 1) for trial in trials],
    }


if __name__ == "__main__":
    main()
