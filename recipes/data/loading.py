"""The door for data: any source in, inspected, decoded and split images out."""

import hashlib
import inspect
import warnings

import numpy as np

from recipes.checks import check_choice, check_number, check_whole, complaint, image_size_pair
from recipes.data.decoding import RESIZES
from recipes.data.labels import check_class_names, encode_labels
from recipes.data.reading import read_images
from recipes.data.sources import open_one_class, open_source
from recipes.data.splitting import duplicates_across, split_by_content
from recipes.values import Data, Split

_LARGEST_DEFAULT = 224  # pixels


def load_data(
    source,
    *,
    image_size=None,
    valid=0.15,
    test=0.15,
    class_names=None,
    on_bad="skip",
    resize="crop",
    seed=0,
):
    """Bring any source of labelled images to `Data`: inspected, decoded once, split.

    1. List the images: hidden and system files are passed over.
    2. Read each once: hash its content, check its header, decode it, bring it to size, append it to one file that
       is mapped into memory (in `$XDG_CACHE_HOME/keras-recipes`; see `recipes.cache`). What was decoded before, at this
       size, is found there by its content.
    3. Complain about what makes training senseless; name and skip what cannot be used.
    4. Split, unless the source came split.

    Args:
        source: a folder with a subfolder per class; a folder with train / valid / test folders above those; a CSV file
            or DataFrame with columns image, label and, if you like, split; arrays `(x, y)` or pairs of them for
            training and validation; one to three `tf.data.Dataset` of (image, label); `"tfds:name"`; `"digits"`;
            or a `Data`, which is handed back.
        image_size: pixels to bring the images to, one number or `(height, width)`. Default: the images' own size, at
            most 224.
        valid: fraction for validation, 0–1, where the source has no validation split.
        test: fraction for the test, 0–1, where the source is not split at all.
        class_names: names in label order. Default: the names found, sorted.
        on_bad: `"skip"` leaves files that cannot be used out with one warning; `"error"` refuses them.
        resize: `"crop"` keeps the aspect ratio and cuts the longer side's ends off; `"stretch"` does not keep the
            ratio; `"pad"` keeps it and fills up with black.
        seed: another number, another division into splits. The division depends on nothing else but the content.

    Returns:
        `Data`.

    Raises:
        FileNotFoundError: the source does not exist.
        TypeError: the source or an argument is of no known kind.
        ValueError: an argument is out of its range, or the data makes training senseless: no images, fewer than two
            classes, a class too small to split, pixels that are not 0–255, labels that fit no class.
        ConnectionError: a TFDS set would have to be downloaded, and there is no network.

    Example:
        >>> import recipes
        >>> recipes.load_data("digits", image_size=16)
        Data(1251 train, 267 valid, 279 test; 10 classes: 0, 1, 2, 3, 4, 5, …; 16×16×1; 0 skipped; fingerprint ...)
    """
    where = "load_data"
    if isinstance(source, Data):
        return source
    if image_size is not None:
        image_size = image_size_pair(where, image_size)

    def choose_size(natural_size):
        return image_size or tuple(min(side, _LARGEST_DEFAULT) for side in natural_size or (_LARGEST_DEFAULT,) * 2)

    options = {
        "valid": valid,
        "test": test,
        "class_names": class_names,
        "on_bad": on_bad,
        "resize": resize,
        "seed": seed,
    }
    return load_sized(source, choose_size, where, **options)


def load_sized(
    source, choose_size, where, *, valid=0.15, test=0.15, class_names=None, on_bad="skip", resize="crop", seed=0
):
    """`load_data` with the size chosen by `choose_size(natural size or None)`, and errors in the name of `where`."""
    check_number(where, "valid", valid, most=0.9)
    check_number(where, "test", test, most=0.9)
    check_number(where, "valid + test", valid + test, most=0.95)
    check_choice(where, "on_bad", on_bad, ("skip", "error"))
    check_choice(where, "resize", resize, RESIZES)
    check_whole(where, "seed", seed, least=-(2**63))
    listing = open_source(source, where)
    names = check_class_names(class_names, where) if class_names is not None else listing.class_names
    size = choose_size(listing.natural_size)
    read = read_images(listing, size, listing.channels, resize, where)
    _check_any(read, where)
    labels, names = encode_labels(read.labels, names, where)
    _check_classes(labels, names, read.skipped, where)
    given = set(read.splits) - {None}
    splits = _decide(read, labels, names, given, {"valid": valid, "test": test}, seed, where)
    dropped = duplicates_across(read.digests, splits)
    read.skipped.extend(
        (read.names[index], f"the same image as {read.names[equal]}, which is in the {splits[equal]} split")
        for index, equal in dropped.items()
    )
    _report_bad(read, on_bad, where)
    keep = np.setdiff1d(np.arange(len(labels)), list(dropped))
    parts = {
        split: _take(read, labels, keep[splits[keep] == split], ordered=split == "train")
        for split in ("train", "valid", "test")
    }
    _check_training(parts["train"], names, where)
    _warn_of_contradictions(read, labels, names, where)
    return Data(
        **parts,
        class_names=names,
        image_size=size,
        channels=listing.channels,
        resize=resize,
        fingerprint=_fingerprint(read, labels, splits, names, (*size, listing.channels, resize)),
        skipped=tuple(read.skipped),
    )


def check_options(data, where, known=None):
    """(source, the other options) of a dictionary of `load_data`'s arguments, or of a bare source."""
    if not isinstance(data, dict):
        return data, {}
    options = dict(data)
    if "source" not in options:
        mend = 'Pass data={"source": "photos/", ...}.'
        raise ValueError(complaint(where, "data needs a source", repr(data), mend))
    for name in options:
        check_choice(where, "an option of data", name, known or tuple(inspect.signature(load_data).parameters))
    return options.pop("source"), options


def load_to_measure(source, result, where, on_bad="skip"):
    """The images of a source on which to measure a classifier: `(Split, name of the split)`.

    A source that came split gives its test split, or else its validation split; any other is taken whole. Images that
    the classifier was trained on are left out, with a warning.
    """
    listing = open_source(source, where)
    read = read_images(listing, result.image_size, result.channels, result.resize, where)
    _check_any(read, where)
    labels = _indices_for(read.labels, listing.class_names, result.class_names, where)
    _report_bad(read, on_bad, where)
    splits = np.array([split or "all" for split in read.splits])
    name = next(split for split in ("test", "valid", "all", "train") if split in splits)
    return leave_trained_out(_take(read, labels, np.flatnonzero(splits == name)), result, where), name


def load_one_class(images, classifier, label, where):
    """Split of images that are all of one class, as a classifier takes them.

    Args:
        images: a folder, a path, a list of paths, or an array of one image or of several, RGB 0–255.
        classifier: Result.
        label: index of the class.
        where: the verb named in errors.
    """
    listing = open_one_class(images, label, where)
    read = read_images(listing, classifier.image_size, classifier.channels, classifier.resize, where)
    _check_any(read, where)
    _report_bad(read, "skip", where)
    return _take(read, np.full(len(read.labels), label, np.int32), range(len(read.labels)))


def leave_trained_out(split, result, where):
    """A Split without the images that a classifier was trained on, with a warning that counts them."""
    unseen = np.array([digest.hex() not in result.trained_on for digest in split.digests], bool)
    if unseen.all():
        return split
    if not unseen.any():
        mend = "Pass images that it has not seen."
        received = f"{len(split)} images it has seen"
        raise ValueError(complaint(where, "the classifier was trained on every one of these images", received, mend))
    left = f"{len(split) - unseen.sum()} of {len(split)} images"
    warnings.warn(f"{where}: {left} left out, because the classifier was trained on them.", stacklevel=3)
    return pick(split, np.flatnonzero(unseen))


def pick(split, places, labels=None):
    """The images of a Split at `places`, with other labels where they are given."""
    files, digests = ([values[place] for place in places] for values in (split.files, split.digests))
    labels = split.labels if labels is None else labels
    return Split(split.store, split.rows[places], labels[places], tuple(files), tuple(digests))


def _indices_for(labels, listed_names, class_names, where):
    """Indices into a classifier's names. Numbers go by the names that the source gives them, else name themselves, as
    in `load_data`; where a classifier's names are words, bare numbers count in their order.
    """
    indices, names = encode_labels(labels, listed_names, where)
    words = not any(name.isdecimal() for name in class_names)
    if not listed_names and words and all(name.isdecimal() for name in names):
        return encode_labels([int(names[index]) for index in indices], class_names, where)[0]
    return translate(indices, names, class_names, where)


def translate(indices, names, class_names, where):
    """Indices into `names` as indices into `class_names`; ValueError names a class that is not among them."""
    used = {names[index] for index in np.unique(indices)}
    unknown = sorted(used - set(class_names))
    if unknown:
        mend = f"The classifier knows {', '.join(class_names[:20])}{', …' if len(class_names) > 20 else ''}."
        raise ValueError(complaint(where, "the classifier does not know a class of the data", repr(unknown[0]), mend))
    places = np.array([class_names.index(name) if name in class_names else -1 for name in names], np.int32)
    return places[indices]


def _decide(read, labels, names, given, fractions, seed, where):
    """The split of every image: as given, or by content where the source does not say."""
    if given <= {"train"}:
        return split_by_content(read.digests, labels, names, fractions, seed, where)
    splits = np.array(read.splits, dtype="<U5")
    if "train" not in given:
        mend = "Add a train folder (or rows marked train)."
        raise ValueError(complaint(where, "a split source needs training images", f"splits {sorted(given)}", mend))
    if "valid" not in given and fractions["valid"]:
        train = np.flatnonzero(splits == "train")
        digests = [read.digests[index] for index in train]
        only_valid = {"valid": fractions["valid"], "test": 0.0}
        splits[train] = split_by_content(digests, labels[train], names, only_valid, seed, where)
    return splits


def _check_any(read, where):
    if not read.labels:
        listed = "; ".join(f"{name}: {reason}" for name, reason in read.skipped[:5])
        mend = "Pass JPEG, PNG, GIF, BMP or WebP images."
        raise ValueError(complaint(where, "no image can be used", listed or "an empty source", mend))


def _check_classes(labels, names, skipped, where):
    present = np.unique(labels)
    if len(present) < 2:
        listed = "; ".join(f"{name}: {reason}" for name, reason in skipped[:5])
        received = f"one class, {names[present[0]]!r}" + (f" (left out: {listed})" if listed else "")
        mend = "Add images of another class: with one class there is nothing to tell apart."
        raise ValueError(complaint(where, "there must be at least two classes", received, mend))


def _check_training(train, names, where):
    missing = sorted(set(range(len(names))) - set(np.unique(train.labels).tolist()))
    if missing:
        received = f"none of {', '.join(repr(names[index]) for index in missing[:10])}"
        mend = "Add some, or leave the class out."
        raise ValueError(complaint(where, "every class needs training images", received, mend))


def _report_bad(read, on_bad, where):
    """One warning, or one error, that names what was left out and why."""
    if not read.skipped:
        return
    listed = "; ".join(f"{name}: {reason}" for name, reason in read.skipped[:8])
    more = f"; and {len(read.skipped) - 8} more" if len(read.skipped) > 8 else ""
    if on_bad == "error":
        mend = 'Mend or remove them, or pass on_bad="skip".'
        raise ValueError(complaint(where, 'with on_bad="error" every file must be usable', listed + more, mend))
    warnings.warn(f"{where}: {len(read.skipped)} left out. {listed}{more}.", stacklevel=4)


def _warn_of_contradictions(read, labels, names, where):
    seen, clashes = {}, []
    for digest, label, name in zip(read.digests, labels, read.names, strict=True):
        other = seen.setdefault(digest, (label, name))
        if other[0] != label:
            clashes.append(f"{name} ({names[label]}) and {other[1]} ({names[other[0]]})")
    if clashes:
        listed = "; ".join(clashes[:5]) + ("; …" if len(clashes) > 5 else "")
        warnings.warn(f"{where}: {len(clashes)} equal images have different labels: {listed}.", stacklevel=4)


def _take(read, labels, places, ordered=False):
    if ordered:
        # By content and not by listing, so that the same images train alike whatever order they come in.
        places = sorted(places, key=lambda place: (read.digests[place], read.names[place]))
    places = np.array(places, np.int64)
    names, digests = ([values[place] for place in places] for values in (read.names, read.digests))
    return Split(read.store, read.rows[places], labels[places], tuple(names), tuple(digests))


def _fingerprint(read, labels, splits, names, form):
    """Digest of content, labels, splits and form; the order of the images does not matter."""
    entries = sorted(zip(read.digests, labels.tolist(), splits.tolist(), strict=True))
    return hashlib.blake2b(repr((entries, names, form)).encode(), digest_size=16).hexdigest()
