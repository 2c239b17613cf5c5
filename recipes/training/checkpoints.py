"""Checkpoints on disk: each complete or not there at all, the last two kept."""

import collections
import json
import os
import warnings
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np

from recipes.checks import complaint
from recipes.files import sync_folder

_STATE = "state"
_KEPT = 2
_DAMAGES = (EOFError, KeyError, NotImplementedError, OSError, RuntimeError, ValueError, zipfile.BadZipFile)


class Checkpoints:
    """Numbered files of a state and its arrays in a folder, which is made when the first is written.

    A file is written under a temporary name, synced, read back, and only then renamed; the one before stays until the
    one after. They are plain `.npz` archives, in which every array has a checksum.

    Args:
        folder: path.
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def save(self, state, arrays):
        """Write a checkpoint.

        Args:
            state: JSON-able.
            arrays: `{name: list of arrays}`.

        Raises:
            OSError: the folder cannot be written, or the disk is full; the checkpoints before are as they were.
        """
        self.folder.mkdir(exist_ok=True)
        numbers = self._numbers()
        # What a save left that was killed before, or between its renaming and its clearing up.
        for leftover in [*self.folder.glob(".*.tmp"), *map(self._path, numbers[:-_KEPT])]:
            leftover.unlink()
        number = max(numbers, default=0) + 1
        temporary = self.folder / f".{number}.tmp"
        try:
            with open(temporary, "wb") as file:
                np.savez(file, **_packed(state, arrays))
                file.flush()
                os.fsync(file.fileno())
            _check(temporary)
            temporary.rename(self._path(number))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(self.folder)
        for old in numbers[: 1 - _KEPT]:
            self._path(old).unlink(missing_ok=True)

    def load(self, skipped=0):
        """`(state, arrays)` of the newest checkpoint that is whole, or of one before; None where there is none."""
        for number in self._numbers()[::-1][skipped:]:
            try:
                return _unpacked(_read(self._path(number)))
            except _DAMAGES as error:
                warnings.warn(f"The checkpoint {self._path(number)} is damaged ({error}) and left out.", stacklevel=2)
        return None

    def remove(self):
        """Remove all checkpoints, and the folder where nothing else is in it."""
        if self.folder.is_dir():
            for path in (*self.folder.glob("*.npz"), *self.folder.glob(".*.tmp")):
                path.unlink(missing_ok=True)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()

    def _numbers(self):
        return sorted(int(path.stem) for path in self.folder.glob("*.npz") if path.stem.isdecimal())

    def _path(self, number):
        return self.folder / f"{number}.npz"


class Remembered:
    """The last two checkpoints in memory, for runs that have no folder."""

    def __init__(self):
        self._kept = collections.deque(maxlen=_KEPT)

    def save(self, state, arrays):
        """Take in a checkpoint; see `Checkpoints`."""
        copies = {name: [value.copy() for value in values] for name, values in arrays.items()}
        self._kept.appendleft((json.dumps(state), copies))

    def load(self, skipped=0):
        """`(state, arrays)` of the newest, or of one before; None where there is none."""
        if len(self._kept) <= skipped:
            return None
        state, arrays = self._kept[skipped]
        return json.loads(state), {name: [value.copy() for value in values] for name, values in arrays.items()}


def _packed(state, arrays):
    """Flat dictionary of arrays; those of types that NumPy's files do not know, such as bfloat16, as bytes."""
    content, forms = {}, {}
    for name, values in arrays.items():
        forms[name] = [(value.dtype.name, value.shape) for value in values]
        for place, value in enumerate(values):
            is_plain = value.dtype.kind in "biuf" and value.dtype.isbuiltin == 1
            content[f"{name}/{place}"] = value if is_plain else np.frombuffer(value.tobytes(), np.uint8)
    text = json.dumps({"state": state, "forms": forms}).encode()
    return {_STATE: np.frombuffer(text, np.uint8), **content}


def _unpacked(content):
    told = json.loads(content[_STATE].tobytes())
    arrays = {
        name: [
            content[f"{name}/{place}"].reshape(-1).view(_dtype(kind)).reshape(shape)
            for place, (kind, shape) in enumerate(forms)
        ]
        for name, forms in told["forms"].items()
    }
    return told["state"], arrays


def _dtype(name):
    return np.dtype(getattr(ml_dtypes, name, name))


def _read(path):
    """All arrays of a file, every byte of which is compared with its checksum."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _check(path):
    try:
        _read(path)
    except _DAMAGES as error:
        rule, mend = "a checkpoint must read back as it was written", "Check the disk."
        raise OSError(complaint("finetune", rule, f"{str(path)!r}: {error}", mend)) from error
