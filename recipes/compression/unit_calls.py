"""One call of an operation, as the rules of unit pruning see it."""

import dataclasses
import functools

import keras
import numpy as np

from recipes.compression.unit_ties import FIXED


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
        """Ids along the axis where the operation has its channels; None where its input has them along another."""
        labels = self.first
        if labels.axis == axis:
            self.taken = labels.ids
        elif self.ties.stays(labels.ids):
            self.taken = np.full(labels.shape[axis] or 0, FIXED)
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


def along(axis_of):
    """A decorator of rules `(call, axis, ids along it)` for operations with channels along `axis_of(call)`."""

    def decorate(rule):
        @functools.wraps(rule)
        def follow(call):
            axis = axis_of(call)
            if axis is None or call.read(axis) is None:
                return "has its channels along other axes than the layers before it"
            return rule(call, axis, call.taken)

        return follow

    return decorate


def channel_axis(call):
    """Where a layer takes the channels to be."""
    is_first = getattr(call.operation, "data_format", "channels_last") == "channels_first"
    return 1 if is_first else last_axis(call)


def last_axis(call):
    """That of the tensor that is read."""
    return len(call.first.shape) - 1
