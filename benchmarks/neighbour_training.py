"""How far training by distances goes: k nearest neighbours on features of each kind, the network being the same.

    python benchmarks/neighbour_training.py
    python benchmarks/neighbour_training.py --data fashion_mnist.npz --images 12000 --epochs 6

Olah 2014 reports 5–4 % of error on MNIST for training by 1/distance in batches ("Neural networks, manifolds, and
topology"), "even with sophisticated architecture". Without MNIST at hand, the digits that scikit-learn holds stand for
it. Two convolutions and a layer of 64 units, and on these a softmax, or a linear layer of 64 units for the losses of
distances, trained as long by each, at the better of two rates on the validation images. The error is that of the
softmax, and of 5 neighbours on the test images: on the features below the softmax by cosine and by Euclidean distance,
on the embeddings by Euclidean distance.
The first command takes some ten minutes on 2 cores.
"""

import argparse
import statistics

import keras
import numpy as np
from machine import print_json

import layers
import recipes

LOSSES = {
    "cross-entropy": None,
    "1/d": lambda: layers.KNNLoss(power=1.0),
    "1/d²": lambda: layers.KNNLoss(power=2.0),
    "1/d⁴": lambda: layers.KNNLoss(power=4.0),
    "NCA": layers.NCALoss,
    "Student, 63 degrees": lambda: layers.StudentNCALoss(63.0),
}


def network(size):
    """16 and 32 filters of 3×3, pooling after each where the images are large, 64 units."""
    image = keras.Input((size, size, 1))
    x = keras.layers.Rescaling(1 / 255)(image)
    for filters in (16, 32):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        if size > 8 or filters == 32:
            x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Dense(64, activation="relu")(keras.layers.Flatten()(x))
    return keras.Model(image, x, name="two_convolutions")


def load(path, images):
    """Data: scikit-learn's digits, or so many training images of a file of arrays."""
    if path == "digits":
        return recipes.load_data("digits", image_size=8)
    arrays = np.load(path)
    train, test = ((arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    cut = images * 5 // 6
    parts = ((train[0][:cut], train[1][:cut]), (train[0][cut:images], train[1][cut:images]), test)
    return recipes.load_data(parts, image_size=train[0].shape[1])


def errors(data, loss, asked, seed):
    """Percent of error by what tells the classes, on the test images, at the rate that validation prefers."""
    options = {"weights": None, "epochs": asked.epochs, "batch_size": 100, "seed": seed, "verbose": False}
    options |= {"patience": None} | ({} if loss is None else {"loss": loss(), "head": "knn"})
    results = [
        recipes.finetune(network(data.image_size[0]), data, learning_rate=rate, **options) for rate in asked.rates
    ]
    best = max(results, key=lambda result: max(result.report.curves["val_accuracy"]))
    if loss is not None:
        return {"neighbours, euclidean": error(best)}
    by = {f"neighbours, {metric}": error(recipes.fit_knn(best, metric=metric)) for metric in ("cosine", "euclidean")}
    return {"softmax": error(best)} | by


def error(result):
    """Percent of the test images that are told wrong."""
    return 100 * (1 - result.report.scores["accuracy"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=12_000, help="for training and validation, of a file")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rates", type=float, nargs="*", default=[0.001, 0.003])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    asked = parser.parse_args()
    data = load(asked.data, asked.images)
    runs = {name: [errors(data, loss, asked, seed) for seed in asked.seeds] for name, loss in LOSSES.items()}
    pixels = recipes.fit_knn(_on_pixels(data), data, metric="euclidean")
    print_json(
        {
            "arguments": vars(asked) | {"data": asked.data.rsplit("/")[-1]},
            "data": repr(data),
            "percent_of_error_by_pixels": round(error(pixels), 2),
            "percent_of_error": {
                name: {
                    head: {
                        "mean": round(statistics.mean(run[head] for run in of_loss), 2),
                        "of_each_seed": [round(run[head], 2) for run in of_loss],
                    }
                    for head in of_loss[0]
                }
                for name, of_loss in runs.items()
            },
        }
    )


def _on_pixels(data):
    image = keras.Input((*data.image_size, data.channels))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    return keras.Model(image, keras.layers.Dense(len(data.class_names), activation="softmax")(x))


if __name__ == "__main__":
    main()
