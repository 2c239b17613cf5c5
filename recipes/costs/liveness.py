"""The memory that the tensors of a graph take at one time: allocated, written over in place, and freed, in turn.

TensorFlow frees a tensor when the last operation that reads it is done, and lets an elementwise operation write over an
input that nobody else will read. So what a network needs follows from its graph: skip connections live on, a ReLU takes
nothing, and training holds exactly what the gradients will ask for. Gradients are taken to wait for each other until
the backward pass is over, as they do where they are clipped by one norm; TensorFlow may free some before.
"""

import collections

from recipes.costs.tracing import tensor_bytes

# There all the time: weights and images, which the allocator holds already, and constants, which are small.
_FIXED = ("Placeholder", "Const", "ReadVariableOp")
# The output is the input, seen in another shape.
_VIEWS = frozenset(("Identity", "Reshape", "Squeeze", "ExpandDims", "StopGradient", "PreventGradient", "EnsureShape"))
# The output may take the place of an input of the same size.
_IN_PLACE = frozenset(
    (
        *("Abs", "Add", "AddN", "AddV2", "BiasAdd", "Cast", "Div", "DivNoNan", "Elu", "EluGrad", "Erf", "Exp"),
        *("LeakyRelu", "LeakyReluGrad", "Log", "Log1p", "Maximum", "Minimum", "Mul", "Neg", "Pow", "RealDiv"),
        *("Reciprocal", "Relu", "Relu6", "Relu6Grad", "ReluGrad", "Rsqrt", "RsqrtGrad", "Select", "SelectV2", "Selu"),
        *("SeluGrad", "Sigmoid", "SigmoidGrad", "Softmax", "Softplus", "SoftplusGrad", "Sqrt", "SqrtGrad", "Square"),
        *("SquaredDifference", "Sub", "Tanh", "TanhGrad"),
    )
)


def follow(operations, results, allocator, *, updates=None, forward=frozenset()):
    """Follow the operations of a graph in their order, taking memory from `allocator`, whose peak tells the most.

    Args:
        operations: of a graph, each after those it needs.
        results: tensors that stay.
        allocator: Allocator, in which what is there all the time is there already.
        updates: `{name of a gradient: sizes in bytes}` of the tensors that a step by it needs beside it; it is freed
            afterwards.
        forward: names of the operations of the forward pass.

    Returns:
        `{operation: bytes}` of what it gave that is still there when the forward pass is over.
    """
    memory = _Memory(operations, results, allocator, updates or {})
    kept, is_forward = {}, True
    for operation in operations:
        if is_forward and operation.name not in forward:
            kept, is_forward = memory.owned(), False
        memory.run(operation)
    return kept


class _Memory:
    """Buffers, who made them and how many reads of them are still to come."""

    def __init__(self, operations, results, allocator, updates):
        self._allocator, self._updates = allocator, updates
        self._uses = collections.Counter(tensor.name for each in operations for tensor in each.inputs)
        self._uses.update(result.name for result in results if result.name not in updates)
        self._buffers, self._sizes, self._reads, self._makers = {}, {}, collections.Counter(), {}
        self._pieces = {}

    def run(self, operation):
        """Make the outputs of an operation, and free what nobody will read any more."""
        is_fixed = operation.type in _FIXED
        made = [self._place(operation, place, tensor, is_fixed) for place, tensor in enumerate(operation.outputs)]
        for tensor in operation.outputs:
            self._step(self._updates.get(tensor.name, ()))
        for tensor in operation.inputs:
            buffer = self._buffers[tensor.name]
            self._reads[buffer] -= 1
            self._free_unread(buffer)
        for buffer in made:
            self._free_unread(buffer)

    def _step(self, sizes):
        """What an optimizer takes for a while."""
        for piece in [self._allocator.take(size) for size in sizes]:
            self._allocator.give_back(piece)

    def owned(self):
        """`{operation: bytes}` of what is there now."""
        owned = collections.Counter()
        for buffer, maker in self._makers.items():
            owned[maker] += self._sizes[buffer]
        return dict(owned)

    def _place(self, operation, place, tensor, is_fixed):
        buffer = None if is_fixed or place else self._reused(operation, tensor)
        if buffer is None:
            buffer = tensor.name
            self._sizes[buffer] = tensor_bytes(tensor)
            if not is_fixed:
                self._pieces[buffer] = self._allocator.take(self._sizes[buffer])
                self._makers[buffer] = operation.name
        self._buffers[tensor.name] = buffer
        self._reads[buffer] += self._uses[tensor.name]
        return buffer

    def _reused(self, operation, tensor):
        """The buffer of an input that becomes that of the output; None where there is none."""
        buffers = [self._buffers[given.name] for given in operation.inputs]
        if operation.type in _VIEWS:
            return buffers[0]
        if operation.type in _IN_PLACE:
            for buffer in buffers:
                is_last = buffer in self._makers and self._reads[buffer] == buffers.count(buffer)
                if is_last and self._sizes[buffer] == tensor_bytes(tensor):
                    return buffer
        return None

    def _free_unread(self, buffer):
        if self._reads[buffer] <= 0 and self._makers.pop(buffer, None):
            self._allocator.give_back(self._pieces.pop(buffer))
