"""Which image belongs to which split: decided by a hash of its content, so that adding files moves no old one."""

import hashlib

import numpy as np

from recipes.checks import complaint


def place(digest, seed):
    """Where a content digest falls in 0–1, evenly; another `seed` gives another, independent place."""
    key = seed.to_bytes(8, "big", signed=True)
    return int.from_bytes(hashlib.blake2b(digest, digest_size=8, key=key).digest(), "big") / 2**64


def split_by_content(digests, labels, class_names, fractions, seed, where):
    """A split for every image.

    Each class is divided by the places of its images: the first `test` of 0–1 goes to the test split, the next
    `valid` to the validation split, the rest to training. So the classes are divided alike up to chance, equal
    images share a split, and an image keeps its split when others come or go. Only where a class would miss a
    split altogether is the nearest image of that class moved into it.

    Args:
        digests: content digest of each image.
        labels: class index of each image.
        class_names: for errors.
        fractions: `{"test": 0–1, "valid": 0–1}`.
        seed: another seed, another division.
        where: for errors.

    Returns:
        array of "train", "valid" and "test".

    Raises:
        ValueError: when a class has fewer different images than there are splits.
    """
    places = np.array([place(digest, seed) for digest in digests])
    ends = {"test": fractions["test"], "valid": fractions["test"] + fractions["valid"], "train": 1.0}
    splits = np.select([places < ends["test"], places < ends["valid"]], ["test", "valid"], "train").astype("<U5")
    wanted = [split for split in ("test", "valid") if fractions[split]] + ["train"]
    for index in np.unique(labels):
        members = np.flatnonzero(labels == index)
        if len(set(places[members])) < len(wanted):
            received = f"{len(set(places[members]))} different image(s) of class {class_names[index]!r}"
            mend = f"Add images of it, leave the class out, or pass {' or '.join(f'{name}=0' for name in wanted[:-1])}."
            raise ValueError(
                complaint(where, f"a class is too small to split into {', '.join(wanted)}", received, mend)
            )
        _fill_empty(splits, places, members, wanted, ends)
    return splits


def _fill_empty(splits, places, members, wanted, ends):
    """Move the nearest image, with its duplicates, into each split in which this class has none."""
    for split in wanted:
        if split in splits[members]:
            continue
        distance = np.abs(places[members] - ends[split])
        for candidate in members[np.argsort(distance)]:
            from_split = splits[candidate]
            if len(set(places[members[splits[members] == from_split]])) > 1:
                splits[members[places[members] == places[candidate]]] = split
                break


def duplicates_across(digests, splits):
    """{index: index of its equal} for images that also stand in a split of higher rank: test, valid, train."""
    rank = {"test": 0, "valid": 1, "train": 2}
    first = {}
    for index, (digest, split) in enumerate(zip(digests, splits, strict=True)):
        if digest not in first or rank[split] < rank[splits[first[digest]]]:
            first[digest] = index
    return {
        index: first[digest]
        for index, (digest, split) in enumerate(zip(digests, splits, strict=True))
        if split != splits[first[digest]]
    }
