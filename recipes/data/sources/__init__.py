"""One file per kind of source; `open_source` finds the one that fits."""

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from recipes.checks import complaint, nearest
from recipes.data.listing import Listing, file_chunks
from recipes.data.sources.arrays import list_arrays, list_digits
from recipes.data.sources.folders import list_folder, list_one_class
from recipes.data.sources.streams import list_streams
from recipes.data.sources.tables import is_table, list_table
from recipes.data.sources.tfds import list_tfds

_KINDS = 'a folder, a CSV file or DataFrame, arrays (x, y), a tf.data.Dataset, "tfds:name" or "digits"'


def open_source(source, where):
    """The Listing of any source that `recipes.load_data` takes."""
    if isinstance(source, (str, os.PathLike)):
        return _open_text(os.fspath(source), where)
    if is_table(source):
        return list_table(source, where)
    parts = tuple(source) if isinstance(source, (tuple, list)) else (source,)
    if parts and all(isinstance(part, tf.data.Dataset) for part in parts):
        return list_streams(parts, where)
    if isinstance(source, (tuple, list)):
        return list_arrays(parts, where)
    if isinstance(source, np.ndarray):
        rule = "an array of images needs its labels"
        raise TypeError(complaint(where, rule, f"one array of shape {source.shape}", "Pass the pair (x, y)."))
    raise TypeError(complaint(where, "data is of no known kind", type(source).__name__, f"Pass {_KINDS}."))


def open_one_class(images, label, where):
    """The Listing of images that are all of one class: a folder, a path, a list of paths, or an array."""
    if isinstance(images, (str, os.PathLike)):
        images = Path(images).expanduser()
        if images.is_dir():
            return list_one_class(images, label, where)
        images = [images]
    if isinstance(images, (tuple, list)) and images and all(isinstance(image, (str, os.PathLike)) for image in images):
        paths = [Path(image).expanduser() for image in images]
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise FileNotFoundError(
                complaint(where, "each path must name a file", repr(str(missing)), "Mend the path.")
            )
        return Listing(chunks=file_chunks([(str(path), label, None) for path in paths]), count=len(paths))
    try:
        array = np.asarray(images)
    except ValueError as error:
        mend = "Bring them to one size, or pass paths."
        raise ValueError(complaint(where, "arrays of images must have one shape", str(error), mend)) from error
    if array.dtype.kind not in "buif" or array.ndim not in (2, 3, 4) or not len(array):
        mend = "Pass a folder, a list of paths, or an array (images, height, width, channels)."
        received = f"{type(images).__name__} of shape {array.shape}"
        raise TypeError(complaint(where, "images are of no known kind", received, mend))
    array = array if array.ndim == 4 else array[None] if array.ndim == 3 else array[None, ..., None]
    return list_arrays((array, np.full(len(array), label)), where)


def _open_text(source, where):
    if source == "digits":
        return list_digits()
    if source.startswith("tfds:"):
        return list_tfds(source.removeprefix("tfds:"), where)
    path = Path(source).expanduser()
    if path.is_dir():
        return list_folder(path, where)
    if path.is_file() and path.suffix.casefold() in (".csv", ".tsv", ".txt"):
        return list_table(path, where)
    if path.is_file():
        raise ValueError(complaint(where, "data is a file that is not a table", repr(source), f"Pass {_KINDS}."))
    raise FileNotFoundError(complaint(where, "data does not exist", repr(source), _guess(path)))


def _guess(path):
    """Advice on a path that is not there: its nearest neighbour, or where the path stops being right."""
    there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    try:
        neighbours = [entry.name for entry in there.iterdir()]
    except OSError:
        neighbours = []
    missing = path.absolute().relative_to(there).parts[0]
    close = nearest(missing, [*neighbours, "digits"])
    advice = f"Did you mean {str(path.parent / close) if close != 'digits' else 'digits'!r}? " if close else ""
    return f"{advice}{str(there)!r} exists and has no {missing!r}. Pass {_KINDS}."
