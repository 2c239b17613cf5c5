"""Multiply-adds of the operations of a TensorFlow graph: convolutions and products of matrices, nothing else."""

import collections
import dataclasses
import math
import re
from typing import Any

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Call:
    """One operation with what its count depends on.

    Args:
        kind: such as `"Conv2D"`.
        inputs: shapes of its inputs.
        output: shape of its first output.
        attributes: as a graph's definition holds them.
        turns: of a loop, the most that it takes; None where the graph does not say.
    """

    kind: str
    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    attributes: Any
    turns: int | None = None


def _convolution(call):
    """Every output is a sum over one filter, which in groups sees its share of the channels only."""
    return math.prod(call.output) * math.prod(call.inputs[1][:-1])


def _depthwise(call):
    return math.prod(call.output) * math.prod(call.inputs[1][:-2])


def _transposed(call):
    """Every input is multiplied by a whole filter."""
    return math.prod(call.inputs[2]) * math.prod(call.inputs[1][:-1])


def _product(call):
    is_turned = call.attributes["transpose_a"].b or call.attributes["adj_x"].b
    return math.prod(call.output) * call.inputs[0][-2 if is_turned else -1]


def _einsum(call):
    """Each choice of all the letters is one product."""
    terms = call.attributes["equation"].s.decode().split("->")[0].split(",")
    if len(terms) < 2:
        return 0
    sizes, rest = {}, ()
    for term, shape in zip(terms, call.inputs, strict=True):
        before, dots, after = term.partition("...")
        sizes |= dict(zip(before, shape, strict=False))
        sizes |= dict(zip(reversed(after), reversed(shape), strict=False))
        if dots:
            rest = max(rest, shape[len(before) : len(shape) - len(after)], key=math.prod)
    return math.prod(sizes.values()) * math.prod(rest)


COUNTS = {
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _transposed,
    "Conv3DBackpropInputV2": _transposed,
    "MatMul": _product,
    "BatchMatMulV2": _product,
    "BatchMatMulV3": _product,
    "Einsum": _einsum,
}
_LOOPS = ("While", "StatelessWhile")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# What hides its work: code of the user's, and kernels that stand for whole layers.
_OPAQUE = re.compile("PyFunc|RNN|XlaLaunch|Quantized|^If$|StatelessIf|^Case$|StatelessCase")


class Counter:
    """Counts the operations of one graph, those of the functions that they call included.

    Args:
        graph: `tf.Graph` with static shapes.
    """

    def __init__(self, graph):
        library = graph.as_graph_def(add_shapes=True).library.function
        self._functions = {function.signature.name: function for function in library}

    def count(self, operations):
        """(multiply-adds, notes on what could not be counted as it is) of some operations."""
        notes = collections.Counter()
        return sum(self._count(self._seen(operation), notes) for operation in operations), tuple(+notes)

    def _seen(self, operation):
        inputs = tuple(_shape(tensor.shape) for tensor in operation.inputs)
        output = _shape(_whole(operation).shape) if operation.outputs else ()
        is_loop = operation.type in _LOOPS and len(operation.inputs) > 1
        turns = _turns(tf.get_static_value(operation.inputs[1])) if is_loop else None
        return Call(operation.type, inputs, output, operation.node_def.attr, turns)

    def _count(self, call, notes):
        if call.kind in COUNTS:
            return COUNTS[call.kind](call)
        if call.kind in _LOOPS:
            notes["one turn of its loop is counted"] += call.turns is None
            turns = 1 if call.turns is None else call.turns
            return turns * self._inside(call.attributes["body"].func.name, call.inputs, notes)
        if call.kind in _CALLS:
            return self._inside(call.attributes["f"].func.name, call.inputs, notes)
        if _OPAQUE.search(call.kind):
            notes[f"not counted: {call.kind}"] += 1
        return 0

    def _inside(self, name, inputs, notes):
        """Of the function called `name`."""
        function = self._functions[name]
        shapes = {argument.name: shape for argument, shape in zip(function.signature.input_arg, inputs, strict=True)}
        constants = {node.name: node.attr["value"].tensor for node in function.node_def if node.op == "Const"}
        total, needed = 0, _needed(function)
        for node in function.node_def:
            outputs = [_dimensions(shape) for shape in node.attr["_output_shapes"].list.shape]
            given = tuple(shapes.get(_source(reference), ()) for reference in node.input if reference[0] != "^")
            most = constants.get(_source(node.input[1])) if node.op in _LOOPS and len(node.input) > 1 else None
            turns = None if most is None else _turns(tf.make_ndarray(most))
            if node.name in needed:
                total += self._count(Call(node.op, given, outputs[0] if outputs else (), node.attr, turns), notes)
            shapes |= {node.name: outputs[0]} if outputs else {}
        return total


def _needed(function):
    """Names of what the results of a function are made from: `keras.ops.map` leaves a turn that nobody reads."""
    sources = {node.name: [_source(reference) for reference in node.input] for node in function.node_def}
    waiting = [_source(reference) for reference in (*function.ret.values(), *function.control_ret.values())]
    found = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += sources.get(name, [])
    return found


def _turns(most):
    """The most turns of a loop: its second input, where that is a constant and a limit."""
    return int(most) if most is not None and most.ndim == 0 and most >= 0 else None


def _whole(operation):
    """What a convolution gives; of a dilated one, which TensorFlow takes apart into pieces, the pieces together."""
    tensor = operation.outputs[0]
    if operation.type not in ("Conv2D", "Conv3D", "DepthwiseConv2dNative"):
        return tensor
    while len(users := tensor.consumers()) == 1 and users[0].type in ("Squeeze", "BatchToSpaceND"):
        tensor = users[0].outputs[0]
        if users[0].type == "BatchToSpaceND":
            return tensor
    return operation.outputs[0]


def _shape(shape):
    return tuple(side or 0 for side in shape) if shape.rank is not None else ()


def _dimensions(shape):
    return tuple(max(side.size, 0) for side in shape.dim)


def _source(reference):
    """The argument or operation that a reference such as `convolution:output:0` within a function means."""
    return reference.lstrip("^").split(":")[0]
