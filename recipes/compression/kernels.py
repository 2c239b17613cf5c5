"""The kernels of a network: the weights that pruning sets to zero and sharing makes alike."""

import dataclasses
import re

import keras
import numpy as np

from layers import ZerosKept
from recipes.bases.blocks import NORMALIZATIONS
from recipes.checks import complaint, nearest

DEPTHWISE = "depthwise"
_CONV, _DENSE = "conv", "dense"
KINDS = (_CONV, _DENSE, DEPTHWISE)
# Of each class, its kernels: attribute, argument for a constraint, kind.
_PLAIN = (("kernel", "kernel_constraint", _CONV),)
_ALONE = (("kernel", "depthwise_constraint", DEPTHWISE),)
_BOTH = (
    ("depthwise_kernel", "depthwise_constraint", DEPTHWISE),
    ("pointwise_kernel", "pointwise_constraint", _CONV),
)
_KERNELS = {
    keras.layers.Conv1D: _PLAIN,
    keras.layers.Conv2D: _PLAIN,
    keras.layers.Conv3D: _PLAIN,
    keras.layers.Conv1DTranspose: _PLAIN,
    keras.layers.Conv2DTranspose: _PLAIN,
    keras.layers.Conv3DTranspose: _PLAIN,
    keras.layers.Dense: (("kernel", "kernel_constraint", _DENSE),),
    keras.layers.EinsumDense: (("kernel", "kernel_constraint", _DENSE),),
    keras.layers.DepthwiseConv1D: _ALONE,
    keras.layers.DepthwiseConv2D: _ALONE,
    keras.layers.SeparableConv1D: _BOTH,
    keras.layers.SeparableConv2D: _BOTH,
}
_NO_KERNELS = (*NORMALIZATIONS, keras.layers.PReLU)


@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """One kernel of a layer.

    Args:
        layer: built Keras layer.
        attribute: of the layer, under which it has the variable.
        argument: of the layer, which takes a constraint for it.
        kind: `"conv"`, `"dense"` or `"depthwise"`.
    """

    layer: keras.layers.Layer
    attribute: str
    argument: str
    kind: str

    @property
    def name(self):
        """That of the layer; where it has two kernels, with the attribute."""
        return self.layer.name if self.attribute == "kernel" else f"{self.layer.name}/{self.attribute}"

    @property
    def variable(self):
        """The Keras variable."""
        return getattr(self.layer, self.attribute)

    @property
    def values(self):
        """A NumPy array."""
        return keras.ops.convert_to_numpy(self.variable)

    @property
    def size(self):
        """How many weights it has."""
        return int(np.prod(self.variable.shape))

    @property
    def mask(self):
        """Booleans, False where a weight is kept at zero; None where nothing is."""
        constraint = self.variable.constraint
        return constraint.mask if isinstance(constraint, ZerosKept) else None

    def is_named(self, pattern):
        """Whether a regular expression is for it: for all of its name, or that of its layer."""
        return any(re.fullmatch(pattern, name) for name in (self.name, self.layer.name))

    def constrain(self, constraint):
        """Put a constraint, or None, on the variable and into the config of the layer."""
        self.variable.constraint = constraint
        setattr(self.layer, self.argument, constraint)


def find_kernels(model, keep=()):
    """The kernels of a flat model that may be changed, and the layers that stay.

    Args:
        model: flat functional model.
        keep: what stays as it is: regular expressions for names of layers, `"first"` and `"last"` for the first and the
            last kernel, `"conv"`, `"dense"` or `"depthwise"` for all of that kind.

    Returns:
        A list of Kernel in the order of the layers, and `{layer: why it is left alone}`.
    """
    kernels, notes = [], {}
    for layer in model.layers:
        reason = _reason(layer)
        if reason:
            notes[layer.name] = reason
        elif layer.weights and type(layer) in _KERNELS:
            kernels += [Kernel(layer, *row) for row in _KERNELS[type(layer)]]
    chosen = []
    for number, kernel in enumerate(kernels):
        ends = [word for word, place in (("first", 0), ("last", len(kernels) - 1)) if number == place]
        if any(pattern in (kernel.kind, *ends) or kernel.is_named(pattern) for pattern in keep):
            notes[kernel.name] = "keep says so"
        else:
            chosen.append(kernel)
    return chosen, notes


def _reason(layer):
    """Why nothing can be done with a layer that has weights; None where something can, or where it has none."""
    if not layer.weights or isinstance(layer, _NO_KERNELS):
        return None
    if type(layer) not in _KERNELS:
        return f"a layer of class {type(layer).__name__}, whose weights the method does not know"
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        return "it is quantized or adapted already"
    if any(len(getattr(layer, attribute).shape) < 2 for attribute, _, _ in _KERNELS[type(layer)]):
        return "a factor for each channel, which is no kernel: 0 would take all of the channel"
    own = [getattr(layer, argument) for _, argument, _ in _KERNELS[type(layer)]]
    other = next((one for one in own if one is not None and not isinstance(one, ZerosKept)), None)
    return None if other is None else f"its kernel keeps to {type(other).__name__}, which a mask would replace"


def check_keep(where, keep, model):
    """Raise unless `keep` is a tuple of what `find_kernels` understands for a flat model."""
    if isinstance(keep, str) or not isinstance(keep, (tuple, list)):
        mend = 'Pass keep=("first", "fc.*"), say.'
        raise TypeError(complaint(where, "keep must be a tuple of names of layers", repr(keep), mend))
    check_patterns(where, "keep", keep, find_kernels(model)[0], ("first", "last", *KINDS))


def check_patterns(where, argument, patterns, kernels, words=()):
    """Raise ValueError where a pattern is no regular expression, or means none of the kernels."""
    known = [kernel.name for kernel in kernels]
    for pattern in patterns:
        if pattern in words:
            continue
        if not isinstance(pattern, str):
            rule = f"{argument} must hold names of layers"
            raise TypeError(complaint(where, rule, repr(pattern), f"Names are {', '.join(known[:5])}."))
        try:
            found = any(kernel.is_named(pattern) for kernel in kernels)
        except re.error as error:
            rule = f"{argument} must hold regular expressions ({error})"
            raise ValueError(complaint(where, rule, repr(pattern), "Pass 'conv.*', say.")) from error
        if not found:
            close = nearest(pattern, known)
            mend = f"Did you mean {close!r}?" if close else f"Names are {', '.join(known[:5])}."
            raise ValueError(complaint(where, f"a name in {argument} is that of no layer with a kernel", pattern, mend))
