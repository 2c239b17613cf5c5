"""Saving a classifier to a folder and bringing all of it back."""

import json
import os
import sys
from pathlib import Path

import keras

import layers  # noqa: F401 (models may hold them, and Keras must know them to load such)
from recipes.checks import complaint
from recipes.files import write_json
from recipes.reporting.pages import write_page
from recipes.values import Report, Result

MODEL, CLASSIFIER, REPORT, PAGE = "model.keras", "classifier.json", "report.json", "report.html"


def save(result, folder):
    """Save a classifier to a folder, from which `recipes.load` brings it back.

    Writes `model.keras` (a stock Keras file: `keras.saving.load_model` reads it too), `report.json`, `report.html` and
    last `classifier.json` (class names and how images are brought to size), each under a temporary name first.

    Args:
        result: `Result`.
        folder: path; made when absent. A classifier that is there already is replaced.

    Returns:
        The folder, a `pathlib.Path`.

    Raises:
        TypeError, ValueError: `result` is no Result, or was never measured.
        OSError: the folder cannot be written.

    Example:
        >>> import recipes
        >>> result = recipes.finetune("small_resnet", "digits", weights=None, epochs=1, verbose=False)
        >>> result.save("digit_reader")
        PosixPath('digit_reader')
    """
    if not isinstance(result, Result):
        mend = "Pass what recipes.finetune returned."
        raise TypeError(complaint("save", "result must be a Result", type(result).__name__, mend))
    if result.report is None:
        mend = "Measure it: dataclasses.replace(result, report=recipes.evaluate(result, data))."
        raise ValueError(complaint("save", "what is saved must have a report", "a Result without one", mend))
    folder = writable_folder(folder, "save")
    (folder / CLASSIFIER).unlink(missing_ok=True)  # an interruption must not leave new weights under old names
    _save_model(result.model, folder / MODEL)
    result.report.save(folder / REPORT)
    write_page(result.report, folder / PAGE)
    form = {
        "class_names": result.class_names,
        "image_size": result.image_size,
        "channels": result.channels,
        "resize": result.resize,
        "trained_on": sorted(result.trained_on),
    }
    write_json(folder / CLASSIFIER, form)
    return folder


def ready_to_measure(model):
    """Compile with an optimizer that has no state: the saved file is small, and plain Keras loads and measures it.

    What trained it scaled its loss in half precision; saved with that, Keras would warn of variables that do not fit.
    """
    model.compile("sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"], auto_scale_loss=False)


def load(folder):
    """Bring back a classifier that `recipes.save` or a finished run wrote.

    The model is loaded in Keras' safe mode: a file that wants to run code of its own is refused.

    Args:
        folder: path of the folder.

    Returns:
        `Result`, whose `data` is None.

    Raises:
        FileNotFoundError: there is no saved classifier in the folder.

    Example:
        >>> import recipes
        >>> recipes.load("digit_reader").predict("scan.png")  # doctest: +SKIP
        Prediction(label='7', probability=0.998...)
    """
    folder = Path(folder).expanduser()
    missing = [name for name in (CLASSIFIER, MODEL, REPORT) if not (folder / name).is_file()]
    if missing:
        mend = "Pass a folder that recipes.save wrote, or the out= folder of a finished run."
        rule = f"the folder holds no finished classifier ({', '.join(missing)} missing)"
        raise FileNotFoundError(complaint("load", rule, repr(str(folder)), mend))
    form = json.loads((folder / CLASSIFIER).read_text(encoding="utf-8"))
    return Result(
        model=keras.saving.load_model(folder / MODEL, safe_mode=True),
        class_names=tuple(form["class_names"]),
        image_size=tuple(form["image_size"]),
        channels=form["channels"],
        resize=form["resize"],
        report=Report.load(folder / REPORT),
        trained_on=frozenset(form["trained_on"]),
    )


def open_classifier(model, where):
    """A Result, the folder of one, or a bare Keras model, as a Result.

    A bare model is taken to accept RGB 0–255 and to give probabilities; its classes are named "0", "1", … .
    """
    if isinstance(model, Result):
        return model
    if isinstance(model, (str, os.PathLike)):
        return load(model)
    if not isinstance(model, keras.Model):
        mend = "Pass a Result, a folder that recipes.save wrote, or a keras.Model."
        raise TypeError(complaint(where, "model is of no known kind", type(model).__name__, mend))
    shapes = getattr(model, "input_shape", ()), getattr(model, "output_shape", ())
    is_plain = not any(isinstance(part, (tuple, list)) for shape in shapes for part in shape)  # one input, one output
    if not is_plain or len(shapes[0]) != 4 or len(shapes[1]) != 2 or None in shapes[0][1:]:
        mend = "Pass a model from (batch, height, width, channels), with known sizes, to (batch, classes)."
        raise ValueError(complaint(where, "the model must be an image classifier", f"{shapes[0]} to {shapes[1]}", mend))
    if shapes[1][1] == 1:
        mend = "Give it two: keras.layers.Dense(2, activation='softmax'), or 1 - p beside p."
        rule = "the model must give a probability for each of two classes or more"
        raise ValueError(complaint(where, rule, "one number an image", mend))
    _, height, width, channels = shapes[0]
    names = tuple(str(index) for index in range(shapes[1][1]))
    return Result(model, names, (height, width), channels, "crop", report=None)


def writable_folder(folder, where):
    """The folder as a Path, made when absent; OSError in three parts when it cannot be written."""
    folder = Path(folder).expanduser()
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        mend = "Choose another folder, or change its permissions."
        rule = f"the folder cannot be written ({error.strerror})"
        raise OSError(complaint(where, rule, repr(str(folder)), mend)) from error
    return folder


def versions():
    """Versions of Python and of the packages that decide what comes out."""
    from importlib.metadata import version

    packages = ("keras-recipes", "keras", "tensorflow", "numpy", "pillow")
    return {"python": sys.version.split()[0], **{package: version(package) for package in packages}}


def _save_model(model, path):
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        model.save(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
