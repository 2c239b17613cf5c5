"""Files whose numbers have fewer bits: which precisions each format has, and how they are written."""

import dataclasses
import os
import platform
from pathlib import Path

import keras
import tensorflow as tf

from recipes.bases.fake_quantization import fake_quantized, has_ranges, settled, with_rounded_kernels
from recipes.bases.precisions import HALVES, halved, quantized_by_keras, with_half_weights
from recipes.bases.rewiring import Wiring
from recipes.checks import check_choice, complaint
from recipes.serving.compacting import compacted
from recipes.serving.formats import FILES
from recipes.serving.integers import in_half, in_integers

_OF_FILES = ("float32", "float16", "int8", "int8_dynamic")
PRECISIONS = {
    "saved_model": ("float32",),
    "keras": ("float32", *HALVES, "int8"),
    "onnx": _OF_FILES,
    "litert": _OF_FILES,
}


def check_precision(precision, formats, where):
    """Raise ValueError unless each of the formats has that precision."""
    known = dict.fromkeys(name for names in PRECISIONS.values() for name in names)
    check_choice(where, "precision", precision, list(known))
    for name in formats:
        if precision not in PRECISIONS[name]:
            able = ", ".join(repr(other) for other, names in PRECISIONS.items() if precision in names)
            rule = f"the format {name!r} has no precision {precision!r}"
            raise ValueError(complaint(where, rule, f"both of them; formats that have it: {able}", "Drop one."))


def precision_of(name, model, precision):
    """The precision that the file of a format gets, where `precision` was asked for; None asks for the model's own."""
    if precision is not None:
        return precision
    return "int8" if name in ("litert", "onnx") and has_ranges(model) else "float32"


def needs_images(name, precision, model):
    """Whether there must be images, on which the ranges of activations are found."""
    return precision == "int8" and name in ("litert", "onnx") and not has_ranges(model)


def stored(name, model, precision, where, images=None, **options):
    """The Keras model that computes what the file of a format and precision does.

    Args:
        name: of the format.
        model: flat functional model; it stays as it is.
        precision: one that the format has.
        where: verb to name in errors.
        images: of calibration, for `"int8"` where the model has no ranges yet.
        **options: of `fake_quantized`.

    Returns:
        `(keras.Model, {layer: why it stays in float})`.
    """
    if name == "keras" and precision in HALVES:
        return halved(model, precision, where), {}
    if name == "keras" and precision == "int8":
        return quantized_by_keras(model, where)
    if precision == "float16":
        return with_half_weights(model, where), {}
    if precision == "int8_dynamic":
        return with_rounded_kernels(model)
    if precision == "int8" and not has_ranges(model):
        rounded, notes = fake_quantized(model, images, bits=bits_of(name), **options)
        return settled(rounded), notes
    return model, {}


def bits_of(name):
    """Of a weight in an int8 file. ONNX Runtime adds products in 16 bits where a processor of Intel or AMD lacks the
    instructions called VNNI; there, weights of 7 bits keep the sums from running over."""
    if name != "onnx" or platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return 8
    info = Path("/proc/cpuinfo")
    return 8 if info.exists() and "vnni" in info.read_text(encoding="utf-8", errors="replace") else 7


def write_quantized(name, result, folder, precision, wrap=lambda result: result):
    """Write one format in a precision into `folder`, of a Result whose model is `stored` so.

    Images in and probabilities out stay float32, so that the file takes the place of a float32 one.

    Args:
        name: of the format.
        result: Result.
        folder: `pathlib.Path`.
        precision: one that the format has.
        wrap: function of a Result to one whose model is around the other.
    """
    path = folder / FILES[name]
    if name == "litert" and precision == "int8":
        result = dataclasses.replace(result, model=_with_float_answers(result.model))
    result = wrap(result)
    if name == "keras":
        result.model.save(path)
        return
    images = keras.InputSpec(shape=(None, *result.image_size, result.channels), dtype="float32", name="images")
    options = {"format": name, "verbose": False, "input_signature": [images]}
    if name == "litert":
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
        options["target_spec"] = {"supported_types": [tf.float16] if precision == "float16" else []}
    result.model.export(os.fspath(path), **options)
    if name == "litert":
        path.write_bytes(compacted(path.read_bytes()))
    elif precision == "float16":
        in_half(path)
    else:
        in_integers(path, is_whole=precision == "int8")


def _with_float_answers(model):
    """The model with a softmax at its end that the converter leaves in float: in int8, it has steps of 1/256."""
    wiring = Wiring(model)
    (last,) = [name for name, users in wiring.users.items() if None in users]
    operation = wiring.operations[last]
    is_softmax = type(operation) is keras.layers.Softmax or (
        type(operation) is keras.layers.Activation and operation.activation is keras.activations.softmax
    )
    return wiring.rewired(replaced={last: _FloatSoftmax(name=last)}) if is_softmax else model


class _FloatSoftmax(keras.layers.Layer):
    """Softmax over the last axis, in operations of which the converter makes a float one."""

    def call(self, inputs):
        above = inputs - keras.ops.max(inputs, axis=-1, keepdims=True)
        powers = keras.ops.exp(keras.ops.maximum(above, -80.0))
        return powers / keras.ops.sum(powers, axis=-1, keepdims=True)
