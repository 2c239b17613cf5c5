"""The head of a classifier exchanged for the votes of its nearest examples."""

import keras
import numpy as np
from sklearn.neighbors import NearestNeighbors

import layers
from recipes.bases.flattening import flat_copy
from recipes.bases.heads import EMBEDDING, PROBABILITIES, without_classifier
from recipes.checks import complaint
from recipes.data.batches import compiled, predict_split

UNKNOWN = "unknown"


def neighbour_head(model):
    """The KNNClassifier at the end of a model, or None."""
    last = model.layers[-1]
    return last if isinstance(last, layers.KNNClassifier) else None


def check_neighbours(classifier, where):
    """The head of a Result, which must vote by neighbours."""
    head = neighbour_head(classifier.model)
    if head is None:
        mend = 'Make it one: recipes.fit_knn(result), or recipes.finetune(..., head="knn").'
        received = f"{classifier.model.name}, which ends in {type(classifier.model.layers[-1]).__name__}"
        raise ValueError(complaint(where, "the classifier must vote by its nearest examples", received, mend))
    return head


def extractor(model, where):
    """A flat copy of a classifier without its head: from images to features, `(batch, features)`."""
    model = flat_copy(model, where)  # of which no layer is called anywhere else
    head = neighbour_head(model)
    features = head.input if head is not None else without_classifier(model)
    is_trained_as_such = features is model.output and model.layers[-1].name == EMBEDDING
    if (features is model.output and not is_trained_as_such) or len(features.shape) != 2:
        mend = "Pass what recipes.finetune returned, or a functional model that ends in a softmax Dense."
        received = f"{model.name}, which ends in {type(model.layers[-1]).__name__}"
        raise ValueError(complaint(where, "the classifier must end in a head on features", received, mend))
    return keras.Model(model.input, features, name=model.name)


def features_of(model, split, batch_size):
    """float32 `(images, features)` of a Split, by what `extractor` gave."""
    run = compiled(lambda images, training: model(images, training=training), split)
    return predict_split(model, split, batch_size, run).astype("float32")


def with_neighbours(body, head):
    """What `extractor` gave, with this KNNClassifier on it."""
    return keras.Model(body.input, head(body.output), name=body.name)


def make_head(features, labels, *, k, weighting, metric, classes, threshold=None):
    """A KNNClassifier that holds these examples, of `classes` classes."""
    options = {"weighting": weighting, "metric": metric, "threshold": threshold, "num_classes": classes}
    head = layers.KNNClassifier(k, **options, name=PROBABILITIES)
    head.fit(features, labels)
    return head


def with_examples(head, features, labels, classes):
    """A copy of a KNNClassifier that holds these examples beside its own, of `classes` classes."""
    stored, known = head.store.held()
    copy = layers.KNNClassifier.from_config(head.get_config() | {"num_classes": classes})
    copy.fit(np.concatenate([stored, features]), np.concatenate([known, labels]))
    return copy


def nearest_distances(stored, asked, metric, *, leaves_own=False):
    """Distance of each row to the nearest stored one, as KNNClassifier measures it: `(rows,)`.

    Args:
        stored: `(examples, features)`.
        asked: `(rows, features)`.
        metric: `"euclidean"`, or `"cosine"`: 1 − cosine.
        leaves_own: whether `asked` are the stored ones, and the nearest other counts.
    """
    search = NearestNeighbors(n_neighbors=1 + leaves_own, metric=metric, algorithm="brute").fit(stored)
    return np.maximum(search.kneighbors(asked)[0][:, -1], 0.0)
