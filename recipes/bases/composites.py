"""The blocks of `layers` within a network, seen as the Keras layers they are made of."""

import weakref

import keras

import layers

_GRAPHS = weakref.WeakKeyDictionary()


def composite_graph(operation):
    """The functional model that `operation` stands for, the same one at every call; None for one that is a whole.

    So a block can be frozen in part, cut, pruned and folded like the convolutions of any other network, and what is
    saved loads in Keras alone.
    """
    is_by_image = isinstance(operation, layers.ImageByImage)
    if not is_by_image and not layers.is_unfoldable(operation):
        return None
    if operation not in _GRAPHS:
        inner = operation.model if is_by_image else None
        _GRAPHS[operation] = keras.Model(inner.inputs, inner.outputs) if is_by_image else layers.unfold(operation)
    return _GRAPHS[operation]
