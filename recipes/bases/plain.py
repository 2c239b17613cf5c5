"""Networks that compute layers by other algorithms, as networks of Keras' own layers again."""

import layers
from recipes.bases.flattening import flat_copy
from recipes.bases.rewiring import Wiring

_ALGORITHMS = (layers.WinogradConv2D, layers.FFTConv2D, layers.PatchConv2D, layers.TransposedDense)


def in_plain_layers(model, where, *, only_fixed=False):
    """The same network, with a `Conv2D` or `Dense` for each layer that computes one by another algorithm, and whole
    batches where a part takes them image by image.

    Args:
        model: functional or sequential, with one input and one output.
        where: the verb named in errors.
        only_fixed: whether layers that train by their algorithm stay, and those go alone whose kernel is transformed
            once and for all, as `recipes.accelerate` makes them.

    Returns:
        `model` itself where there is none; else a flat copy, whose outputs are the same up to rounding.
    """

    def goes(layer):
        return isinstance(layer, _ALGORITHMS) and (not only_fixed or getattr(layer, "is_transformed", False))

    if not any(goes(layer) or isinstance(layer, layers.ImageByImage) for layer in layers.inner_layers(model)):
        return model
    wiring = Wiring(flat_copy(model, where))
    replaced = {name: operation.plain() for name, operation in wiring.operations.items() if goes(operation)}
    return wiring.rewired(replaced=replaced)
