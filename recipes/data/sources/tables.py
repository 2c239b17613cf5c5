"""A table of images: a CSV file or a DataFrame with the columns image, label and, if it likes, split."""

import csv
import os
import re
from pathlib import Path

from recipes.checks import complaint
from recipes.data.headers import typical_size
from recipes.data.listing import SPLITS, Listing, file_chunks, split_of

_COLUMNS = {
    "image": ("image", "path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "img"),
    "label": ("label", "class", "category", "target", "class_name", "y"),
    "split": ("split", "set", "subset", "partition", "fold"),
}


def is_table(source):
    """Whether `source` is a DataFrame, of pandas or alike."""
    return hasattr(source, "columns") and hasattr(source, "__getitem__")


def list_table(table, where):
    """Listing of a CSV file (paths relative to its own folder) or of a DataFrame (relative to the working folder)."""
    columns, folder = (_read_csv(table, where), table.parent) if isinstance(table, Path) else (_columns(table), Path())
    found = _find_columns(columns, where)
    splits = [_check_split(word, where) for word in columns[found["split"]]] if "split" in found else None
    splits = splits or [None] * len(columns[found["image"]])
    rows = [
        (os.path.join(folder, os.path.expanduser(str(image).strip())), _stripped(label), split)
        for image, label, split in zip(columns[found["image"]], columns[found["label"]], splits, strict=True)
    ]
    if not rows:
        raise ValueError(complaint(where, "the table has no rows", "0 rows", "Pass a table of image, label[, split]."))
    _check_labels(rows, where)
    if not any(os.path.exists(path) for path, _, _ in rows):
        mend = f"Paths are taken relative to {str(folder.absolute())!r}; write them so, or in full."
        raise FileNotFoundError(complaint(where, "no image of the table exists", repr(rows[0][0]), mend))
    return Listing(
        chunks=file_chunks(rows),
        natural_size=typical_size([path for path, _, _ in rows]),
        given_splits=tuple(split for split in SPLITS if split in splits),
        count=len(rows),
    )


def _read_csv(path, where):
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            dialect = csv.excel_tab if path.suffix.casefold() == ".tsv" else csv.excel
            rows = [row for row in csv.reader(file, dialect) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        mend = "Save it as comma-separated UTF-8 text."
        raise ValueError(complaint(where, "the table cannot be read", f"{str(path)!r} ({error})", mend)) from error
    header, *body = rows or [[]]
    uneven = next((number for number, row in enumerate(body, 2) if len(row) != len(header)), None)
    if uneven:
        received = f"{len(body[uneven - 2])} cells in row {uneven} of {str(path)!r}"
        raise ValueError(
            complaint(where, f"every row needs {len(header)} cells, as the header has", received, "Mend the row.")
        )
    return {name.strip(): [row[index] for row in body] for index, name in enumerate(header)}


def _columns(table):
    return {str(name): list(table[name]) for name in table.columns}


def _find_columns(columns, where):
    """{image, label[, split]: column name}, by the usual names."""
    folded = {name.casefold(): name for name in columns}
    found = {
        role: next(folded[word] for word in words if word in folded)
        for role, words in _COLUMNS.items()
        if any(word in folded for word in words)
    }
    for role in ("image", "label"):
        if role not in found:
            mend = f"Name the columns image, label[, split] in the first row ({', '.join(_COLUMNS[role])} will do)."
            raise ValueError(complaint(where, f"the table has no {role} column", f"columns {list(columns)}", mend))
    return found


def _check_split(word, where):
    split = split_of(word)
    if split is None:
        raise ValueError(complaint(where, "split must be train, valid or test", repr(word), "Mend the split column."))
    return split


def _check_labels(rows, where):
    """Raise ValueError where a label is missing (an empty cell, None or NaN)."""
    for number, (path, label, _) in enumerate(rows, 1):
        if label is None or label != label or not str(label).strip():
            raise ValueError(
                complaint(where, "every image needs a label", f"none for {path!r} (row {number})", "Fill it in.")
            )
    labels = {label for _, label, _ in rows if isinstance(label, str)}
    several = next((label for label in sorted(labels) if _is_of_several(label, labels)), None)
    if several is not None:
        mend = "Keep one class per image: recipes train no networks for several labels."
        raise ValueError(complaint(where, "labels must name one class each", repr(several), mend))
    numbers = {label: _number(label) for label in sorted(labels)}
    fraction = next(
        (label for label, number in numbers.items() if number is not None and not number.is_integer()), None
    )
    if fraction is not None and None not in numbers.values():
        mend = "Where numbers are to be predicted, bring them into bins: recipes train classifiers."
        raise ValueError(complaint(where, "labels must be names or whole numbers", repr(fraction), mend))


def _stripped(label):
    return label.strip() if isinstance(label, str) else label


def _is_of_several(label, labels):
    """Whether a label lists others: `"cat,dog"` where there are `"cat"` and `"dog"`."""
    parts = [part.strip() for part in re.split(r"[,;|]", label)]
    return len(parts) > 1 and labels.issuperset(parts)


def _number(label):
    try:
        return float(label)
    except ValueError:
        return None
