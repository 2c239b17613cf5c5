"""What is to be compressed: a classifier, and the images that decide how far that may go."""

import dataclasses
import functools

import keras
import numpy as np

from recipes.bases.flattening import flat_copy
from recipes.bases.heads import is_voting
from recipes.bases.plain import in_plain_layers
from recipes.bases.precisions import in_float32, is_mixed
from recipes.checks import complaint
from recipes.data.batches import predict_split
from recipes.data.loading import pick
from recipes.data.matching import data_for
from recipes.saving import open_classifier
from recipes.values import Data, Result

BATCH = 32  # images that are measured together


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A classifier on its way down, and its data.

    Args:
        original: the Result as it came; nothing in it is changed.
        model: flat functional copy, what `recipes.accelerate` chose as plain layers again, or what earlier steps made
            of it. Transforms make new ones of it.
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
        TypeError, ValueError: the model is no classifier in one graph, or votes by its neighbours; or the data does
            not fit it.
    """
    original = open_classifier(model, where)
    if is_voting(original.model):
        rule = "the examples of a head of neighbours are features of the network as it is"
        mend = "Compress the classifier that it was made of, then call recipes.fit_knn(small.result)."
        raise ValueError(complaint(where, rule, original.model.name, mend))
    opened = data_for(original, data, where)
    if opened is None and needs_data:
        rule = "data must be given where the model does not bring it along"
        mend = 'Pass data="photos/", or the Result of recipes.finetune.'
        raise ValueError(complaint(where, rule, "data=None", mend))
    if max_drop is not None and (opened is None or not len(opened.valid)):
        rule = "max_drop is measured on validation images"
        mend = "Load the data with valid=0.15, or pass max_drop=None and say how far to go."
        raise ValueError(complaint(where, rule, "no validation images", mend))
    if original.is_bare and opened is not None:  # which has no names of its own
        original = dataclasses.replace(original, class_names=opened.class_names, resize=opened.resize)
    copy = flat_copy(in_plain_layers(original.model, where), where)
    if is_mixed(copy):
        copy = in_float32(copy, where)  # as its weights are, and as files and kernels want it
    return Subject(original, copy, opened, where)
