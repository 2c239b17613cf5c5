"""Rows of numbers kept on disk by what they were computed from: a contiguous file per kind, found again by digest."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from recipes.locks import lock

ROWS, INDEX, INFO, LOCK, IN_USE = "rows.bin", "index.bin", "info.json", "lock", "in_use"
DIGEST = 16  # bytes
DEFAULT_LIMIT = 20 * 10**9  # bytes
_LIMIT_FILE = "limit.json"


class RowCache:
    """Rows of one shape and type, each under a digest of 16 bytes of what it was computed from.

    Rows are appended to one file and, when they are safely on disk, their digests to another: whoever is killed in
    between leaves rows that nothing points to, and the next one writes over them. Several processes may append, one at
    a time. A cache that is open is not removed; maps of its rows stay valid after it is closed, and even removed.

    Args:
        kind: what the rows are, such as `"features"`: the folder in `caches_folder()`.
        recipe: JSON-able description of how a row comes from what its digest stands for. Another recipe, another cache.
        shape: of a row.
        dtype: of its numbers.
    """

    def __init__(self, kind, recipe, shape, dtype):
        self.shape, self.dtype = tuple(int(side) for side in shape), np.dtype(dtype)
        described = {"recipe": recipe, "shape": self.shape, "dtype": self.dtype.name}
        text = json.dumps(described, sort_keys=True)
        self.folder = caches_folder() / kind / hashlib.blake2b(text.encode(), digest_size=DIGEST).hexdigest()
        self._in_use = _share(self.folder)
        info = self.folder / INFO
        if not info.exists():
            info.write_text(text, encoding="utf-8")
        os.utime(info)  # the time of last use
        self._places = {}
        self._take_in()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._in_use.close()

    @property
    def row_bytes(self):
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def missing(self, digests):
        """Positions of the digests that have no row yet, each content once."""
        first = {}
        for position, digest in enumerate(digests):
            if digest not in self._places:
                first.setdefault(digest, position)
        return sorted(first.values())

    def append(self, digests, rows):
        """Add a row for each digest that has none yet."""
        with open(self.folder / LOCK, "w", encoding="utf-8") as file:
            lock(file, "exclusive")
            self._take_in()
            fresh = self.missing(digests)
            if fresh:
                rows = np.ascontiguousarray(np.asarray(rows, self.dtype)[fresh])
                _write(self.folder / ROWS, len(self._places) * self.row_bytes, rows.reshape(-1).view(np.uint8))
                _write(self.folder / INDEX, len(self._places) * DIGEST, b"".join(digests[place] for place in fresh))
            self._take_in()

    def rows(self, digests=None):
        """(read-only map of the file, the row of each digest in it); without digests, all there are as a dictionary."""
        count = len(self._places)
        if digests is None:
            places = dict(self._places)
        else:
            places = np.array([self._places[digest] for digest in digests], np.int64)
        if not count:
            return np.zeros((0, *self.shape), self.dtype), places
        return np.memmap(self.folder / ROWS, self.dtype, mode="r", shape=(count, *self.shape)), places

    def _take_in(self):
        """Learn the digests that were appended since, by whomever, whose rows are on disk."""
        index, rows = self.folder / INDEX, self.folder / ROWS
        if not (index.exists() and rows.exists()):
            return
        with open(index, "rb") as file:
            file.seek(len(self._places) * DIGEST)
            new = file.read()
        count = min(len(new) // DIGEST, rows.stat().st_size // self.row_bytes - len(self._places))
        for number in range(count):
            self._places[new[DIGEST * number : DIGEST * (number + 1)]] = len(self._places)


def _write(path, start, content):
    """Put `content` at `start` and nothing after it, and see it on disk."""
    with open(path, "r+b" if path.exists() else "w+b") as file:
        file.seek(start)
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _share(folder):
    """An open file that says a cache is in use; the folder is made when it is missing."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # it is being removed at this moment
            file = open(folder / IN_USE, "a", encoding="utf-8")  # noqa: SIM115 (closed with the cache)
            lock(file, "shared")
            if os.path.samestat(os.fstat(file.fileno()), os.stat(folder / IN_USE)):
                return file
            file.close()


def cache_folder():
    """`$XDG_CACHE_HOME/keras-recipes`, `~/.cache/keras-recipes`, or the temporary folder where neither can be had."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keras-recipes"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return tempfile.gettempdir()
    return str(folder) if os.access(folder, os.W_OK) else tempfile.gettempdir()


def caches_folder():
    """The folder of all caches that outlive their process."""
    folder = Path(cache_folder())
    return folder if folder.name == "keras-recipes" else folder / "keras-recipes"


def list_caches():
    """`(folder, bytes, time of last use)` of every cache, the least recently used first."""
    found = []
    for info in caches_folder().glob(f"*/*/{INFO}"):
        with contextlib.suppress(OSError):  # another process may be clearing it away
            size = sum(file.stat().st_size for file in info.parent.iterdir())
            found.append((info.parent, size, info.stat().st_mtime))
    return sorted(found, key=lambda entry: entry[2])


def cache_limit():
    """Bytes that all caches together may hold."""
    try:
        return int(json.loads((caches_folder() / _LIMIT_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return DEFAULT_LIMIT


def set_cache_limit(limit):
    """Keep `limit` for this and all later runs."""
    caches_folder().mkdir(parents=True, exist_ok=True)
    (caches_folder() / _LIMIT_FILE).write_text(json.dumps(int(limit)), encoding="utf-8")


def make_room(needed=0):
    """Remove the least recently used caches that nobody uses until `needed` more bytes fit the limit, if they can."""
    entries = list_caches()
    excess = sum(size for _, size, _ in entries) + needed - cache_limit()
    for folder, size, _ in entries:
        if excess > 0 and remove_cache(folder):
            excess -= size
    return excess <= 0


def remove_cache(folder):
    """Take a cache away unless it is open somewhere; whether it is gone."""
    with contextlib.suppress(FileNotFoundError), open(folder / IN_USE, "a", encoding="utf-8") as file:
        if not lock(file, "at once"):
            return False
        shutil.rmtree(folder, ignore_errors=True)
    return not (folder / INFO).exists()
