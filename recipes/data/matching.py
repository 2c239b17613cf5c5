"""Data for a classifier that is there already: its size, its classes in its order, none of the images it has seen."""

import dataclasses

from recipes.checks import complaint
from recipes.data.loading import check_options, leave_trained_out, load_sized, pick, translate
from recipes.values import Data


def data_for(classifier, data, where):
    """Data whose labels count in the order of the classifier's classes; None where there is none.

    Validation and test images that the classifier was trained on are left out.

    Args:
        classifier: Result.
        data: Data, any source that `recipes.load_data` takes, or None for the data that it was trained on.
        where: the verb named in errors.

    Raises:
        TypeError, ValueError: the data does not fit the classifier.
    """
    data = classifier.data if data is None else data
    if data is None:
        return None
    if not isinstance(data, Data):
        source, options = check_options(data, where)
        options = {"resize": classifier.resize} | options
        options.pop("image_size", None)
        data = load_sized(source, lambda _: classifier.image_size, where, **options)
    _check_form(data, classifier, where)
    if classifier.is_bare:  # its classes are those of the data, in order
        return data
    data = in_order_of(data, classifier.class_names, where)
    held_out = {name: getattr(data, name) for name in ("valid", "test") if len(getattr(data, name))}
    left = {name: leave_trained_out(split, classifier, where) for name, split in held_out.items()}
    return dataclasses.replace(data, **left)


def in_order_of(data, class_names, where):
    """Data whose labels count in the order of these names; ValueError names a class that is not among them."""
    splits = {}
    for name in ("train", "valid", "test"):
        split = getattr(data, name)
        labels = translate(split.labels, data.class_names, class_names, where)
        splits[name] = pick(split, range(len(split)), labels)
    return dataclasses.replace(data, class_names=class_names, **splits)


def _check_form(data, classifier, where):
    received = (*data.image_size, data.channels, data.resize)
    expected = (*classifier.image_size, classifier.channels, classifier.resize)
    if received[:3] != expected[:3] or (not classifier.is_bare and received != expected):
        size, channels, resize = classifier.image_size, classifier.channels, classifier.resize
        mend = f"Load it with recipes.load_data(..., image_size={size}, resize={resize!r})."
        rule = f"the classifier takes images of {size[0]}×{size[1]}×{channels}, resize={resize!r}"
        raise ValueError(complaint(where, rule, f"{data!r}, resize={data.resize!r}", mend))
    known, given = len(classifier.class_names), len(data.class_names)
    if given > known or (given < known and classifier.is_bare):
        rule = f"the classifier tells {known} classes apart"
        received = f"data with {given}: {', '.join(data.class_names[:10])}"
        raise ValueError(complaint(where, rule, received, "Pass the data that it was trained for."))
