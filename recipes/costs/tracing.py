"""A model as the TensorFlow graph that runs, and which of its operations belong to which layer."""

import collections
import contextlib
import dataclasses

import keras
import tensorflow as tf


@dataclasses.dataclass
class Part:
    """A layer, or a bare operation of Keras, and what its calls came to.

    Args:
        name: with the names of the models that it stands in before it.
        layer: the layer or operation.
        operations: names of the graph's operations that its calls made.
        calls: `(args, kwargs, outputs)` of each call.
    """

    name: str
    layer: keras.Operation
    operations: list[str] = dataclasses.field(default_factory=list)
    calls: list[tuple] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Trace:
    """One graph of a model at one batch size.

    Args:
        graph: `tf.Graph`; the values of weights and the images are placeholders in it.
        operations: those that the results need, in the order in which they were made.
        results: tensors that the graph was made for.
        gradients: `{name of the tensor: bytes}` among these.
        forward: names of the operations up to the outputs of the model.
        outputs: of the model.
        parts: tuple of Part.
    """

    graph: tf.Graph
    operations: list
    results: list
    gradients: dict
    forward: frozenset
    outputs: list
    parts: tuple


def trace(model, inputs, *, is_training):
    """Trace `model` on inputs of static shapes, without running it and without touching its state.

    Args:
        model: built Keras model.
        inputs: `tf.TensorSpec`, or as many in a list as the model has inputs.
        is_training: whether a loss and its gradients by the trainable weights are traced too.
    """
    parts = tuple(Part(name, layer) for name, layer in _named_apart(leaves(model)))
    told = {}

    def run(images, trained, others):
        values = [*zip(model.trainable_variables, trained, strict=True)]
        values += zip(model.non_trainable_variables, others, strict=True)
        tape = tf.GradientTape() if is_training else None  # recording takes longer than all else
        scope = keras.StatelessScope(values, collect_losses=True, initialize_variables=False)
        with tape or contextlib.nullcontext(), watched(parts), scope:
            if is_training:
                tape.watch(trained)
            told["outputs"] = outputs = tf.nest.flatten(model(images, training=is_training))
            losses = [_loss(output) for output in outputs] + _penalties(model) if is_training else []
        told["forward"] = frozenset(operation.name for operation in _graph().get_operations())
        if not is_training:
            return outputs, []
        changed = [scope.get_current_value(variable) for variable in model.non_trainable_variables]
        moved = [new for new, old in zip(changed, others, strict=True) if new is not None and new is not old]
        gradients = tape.gradient(losses, trained)
        return [*losses, *moved], [gradient for gradient in gradients if gradient is not None]

    specs = [[tf.TensorSpec(variable.shape, variable.dtype) for variable in kind] for kind in _variables(model)]
    graph = tf.function(run, autograph=False).get_concrete_function(inputs, *specs).graph
    results, gradients = graph.structured_outputs
    results, gradients = tf.nest.flatten(results), [_values(gradient) for gradient in gradients]
    sizes = {gradient.name: tensor_bytes(gradient) for gradient in gradients}
    needed = _needed(graph, [*results, *gradients])
    return Trace(graph, needed, [*results, *gradients], sizes, told["forward"], told["outputs"], parts)


def leaves(model, path="", found=None):
    """`(name, layer)` of every layer of `model` and of the models within it that is no model itself."""
    found = set() if found is None else found
    operations = getattr(model, "operations", None) or model.layers
    for layer in operations:
        if id(layer) in found or isinstance(layer, keras.layers.InputLayer):
            continue
        found.add(id(layer))
        if isinstance(layer, keras.Model):
            yield from leaves(layer, f"{path}{layer.name}/", found)
        else:
            yield f"{path}{layer.name}", layer


@contextlib.contextmanager
def watched(parts):
    """Note down the calls of these layers, and the operations that they make in the graph that is being traced."""
    kept = [(part.layer, vars(part.layer).get("call")) for part in parts]
    for part in parts:
        object.__setattr__(part.layer, "call", _noting(part, part.layer.call))
    try:
        yield
    finally:
        for layer, call in kept:
            if call is None:
                object.__delattr__(layer, "call")
            else:
                object.__setattr__(layer, "call", call)


def _noting(part, call):
    def noting(*args, **kwargs):
        before = len(_graph().get_operations())
        outputs = call(*args, **kwargs)
        part.operations.extend(operation.name for operation in _graph().get_operations()[before:])
        part.calls.append((args, kwargs, outputs))
        return outputs

    return noting


def tensor_bytes(tensor):
    """Bytes of a tensor whose shape is known, 0 for another."""
    is_known = tensor.shape.is_fully_defined() and tensor.dtype.size
    return tensor.shape.num_elements() * tensor.dtype.size if is_known else 0


def tensors(structure):
    """The tensors within arguments or outputs of a call."""
    return [value for value in tf.nest.flatten(structure) if tf.is_tensor(value)]


def _variables(model):
    return model.trainable_variables, model.non_trainable_variables


def _named_apart(layers):
    """The same, with a number behind a name that has been before, as models that users write may have."""
    times = collections.Counter()
    for name, layer in layers:
        times[name] += 1
        yield name if times[name] == 1 else f"{name} ({times[name]})", layer


def _penalties(model):
    """Losses that layers add, those of regularizers included."""
    return [tf.reduce_sum(loss) for loss in model.losses]


def _loss(output):
    """Of class probabilities, that of classifiers; of anything else, a mean, which has as simple a gradient."""
    output = tf.convert_to_tensor(output)
    if output.shape.rank == 2 and output.shape[1] > 1 and output.dtype.is_floating:
        return keras.losses.SparseCategoricalCrossentropy()(tf.zeros(output.shape[:1], tf.int32), output)
    return tf.reduce_mean(tf.cast(output, tf.float32))


def _values(gradient):
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _graph():
    return tf.compat.v1.get_default_graph()


def _needed(graph, results):
    """The operations that results depend on, in the order of the graph."""
    found, waiting = set(), [result.op for result in results]
    while waiting:
        operation = waiting.pop()
        if operation.name not in found:
            found.add(operation.name)
            waiting.extend(tensor.op for tensor in operation.inputs)
            waiting.extend(operation.control_inputs)
    return [operation for operation in graph.get_operations() if operation.name in found]
