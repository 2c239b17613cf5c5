"""inner_layers: the layers that a layer is made of."""

import keras


def inner_layers(layer):
    """A layer and all layers within it, at any depth, those of models and those that others wrap.

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
            wrapped = [getattr(part, name, None) for name in ("layer", "model")]
            waiting.extend(reversed([*getattr(part, "layers", ()), *wrapped]))
    return list(found.values())
