"""What checkpoints cost: bytes and seconds of each, and their share of the time of a run.

    python benchmarks/checkpoints.py

Trains all of a network with AdamW, the largest state there is: weights, two moments of each, and the best weights. A
first run writes a checkpoint every few steps and gives seconds and bytes of one. A second one has checkpoints as often
as a fiftieth of the time allows, and gives the share. Images of 64 pixels: the state does not depend on their size, but
steps are short, so a user's share is smaller. Expect five minutes on 2 cores.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import print_json

SIZE, IMAGES, BATCH = 64, 192, 32


def measured(base, folder, epochs, **pace):
    """Seconds of the epochs, seconds and bytes of each checkpoint."""
    import recipes
    from recipes.training.checkpoints import Checkpoints
    from recipes.training.looping import Loop

    saves, sizes, runs = [], [], []
    save, run = Checkpoints.save, Loop.run

    def timed_save(self, state, arrays):
        start = time.perf_counter()
        save(self, state, arrays)
        saves.append(time.perf_counter() - start)
        sizes.append(max(path.stat().st_size for path in self.folder.glob("*.npz")))

    def timed_run(self, standing):
        saves.clear()  # the one before the first step has no network to disturb
        start = time.perf_counter()
        run(self, standing)
        runs.append(time.perf_counter() - start)

    Checkpoints.save, Loop.run = timed_save, timed_run
    try:
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (IMAGES, SIZE, SIZE, 3), np.uint8), np.arange(IMAGES) % 2
        data = recipes.load_data(images, valid=0.1, test=0.0)
        plan = [recipes.Stage("all", epochs, 1e-4, 1.0, 1.0, 1.0, 1.0)]
        options = {"weights": None, "plan": plan, "batch_size": BATCH, "verbose": False, "patience": None}
        recipes.finetune(base, data, out=Path(folder, f"{base}-{epochs}"), **options, **pace)
    finally:
        Checkpoints.save, Loop.run = save, run
    return sum(runs), saves[:-1], sizes  # the last is written after the loop


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bases", nargs="+", default=["mobilenet_v2", "vgg16"])
    parser.add_argument("--epochs", type=int, default=10)
    asked = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for base in asked.bases:
            _, often, sizes = measured(base, folder, 2, checkpoint_steps=2)
            seconds, paced, _ = measured(base, folder, asked.epochs, checkpoint_seconds=0.0)
            rows[base] = {
                "megabytes": round(max(sizes) / 1e6, 1),
                "median_seconds": round(statistics.median(often), 3),
                "checkpoints": len(paced),
                "share_of_time": round(sum(paced) / seconds, 4),
                "seconds_of_training": round(seconds, 1),
            }
    print_json({"image_size": SIZE, "batch_size": BATCH, "bases": rows})


if __name__ == "__main__":
    main()
