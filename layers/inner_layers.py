"""inner_layers: the layers that a layer is made of."""

import keras


def inner_layers(layer):
    """A layer and all layers within it, at any depth: those of models, and those that a layer has as attributes.

    Args:
        layer: keras.Layer or keras.Model.

    Returns:
        list of keras.Layer, `layer` first, each once.

    Example:
        >>> import keras, layers
        >>> inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="dense")], name="inner")
        >>> [part.name for part in layers.inner_layers(keras.Sequential([inner], name="outer"))]
        ['outer', 'inner', 'dense']
    """
    found, waiting = {}, [layer]
    while waiting:
        part = waiting.pop()
        if isinstance(part, keras.Layer) and id(part) not in found:
            found[id(part)] = part
            waiting.extend(reversed(part.layers if isinstance(part, keras.Model) else _attributes(part)))
    return list(found.values())


def _attributes(layer):
    """What a layer has, the items of lists, tuples and dictionaries one by one."""
    items = []
    for value in vars(layer).values():
        if isinstance(value, dict):
            items.extend(value.values())
        elif isinstance(value, (list, tuple)):
            items.extend(value)
        else:
            items.append(value)
    return items
