"""The channels of a flat model, and which of them can be removed together."""

import dataclasses

import keras
import numpy as np

from recipes.bases.flattening import call_arguments, ordered_calls, references
from recipes.compression.unit_calls import Call, is_by_element
from recipes.compression.unit_rules import rule_for
from recipes.compression.unit_slices import MIXING, sliced_axes
from recipes.compression.unit_ties import Labels, Ties


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One call of an operation, with the channels that go in and come out.

    Args:
        operation: of the model.
        name: of it.
        index: which call of it this is.
        node: of the model's config.
        inputs: Labels of what it reads, in order.
        taken: ids of the channels that its weights are for; None where it has none.
        output: Labels of what it makes; None where that is not known, and stays.
    """

    operation: keras.Operation
    name: str
    index: int
    node: dict
    inputs: tuple
    taken: np.ndarray | None
    output: Labels | None


class Channels:
    """A walk through a flat functional model that says which of its channels belong together.

    Args:
        model: keras.Model, flat, with one input and one output.

    Attributes:
        steps: every call, in order.
        ties: the Ties between all units.
        made: `{name of a layer with filters or units: ids of what it makes}`.
    """

    def __init__(self, model):
        self.model = model
        self.steps, self.ties, self.made, self._taken = [], Ties(), {}, {}
        config = model.get_config()
        (self.source,), (self.target,) = references(config["input_layers"]), references(config["output_layers"])
        self._operations = {operation.name: operation for operation in model.operations}
        self._shapes = {self.target: tuple(model.outputs[0].shape)}
        for _, _, node in ordered_calls(config):
            self._shapes.update(_shapes(node))
        self._labels = {self.source: Labels.of_one(model.inputs[0].shape)}
        for name, index, node in ordered_calls(config):
            self._walk(name, index, node)

    def _walk(self, name, index, node):
        operation = self._operations[name]
        args, kwargs = call_arguments(operation, node, self._labels)
        inputs = [part for part in keras.tree.flatten((args, kwargs)) if isinstance(part, Labels)]
        shape = self._shapes.get((name, index, 0))
        call = Call(operation, args, inputs, shape, self.ties, self.made.get(name))
        output = self._followed(call, index)
        if isinstance(output, Labels):
            self._labels[name, index, 0] = output
        else:
            self._fix(call, f"{name!r}, a {type(operation).__name__} that reads it, {output}")
            output = None
            unit = self.ties.new(1)
            self.ties.fix(unit, f"it is joined with what {name!r}, a {type(operation).__name__}, makes, which stays")
            makes = {reference: size for reference, size in self._shapes.items() if reference[:2] == (name, index)}
            self._labels.update({reference: Labels.of_one(size, unit) for reference, size in makes.items()})
        self.steps.append(Step(operation, name, index, node, tuple(inputs), call.taken, output))

    def _fix(self, call, reason):
        """What is read, now and in earlier calls of the same layer, stays."""
        name = call.operation.name
        for ids in (*(labels.ids for labels in call.inputs), self._taken.get(name, ()), self.made.get(name, ())):
            self.ties.fix(ids, reason)

    def _followed(self, call, index):
        """Labels of what a call makes; where that is not known, the reason."""
        operation, name = call.operation, call.operation.name
        rule = rule_for(operation)
        weights = getattr(operation, "weights", ())
        if rule is None or (weights and sliced_axes(operation) is None):
            return "is not known to unit pruning"
        if call.shape is None or any(reference[0] == name and reference[2] for reference in self._shapes):
            return "makes several tensors, or one that is not used"
        output = rule(call)
        if not isinstance(output, Labels):
            return output
        if weights:
            # A layer that is called again has the same weights for what it reads then.
            self.ties.tie(self._taken.setdefault(name, call.taken), call.taken)
        if type(operation) in MIXING:
            self.made[name] = output.ids
        if (name, index, 0) == self.target:
            self.ties.fix(output.ids, "what it makes is the model's output")
        activation = getattr(operation, "activation", None)
        if activation is not None and not is_by_element(activation):
            self.ties.fix(output.ids, f"its activation, {activation.__name__}, lets channels act on each other")
        return output

    def keep(self, names):
        """Let layers keep all that they make."""
        for name in names:
            self.ties.fix(self.made[name], "it is to be kept")

    def notes(self, gone=()):
        """`{layer: why it keeps all that it makes, or a part of that}`, where `gone` are the units to be removed."""
        roots = self.ties.roots(np.arange(len(self.ties)))
        gone = np.isin(roots, roots[np.asarray(gone, dtype=np.int64)])
        notes = {}
        for name, ids in self.made.items():
            reasons = [reason for unit in ids.tolist() if (reason := self.ties.reason(unit)) is not None]
            if len(reasons) == len(ids):
                notes[name] = reasons[0]
            elif not gone[ids].any():
                notes[name] = "all its units matter more than others, or it has no more than each must keep"
            elif reasons:
                notes[name] = f"{len(reasons)} of {len(ids)} units stay: {reasons[0]}"
        return notes


def _shapes(part):
    """`{reference: shape}` of all tensors within the serialized arguments of a call."""
    if isinstance(part, dict) and part.get("class_name") == "__keras_tensor__":
        return {tuple(part["config"]["keras_history"]): tuple(part["config"]["shape"])}
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, (list, tuple)) else ()
    return {reference: shape for value in inner for reference, shape in _shapes(value).items()}
