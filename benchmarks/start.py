"""What a start costs, side by side and alternating: `recipes --help`, `import recipes`, `import tensorflow`.

    python benchmarks/start.py

`import recipes` alone imports nothing; beside it stands what it costs once a verb is touched, and a whole command that
builds a network and reads its costs off, to the end of its process.
"""

import argparse
import statistics
import subprocess
import sys
import time

from machine import print_json

CASES = {
    "recipes --help": [sys.executable, "-m", "recipes", "--help"],
    "import recipes": [sys.executable, "-c", "import recipes"],
    "import recipes, touch finetune": [sys.executable, "-c", "import recipes; recipes.finetune"],
    "recipes cost --model small_resnet": [sys.executable, "-m", "recipes", "cost", "--model", "small_resnet"],
    "import tensorflow, touch keras": [sys.executable, "-c", "import tensorflow as tf; tf.keras.layers"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    seconds = {name: [] for name in CASES}
    for number in range(rounds + 1):
        for name, command in CASES.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if number:  # the first round warms the disk up
                seconds[name].append(time.perf_counter() - began)
    figures = {
        name: {"median": statistics.median(times), "least": min(times), "most": max(times)}
        for name, times in seconds.items()
    }
    plain = seconds["import tensorflow, touch keras"]
    ratios = {
        name: statistics.median(ours / theirs for ours, theirs in zip(times, plain, strict=True))
        for name, times in seconds.items()
    }
    print_json({"seconds": figures, "over import tensorflow": ratios})


if __name__ == "__main__":
    main()
