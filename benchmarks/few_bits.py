"""What weights of two or three values cost in accuracy and save in bytes, beside full precision, on Fashion-MNIST.

    python benchmarks/few_bits.py --data fashion_mnist.npz --seeds 3
    python benchmarks/few_bits.py --data fashion_mnist.npz --images 3000 --epochs 2 --recovery 2

Trains a network like the LeNet-5 of Li and Liu 2016 (32 and 64 filters of 5×5, 512 units, each with
BatchNormalization) in full precision, converts all but its first and last layer by each method, and trains on; beside
them stands the full-precision network trained as much longer. Sizes are those of files packed by `recipes.pack`; the
weights of the converted layers alone stand beside them. Milliseconds are of one image: of the layers as they are, which
make their signs anew at each call, and of the same weights in plain Keras layers. No runtime multiplies by single bits,
so expect no gain. The first command takes about an hour on 2 cores, the second some minutes.
"""

import argparse
import statistics

import keras
import numpy as np
from machine import milliseconds, print_json

import layers
import recipes
from recipes.compression.bit_layers import METHODS, in_plain_layers

FEW = (layers.BinaryConv, layers.BinaryDense, layers.TernaryConv, layers.TernaryDense)


def network():
    """32-C5, pooling, 64-C5, pooling, 512 units."""
    image = keras.Input((28, 28, 1), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    for number, filters in enumerate((32, 64), start=1):
        x = keras.layers.Conv2D(filters, 5, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Dense(512, use_bias=False, name="dense")(keras.layers.Flatten()(x))
    return keras.Model(image, keras.layers.ReLU()(keras.layers.BatchNormalization()(x)), name="lenet_5")


def read(path, images):
    """Training images with a tenth for validation, and the test images."""
    arrays = np.load(path)
    train, test = ((arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    train, test = (tuple(part[:images] for part in pair) for pair in (train, test))
    cut = len(train[0]) * 9 // 10
    return tuple(part[:cut] for part in train), tuple(part[cut:] for part in train), test


def kernel_bytes(model):
    """Of the converted layers: `(as floats, packed)`."""
    few = [layer for layer in model.layers if isinstance(layer, FEW)]
    floats = sum(4 * int(np.prod(layer.kernel.shape)) for layer in few)
    return floats, sum(layers.packed_weights(layer).nbytes for layer in few)


def run(data, asked, seed):
    """Figures of one seed, a row per method."""
    options = {"batch_size": 64, "seed": seed, "verbose": False}
    result = recipes.finetune(
        network(), data, weights=None, epochs=asked.epochs, learning_rate=asked.learning_rate, **options
    )
    longer = recipes.finetune(
        network(),
        data,
        weights=None,
        epochs=asked.epochs + asked.recovery,
        learning_rate=asked.learning_rate,
        **options,
    )
    recovery = recipes.Recovery(
        epochs=asked.recovery, learning_rate=asked.learning_rate, batch_size=64, weight_decay=0.0
    )
    models = {"full precision": result.model}
    rows = [row("full precision", result), row("full precision, trained longer", longer)]
    for bits, methods in METHODS.items():
        for method in methods:
            small = recipes.few_bits(
                result, bits=bits, method=method, max_drop=None, recovery=recovery, seed=seed, verbose=False
            )
            floats, packed = kernel_bytes(small.model)
            name = f"{bits}, {method}"
            rows.append(row(name, small.result) | {"kernel_bytes": floats, "packed_kernel_bytes": packed})
            rows[0]["packed_bytes"], rows[-1]["packed_bytes"] = (rung.stored_bytes for rung in small.rungs)
            models |= {name: small.model, f"{name}, plain layers": in_plain_layers(small.model)}
    return {"seed": seed, "rows": rows, "milliseconds": milliseconds(models, rounds=31)}


def row(name, result):
    return {"weights": name, "test_accuracy": result.report.scores["accuracy"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="npz file with x_train, y_train, x_test, y_test")
    parser.add_argument("--images", type=int, default=60000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--recovery", type=int, default=12, help="epochs of training with few bits")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    data = recipes.load_data(read(asked.data, asked.images), image_size=28)
    runs = [run(data, asked, seed) for seed in range(asked.seeds)]
    means = {}
    for rows in zip(*(one["rows"] for one in runs), strict=True):
        accuracies = [one["test_accuracy"] for one in rows]
        means[rows[0]["weights"]] = {
            "test_accuracy": round(statistics.mean(accuracies), 4),
            "lowest": min(accuracies),
            "highest": max(accuracies),
            "packed_bytes": [one.get("packed_bytes") for one in rows],
        }
    print_json({"arguments": vars(asked), "means": means, "runs": runs})


if __name__ == "__main__":
    main()
