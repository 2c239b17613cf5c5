"""What is to be compressed: a classifier, and the images that decide how far that may go."""

import dataclasses
import functools

import keras
import numpy as np

from recipes.bases.flattening import flat_copy
from recipes.checks import complaint
from recipes.data.batches import predict_split
from recipes.data.loading import check_options, leave_trained_out, load_sized, pick, translate
from recipes.saving import open_classifier
from recipes.values import Data, Result

BATCH = 32  # images that are measured together


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A classifier on its way down, and its data.

    Args:
        original: the Result as it came; nothing in it is changed.
        model: flat functional copy, or what earlier steps made of it. Transforms make new ones of it.
        data: Data; None where a method needs none.
        where: the verb named in errors.
    """

    original: Result
    model: keras.Model
    data: Data | None
    where: str

    def with_model(self, model):
        """The same with another model."""
        return dataclasses.replace(self, model=model)

    def accuracy(self, model=None):
        """Validation accuracy of a model, 0–1; None where there are no validation images."""
        return accuracy_on_valid(self.data, self.model if model is None else model)

    @functools.cached_property
    def first_accuracy(self):
        """That of the classifier as it came."""
        return self.accuracy(self.original.model)

    def sample(self, count, seed=0):
        """A Split of at most `count` training images, drawn at random; None where there is no data."""
        if self.data is None:
            return None
        places = np.random.default_rng(seed).permutation(len(self.data.train))[:count]
        return pick(self.data.train, np.sort(places))

    def floor(self, max_drop):
        """The least validation accuracy that `max_drop` leaves; None where nothing is asked."""
        return None if max_drop is None else self.first_accuracy - max_drop


def accuracy_on_valid(data, model):
    """Fraction of the validation images that a model tells right; None where there are none."""
    if data is None or not len(data.valid):
        return None
    probabilities = predict_split(model, data.valid, BATCH)
    return float(np.mean(probabilities.argmax(-1) == data.valid.labels))


def open_subject(model, data, where, *, max_drop=None, needs_data=True):
    """The Subject that the arguments of a verb mean.

    Args:
        model: Result, folder of a saved one, or Keras model from images of 0–255 to probabilities.
        data: Data, any source that `recipes.load_data` takes, or None for the data that a Result was trained on.
        where: the verb named in errors.
        max_drop: of that verb; where it is given, there must be validation images.
        needs_data: whether there must be data.

    Raises:
        TypeError, ValueError: the model is no classifier in one graph, or the data does not fit it.
    """
    original = open_classifier(model, where)
    opened = _opened(data, original, where)
    if opened is None and needs_data:
        rule = "data must be given where the model does not bring it along"
        mend = 'Pass data="photos/", or the Result of recipes.finetune.'
        raise ValueError(complaint(where, rule, "data=None", mend))
    if max_drop is not None and (opened is None or not len(opened.valid)):
        rule = "max_drop is measured on validation images"
        mend = "Load the data with valid=0.15, or pass max_drop=None and say how far to go."
        raise ValueError(complaint(where, rule, "no validation images", mend))
    if original.report is None and opened is not None:  # a bare model has no names of its own
        original = dataclasses.replace(original, class_names=opened.class_names, resize=opened.resize)
    return Subject(original, flat_copy(original.model, where), opened, where)


def _opened(data, classifier, where):
    """Data whose labels count in the order of the classifier's classes; None for none."""
    data = classifier.data if data is None else data
    if data is None:
        return None
    if not isinstance(data, Data):
        source, options = check_options(data, where)
        options = {"resize": classifier.resize} | options
        options.pop("image_size", None)
        data = load_sized(source, lambda _: classifier.image_size, where, **options)
    _check_form(data, classifier, where)
    if classifier.report is None:  # a bare model has no names: its classes are those of the data, in order
        return data
    return dataclasses.replace(
        data,
        class_names=classifier.class_names,
        train=_translated(data.train, data, classifier, where),
        **{
            name: leave_trained_out(_translated(split, data, classifier, where), classifier, where)
            if len(split)
            else split
            for name, split in (("valid", data.valid), ("test", data.test))
        },
    )


def _translated(split, data, classifier, where):
    labels = translate(split.labels, data.class_names, classifier.class_names, where)
    return pick(split, range(len(split)), labels)


def _check_form(data, classifier, where):
    received = (*data.image_size, data.channels, data.resize)
    expected = (*classifier.image_size, classifier.channels, classifier.resize)
    if received[:3] != expected[:3] or (classifier.report is not None and received != expected):
        size, channels, resize = classifier.image_size, classifier.channels, classifier.resize
        mend = f"Load it with recipes.load_data(..., image_size={size}, resize={resize!r})."
        rule = f"the classifier takes images of {size[0]}×{size[1]}×{channels}, resize={resize!r}"
        raise ValueError(complaint(where, rule, f"{data!r}, resize={data.resize!r}", mend))
    if len(data.class_names) != len(classifier.class_names):
        rule = f"the classifier tells {len(classifier.class_names)} classes apart"
        received = f"data with {len(data.class_names)}: {', '.join(data.class_names[:10])}"
        raise ValueError(complaint(where, rule, received, "Pass the data that it was trained for."))
