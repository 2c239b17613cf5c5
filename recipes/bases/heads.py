"""The head: from the features of a base to class probabilities."""

import keras

import layers
from recipes.bases.seeding import derived_seed
from recipes.checks import check_number, check_whole, complaint

PROBABILITIES, EMBEDDING = "probabilities", "embedding"
_DENSE = (keras.layers.Dense, layers.TransposedDense)
HEADS = ("linear", "knn")  # one Dense trains in both; "knn" then gives way to the nearest examples


def check_head(where, head, dropout):
    """Raise unless `head` is "linear", "knn" or a tuple of widths, and `dropout` a fraction below 1."""
    check_number(where, "dropout", dropout, most=0.99)
    if head in HEADS:
        return
    if not isinstance(head, (tuple, list)):
        rule = 'head must be "linear", "knn" or a tuple of widths'
        raise TypeError(complaint(where, rule, repr(head), 'Pass head="linear" or head=(256,).'))
    for width in head:
        check_whole(where, "head", width)


def head_names(head, dropout, pooled, embedding=None):
    """Names of the head's layers, in the order of the data; arguments as in `add_head`."""
    hidden = 0 if head in HEADS else len(head)
    return (
        *(("head_pool",) if pooled else ()),
        *(f"head_dense_{index}" for index in range(1, hidden + 1)),
        *(("head_dropout",) if dropout else ()),
        EMBEDDING if embedding else PROBABILITIES,
    )


def add_head(features, class_count, head, dropout, seed, embedding=None):
    """Probabilities of `class_count` classes from `features`, maps (averaged over all pixels) or vectors; or, with
    `embedding`, a vector of that width, a linear function of them.
    """
    tensor = features
    if len(features.shape) == 4:
        tensor = keras.layers.GlobalAveragePooling2D(name="head_pool")(tensor)
    for index, width in enumerate(() if head in HEADS else head, start=1):
        name = f"head_dense_{index}"
        start = keras.initializers.HeNormal(seed=derived_seed(seed, name))
        tensor = keras.layers.Dense(width, activation="relu", kernel_initializer=start, name=name)(tensor)
    if dropout:
        tensor = keras.layers.Dropout(dropout, seed=derived_seed(seed, "head_dropout"), name="head_dropout")(tensor)
    if embedding:
        start = keras.initializers.GlorotUniform(seed=derived_seed(seed, EMBEDDING))
        # float32 under mixed precision too: distances are small differences.
        return keras.layers.Dense(embedding, kernel_initializer=start, dtype="float32", name=EMBEDDING)(tensor)
    # A tenth of the deviation that keeps the scale: the first probabilities are near 1 / classes whatever the scale of
    # the features, so the loss starts near ln(classes) and the first gradients do not upset a pretrained base. Nought
    # would do so exactly, but then the base and the hidden layers get no gradient in the first step.
    start = keras.initializers.VarianceScaling(
        scale=0.01, mode="fan_in", distribution="untruncated_normal", seed=derived_seed(seed, PROBABILITIES)
    )
    # float32 under mixed precision too: float16 probabilities cannot tell 0.9999 from 1.
    return keras.layers.Dense(
        class_count, activation="softmax", kernel_initializer=start, dtype="float32", name=PROBABILITIES
    )(tensor)


def without_classifier(model):
    """The features of a model with vectors as output: what its last Dense with softmax or sigmoid takes in.

    `Dense → Activation` and `Dense → Softmax` count as well, and so does a head of neighbours. A model without any
    gives features: its output.
    """
    last = model.operations[-1]
    if isinstance(last, layers.KNNClassifier):
        return last.input
    if isinstance(last, _DENSE) and _is_classifying(last):
        return last.input
    if isinstance(last, keras.layers.Softmax) or (isinstance(last, keras.layers.Activation) and _is_classifying(last)):
        before = keras.Model(model.inputs, last.input).operations[-1]
        return before.input if isinstance(before, _DENSE) else last.input
    return model.output


def is_voting(model):
    """Whether a model ends in a head of neighbours."""
    return any(isinstance(layer, layers.KNNClassifier) for layer in model.layers[-1:])


def _is_classifying(layer):
    return layer.activation in (keras.activations.softmax, keras.activations.sigmoid)
