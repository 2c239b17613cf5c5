"""What every benchmark prints beside its figures."""

import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recipes.saving import versions
from recipes.timing import alternating


def describe_machine():
    """Processor, cores, GPUs and versions."""
    import tensorflow as tf

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "gpus": len(tf.config.list_physical_devices("GPU")),
        **versions(),
    }


def print_json(figures):
    """The figures as JSON on standard output, with the machine they come from."""
    sys.stdout.write(json.dumps({"machine": describe_machine(), **figures}, indent=1) + "\n")


def milliseconds(models, rounds, batch_size=1):
    """Of a batch of noise in one TensorFlow graph per model, which take turns: `{name: {median, range}}`."""
    import tensorflow as tf

    runs = {}
    for name, model in models.items():
        images = tf.random.uniform((batch_size, *model.input_shape[1:]), maxval=255.0, seed=0)
        graph = tf.function(functools.partial(model, training=False), autograph=False)
        runs[name] = functools.partial(graph.get_concrete_function(images), images)
    taken = {name: [1e3 * second for second in seconds] for name, seconds in alternating(runs, rounds=rounds).items()}
    return {
        name: {"median": round(statistics.median(values), 3), "range": [round(min(values), 3), round(max(values), 3)]}
        for name, values in taken.items()
    }


def run_fresh(script, *words):
    """Run a script that prints figures as JSON in its last line: those, and the seconds of the process.

    It has a folder of its own for what it keeps, which it is told by `--home`, with an empty cache in it.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "XDG_CACHE_HOME": home, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, script, *map(str, words), "--home", home]
        start = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1]) | {"seconds": round(time.monotonic() - start, 2)}
