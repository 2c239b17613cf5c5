"""Whether plain networks start well: `vgg16` from a random start at 32 pixels on 5,000 CIFAR-10 images.

    python benchmarks/from_scratch.py --data cifar10_images/ --images 5000

Takes the first images of each class of the train folder, and a tenth of the test folder. Thirteen convolutions without
BatchNormalization stand still at chance (0.10) when they are initialised for linear networks; expect well above 0.4
after 12 epochs, in about 10 minutes on 2 cores.
"""

import argparse
from pathlib import Path

from machine import print_json

import recipes


def table(folder, images, test_images):
    """Rows (image, label, split) with an equal share of every class."""
    rows = {"image": [], "label": [], "split": []}
    for split, count in (("train", images), ("test", test_images)):
        classes = sorted(path for path in Path(folder, split).iterdir() if path.is_dir())
        for name in classes:
            files = sorted(name.iterdir())[: count // len(classes)]
            rows["image"] += [str(file) for file in files]
            rows["label"] += [name.name] * len(files)
            rows["split"] += [split] * len(files)
    return Table(rows)


class Table(dict):
    """The least a table must be to be taken for a DataFrame."""

    @property
    def columns(self):
        return list(self)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with train and test folders")
    parser.add_argument("--base", default="vgg16")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--learning_rate", type=float, default=3e-4)
    asked = parser.parse_args()
    data = recipes.load_data(table(asked.data, asked.images, asked.images // 5), image_size=32, valid=0.1)
    result = recipes.finetune(
        asked.base,
        data,
        weights=None,
        epochs=asked.epochs,
        learning_rate=asked.learning_rate,
        batch_size=64,
        augmentation="flip",
        verbose=False,
    )
    report = result.report
    print_json({"arguments": vars(asked), "scores": report.scores, "curves": report.curves, "seconds": report.seconds})


if __name__ == "__main__":
    main()
