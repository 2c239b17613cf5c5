"""What recipes keep on disk so that nothing is computed twice."""

import dataclasses
import json
import time

from recipes.checks import check_number
from recipes.data.row_cache import (
    INFO,
    cache_limit,
    caches_folder,
    list_caches,
    make_room,
    remove_cache,
    set_cache_limit,
)


@dataclasses.dataclass(frozen=True, repr=False)
class Caches:
    """What is kept on disk; prints as a table.

    Args:
        folder: where.
        entries: `(kind and shape, bytes, seconds since the last use)` of each, the least recently used first.
        limit: bytes that all together may take.
    """

    folder: str
    entries: tuple[tuple[str, int, float], ...]
    limit: int

    @property
    def total(self):
        """Bytes that all together take."""
        return sum(size for _, size, _ in self.entries)

    def __repr__(self):
        lines = [f"{name:<40} {size / 1e6:>10,.1f} MB  used {_ago(age)}" for name, size, age in self.entries]
        lines.append(
            f"{len(self.entries)} kept in {self.folder}: {self.total / 1e6:,.1f} of {self.limit / 1e6:,.0f} MB"
        )
        return "\n".join(lines)


def cache(*, limit: float | None = None, clear: bool = False):
    """List what is kept on disk to spare computing it again; clear it, or limit it.

    1. Clear everything, when asked to.
    2. Keep the new limit, when there is one, and drop what was used least recently until it holds.
    3. List what is there.

    Args:
        limit: bytes that everything together may take, from now on; 20 gigabytes until one is set.
        clear: whether to remove everything. Runs that are using it go on.

    Returns:
        `Caches`: folder, entries, limit in bytes.

    Raises:
        TypeError, ValueError: limit is no number of at least 0.

    Example:
        >>> import recipes
        >>> recipes.cache().total >= 0
        True
    """
    if limit is not None:
        check_number("cache", "limit", limit)
        set_cache_limit(limit)
    if clear:
        for folder, _, _ in list_caches():
            remove_cache(folder)
    make_room()
    entries = tuple((_describe(folder), size, max(0.0, time.time() - used)) for folder, size, used in list_caches())
    return Caches(str(caches_folder()), entries, cache_limit())


def _describe(folder):
    try:
        shape = json.loads((folder / INFO).read_text(encoding="utf-8"))["shape"]
    except (OSError, ValueError):
        return folder.parent.name
    return f"{folder.parent.name} of {'×'.join(map(str, shape))}"


def _ago(seconds):
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"
