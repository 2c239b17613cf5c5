"""Peak memory of fine-tuning on more than fits: 60,000 images of 32 pixels, and 5,000 maps as of VGG16's fourth block.

    python benchmarks/bounded_memory.py

Each case in a process of its own, on noise (memory does not depend on what is seen). Anonymous memory is what a process
holds for itself; the whole also counts pages of mapped files, which the operating system takes back when it needs them.
Both above what the process has with its libraries imported and TensorFlow started. Needs 11 GB of disk; expect twenty
minutes on 2 cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from machine import print_json

EVERY = 0.02  # seconds between two looks


def resident():
    """{"anonymous": …, "whole": …} bytes of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[key].split()[0]) * 1024 for name, key in (("anonymous", "RssAnon"), ("whole", "VmRSS"))}


def cifar(random):
    """`small_resnet`, its upper blocks trained on maps of 32×32×32: 8 GB for 60,000 images."""
    import numpy as np

    images, labels = random.integers(0, 256, (60_000, 32, 32, 3), np.uint8), random.integers(0, 10, 60_000)
    return "small_resnet", (images, labels), {"epochs": 1}


def maps(random):
    """The fifth block of VGG16 after a cheap stand-in for the others: 14×14×512, 2 GB for 5,000 images."""
    import keras
    import numpy as np

    import recipes

    image = keras.Input((14, 14, 3))
    x = keras.layers.Conv2D(512, 1, activation="relu", name="block4_pool")(keras.layers.Rescaling(1 / 255)(image))
    for number in (1, 2, 3):
        x = keras.layers.Conv2D(512, 3, padding="same", activation="relu", name=f"block5_conv{number}")(x)
    base = keras.Model(image, keras.layers.MaxPooling2D(2)(x))
    images, labels = random.integers(0, 256, (5_000, 14, 14, 3), np.uint8), random.integers(0, 10, 5_000)
    plan = [recipes.Stage("block5", 1, 1e-3, top=0.1, intermediate=0.1)]
    return base, (images, labels), {"plan": plan}


CASES = {"60,000 images of 32 pixels": cifar, "5,000 maps of 14×14×512": maps}


def child(name):
    """One case; its figures as JSON on the last line."""
    import numpy as np
    import tensorflow as tf

    import recipes.finetuning

    tf.constant(0) + 1
    before, peaks, done = resident(), {"anonymous": 0, "whole": 0}, threading.Event()

    def look():
        while not done.wait(EVERY):
            for kind, size in resident().items():
                peaks[kind] = max(peaks[kind], size - before[kind])

    watcher = threading.Thread(target=look)
    watcher.start()
    base, source, arguments = CASES[name](np.random.default_rng(0))
    handed_in = source[0].nbytes
    start = time.perf_counter()
    recipes.finetuning.finetune(base, source, cache=True, **arguments)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    folder = Path(os.environ["XDG_CACHE_HOME"])
    figures = {f"peak_{kind}_mb": round(size / 1e6) for kind, size in peaks.items()}
    figures["of_which_images_handed_in_mb"] = round(handed_in / 1e6)
    figures["disk_mb"] = round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6)
    sys.stdout.write(json.dumps({**figures, "seconds": round(seconds)}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child)
        return
    rows = {}
    for name in asked.cases:
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "XDG_CACHE_HOME": folder}
            words = [sys.executable, __file__, "--child", name]
            done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
        rows[name] = json.loads(done.stdout.splitlines()[-1])
    print_json({"cases": rows})


if __name__ == "__main__":
    main()
