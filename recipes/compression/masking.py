"""Which weights are pruned: exactly as many as are asked for, those of the smallest magnitude."""

import numpy as np

from layers import ZerosKept
from recipes.bases.flattening import flat_copy
from recipes.compression.kernels import find_kernels

KEEP = ("depthwise",)  # kernels that are small, and few weights of the network
SCOPES = ("layer", "global", "deviation", "sensitivity")


def pruned(model, sparsity, *, scope="layer", keep=KEEP, sensitivity=None):
    """A model whose smallest weights are zero, and stay so when it is trained.

    Biases and normalisation stay as they are. Each kernel that is pruned has a `layers.ZerosKept` as its constraint,
    with which it trains under any optimizer and is saved.

    Args:
        model: flat functional model; it stays as it is.
        sparsity: fraction of the kernels' weights that is to be zero, or `{regular expression: fraction}`; as in
            `choose_masks`. At 0, what is zero stays zero.
        scope: as in `choose_masks`.
        keep: kernels that stay, as in `find_kernels`.
        sensitivity: Sensitivity, for that scope.

    Returns:
        (keras.Model, `{layer: why it was left alone}`).
    """
    copy = flat_copy(model, "prune_weights")
    kernels, notes = find_kernels(copy, keep)
    for kernel, mask in zip(kernels, choose_masks(kernels, sparsity, scope, sensitivity), strict=True):
        mask = mask & (kernel.values != 0) if not sparsity else mask
        if mask.all():
            continue
        constraint = ZerosKept(mask)
        kernel.variable.assign(constraint(kernel.variable))
        kernel.constrain(constraint)
    return copy, notes


def unmasked(model):
    """A copy of a flat model that nothing holds to its zeros: of plain Keras layers, to be loaded by Keras alone."""
    copy = flat_copy(model, "prune_weights")
    for kernel in find_kernels(copy)[0]:
        if kernel.mask is not None:
            kernel.constrain(None)
    return copy


def gradual(sparsity, steps):
    """The sparsities on the way to one: many weights at first, when there are many to spare, and fewer and fewer.

    Args:
        sparsity: fraction, or a dictionary of them.
        steps: how many.

    Returns:
        A list, mild to strong, which ends with `sparsity`.

    Source:
        Zhu and Gupta 2017, "To prune, or not to prune" (the cubic course).
    """
    shares = [1 - (1 - step / steps) ** 3 for step in range(1, steps + 1)]
    if isinstance(sparsity, dict):
        return [{name: share * part for name, part in sparsity.items()} for share in shares]
    return [share * sparsity for share in shares]


def choose_masks(kernels, sparsity, scope="layer", sensitivity=None):
    """For each kernel the mask of the weights that stay; what is pruned already stays pruned.

    Args:
        kernels: list of Kernel.
        sparsity: fraction of all their weights that is to be zero, 0–1; or `{regular expression: fraction}` for those
            of a name, where the first that fits a kernel holds; the others are pruned no further.
        scope: of a single fraction: `"layer"`: each kernel's smallest. `"global"`: the smallest of all. `"deviation"`:
            the smallest of all, each measured by the standard deviation of its kernel: Han's threshold.
            `"sensitivity"`: as many of each kernel as the curves of `sensitivity` allow it.
        sensitivity: Sensitivity; for that scope alone.

    Returns:
        A list of boolean arrays, one per kernel.
    """
    if isinstance(sparsity, dict) or scope in ("layer", "sensitivity"):
        zeros = _zeros_by_kernel(kernels, sparsity, scope, sensitivity)
        return [_mask(kernel, np.abs(kernel.values), count) for kernel, count in zip(kernels, zeros, strict=True)]
    magnitudes = [_magnitudes(kernel, scope) for kernel in kernels]
    together = np.concatenate([one.ravel() for one in magnitudes]) if kernels else np.zeros(0)
    is_kept = ~smallest(together, zeros_in(together.size, sparsity))
    parts = np.split(is_kept, np.cumsum([one.size for one in magnitudes])[:-1])
    return [_joined(kernel, part.reshape(kernel.variable.shape)) for kernel, part in zip(kernels, parts, strict=True)]


def zeros_in(size, sparsity):
    """How many of `size` weights are zero at a sparsity."""
    return round(size * sparsity)


def smallest(magnitudes, count):
    """A boolean array, True for exactly the `count` smallest; of equal ones, those that come first."""
    flat = magnitudes.ravel()
    chosen = np.zeros(flat.size, bool)
    if count:
        limit = np.partition(flat, count - 1)[count - 1]
        chosen = flat < limit
        chosen[np.flatnonzero(flat == limit)[: count - chosen.sum()]] = True
    return chosen.reshape(magnitudes.shape)


def _zeros_by_kernel(kernels, sparsity, scope, sensitivity):
    if isinstance(sparsity, dict):
        found = [next((part for name, part in sparsity.items() if kernel.is_named(name)), 0) for kernel in kernels]
        return [zeros_in(kernel.size, part) for kernel, part in zip(kernels, found, strict=True)]
    if scope == "layer":
        return [zeros_in(kernel.size, sparsity) for kernel in kernels]
    allotted = sensitivity.allot(sparsity, {kernel.name: kernel.size for kernel in kernels})
    return [allotted[kernel.name] for kernel in kernels]


def _magnitudes(kernel, scope):
    values = np.abs(kernel.values).astype("float32")
    if scope != "deviation":
        return values
    deviation = kernel.values[values != 0].astype("float32").std() if values.any() else 0
    return values / (deviation or 1)


def _mask(kernel, magnitudes, count):
    return _joined(kernel, ~smallest(magnitudes, count))


def _joined(kernel, mask):
    """The mask, and False where the kernel is pruned already."""
    return mask if kernel.mask is None else mask & kernel.mask
