"""The same grid of twelve trials by `recipes.search` and by Keras Tuner, as its guide has it.

    KERAS_HOME=keras_home python benchmarks/search_peer.py --data hymenoptera_data/

`--data` has folders train and val with a folder per class. Each trial trains a head on a frozen `MobileNetV2` (alpha
0.35, 224 pixels, batches of 32, AdamW) for 5 epochs; what is searched are rate, width of a hidden layer, and dropout.
Keras Tuner builds base and head in each trial and reads the images by `image_dataset_from_directory`, in one process.
Each kind is a process of its own, from empty folders: wall seconds of the process, most memory that it held, and that a
process under it held, and the bytes that the search leaves on disk. Expect ten minutes on 2 cores.
"""

import argparse
import json
import resource
import sys
from pathlib import Path

from machine import print_json, run_fresh

RATES, WIDTHS, DROPOUTS, EPOCHS, SIZE, BATCH = (1e-3, 3e-3, 1e-2), (0, 128), (0.0, 0.3), 5, 224, 32


def ours(asked):
    """A grid by `recipes.search`; the best validation score, and the folder."""
    import recipes

    space = {"learning_rate": RATES, "head": ("linear", (128,)), "dropout": DROPOUTS}
    options = {"method": "grid", "workers": asked.workers, "out": Path(asked.home) / "search", "verbose": False}
    settings = {"plan": "head", "epochs": EPOCHS}
    found = recipes.search(asked.data, "mobilenet_v2_035", space=space, settings=settings, **options)
    return found.best.score, len(found.trials), Path(asked.home) / "search"


def keras_tuners(asked):
    """A grid by Keras Tuner; the best validation score, and the folder."""
    import keras
    import keras_tuner

    read = keras.utils.image_dataset_from_directory
    options = {"image_size": (SIZE, SIZE), "batch_size": BATCH, "verbose": False}
    train, valid = (read(Path(asked.data, name), **options).prefetch(2) for name in ("train", "val"))

    def build(hp):
        base = keras.applications.MobileNetV2(input_shape=(SIZE, SIZE, 3), alpha=0.35, include_top=False)
        base.trainable = False
        image = keras.Input((SIZE, SIZE, 3))
        features = base(keras.applications.mobilenet_v2.preprocess_input(image), training=False)
        features = keras.layers.GlobalAveragePooling2D()(features)
        if width := hp.Choice("width", list(WIDTHS)):
            features = keras.layers.Dense(width, activation="relu")(features)
        features = keras.layers.Dropout(hp.Choice("dropout", list(DROPOUTS)))(features)
        model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(features))
        rate = hp.Choice("learning_rate", list(RATES))
        model.compile(keras.optimizers.AdamW(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    folder = Path(asked.home) / "tuner"
    tuner = keras_tuner.GridSearch(build, "val_accuracy", max_trials=20, directory=folder, project_name="heads")
    tuner.search(train, validation_data=valid, epochs=EPOCHS, verbose=0)
    trials = tuner.oracle.get_best_trials(20)
    return trials[0].score, len(trials), folder


def run(asked, kind, workers):
    """Figures of a search in a process of its own."""
    return run_fresh(__file__, "--data", asked.data, "--kind", kind, "--workers", workers)


def main():
    """Run each kind in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--kind")
    parser.add_argument("--home")
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    if asked.kind:
        score, trials, folder = {"ours": ours, "keras tuner": keras_tuners}[asked.kind](asked)
        held = [resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        driver, trial = (round(size / 1e6) for size in held)
        figures = {"best": round(score, 4), "trials": trials, "peak_MB": driver, "peak_MB below": trial}
        sys.stdout.write(json.dumps(figures | {"disk_MB": round(disk / 1e6, 1)}) + "\n")
        return
    kinds = {"keras tuner": ("keras tuner", 1), "ours": ("ours", 1), "ours, 2 at a time": ("ours", 2)}
    rounds = [{name: run(asked, *how) for name, how in kinds.items()} for _ in range(asked.rounds)]
    print_json({"rounds": rounds})


if __name__ == "__main__":
    main()
