"""Exporting a classifier as a SavedModel."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras

from recipes.checks import complaint
from recipes.locks import lock
from recipes.saving import open_classifier, writable_folder
from recipes.serving.parity import check_parity
from recipes.serving.signatures import bytes_signature, pixels_signature

_TEMPORARY = ".export-"


def export(model: str | Any, folder: str | os.PathLike):
    """Export a classifier as a SavedModel that takes the bytes of images and gives names.

    It becomes the next version in `folder`, in the layout that TensorFlow Serving reads: `folder/1`, `folder/2`, … .

    1. Write the SavedModel under a temporary name. `serving_default` takes `image_bytes`, the bytes of encoded images
       of any size, and gives `classes` and `probabilities`, most probable first; `pixels` takes arrays at the model's
       size. Decoder, EXIF orientation, resizing, preprocessing and class names are inside. (A model with neither one
       nor three channels has `pixels` only, as its default.)
    2. Load it again and compare it with the model, on the raw files of the measured split where there are any.
    3. Rename it to its number. An existing version is never touched, and a failure leaves nothing.

    Args:
        model: `Result`, folder of a saved one, or Keras model.
        folder: path; made when absent.

    Returns:
        The folder of the new version, a `pathlib.Path`.

    Raises:
        RuntimeError: the SavedModel does not answer as the model does.
        OSError: the folder cannot be written.

    Example:
        >>> import recipes
        >>> recipes.export("runs/flowers", "served/flowers")  # doctest: +SKIP
        PosixPath('served/flowers/1')
    """
    where = "export"
    result = open_classifier(model, where)
    folder = writable_folder(folder, where)
    temporary, held = _make_temporary(folder)
    try:
        _write(result, temporary)
        check_parity(result, temporary, where)
        _sync(temporary)
        temporary.chmod(0o755)
        return _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(held)


def _make_temporary(folder):
    """(a new folder within `folder`, the descriptor that holds it); those that nobody holds any more are removed."""
    door = os.open(folder, os.O_RDONLY)
    lock(door, "exclusive")  # so that nobody takes a new one for a leftover
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(FileNotFoundError):  # it has just been published
            descriptor = os.open(leftover, os.O_RDONLY)
            if lock(descriptor, "at once"):
                shutil.rmtree(leftover, ignore_errors=True)
            os.close(descriptor)
    temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder))
    held = os.open(temporary, os.O_RDONLY)
    lock(held, "exclusive")
    os.close(door)
    return temporary, held


def _write(result, folder):
    archive = keras.export.ExportArchive()
    archive.track(result.model)
    takes_files = result.channels in (1, 3)
    if takes_files:
        archive.add_endpoint("serving_default", *bytes_signature(result))
    archive.add_endpoint("pixels" if takes_files else "serving_default", *pixels_signature(result))
    archive.write_out(os.fspath(folder), verbose=False)


def _publish(temporary, folder):
    """Rename to the next free number; another process may take a number first, then the one after it is tried."""
    number = 1 + max((int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()), default=0)
    while True:
        version = folder / str(number)
        try:
            temporary.rename(version)
        except OSError as error:
            if not version.exists():
                rule = f"the SavedModel cannot be renamed ({error.strerror})"
                raise OSError(complaint("export", rule, repr(str(version)), "Choose another folder.")) from error
            number += 1
        else:
            return version


def _sync(folder):
    """Ask the system to write every file to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
