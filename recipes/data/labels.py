"""Labels of any kind to class indices and class names."""

import numpy as np

from recipes.checks import complaint


def encode_labels(labels, class_names, where):
    """Class indices and names from raw labels.

    Args:
        labels: array or list: names, whole numbers, or one-hot rows.
        class_names: names in label order, or None: then numbers name themselves ("0", "1", …) and names are sorted,
            as numbers when all of them are.
        where: for errors.

    Returns:
        `(int32 array, tuple of names)`.
    """
    labels = np.asarray([label.decode() if isinstance(label, bytes) else label for label in labels])
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        class_names = class_names or [str(index) for index in range(labels.shape[1])]
        labels = _from_one_hot(labels, where)
    if labels.ndim != 1:
        mend = "Pass one label per image."
        raise ValueError(complaint(where, "labels must be one per image", f"shape {labels.shape}", mend))
    if labels.dtype.kind in "fc":
        labels = _whole(labels, where)
    if labels.dtype.kind in "OUST":
        return _encode_names(labels, class_names, where)
    return _encode_numbers(labels.astype(np.int64), class_names, where)


def check_class_names(class_names, where):
    """A tuple of class names; raises where they are no distinct strings."""
    names = tuple(class_names)
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in names):
        mend = 'Pass class_names=["ants", "bees"].'
        raise TypeError(complaint(where, "class_names must be strings", repr(class_names), mend))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(complaint(where, "class_names must differ", f"{twice!r} twice", "Name every class once."))
    return names


def _from_one_hot(rows, where):
    if not (np.isin(rows, (0, 1)).all() and (rows.sum(1) == 1).all()):
        wrong = int(np.argmax(~np.isin(rows, (0, 1)).all(1) | (rows.sum(1) != 1)))
        mend = "Pass one class per image: recipes train no networks for several labels or for numbers as targets."
        raise ValueError(complaint(where, "rows of labels must be one-hot", f"row {rows[wrong].tolist()}, say", mend))
    return rows.argmax(1)


def _whole(labels, where):
    wrong = np.flatnonzero(~np.isfinite(labels) | (labels != np.floor(labels)))
    if len(wrong):
        received = f"{labels[wrong[0]]} at index {wrong[0]}"
        mend = "Mend that label; where numbers are to be predicted, bring them into bins: recipes train classifiers."
        raise ValueError(complaint(where, "labels must be whole numbers or names", received, mend))
    return labels.astype(np.int64)


def _encode_names(labels, class_names, where):
    labels = [str(label) for label in labels]
    present = set(labels)
    numeric = all(name.removeprefix("-").isdecimal() for name in present)
    names = class_names or tuple(sorted(present, key=int if numeric else str))
    unknown = sorted(present - set(names))
    if unknown:
        mend = f"The classes are {', '.join(names[:20])}; add it to class_names or mend the label."
        raise ValueError(complaint(where, "a label is no class name", repr(unknown[0]), mend))
    index = {name: number for number, name in enumerate(names)}
    return np.array([index[label] for label in labels], np.int32), tuple(names)


def _encode_numbers(labels, class_names, where):
    if class_names is None:
        values, indices = np.unique(labels, return_inverse=True)
        return indices.astype(np.int32), tuple(str(value) for value in values)
    outside = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if len(outside):
        received = f"{labels[outside[0]]} at index {outside[0]}"
        mend = f"There are {len(class_names)} class names: use 0 to {len(class_names) - 1}."
        raise ValueError(complaint(where, "labels must be indices into class_names", received, mend))
    return labels.astype(np.int32), tuple(class_names)
