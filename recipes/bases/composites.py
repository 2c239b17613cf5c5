"""The blocks of `layers` within a network, and parts that run image by image, seen as the layers they are made of."""

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
        if is_by_image:
            _GRAPHS[operation] = keras.Model(operation.model.inputs, operation.model.outputs)
        else:
            _GRAPHS[operation] = layers.unfold(operation)
    return _GRAPHS[operation]
