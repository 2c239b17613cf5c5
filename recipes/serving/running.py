"""What an exported file answers, by the runtime that it is for."""

import tempfile
from pathlib import Path

import keras
import numpy as np

from recipes.serving import proof
from recipes.serving.formats import FILES


class FileRunner:
    """Opens a file of one format and answers images by it, in this process.

    Args:
        name: `"litert"`, `"onnx"` or `"keras"`.
        file: its path, or its bytes.
        threads: to compute with; None leaves that to the runtime: LiteRT takes one, ONNX Runtime all cores.
    """

    def __init__(self, name, file, threads=None):
        if isinstance(file, bytes):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, FILES[name])
                path.write_bytes(file)
                self._answer = _OPENERS[name](str(path), threads)
        else:
            self._answer = _OPENERS[name](str(file), threads)

    def __call__(self, images):
        """Probabilities of one batch of float32 images, RGB 0–255 at the model's size."""
        return self._answer(np.ascontiguousarray(images, np.float32))

    def predict(self, images, batch_size=proof.BATCH):
        """float32 `(images, classes)` of any number of images, uint8 or float32, batch by batch."""
        parts = [self(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
        return np.concatenate(parts).astype(np.float32)


def _open_keras(path, threads):
    model = keras.saving.load_model(path, safe_mode=True)
    return lambda images: np.asarray(model.predict_on_batch(images), np.float32)


_OPENERS = {"keras": _open_keras, "litert": proof.open_litert, "onnx": proof.open_onnx}
