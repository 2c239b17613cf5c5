"""The store of decoded images: one contiguous uint8 file, mapped into memory, gone when nothing uses it any more."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from recipes.checks import complaint


class Store:
    """Rows of uint8 images, appended one chunk at a time and then mapped read-only.

    The file has no name in its folder, so nothing is left behind however the process ends, and pages that are
    not in use are dropped by the operating system: the images may be larger than memory.

    Args:
        shape: `(height, width, channels)` of a row.
    """

    def __init__(self, shape):
        self.shape = tuple(shape)
        self.rows = 0
        self._file = tempfile.TemporaryFile(dir=cache_folder())  # noqa: SIM115 (closed by __exit__)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()  # a map of it stays valid

    def append(self, images):
        """Add uint8 `(images, height, width, channels)`; return the row numbers they got."""
        self._file.write(np.ascontiguousarray(images, np.uint8).data)
        start, self.rows = self.rows, self.rows + len(images)
        return range(start, self.rows)

    def finish(self):
        """The whole store as a read-only array `(rows, height, width, channels)`."""
        self._file.flush()
        if not self.rows:
            return np.zeros((0, *self.shape), np.uint8)
        return np.memmap(self._file, np.uint8, mode="r", shape=(self.rows, *self.shape))


def check_space(count, shape, where):
    """Raise OSError when the decoded images will not fit on the disk of the cache folder."""
    needed, free = count * int(np.prod(shape)), shutil.disk_usage(cache_folder()).free
    if needed > free:
        mend = f"Pass a smaller image_size, or name a folder on a larger disk in XDG_CACHE_HOME (now {cache_folder()})."
        rule = f"the decoded images need {needed / 1e9:.1f} GB of disk"
        raise OSError(complaint(where, rule, f"{free / 1e9:.1f} GB free", mend))


def cache_folder():
    """`$XDG_CACHE_HOME/keras-recipes`, `~/.cache/keras-recipes`, or the temporary folder where neither can be had."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keras-recipes"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return tempfile.gettempdir()
    return str(folder) if os.access(folder, os.W_OK) else tempfile.gettempdir()
