"""Weight pruning and Deep Compression on the networks of Han's papers: LeNet-300-100 and Caffe's LeNet-5.

    python benchmarks/deep_compression.py --data fashion_mnist.npz
    python benchmarks/deep_compression.py --data digits --seeds 0 1 2 3 4

`--data` is an .npz with x_train, y_train, x_test and y_test (28×28, grey, 0–255), or `digits`: scikit-learn's 1,797
scans, brought to 28 pixels. The papers used MNIST. Of each seed: the network is trained; pruned to Han's layer
sparsities in steps, with training in between; its values are shared, 8 bits for convolutions and 5 for dense layers,
and trained; and packed. Training, pruning and sharing choose their epochs by validation images; the test images are
measured at the end of each. `ratio` is that of the float32 weights to the whole packed file, the description of the
layers included. Expect ten minutes a seed for Fashion-MNIST on 2 cores.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from machine import print_json

import recipes

VALID = 5000  # images, of those to train on
# Fractions of the weights that Han et al. 2015 keep (tables 3, 4), and ratios of Han, Mao and Dally 2016 (table 1).
KEPT = {
    "lenet_300_100": {"fc1": 0.08, "fc2": 0.09, "probabilities": 0.26},
    "lenet_5": {"conv1": 0.66, "conv2": 0.12, "fc1": 0.08, "probabilities": 0.19},
}
RATIOS = {"lenet_300_100": 40, "lenet_5": 39}
BITS = {"conv": 8, "dense": 5}


def lenet_300_100(classes):
    """784 → 300 → 100 → classes."""
    image = keras.Input((28, 28, 1))
    x = keras.layers.Flatten(name="flat")(keras.layers.Rescaling(1 / 255, name="scale")(image))
    x = keras.layers.Dense(300, activation="relu", name="fc1")(x)
    x = keras.layers.Dense(100, activation="relu", name="fc2")(x)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax", name="fc3")(x), name="lenet_300_100")


def lenet_5(classes):
    """As in Caffe: two convolutions of 5×5, each with pooling and no activation; 500 units; classes."""
    image = keras.Input((28, 28, 1))
    x = keras.layers.Rescaling(1 / 255, name="scale")(image)
    x = keras.layers.MaxPooling2D(name="pool1")(keras.layers.Conv2D(20, 5, name="conv1")(x))
    x = keras.layers.MaxPooling2D(name="pool2")(keras.layers.Conv2D(50, 5, name="conv2")(x))
    x = keras.layers.Dense(500, activation="relu", name="fc1")(keras.layers.Flatten(name="flat")(x))
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax", name="fc2")(x), name="lenet_5")


NETWORKS = {"lenet_300_100": lenet_300_100, "lenet_5": lenet_5}


def open_data(source):
    if source == "digits":
        return recipes.load_data("digits", image_size=28)
    content = np.load(source)
    x, y = content["x_train"], content["y_train"]
    parts = ((x[:-VALID], y[:-VALID]), (x[-VALID:], y[-VALID:]), (content["x_test"], content["y_test"]))
    return recipes.load_data(parts)


def density(result):
    """Of each layer with a kernel, the fraction of its weights that are not 0; and of all weights, biases included."""
    kernels = {layer.name: layer.get_weights()[0] for layer in result.model.layers if layer.weights}
    counts = [np.count_nonzero(weight) for weight in result.model.get_weights()]
    shares = {name: round(np.count_nonzero(kernel) / kernel.size, 4) for name, kernel in kernels.items()}
    return shares | {"nonzero": int(sum(counts)), "of": result.model.count_params()}


def measure(name, data, seed, asked, folder):
    start = time.monotonic()
    network = NETWORKS[name](len(data.class_names))
    result = recipes.finetune(
        network,
        data,
        weights=None,
        epochs=asked.epochs,
        batch_size=asked.batch_size,
        learning_rate=1e-3,
        patience=None,
        seed=seed,
        verbose=False,
    )
    options = {"max_drop": None, "seed": seed, "verbose": False}
    sizes = {"epochs": asked.recovery_epochs, "batch_size": asked.batch_size}
    # Few weights are to find other places: a high rate, and a decay under which those that are of no use become small.
    searching = recipes.Recovery(learning_rate=asked.learning_rate, weight_decay=asked.weight_decay, **sizes)
    settling = recipes.Recovery(learning_rate=asked.learning_rate / 10, **sizes)
    sparsity = {layer: 1 - kept for layer, kept in KEPT[name].items()}
    pruned = recipes.prune_weights(result, sparsity=sparsity, steps=asked.steps, recovery=searching, **options)
    shared = recipes.share_weights(pruned.result, bits=BITS, recovery=settling, **options)
    packed = recipes.pack(shared.model, Path(folder, "network.packed"))
    again = recipes.unpack(packed.path)
    pairs = zip(again.get_weights(), shared.model.get_weights(), strict=True)
    reports = {"trained": result.report, "pruned": pruned.report, "shared": shared.report}
    accuracies = {stage: round(report.scores["accuracy"], 4) for stage, report in reports.items()}
    valid = [rung.accuracy for rung in (*pruned.rungs, *shared.rungs[1:])]
    kept = density(pruned.result)
    return {
        "network": name,
        "seed": seed,
        "accuracy": accuracies,
        "points_lost_by_pruning": round(100 * (accuracies["trained"] - accuracies["pruned"]), 2),
        "points_lost_in_all": round(100 * (accuracies["trained"] - accuracies["shared"]), 2),
        "valid_accuracy": [round(value, 4) for value in valid],
        "kept": kept,
        "kept_by_han": KEPT[name],
        "fewer_weights": round(kept["of"] / kept["nonzero"], 2),
        "float32_bytes": 4 * kept["of"],
        "packed_bytes": packed.file_bytes,
        "header_bytes": packed.header_bytes,
        "ratio": round(4 * kept["of"] / packed.file_bytes, 2),
        "ratio_of_han": RATIOS[name],
        "bits_per_weight": {row.name: round(row.bits, 3) for row in packed.tensors},
        "comes_back_to_the_bit": all(one.tobytes() == other.tobytes() for one, other in pairs),
        "seconds": round(time.monotonic() - start),
    }


def summary(rows):
    """Means over the seeds, with the spread where there are several."""
    found = {}
    for name in dict.fromkeys(row["network"] for row in rows):
        mine = [row for row in rows if row["network"] == name]
        accuracy = {stage: statistics.mean(row["accuracy"][stage] for row in mine) for stage in mine[0]["accuracy"]}
        lost = {part: [row[f"points_lost_{part}"] for row in mine] for part in ("by_pruning", "in_all")}
        found[name] = {
            "accuracy": {stage: round(value, 4) for stage, value in accuracy.items()},
            **{f"points_lost_{part}": round(statistics.mean(values), 3) for part, values in lost.items()},
            **{f"spread_of_points_lost_{part}": [min(values), max(values)] for part, values in lost.items()},
            "fewer_weights": round(statistics.mean(row["fewer_weights"] for row in mine), 2),
            "ratio": round(statistics.mean(row["ratio"] for row in mine), 2),
            "ratio_of_han": RATIOS[name],
        }
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="an .npz file, or digits")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--recovery_epochs", type=int, default=5)
    parser.add_argument("--learning_rate", type=float, default=5e-3, help="after each cut; a tenth for shared values")
    parser.add_argument("--weight_decay", type=float, default=0.1, help="after each cut")
    parser.add_argument("--steps", type=int, default=6, help="on the way to Han's sparsities")
    parser.add_argument("--batch_size", type=int, default=128)
    asked = parser.parse_args()
    data = open_data(asked.data)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, data, seed, asked, folder) for name in asked.networks for seed in asked.seeds]
    name = "digits" if asked.data == "digits" else Path(asked.data).name
    print_json({"arguments": vars(asked) | {"data": name}, "data": repr(data), "means": summary(rows), "runs": rows})


if __name__ == "__main__":
    main()
