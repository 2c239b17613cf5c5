"""Exporting a classifier for serving."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from recipes.bases.flattening import flat_copy
from recipes.bases.plain import has_algorithms, in_plain_layers
from recipes.bases.precisions import in_float32, is_mixed
from recipes.bases.simplifying import simplified
from recipes.checks import check_number, complaint
from recipes.cropping import check_crops, with_crops
from recipes.files import sync_folder, write_json, write_text
from recipes.locks import lock
from recipes.saving import open_classifier, writable_folder
from recipes.serving.calibration import images_for_ranges
from recipes.serving.card import card_text, make_card
from recipes.serving.formats import FILES, check_formats, check_names, write_format, write_labels
from recipes.serving.parity import Samples, prove, tolerance_of
from recipes.serving.quantized import check_precision, needs_images, precision_of, stored, write_quantized
from recipes.serving.running import FileRunner
from recipes.serving.warmup import write_warmup

_TEMPORARY = ".export-"


def export(
    model: str | Any,
    folder: str | os.PathLike,
    *,
    formats: str | list[str] = ("saved_model",),
    precision: str | None = None,
    calibration: dict[str, Any] | str | Any = None,
    samples: list[str] | Any = None,
    crops: int | str = 1,
    average: str = "probabilities",
    simplify: bool = False,
    tolerance: float | None = None,
):
    """Export a classifier that takes the bytes of images and gives names, proved to answer as what was measured.

    It becomes the next version in `folder`, in the layout that TensorFlow Serving reads: `folder/1`, `folder/2`, … .

    1. Write each format under a temporary name. The SavedModel's `serving_default` takes `image_bytes`, the bytes of
       encoded images of any size, and gives `classes` and `probabilities`, most probable first, and `error`, empty
       where the image could be read; `classify` takes `tf.Example` with the feature `image_bytes`; `pixels` takes
       `images`, arrays of any one size; `probabilities` takes `images` at the model's size and keeps the order of the
       classes. Decoder, EXIF orientation, resizing, preprocessing and class names are inside. (A model with neither
       one nor three channels takes arrays only, in `serving_default`.) In another precision than float32, what goes in
       and comes out stays float32.
    2. Run samples through each format in a fresh process that knows neither this package nor Keras, and compare. A file
       in another precision must answer as it did in this process, and the card says how far that is from the model.
    3. Add `labels.txt`, `card.json` and `card.md`, and requests for warming up.
    4. Rename it to its number. An existing version is never touched, and a failure leaves nothing.

    What `recipes.accelerate` made serves as such in the SavedModel alone; other formats hold plain layers in its place.

    Args:
        model: `Result`, folder of a saved one, or Keras model.
        folder: path; made when absent.
        formats: of `"saved_model"` (what TensorFlow Serving and `recipes serve` take), `"keras"`, `"onnx"` (needs
            `pip install "keras-recipes[onnx]"`) and `"litert"`. The last two take float32 images at the model's size.
        precision: `"float32"`; for ONNX and LiteRT `"float16"` (half the bytes; computes in float32), `"int8"` (a
            quarter; kernels by channel, activations too, by ranges found on images of calibration) or `"int8_dynamic"`
            (kernels alone); for Keras `"float16"` and `"bfloat16"` (weights and computing) or `"int8"` (dense layers,
            by Keras' own `quantize`). None: `"int8"` for a model that `recipes.quantize` gave the ranges for that, else
            `"float32"`.
        calibration: for `"int8"`: Data or any source that `recipes.load_data` takes, of which up to 100 training images
            are run; or an array of images at the model's size. None: the data that the Result was trained on.
        samples: paths, bytes or arrays to prove it with; by default the raw files of the measured split where they are
            still there, else its images, else made-up ones. At most 512 of them, spread evenly, are run.
        crops: 2, 5 or 10 to average the answers over crops of an image that is taken 8/7 as large, or `"resnet"` for
            five scales, up to 20/7; see `layers.CropAverage`. Each crop costs as much as one image; `recipes.evaluate`
            with the same `crops` says what they bring.
        average: of the crops' `"probabilities"` or `"logits"`.
        simplify: whether BatchNormalization is folded into convolutions, `ResizeConv` collapsed and ReLU put behind
            max-pooling first.
        tolerance: largest difference of a probability, above 0; by default 1e-5, for ONNX, LiteRT and plain layers in
            the place of others 1e-4, and for models in half precision 1e-2.

    Returns:
        The folder of the new version, a `pathlib.Path`.

    Raises:
        RuntimeError: a format does not answer as the model does.
        ImportError: a format needs a package that is not installed.
        OSError: the folder cannot be written.

    Example:
        >>> import recipes
        >>> recipes.export("runs/flowers", "served/flowers")  # doctest: +SKIP
        PosixPath('served/flowers/1')
    """
    where = "export"
    formats = check_formats(formats, where)
    if precision is not None:
        check_precision(precision, formats, where)
    if tolerance is not None:
        check_number(where, "tolerance", tolerance, above=True)
    result = open_classifier(model, where)
    check_names(result.class_names, where)
    precisions = {name: precision_of(name, result.model, precision) for name in formats}
    check_crops(crops, average, where)
    images = None
    if any(needs_images(name, precisions[name], result.model) for name in formats):
        images = images_for_ranges(calibration, result, where)
    measured = with_crops(result, crops, average)
    plain = in_plain_layers(result.model, where)  # all that other runtimes, and Keras alone, can compute
    if any(name != "saved_model" for name in formats) and has_algorithms(plain):
        rule = "formats other than the SavedModel hold no layers that compute by another algorithm"
        mend = "Build it with keras.layers.Conv2D there, or export the SavedModel alone."
        raise ValueError(complaint(where, rule, f"one within another layer of {plain.name!r}", mend))
    own = other = simplified(result.model) if simplify else result.model
    if plain is not result.model:
        other = simplified(plain) if simplify else plain

    def write(name, folder):
        if precisions[name] == "float32":
            model = own if name == "saved_model" else other
            if name == "litert" and is_mixed(flat := flat_copy(model, where)):  # whose runtime has no half precision
                model = in_float32(flat, where)
            return write_format(name, with_crops(dataclasses.replace(result, model=model), crops, average), folder)
        flat = flat_copy(plain, where)
        exported = dataclasses.replace(result, model=stored(name, flat, precisions[name], where, images)[0])
        return write_quantized(
            name, exported, folder, precisions[name], lambda inner: with_crops(inner, crops, average)
        )

    is_plain = not has_algorithms(result.model)
    tolerances = {name: tolerance or tolerance_of(name, result.model, is_plain) for name in formats}
    told = {"is_simplified": own is not result.model, "crops": crops}
    return _published(measured, Samples(measured, samples, where), folder, write, precisions, tolerances, told)


def export_file(result, folder, name, content, precision, *, samples=None, tolerance=None):
    """Export a file that is there already, and by which the scores of a Result were measured, as `export` does.

    Args:
        result: Result, the report of which is of the file.
        folder: path; made when absent.
        name: of its format, `"litert"` or `"onnx"`.
        content: its bytes.
        precision: in words, for the card.
        samples: see `export`.
        tolerance: see `export`.

    Returns:
        The folder of the new version, a `pathlib.Path`.
    """
    where = "export"
    check_names(result.class_names, where)
    tolerances = {name: tolerance or tolerance_of(name, result.model)}
    told = {"is_simplified": False, "crops": 1, "is_of_file": True}

    def write(name, folder):
        (folder / FILES[name]).write_bytes(content)

    return _published(result, Samples(result, samples, where), folder, write, {name: precision}, tolerances, told)


def _published(measured, chosen, folder, write, precisions, tolerances, told):
    """Write, prove and publish one version; its folder."""
    folder = writable_folder(folder, "export")
    _check_served(folder, tuple(precisions), "export")
    temporary, held = _make_temporary(folder)
    try:
        for name in precisions:
            write(name, temporary)
        proofs = {
            name: _proof(name, temporary, chosen, measured, tolerances[name], precision)
            for name, precision in precisions.items()
        }
        sizes = {name: _size(temporary, name) for name in precisions}
        write_labels(measured.class_names, temporary / "labels.txt")
        if "saved_model" in precisions:
            write_warmup(measured.image_size, measured.channels, temporary)
        card = make_card(measured, chosen, proofs, sizes, precisions=precisions, **told)
        write_json(temporary / "card.json", card)
        write_text(temporary / "card.md", card_text(card))
        _sync(temporary)
        temporary.chmod(0o755)
        return _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if held is not None:
            os.close(held)


def _proof(name, folder, chosen, result, tolerance, precision):
    """What was proved of one format; a file of another precision is measured first, as it is no model's equal."""
    if precision == "float32":
        return prove(name, folder, chosen, tolerance, "export")
    answers = FileRunner(name, folder / FILES[name]).predict(chosen.pixels)
    proof = prove(name, folder, chosen, tolerance, "export", answers)
    told = chosen.in_the_report(result, answers)
    return proof | ({"in_the_report": told} if told["images"] else {})


def _check_served(folder, formats, where):
    """Raise ValueError where the newest version of a folder that is served would be one that cannot be."""
    if "saved_model" not in formats and any(folder.glob("[0-9]*/saved_model.pb")):
        rule = "a folder with versions to be served takes versions that can be"
        mend = 'Add "saved_model", or export to another folder.'
        raise ValueError(complaint(where, rule, f"formats={formats} for {str(folder)!r}", mend))


def _size(folder, name):
    """Bytes of a format."""
    others = {file for other, file in FILES.items() if other != name}
    if name != "saved_model":
        return (folder / FILES[name]).stat().st_size
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name not in others)


def _make_temporary(folder):
    """(a new folder within `folder`, the descriptor that holds it); those that nobody holds any more are removed."""
    if os.name == "nt":  # there, folders cannot be held
        return Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder)), None
    door = os.open(folder, os.O_RDONLY)
    try:
        lock(door, "exclusive")  # so that nobody takes a new one for a leftover
        for leftover in folder.glob(f"{_TEMPORARY}*"):
            with contextlib.suppress(OSError):  # it has just been published, or is somebody else's
                descriptor = os.open(leftover, os.O_RDONLY)
                if lock(descriptor, "at once"):
                    shutil.rmtree(leftover, ignore_errors=True)
                os.close(descriptor)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder))
        held = os.open(temporary, os.O_RDONLY)
        lock(held, "exclusive")
    finally:
        os.close(door)
    return temporary, held


def _publish(temporary, folder):
    """Rename to the next free number; another process may take a number first, then the one after it is tried."""
    number = 1 + max((int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()), default=0)
    while True:
        version = folder / str(number)
        try:
            temporary.rename(version)
        except OSError as error:
            if not version.exists():
                rule = f"the export cannot be renamed ({error.strerror})"
                raise OSError(complaint("export", rule, repr(str(version)), "Choose another folder.")) from error
            number += 1
        else:
            sync_folder(folder)
            return version


def _sync(folder):
    """Ask the system to write every file, and every name, to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("r+b") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)
