"""Twenty trials over the head of a frozen base beside one, and the memory of a long search.

    KERAS_HOME=keras_home python benchmarks/search_heads.py --data hymenoptera_data/

`--data` has folders train and val with a folder per class. Each search is a process of its own, from an empty cache;
its seconds are those of the whole process, imports, the report and the best classifier included. The kinds alternate:
one trial; twenty, one at a time; twenty, two at a time. Each trial trains a head on `mobilenet_v2_035` for 10 epochs.
At last one search of fifty trials, with the memory of the driver, and of the trials, at the fifth and at the fiftieth.
Expect five minutes for three rounds on 2 cores.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from machine import print_json, run_fresh

SPACE = {"learning_rate": "1e-4..1e-2 log", "head": ("linear", (128,), (256,)), "dropout": (0.0, 0.2, 0.5)}
SETTINGS = {"plan": "head", "epochs": 10}
KINDS = {"1 trial": (1, 1), "20 trials": (20, 1), "20 trials, 2 at a time": (20, 2)}


def resident():
    """Bytes that this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def search(asked):
    """One search; prints its figures as JSON."""
    import recipes

    out, held = Path(tempfile.mkdtemp(dir=asked.home)) / "search", {}

    def watch():
        while True:
            time.sleep(0.05)
            ended = len(list(out.glob("trials/*/outcome.json")))
            for count in (5, 50):
                if ended >= count:
                    held.setdefault(count, resident())

    threading.Thread(target=watch, daemon=True).start()
    options = {"method": "random", "trials": asked.trials, "workers": asked.workers, "out": out, "verbose": False}
    found = recipes.search(asked.data, "mobilenet_v2_035", space=SPACE, settings=SETTINGS, **options)
    peaks = [trial.peak_bytes for trial in found.trials]
    figures = {"val_accuracy": found.best.score, "driver_bytes": held, "trial_bytes": peaks}
    figures["disk_bytes"] = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    sys.stdout.write(json.dumps(figures) + "\n")


def run(asked, trials, workers):
    """Figures of a search in a process of its own."""
    return run_fresh(__file__, "--data", asked.data, "--trials", trials, "--workers", workers)


def main():
    """Alternate the kinds, then search long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--home")
    asked = parser.parse_args()
    if asked.trials:
        search(asked)
        return
    rounds = [{kind: run(asked, *how)["seconds"] for kind, how in KINDS.items()} for _ in range(asked.rounds)]
    ratios = {kind: [round(seconds[kind] / seconds["1 trial"], 2) for seconds in rounds] for kind in list(KINDS)[1:]}
    long = run(asked, 50, 2)
    memory = {
        "driver, MB, at trial 5 and 50": [round(value / 1e6) for value in long["driver_bytes"].values()],
        "trial, MB, 5th and 50th": [round(long["trial_bytes"][number] / 1e6) for number in (4, 49)],
        "disk, MB": round(long["disk_bytes"] / 1e6, 1),
        "seconds": long["seconds"],
    }
    medians = {kind: statistics.median(values) for kind, values in ratios.items()}
    print_json({"seconds": rounds, "times one trial": ratios, "medians": medians, "fifty trials": memory})


if __name__ == "__main__":
    main()
