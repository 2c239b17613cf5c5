"""A linear head that starts as the logistic regression on the features of its base."""

import numpy as np

from recipes.bases.heads import PROBABILITIES
from recipes.probing.classifiers import fitted_linear
from recipes.probing.features import PooledFeatures


def fit_head(network, data, *, seed=0, accelerate=False, is_kept=True):
    """Give the head of a Network the weights of a logistic regression on the training images.

    Its strength is chosen in folds of these. The features are those of the base as it is, in inference mode.

    Args:
        network: Network with a linear head.
        data: Data.
        seed: of the folds.
        accelerate: whether each convolution runs by the algorithm that is fastest on this machine.
        is_kept: whether features are kept on disk.
    """
    last = len(network.blocks) - 1
    features = PooledFeatures(network, (last,), data, accelerate=accelerate, is_kept=is_kept)
    features.prepare(data.train)
    kernel, bias = fitted_linear(features.rows(data.train, 0), data.train.labels, seed)
    network.model.get_layer(PROBABILITIES).set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
