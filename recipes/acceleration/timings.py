"""What was timed on a machine, kept on disk, so that no machine times the same layer twice."""

import contextlib
import hashlib
import json
import os
import platform
from pathlib import Path

import keras
import tensorflow as tf

from recipes.data.row_cache import caches_folder
from recipes.files import write_json
from recipes.locks import lock

VERSION = 3  # of the algorithms: count on when they got faster


class Timings:
    """Seconds by algorithm for what was timed on this machine.

    Args:
        folder: where they are kept; by default, with the other caches.
    """

    def __init__(self, folder=None):
        machine = machine_key()
        digest = hashlib.blake2b(json.dumps(machine, sort_keys=True).encode(), digest_size=16).hexdigest()
        self.path = Path(folder or caches_folder()) / "timings" / f"{digest}.json"
        self._machine = machine

    def read(self):
        """`{what was timed: {algorithm: seconds}}`; nothing where nothing can be read."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return dict(json.loads(self.path.read_text(encoding="utf-8"))["seconds"])
        return {}

    def add(self, what, seconds):
        """Keep what was timed, beside what other processes kept meanwhile; a disk that takes nothing is no matter."""
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path.with_suffix(".lock"), "w", encoding="utf-8") as file:
                lock(file, "exclusive")
                write_json(self.path, {"machine": self._machine, "seconds": self.read() | {what: seconds}})


def machine_key():
    """All that decides how fast a convolution is beside the convolution."""
    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "version": VERSION,
        "processor": _processor(),
        "cores": affinity,
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "gpus": [str(details.get("device_name")) for details in gpus],
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def _processor():
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        said = dict(line.split(":", 1) for line in lines if ":" in line)
        return " ".join(value.strip() for key, value in said.items() if key.strip() in ("model name", "flags"))
    return platform.processor() or platform.machine()
