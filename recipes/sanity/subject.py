"""What is examined: a fresh copy of a network, some of its images, and what comes before its first weights."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from recipes.bases import list_bases, network_for
from recipes.bases.building import IMAGE_LEVEL
from recipes.bases.flattening import flat_copy
from recipes.bases.heads import is_voting, without_classifier
from recipes.checks import complaint
from recipes.data.matching import in_order_of
from recipes.saving import load
from recipes.training.frozen_prefix import DROPOUTS
from recipes.training.given_data import open_data
from recipes.values import Data, Result, Split

BATCH = 16  # images of the batch that is overfitted


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A network under examination.

    Args:
        model: a copy, flat and functional, in float32, whose dropout drops nothing; tests bring its weights back.
        data: Data.
        is_trained: whether its last layer is known to be trained.
        augment: as in `recipes.training.augmentation`, or None.
        seed: of what is drawn.
    """

    model: keras.Model
    data: Data
    is_trained: bool
    augment: Callable | None
    seed: int

    @property
    def classes(self):
        """How many there are."""
        return len(self.data.class_names)

    def pick(self, count):
        """(uint8 images, labels) of up to `count` training images, one class after the other, no image twice."""
        places = balanced(self.data.train, count, self.seed)
        rows = self.data.train.rows[places]
        return self.data.train.store[np.sort(rows)][np.argsort(np.argsort(rows))], self.data.train.labels[places]

    def preprocessing(self):
        """A model of images to what the first weights take in, beside constants of the images."""
        for operation in self.model.operations:
            if getattr(operation, "weights", None) and not isinstance(operation, IMAGE_LEVEL):
                return keras.Model(self.model.input, keras.tree.flatten(operation.input)[0])
        return None


def balanced(split: Split, count, seed):
    """Places of up to `count` different images of a Split, drawn class by class in turn."""
    order = np.random.default_rng(seed).permutation(len(split))
    _, firsts = np.unique([split.digests[place] for place in order], return_index=True)
    order = order[np.sort(firsts)]
    labels = split.labels[order]
    return order[np.argsort(turns(labels), kind="stable")][:count]


def turns(labels):
    """For each label, how many of its kind come before it."""
    counts = np.zeros(len(labels), int)
    for label in np.unique(labels):
        counts[labels == label] = np.arange((labels == label).sum())
    return counts


def open_subject(model, data, weights, image_size, head, augment, seed, where):
    """The Subject that the arguments of `recipes.check` mean."""
    is_path = isinstance(model, (str, os.PathLike)) and model not in list_bases()
    if is_path and Path(model).expanduser().is_dir():
        model = load(model)
    is_trained = isinstance(model, Result)
    names = model.class_names if is_trained else None
    if is_trained:
        data = model.data if data is None else data
        model = flat_copy(model.model, where)
        if is_voting(model):  # there is nothing to train in the head, but in what its features come from
            names = names if model.layers[-1].threshold is None else names[:-1]
            model, is_trained = keras.Model(model.input, without_classifier(model), name=model.name), False
    if data is None:
        rule, mend = "data must be given where the model does not bring it along", 'Pass data="photos/", say.'
        raise ValueError(complaint(where, rule, "data=None", mend))
    data = open_data(data, model, weights, image_size, where)
    data = data if names is None else in_order_of(data, names, where)
    if isinstance(model, keras.Model) and _tells_apart(model, len(data.class_names)):
        copy = flat_copy(model, where, image_size=data.image_size)
    else:
        copy = network_for(
            data,
            model,
            weights=weights,
            head=head,
            seed=seed,
            where=where,
        ).model
    if copy.input_shape[-1] != data.channels:
        rule = f"the model takes images of {copy.input_shape[-1]} channels"
        raise ValueError(complaint(where, rule, f"data of {data.channels}", "Load other images, or adapt the model."))
    for layer in copy.layers:
        layer.trainable |= is_trained  # a Result's last stage left it frozen or not
        if isinstance(layer, DROPOUTS):
            layer.rate = 0.0
    return Subject(copy, data, is_trained, augment, seed)


def _tells_apart(model, classes):
    """Whether a model is a classifier of so many classes, rather than a base that waits for a head."""
    if not getattr(model, "inputs", None) or tuple(model.output_shape[1:]) != (classes,):
        return False
    flat = keras.Model(model.inputs, model.outputs[0]) if isinstance(model, keras.Sequential) else model
    return without_classifier(flat) is not flat.output
