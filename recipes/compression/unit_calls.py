"""One call of an operation, as the rules of unit pruning see it."""

import dataclasses

import keras
import numpy as np

from recipes.compression.unit_ties import FIXED


class Unknown(Exception):
    """Raised by a rule for what it does not know; its words end up in the notes."""


@dataclasses.dataclass
class Call:
    """One call of an operation.

    Args:
        operation: of the model.
        args: of the call, Labels in the place of tensors.
        inputs: Labels of the tensors that it reads, in order.
        shape: of the tensor that it makes; None where that is used by nothing or there are several.
        ties: Ties of the walk.
        made: ids of the channels that the layer makes, from an earlier call of it; None in the first.
        taken: ids of the channels that it reads, along the axis where it has them; set by `read`.
    """

    operation: keras.Operation
    args: tuple
    inputs: list
    shape: tuple | None
    ties: object
    made: np.ndarray | None = None
    taken: np.ndarray | None = None

    @property
    def first(self):
        """Labels of the tensor read first."""
        return self.inputs[0]

    def read(self, axis):
        """Ids along the axis where the operation has its channels."""
        labels = self.first
        if labels.axis != axis and not self.ties.stays(labels.ids):
            raise Unknown("has its channels along another axis than the layers before it")
        self.taken = labels.ids if labels.axis == axis else np.full(labels.shape[axis] or 0, FIXED)
        return self.taken

    def new(self, count):
        """Ids of the channels that the layer makes."""
        return self.ties.new(count) if self.made is None else self.made


def is_by_element(activation):
    """Whether an activation function changes each number by itself."""
    return getattr(activation, "__name__", None) in _BY_ELEMENT and (
        getattr(keras.activations, activation.__name__, None) is activation
    )


_BY_ELEMENT = (
    *("celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu"),
    *("linear", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softplus"),
    *("softsign", "sparse_plus", "sparse_sigmoid", "squareplus", "tanh", "tanh_shrink", "threshold"),
)


def channel_axis(layer, labels):
    """Where a layer takes the channels to be."""
    return 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else len(labels.shape) - 1
