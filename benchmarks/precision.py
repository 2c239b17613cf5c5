"""Mixed bfloat16 beside float32: a training step and an inference batch of whole networks, and the accuracy of a run.

    python benchmarks/precision.py --data cifar10_images/

Processors with AMX multiply bfloat16 in tiles, several times as fast as float32, where a network has large
convolutions; elsewhere the casts cost more than they save. The two precisions of a network take turns in one process.
Accuracies are of `recipes.finetune` on `--images` of the training folder, on the test folder. Ten minutes on 2 cores.
"""

import argparse
import functools
import statistics
from pathlib import Path

import keras
import tensorflow as tf
from from_scratch import table
from machine import print_json

import recipes
from recipes.bases import find_base
from recipes.timing import alternating
from recipes.training.devices import dtype_policy

PRECISIONS = ("float32", "mixed_bfloat16")
BASES = ("vgg16", "resnet50", "inception_v3", "mobilenet_v2", "small_resnet")


def network(name, size, precision):
    """A base with a mean over places and ten classes, ready to train."""
    with dtype_policy(precision):
        base = find_base(name).constructor(include_top=False, weights=None, input_shape=(size, size, 3))
        features = keras.layers.GlobalAveragePooling2D()(base.output)
        model = keras.Model(base.input, keras.layers.Dense(10, activation="softmax", dtype="float32")(features))
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy", jit_compile=False)
    return model


def timed(name, batch_size, rounds):
    """Seconds of a batch in each precision, and how many times as fast bfloat16 is."""
    size, batch_size = (32, 8 * batch_size) if name == "small_resnet" else (224, batch_size)
    images = tf.random.uniform((batch_size, size, size, 3), -1.0, 1.0, seed=0)
    labels = tf.zeros((batch_size,), tf.int32)
    figures = {}
    models = {precision: network(name, size, precision) for precision in PRECISIONS}
    graphs = {precision: tf.function(functools.partial(model, training=False)) for precision, model in models.items()}
    kinds = {
        "inference": {precision: functools.partial(graph, images) for precision, graph in graphs.items()},
        "training": {
            precision: functools.partial(model.train_on_batch, images, labels) for precision, model in models.items()
        },
    }
    for kind, runs in kinds.items():
        taken = alternating(runs, rounds=rounds)
        medians = {precision: statistics.median(seconds) for precision, seconds in taken.items()}
        ratios = [slow / fast for slow, fast in zip(*taken.values(), strict=True)]
        figures[kind] = {precision: round(seconds, 4) for precision, seconds in medians.items()}
        figures[kind] |= {"times_as_fast": round(statistics.median(ratios), 2)}
        figures[kind] |= {"range": [round(min(ratios), 2), round(max(ratios), 2)]}
    return figures


def scored(data, epochs, seed, precision):
    """Test accuracy of a run that trains all blocks."""
    options = {"plan": "all", "epochs": epochs, "learning_rate": 1e-3, "patience": None, "seed": seed}
    result = recipes.finetune("small_resnet", data, **options, precision=precision, verbose=False)
    return {"seed": seed, "precision": precision, "accuracy": result.report.scores["accuracy"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with train and test folders; unless given, no accuracies")
    parser.add_argument("--bases", nargs="*", default=BASES)
    parser.add_argument("--batch_size", type=int, default=8, help="of 224 pixels; eight times that of 32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    times = {name: timed(name, asked.batch_size, asked.rounds) for name in asked.bases}
    runs = []
    if asked.data:
        data = recipes.load_data(table(asked.data, asked.images, 2000), image_size=32, valid=0.1)
        runs = [scored(data, asked.epochs, seed, precision) for seed in asked.seeds for precision in PRECISIONS]
    print_json({"arguments": {**vars(asked), "data": str(asked.data)}, "times": times, "runs": runs})


if __name__ == "__main__":
    main()
