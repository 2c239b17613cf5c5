"""The files that compressed networks are written to, and how each is run: what size and latency are measured on."""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from recipes.checks import check_choice
from recipes.compression.packed_files import packed_content, unpacked
from recipes.serving.formats import FILES, write_format
from recipes.serving.quantized import precision_of, write_quantized
from recipes.serving.running import FileRunner


@dataclasses.dataclass(frozen=True)
class Form:
    """One kind of file.

    Args:
        name: as verbs take it.
        file: name of the file, with the ending that tells its kind.
        write: function of (Result, path) that writes a float32 model.
        runner: function of (model, path) to a function of float32 images `(batch, height, width, channels)`, RGB
            0–255, to probabilities, run as whoever serves the file runs it.
    """

    name: str
    file: str
    write: Callable
    runner: Callable


def find_form(name, where):
    """The Form of that name; ValueError where there is none."""
    check_choice(where, "form", name, FORMS)
    return FORMS[name]


def content_of(form, result):
    """The bytes of the file that a Result becomes in a Form."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, form.file)
        form.write(result, path)
        return path.read_bytes()


def _write_keras(result, path):
    result.model.save(path)


def _run_keras(model, path):
    """As a SavedModel runs it: one graph, of a batch of any size."""
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]

    def answer(images):
        return model(tf.cast(images, model.inputs[0].dtype), training=False)

    graph = tf.function(answer, input_signature=signature, autograph=False)
    return lambda images: np.asarray(graph(tf.constant(images)))


def _write_packed(result, path):
    path.write_bytes(packed_content(result)[0])


def _run_packed(model, path):
    """As the model that is read back from the file."""
    return _run_keras(unpacked(path.read_bytes(), "form").model, path)


def _write_file(name):
    """A model that holds the ranges of its activations is written in int8, another one in float32."""

    def write(result, path):
        precision = precision_of(name, result.model, None)
        if precision == "float32":
            write_format(name, result, path.parent)
        else:
            write_quantized(name, result, path.parent, precision)

    return write


def _run_file(name):
    return lambda model, path: FileRunner(name, path)


FORMS = {
    form.name: form
    for form in (
        *(Form(name, FILES[name], _write_file(name), _run_file(name)) for name in ("litert", "onnx")),
        Form("keras", "model.keras", _write_keras, _run_keras),
        Form("packed", "model.packed", _write_packed, _run_packed),
    )
}
