"""The store of decoded images: one contiguous uint8 file, mapped into memory, gone after use or kept by content."""

import shutil
import tempfile

import numpy as np

from recipes.checks import complaint
from recipes.data.row_cache import RowCache, cache_folder, cache_limit, make_room

_TOGETHER = 2**25  # bytes that are brought to disk at once


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

    def append(self, images, digests):
        """Add uint8 `(images, height, width, channels)`."""
        self._file.write(np.ascontiguousarray(images, np.uint8).data)
        self.rows += len(images)

    def known(self, digest):
        """None: nothing is known from before."""

    def finish(self):
        """(the store as a read-only array `(rows, height, width, channels)`, the row of each image in it)."""
        self._file.flush()
        rows = np.arange(self.rows)
        if not self.rows:
            return np.zeros((0, *self.shape), np.uint8), rows
        return np.memmap(self._file, np.uint8, mode="r", shape=(self.rows, *self.shape)), rows


class KeptStore:
    """As Store, but what was decoded once is found again, in this process and in later ones, by its content.

    Args:
        shape: `(height, width, channels)` of a row.
        recipe: JSON-able description of how a row comes from a file.
    """

    def __init__(self, shape, recipe):
        self._cache = RowCache("images", recipe, shape, np.uint8)
        self._before, self._places = self._cache.rows()
        self._digests, self._waiting, self._bytes = [], [], 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._cache.__exit__()

    def append(self, images, digests):
        """Add uint8 `(images, height, width, channels)` with a digest of 16 bytes each."""
        self._digests.extend(digests)
        new = [place for place, digest in enumerate(digests) if digest not in self._places]
        if new:
            self._waiting.append((images[new], [digests[place] for place in new]))
            self._bytes += self._waiting[-1][0].nbytes
        if self._bytes >= _TOGETHER:
            self._write()

    def known(self, digest):
        """The pixels that came from this content before, or None."""
        place = self._places.get(digest)
        return None if place is None else self._before[place]

    def finish(self):
        """(read-only array `(rows, height, width, channels)`, the row of each image in it)."""
        self._write()
        return self._cache.rows(self._digests)

    def _write(self):
        if self._waiting:
            images, digests = zip(*self._waiting, strict=True)
            self._cache.append([digest for part in digests for digest in part], np.concatenate(images))
            self._waiting, self._bytes = [], 0


def open_store(shape, is_encoded, count, recipe):
    """The store for `count` images (None: not known): one that is kept where it spares decoding and fits the limit."""
    needed = (count or 0) * int(np.prod(shape))
    if is_encoded and needed <= cache_limit() and make_room(needed):
        return KeptStore(shape, recipe)
    return Store(shape)


def check_space(count, shape, where):
    """Raise OSError when the decoded images will not fit on the disk of the cache folder."""
    needed, free = count * int(np.prod(shape)), shutil.disk_usage(cache_folder()).free
    if needed > free:
        mend = f"Pass a smaller image_size, or name a folder on a larger disk in XDG_CACHE_HOME (now {cache_folder()})."
        rule = f"the decoded images need {needed / 1e9:.1f} GB of disk"
        raise OSError(complaint(where, rule, f"{free / 1e9:.1f} GB free", mend))
