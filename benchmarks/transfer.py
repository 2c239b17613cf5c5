"""What transfer is worth, and whether the saved and the served model are the measured one.

    python benchmarks/transfer.py --data hymenoptera_data/ --seeds 3
    python benchmarks/transfer.py --data hymenoptera_data/ --seeds 3 --weights none

Fine-tunes `mobilenet_v2_035` with the default plan on a folder with train and val folders, once per seed, and gives the
validation accuracy of each; saves, loads, exports, and compares the answers on the raw files. With the 398 photos of
ants and bees and ImageNet weights expect a mean accuracy of about 0.93, and of about 0.66 without; 1–2 minutes a seed
on 2 cores.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from machine import print_json

import recipes


def run(data, base, weights, seed):
    """Figures of one seed."""
    began = time.monotonic()
    result = recipes.finetune(base, data, weights=weights, seed=seed, verbose=False)
    seconds = time.monotonic() - began
    files = list(data.valid.files)
    with tempfile.TemporaryDirectory() as folder:
        loaded = recipes.load(result.save(f"{folder}/saved"))
        served = tf.saved_model.load(str(result.export(f"{folder}/served"))).signatures["serving_default"]
        answers = served(image_bytes=tf.constant([Path(file).read_bytes() for file in files]))
    measured = result.model.predict(data.valid.images(), verbose=0)
    again = np.array([[p.probabilities[name] for name in result.class_names] for p in loaded.predict(files)])
    names = np.array([row[0].decode() for row in answers["classes"].numpy()])
    order = np.argsort(-measured, axis=1)
    return {
        "seed": seed,
        "valid_accuracy": result.report.scores["accuracy"],
        "seconds": round(seconds, 1),
        "loaded_top1_equal": int((again.argmax(1) == measured.argmax(1)).sum()),
        "loaded_worst_difference": float(np.abs(again - measured).max()),
        "served_top1_equal": int((names == np.array(result.class_names)[order[:, 0]]).sum()),
        "served_worst_difference": float(
            np.abs(answers["probabilities"].numpy() - np.take_along_axis(measured, order, 1)).max()
        ),
        "images": len(files),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with train and val folders")
    parser.add_argument("--base", default="mobilenet_v2_035")
    parser.add_argument("--weights", default="imagenet", help="imagenet, or none")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    weights = None if asked.weights == "none" else asked.weights
    data = recipes.load_data(asked.data, image_size=224)
    runs = [run(data, asked.base, weights, seed) for seed in range(asked.seeds)]
    accuracies = [figures["valid_accuracy"] for figures in runs]
    print_json({"base": asked.base, "weights": weights, "mean_accuracy": statistics.mean(accuracies), "runs": runs})


if __name__ == "__main__":
    main()
