"""Networks that compute layers by other algorithms, as networks of Keras' own layers again."""

import layers
from recipes.bases.flattening import flat_copy
from recipes.bases.rewiring import Wiring

_ALGORITHMS = (layers.WinogradConv2D, layers.FFTConv2D, layers.PatchConv2D, layers.TransposedDense)


def has_algorithms(model, *, only_fixed=False):
    """Whether a layer of a model, at any depth, computes by another algorithm; see `in_plain_layers`."""
    return any(_goes(layer, only_fixed) for layer in layers.inner_layers(model))


def in_plain_layers(model, where, *, only_fixed=False):
    """The same network, with a `Conv2D` or `Dense` for each layer that computes one by another algorithm, and whole
    batches where a part takes them image by image.

    Args:
        model: functional or sequential, with one input and one output.
        where: the verb named in errors.
        only_fixed: whether convolutions that train by their algorithm stay, and what `recipes.accelerate` makes goes
            alone: transformed kernels.

    Returns:
        `model` itself where there is none; else a flat copy, whose outputs are the same up to rounding, and in which
        what was transformed trains again. Layers within layers that cannot be unfolded stay.
    """
    is_by_image = any(isinstance(layer, layers.ImageByImage) for layer in layers.inner_layers(model))
    if not is_by_image and not has_algorithms(model, only_fixed=only_fixed):
        return model
    wiring = Wiring(flat_copy(model, where))
    operations = wiring.operations.items()
    return wiring.rewired(replaced={name: each.plain() for name, each in operations if _goes(each, only_fixed)})


def _goes(layer, only_fixed):
    is_fixed = getattr(layer, "is_transformed", False) or isinstance(layer, layers.TransposedDense)
    return isinstance(layer, _ALGORITHMS) and (is_fixed or not only_fixed)
