"""The versions of a classifier in a folder: the newest is served, new ones are picked up, old ones let go."""

import contextlib
import functools
import json
import threading
import time
import warnings

import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

from recipes.serving.warmup import warmup_requests

_FILE = "saved_model.pb"
_AGAIN = 10.0  # seconds after which a version that could not be loaded is tried again


class Served:
    """One version in memory.

    Args:
        folder: path of the SavedModel, its name a number.

    Attributes:
        number: of the version.
        metadata: its signatures, JSON-able.
        card: dictionary, empty where there is no card.
        functions: `{signature: (function of arrays, {input: tf.TensorSpec})}`.
    """

    def __init__(self, folder):
        self.number = int(folder.name)
        self._loaded = tf.saved_model.load(str(folder))
        self.metadata = _metadata(folder)
        card = folder / "card.json"
        self.card = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
        self.functions = {}
        for name, signature in self._loaded.signatures.items():
            specs = signature.structured_input_signature[1]
            self.functions[name] = (functools.partial(_call, signature), dict(specs))
        for name, inputs in warmup_requests(folder):
            self.functions[name][0](**inputs)


class Versions:
    """Keeps the newest version of a folder in memory.

    A version that is loaded answers until the next is; requests under way end on the one they began with. Where the
    folder runs empty, the last one goes on answering.

    Args:
        folder: path with numbered versions.
        seconds: between looks.
    """

    def __init__(self, folder, seconds=1.0):
        for gpu in tf.config.list_physical_devices("GPU"):
            with contextlib.suppress(RuntimeError):  # it is in use already
                tf.config.experimental.set_memory_growth(gpu, True)
        self.folder, self._seconds = folder, seconds
        self.current, self.states = None, {}
        self._failed, self._stop = {}, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="versions", daemon=True)

    def look(self):
        """Load the newest version that can be loaded, where that is not the current one."""
        numbers = sorted(self._numbers(), reverse=True)
        for number in numbers:
            if self.current is not None and number == self.current.number:
                return
            if self._failed.get(number, 0) > time.monotonic():
                continue
            if self._load(number):
                return

    def start(self):
        """Look again and again, in a thread."""
        self._thread.start()

    def close(self):
        """End the looking."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _numbers(self):
        try:
            entries = list(self.folder.iterdir())
        except OSError:
            return []
        return [int(entry.name) for entry in entries if entry.name.isdecimal() and (entry / _FILE).is_file()]

    def _load(self, number):
        if self.current is None:
            self.states[number] = "LOADING", ""
        try:
            new = Served(self.folder / str(number))
        except Exception as error:  # whatever is wrong with a file, the server goes on
            self._failed[number] = time.monotonic() + _AGAIN
            self.states[number] = "END", f"{type(error).__name__}: {error}"[:500]
            warnings.warn(f"Version {number} cannot be loaded: {str(error)[:200]}", stacklevel=2)
            return False
        if self.current is not None:
            self.states[self.current.number] = "END", ""
        self.current = new
        self.states[number] = "AVAILABLE", ""
        return True

    def _watch(self):
        while not self._stop.wait(self._seconds):
            self.look()


def _call(signature, **inputs):
    return signature(**{name: tf.constant(value) for name, value in inputs.items()})


def _metadata(folder):
    """The signatures as TensorFlow Serving tells them."""
    model = saved_model_pb2.SavedModel.FromString((folder / _FILE).read_bytes())
    signatures = {
        name: json_format.MessageToDict(
            signature, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, signature in model.meta_graphs[0].signature_def.items()
    }
    return {"signature_def": {"signature_def": signatures}}
