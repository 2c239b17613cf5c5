"""Writing a classifier in each format that can be served."""

import contextlib
import importlib.util
import os
import tempfile
from pathlib import Path

import keras
import tensorflow as tf

from recipes.checks import check_choice, complaint
from recipes.serving.signatures import (
    bytes_signature,
    classify_signature,
    names_table,
    pixels_signature,
    probabilities_signature,
)

FILES = {"saved_model": "saved_model.pb", "keras": "model.keras", "onnx": "model.onnx", "litert": "model.tflite"}
_NEEDS = {"onnx": ("tf2onnx", "onnx", "onnxruntime")}


def check_formats(formats, where):
    """The formats as a tuple; ValueError for unknown ones, ImportError where one needs a package that is not there."""
    formats = (formats,) if isinstance(formats, str) else tuple(formats)
    if not formats:
        raise ValueError(complaint(where, "formats must name at least one", "none", 'Pass formats=("saved_model",).'))
    for name in formats:
        check_choice(where, "formats", name, FILES)
        missing = [package for package in _NEEDS.get(name, ()) if importlib.util.find_spec(package) is None]
        if missing:
            rule = f"the format {name!r} needs {', '.join(_NEEDS[name])}"
            mend = 'Install them: pip install "keras-recipes[onnx]".'
            raise ImportError(complaint(where, rule, f"an environment without {', '.join(missing)}", mend))
        if name in ("onnx", "litert") and keras.backend.backend() != "tensorflow":
            rule = f"the format {name!r} is written from models on TensorFlow"
            received = f"the Keras backend {keras.backend.backend()!r}"
            raise ValueError(
                complaint(where, rule, received, "Save the model, and export it under KERAS_BACKEND=tensorflow.")
            )
    return tuple(dict.fromkeys(formats))


def check_names(class_names, where):
    """Raise ValueError unless each class name is a line of its own in a file of labels."""
    for name in class_names:
        if "\n" in name or "\r" in name or class_names.count(name) > 1:
            rule = "class names must differ, and have no line break in them, to be served"
            raise ValueError(complaint(where, rule, repr(name), "Rename the class; labels.txt has one name a line."))


def write_format(name, result, folder):
    """Write one format into `folder`.

    `"saved_model"`: signatures `serving_default`, `pixels`, `classify`, `probabilities`, and the class names as an
    asset. `"keras"`: a stock Keras file. `"onnx"`, `"litert"`: `images`, float32 RGB 0–255 at the model's size, to
    probabilities in the order of the classes.
    """
    if name == "saved_model":
        _write_saved_model(result, folder)
    elif name == "keras":
        result.model.save(folder / FILES[name])
    else:
        images = keras.InputSpec(shape=(None, *result.image_size, result.channels), dtype="float32", name="images")
        with quiet_tensorflow():
            result.model.export(os.fspath(folder / FILES[name]), format=name, verbose=False, input_signature=[images])


@contextlib.contextmanager
def quiet_tensorflow():
    """Within, TensorFlow does not tell of each folder that it writes on the way."""
    logger = tf.get_logger()
    before = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(before)


def write_labels(class_names, path):
    """One name a line, in the order of the model's outputs; see `check_names`."""
    path.write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8", newline="\n")


def _write_saved_model(result, folder):
    with tempfile.TemporaryDirectory() as nearby:
        labels = Path(nearby, "labels.txt")
        write_labels(result.class_names, labels)
        names = names_table(labels)
        archive = keras.export.ExportArchive()
        if keras.backend.backend() != "tensorflow":  # TensorFlow finds the variables, and would write them twice
            archive.track(result.model)
        archive.track(names)
        model = archive.add_endpoint("probabilities", *probabilities_signature(result))
        takes_files = result.channels in (1, 3)
        archive.add_endpoint("pixels" if takes_files else "serving_default", pixels_signature(result, model, names))
        if takes_files:
            archive.add_endpoint("serving_default", bytes_signature(result, model, names))
            archive.add_endpoint("classify", classify_signature(result, model, names))
        archive.write_out(os.fspath(folder), verbose=False)
    if takes_files:
        _name_method(folder)


def _name_method(folder):
    """TensorFlow Serving may ask that a signature for its Classify calls says so, which TensorFlow 2 cannot write."""
    with contextlib.redirect_stdout(None):
        updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(os.fspath(folder))
        updater.replace_method_name("classify", tf.saved_model.CLASSIFY_METHOD_NAME)
        updater.save()
