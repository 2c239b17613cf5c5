"""Decoded images that all trials of a search map into memory, instead of each decoding its own."""

import contextlib
import dataclasses
import os
import pickle
from pathlib import Path

import numpy as np

from recipes.files import sync_folder

_CHUNK = 2**26  # bytes


def share(data, folder):
    """Put a Data where the processes of trials find it.

    The file of its images is linked to where that can be, and else copied.

    Args:
        data: Data.
        folder: of the search; what is there already, of the same images, is left as it is.

    Returns:
        The path to give to `open_shared`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{'x'.join(map(str, data.image_size))}-{data.fingerprint[:16]}"
    told, rows = folder / f"{stem}.pkl", folder / f"{stem}.rows"
    if told.exists():
        return told
    store = data.train.store
    if not _linked(store, rows):
        _copy(store, rows)
    form = {"rows": rows.name, "shape": store.shape}
    temporary = told.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(pickle.dumps((without_images(data), form)))
    temporary.replace(told)
    sync_folder(folder)
    return told


def open_shared(path):
    """The Data of a trial: what `share` put there, without the test split, which no trial sees."""
    return for_trial(*read_shared(path))


def read_shared(path):
    """(Data without images, the map of its images) that `share` put there."""
    path = Path(path)
    data, form = pickle.loads(path.read_bytes())
    return data, np.memmap(path.parent / form["rows"], np.uint8, mode="r", shape=tuple(form["shape"]))


def for_trial(data, store):
    """A Data with its images in `store` and no test split."""
    train, valid = (dataclasses.replace(part, store=store) for part in (data.train, data.valid))
    nothing = np.array([], np.int64)
    test = dataclasses.replace(valid, rows=nothing, labels=valid.labels[:0], files=(), digests=())
    return dataclasses.replace(data, train=train, valid=valid, test=test)


def without_images(data):
    """A Data whose images are elsewhere."""
    parts = {name: dataclasses.replace(getattr(data, name), store=None) for name in ("train", "valid", "test")}
    return dataclasses.replace(data, **parts)


def _linked(store, path):
    """Whether the file behind a whole map got another name, under which it outlives the cache that it belongs to."""
    source = getattr(store, "filename", None)
    if not isinstance(store, np.memmap) or source is None or store.offset or not Path(source).is_file():
        return False
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        os.link(source, path)
        return True
    return False


def _copy(store, path):
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    step = max(1, _CHUNK // max(1, int(np.prod(store.shape[1:]))))
    try:
        with open(temporary, "wb") as file:
            for start in range(0, len(store), step):
                file.write(np.ascontiguousarray(store[start : start + step]).data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
