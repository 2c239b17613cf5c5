"""What every benchmark prints beside its figures."""

import json
import os
import platform
import sys
from pathlib import Path

from recipes.saving import versions


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
