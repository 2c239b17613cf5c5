"""What a source offers before anything is decoded: chunks of images with their labels, names and given splits."""

import dataclasses
from collections.abc import Iterable
from typing import Any

SPLITS = ("train", "valid", "test")
FILES_PER_CHUNK = 32
_SPELLINGS = {
    "train": ("train", "training", "trn"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout"),
}


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some images that are read together.

    Args:
        images: paths or bytes of encoded files, or an array `(images, height, width[, channels])`, 0–255.
        labels: one label per image: a name, a number or a one-hot row.
        names: one name per image, for messages and reports.
        split: `"train"`, `"valid"`, `"test"`, or None where the split is still to be decided.
    """

    images: Any
    labels: Any
    names: tuple[str, ...]
    split: str | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images of a source, not yet read.

    Args:
        chunks: iterable of Chunk, gone through once.
        class_names: names in label order where the source knows them, else None.
        natural_size: `(height, width)` of the images where it is known or can be estimated, else None.
        channels: channels of the images: 3 for files.
        given_splits: the splits that the source itself divides its images into; empty when it does not.
        skipped: `(file, reason)` for what was left out while listing.
        count: number of images where it is known, else None.
    """

    chunks: Iterable[Chunk]
    class_names: tuple[str, ...] | None = None
    natural_size: tuple[int, int] | None = None
    channels: int = 3
    given_splits: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    count: int | None = None


def split_of(word):
    """`"train"`, `"valid"` or `"test"` for any usual spelling of it, else None."""
    folded = str(word).strip().casefold()
    return next((split for split, spellings in _SPELLINGS.items() if folded in spellings), None)


def file_chunks(files):
    """Chunks of `(path, label, split)` rows, in the order of the splits."""
    files = sorted(files, key=lambda file: SPLITS.index(file[2]) if file[2] else -1)
    start = 0
    while start < len(files):
        split = files[start][2]
        part = [file for file in files[start : start + FILES_PER_CHUNK] if file[2] == split]
        paths = tuple(path for path, _, _ in part)
        yield Chunk(paths, [label for _, label, _ in part], paths, split)
        start += len(part)
