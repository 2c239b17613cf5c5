"""A network read as the calls it is made of, blocks and nested models unfolded, nothing copied or changed."""

import dataclasses
import functools
import math
from typing import Any

import keras

from recipes.advising.measuring import activation_of, multiply_adds, size
from recipes.bases.flattening import Flattening, references
from recipes.checks import complaint


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One call of one operation.

    Args:
        name: of the operation, behind those of the block or models that it stands in: `"block/layer"`.
        operation: a Keras layer, or a bare operation such as `x + y`.
        arguments: `(args, kwargs)` of the call, tensors in their places.
        inputs: the tensors among them.
        outputs: the tensors that it made.
    """

    name: str
    operation: Any
    arguments: tuple[tuple, dict]
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]


class Graph:
    """The steps of a network in the order of the data, and who takes what from whom.

    Args:
        model: functional or sequential model.
        where: the verb named in errors.

    Attributes:
        optimizer: that the model is trained by, or None.
        data: the Data that it is meant for, or None.
        trained_side: of the images that published weights were trained on, in pixels, or None.
    """

    def __init__(self, model, where):
        self.name = model.name
        self.data = self.trained_side = None
        self.optimizer = getattr(model, "optimizer", None)
        reading = _Reading(where)
        self.inputs = [keras.KerasTensor(tensor.shape, tensor.dtype) for tensor in _inputs(model, where)]
        outputs = reading.read(model, self.inputs)
        self.outputs = keras.tree.flatten(outputs)
        self.steps = tuple(reading.steps)
        self._makers = {id(tensor): step for step in self.steps for tensor in step.outputs}
        self._users = {}
        for step in self.steps:
            for tensor in step.inputs:
                self._users.setdefault(id(tensor), []).append(step)

    def maker(self, tensor):
        """The step that made `tensor`; None for an input of the network."""
        return self._makers.get(id(tensor))

    def users(self, tensor):
        """The steps that take `tensor`."""
        return self._users.get(id(tensor), [])

    def is_output(self, tensor):
        """Whether the network gives `tensor`."""
        return any(tensor is output for output in self.outputs)

    def follower(self, step):
        """The one step that takes the one output of `step`, or None when there are others or the network gives it."""
        (tensor, *more), users = step.outputs, self.users(step.outputs[0])
        return users[0] if len(users) == 1 and not more and not self.is_output(tensor) else None

    def calls(self, operation):
        """How many steps call `operation`."""
        return sum(step.operation is operation for step in self.steps)

    @functools.cached_property
    def parameters(self):
        """Numbers in all weights, each counted once."""
        weights = {id(weight): weight for step in self.steps for weight in getattr(step.operation, "weights", ())}
        return sum(math.prod(weight.shape) for weight in weights.values())

    @functools.cached_property
    def multiply_adds(self):
        """Per image, of convolutions and dense layers; None where sizes are not known."""
        counts = [multiply_adds(step) for step in self.steps]
        return None if None in counts else sum(counts)

    @functools.cached_property
    def activations(self):
        """Values per image that go through an activation; None where sizes are not known."""
        counts = [size(step.outputs[0]) for step in self.steps if activation_of(step) not in (None, "linear")]
        return None if None in counts else sum(counts)


class _Reading(Flattening):
    """Follows the calls of a model and notes them down instead of copying layers."""

    def __init__(self, where):
        super().__init__(where, edit=None)
        self.steps = []
        self._path = []

    def read(self, model, inputs):
        """Note down the calls of `model`; its outputs."""
        return self._call(model, (inputs if len(inputs) > 1 else inputs[0],), {})

    def _call(self, operation, args, kwargs):
        self._path.append(operation.name)
        try:
            if _is_opaque(operation):
                return self._copy(operation, args)(*args, **kwargs)
            return super()._call(operation, args, kwargs)
        finally:
            self._path.pop()

    def _copy(self, operation, args):
        name = "/".join(self._path[1:])

        def note(*args, **kwargs):
            outputs = operation.compute_output_spec(*args, **kwargs)
            inputs = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
            made = tuple(keras.tree.flatten(outputs))
            self.steps.append(Step(name, operation, (args, kwargs), tuple(inputs), made))
            return outputs

        return note


def _is_opaque(operation):
    """Whether this is a model written as a class, whose calls nothing describes."""
    is_model = isinstance(operation, keras.Model) and not isinstance(operation, keras.Sequential)
    return is_model and not hasattr(operation, "operations")


def _inputs(model, where):
    """The inputs of a model that can be read."""
    if _is_opaque(model):
        rule = "the model must be functional or sequential: of one written as a class, the graph cannot be seen"
        mend = "Build it with keras.Model(inputs, outputs), or pass a part of it that is built so."
        raise ValueError(complaint(where, rule, f"{model.name!r} of class {type(model).__name__}", mend))
    if not model.built or not getattr(model, "inputs", None):
        rule, mend = "the model must be built", "Put a keras.Input of the images' shape in front."
        raise ValueError(complaint(where, rule, f"the model {model.name!r}, which has no inputs yet", mend))
    if isinstance(model, keras.Sequential):
        return model.inputs
    # In the order of the description, which `model.inputs` need not have where inputs come as a dictionary.
    return [model.get_layer(name).output for name, _, _ in references(model.get_config()["input_layers"])]
