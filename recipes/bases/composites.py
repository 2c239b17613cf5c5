"""The blocks of `layers` within a network, seen as the Keras layers they are made of."""

import weakref

import layers

_GRAPHS = weakref.WeakKeyDictionary()


def composite_graph(operation):
    """The functional model that `operation` stands for, the same one at every call; None for one that is a whole.

    So a block can be frozen in part, cut, pruned and folded like the convolutions of any other network, and what is
    saved loads in Keras alone.
    """
    if not layers.is_unfoldable(operation):
        return None
    if operation not in _GRAPHS:
        _GRAPHS[operation] = layers.unfold(operation)
    return _GRAPHS[operation]
