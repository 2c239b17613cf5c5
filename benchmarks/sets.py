"""Data sets that several benchmarks measure on: by name, at several sizes, with a base each."""

import dataclasses
import statistics
from pathlib import Path

import numpy as np

import recipes
from recipes.data.loading import pick

# Which base is tried on which set: photos at 224 pixels, small images at 32.
BASES = {
    "hymenoptera": "mobilenet_v2_035",
    "cifar10": "small_resnet",
    "fashion": "small_resnet",
    "digits": "small_resnet",
}


def add_arguments(parser, per_class):
    """Those of the command line that say which sets, where they lie, and how many of their images."""
    parser.add_argument("--sets", nargs="+", choices=tuple(BASES), default=["digits"])
    parser.add_argument("--per-class", nargs="+", type=int, default=per_class, help="training images")
    parser.add_argument("--test", type=int, default=2000, help="most images that are measured")
    parser.add_argument("--pool", type=int, default=30000, help="images of fashion that the subsets are drawn from")
    parser.add_argument("--base", help="instead of the one for each set")
    parser.add_argument("--hymenoptera", type=Path, help="folder with train and val folders")
    parser.add_argument("--cifar10", type=Path, help="folder with a folder of images a class")
    parser.add_argument("--fashion", type=Path, help="fashion_mnist.npz")


def asked_cases(parser, asked):
    """`(name of a set, base, Data, images a class or None for all)`, one after the other."""
    for name in asked.sets:
        if name != "digits" and getattr(asked, name) is None:
            parser.error(f"--sets {name} needs --{name}")
    for name in asked.sets:
        base = asked.base or BASES[name]
        data = load(name, base, asked)
        most = np.bincount(data.train.labels).min()
        sizes = [count for count in asked.per_class if count <= most] + [None] * (name == "hymenoptera")
        for per_class in sizes:
            yield name, base, data, per_class


def means(rows, by, digits):
    """`{kind: {"accuracy": mean, "seconds": mean}}` of rows, each of the kind `row[by]`."""
    return {
        kind: {
            what: round(statistics.mean(row[what] for row in rows if row[by] == kind), digits)
            for what in ("accuracy", "seconds")
        }
        for kind in dict.fromkeys(row[by] for row in rows)
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
