"""Rows of the heads."""

import numpy as np
from layer_case import LayerCase

import layers


def filled(**arguments):
    """A KNNClassifier that holds 40 examples of 5 features in 3 classes."""
    random = np.random.default_rng(3)
    head = layers.KNNClassifier(**arguments)
    head.fit(random.normal(size=(40, 5)).astype("float32"), np.arange(40) % 3)
    return head


HEADS = (
    LayerCase(
        "KNNClassifier",
        lambda: filled(k=7),
        (5,),
        any_size=False,
        bad=(
            ({"k": 0}, "k=0"),
            ({"k": 1.5}, "k=1.5"),
            ({"weighting": "gravity"}, "weighting='gravity'"),
            ({"power": 0}, "power=0"),
            ({"temperature": -1.0}, "temperature=-1.0"),
            ({"metric": "taxicab"}, "metric='taxicab'"),
            ({"threshold": 0}, "threshold=0"),
            ({"num_classes": 0}, "num_classes=0"),
            ({"k": 5, "capacity": 4}, "capacity=4"),
        ),
    ),
    LayerCase(
        "KNNClassifier, softmax of cosines with room and a threshold",
        lambda: filled(k=3, weighting="softmax", metric="cosine", threshold=0.5, capacity=50, num_classes=5),
        (5,),
        any_size=False,
    ),
)
