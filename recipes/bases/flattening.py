"""One flat copy of a functional or sequential model, nested models and blocks unfolded, on a new input tensor."""

import inspect

import keras

import layers
from recipes.bases.channels import set_weights
from recipes.bases.composites import composite_graph
from recipes.bases.equivalents import stand_in
from recipes.bases.naming import stable_names
from recipes.checks import complaint


class Flattening:
    """Unfolds models onto symbolic tensors and remembers which new layer came from which.

    The graph is read from `get_config`, the description that a saved file holds, so only what can be saved is copied.
    Layers are made anew from their configs: the model that is read keeps its weights, flags and graph.

    Args:
        where: the verb named in errors.
        edit: function `(operation, config, tensor)` that changes the config of a new layer in place; `tensor` is the
            first one that the layer is called on.
        taken: names that no layer may get.

    Attributes:
        copies: `{id: (old layer, new layer)}` in the order of the calls.
    """

    def __init__(self, where, edit, taken=()):
        self.where = where
        self.edit = edit
        self.taken = set(taken)
        self.copies = {}
        self._names = {}

    def unfold(self, model, tensor):
        """Call a copy of every layer of `model` on `tensor`; return the output tensor."""
        self._names = stable_names(model, self.taken)
        self.taken.update(self._names.values())
        return self._call(model, (tensor,), {})

    def _call(self, operation, args, kwargs):
        training = {key: value for key, value in kwargs.items() if key == "training" and value is not None}
        if isinstance(operation, keras.Sequential):
            outputs = args[0]
            for layer in operation.layers:
                outputs = self._call(layer, (outputs,), training)
            return outputs
        if isinstance(operation, keras.Model):
            return self._follow(operation, args[0], training)
        graph = composite_graph(operation)
        if graph is not None:
            return self._follow(graph, args[0], training)
        return self._copy(operation, args)(*args, **accepted(operation, kwargs))

    def _follow(self, model, inputs, context):
        """Repeat the calls that make up a functional model."""
        config = graph_config(model)
        if not config:
            rule = "base must be a functional or sequential model, and so must the models within it"
            mend = "Build it with keras.Model(inputs, outputs) or keras.Sequential, inputs given."
            raise TypeError(complaint(self.where, rule, f"{model.name!r} of class {type(model).__name__}", mend))
        operations = {operation.name: operation for operation in model.operations}
        tensors = dict(zip(references(config["input_layers"]), keras.tree.flatten(inputs), strict=True))
        for name, index, node in ordered_calls(config):
            args, kwargs = call_arguments(operations[name], node, tensors)
            outputs = self._call(operations[name], args, {**context, **kwargs})
            tensors.update({(name, index, place): x for place, x in enumerate(keras.tree.flatten(outputs))})
        return _results(config["output_layers"], operations, tensors)

    def _copy(self, operation, args):
        if id(operation) not in self.copies:
            new = stand_in(operation, self._names[id(operation)], args) or self._rebuilt(operation, args)
            self.copies[id(operation)] = operation, new
        return self.copies[id(operation)][1]

    def _rebuilt(self, operation, args):
        try:
            config = operation.get_config()
            config["name"] = self._names[id(operation)]
            self.edit(operation, config, keras.tree.flatten(args)[0])
            return rebuilt(operation, config)
        except (NotImplementedError, TypeError, ValueError) as error:
            rule = f"every layer of base must be rebuilt from its config, but {operation.name!r} cannot be"
            mend = "Give the layer a get_config that returns all its arguments; use no lambda."
            raise ValueError(complaint(self.where, rule, f"a {type(operation).__name__} ({error})", mend)) from error


def graph_config(model):
    """The config of a functional model; empty for a model that is no graph of layers."""
    try:
        config = model.get_config()
    except NotImplementedError:  # of a class of its own
        return {}
    return config if "output_layers" in config else {}


def rebuilt(operation, config):
    """A new operation of that config; a head of neighbours with room for the examples that the old one holds."""
    new = type(operation).from_config(config)
    if isinstance(operation, layers.KNNClassifier) and operation.built:
        new.build_from_config(operation.get_build_config())
    return new


def flat_copy(model, where, image_size=None):
    """A functional copy of a model in one flat graph, which shares nothing with it.

    Args:
        model: functional or sequential, with one input and one output.
        where: the verb named in errors.
        image_size: `(height, width)` for a model that takes images of any size; None keeps its own.

    Returns:
        keras.Model of the same name, inputs, outputs and weights; what trains in it is what trains in `model`.
    """
    size = tuple(model.input_shape[1:-1]) if image_size is None else tuple(image_size)
    first = model.inputs[0]
    image = keras.Input((*size, model.input_shape[-1]), dtype=first.dtype, name=first.name)
    flattening = Flattening(where, lambda *_: None)
    copy = keras.Model(image, flattening.unfold(model, image), name=model.name)
    for old, new in flattening.copies.values():
        if isinstance(old, keras.layers.Layer) and old.weights:
            set_weights(new, old.get_weights())
    return copy


def ordered_calls(config):
    """`(name, index, node)` for each call in the config of a functional model, every call after those it needs."""
    done = {reference[:2] for reference in references(config["input_layers"])}
    waiting = [(layer["name"], *node) for layer in config["layers"] for node in enumerate(layer["inbound_nodes"])]
    while waiting:
        later = []
        for name, index, node in waiting:
            if {reference[:2] for reference in needed(node)} <= done:
                done.add((name, index))
                yield name, index, node
            else:
                later.append((name, index, node))
        waiting = later


def live_tensors(config):
    """`(name, index, live)` for each call in the config of a functional model: `live` are the references of the tensors
    that are still to be used after it.

    In an order in which each call follows those it needs, a tensor is one through which every path from input to output
    goes just when, after the call that made it, no other is live.
    """
    calls = list(ordered_calls(config))
    last_use = {reference: place for place, call in enumerate(calls) for reference in needed(call[2])}
    last_use.update({reference: len(calls) for reference in references(config["output_layers"])})
    live = set(references(config["input_layers"]))
    for place, (name, index, _) in enumerate(calls):
        live = {reference for reference in live if last_use[reference] > place}
        live |= {reference for reference in last_use if reference[:2] == (name, index)}
        yield name, index, live


def call_arguments(operation, node, tensors):
    """`(args, kwargs)` of a call in a config, with tensors put in their places; the first argument by position."""
    args, kwargs = filled(node["args"], tensors), filled(node["kwargs"], tensors)
    if not args:
        first = next(iter(inspect.signature(operation.call).parameters))
        args = (kwargs.pop(first),)
    return args, kwargs


def accepted(operation, kwargs):
    """`kwargs` without a `training` that stands at an enclosing model and means nothing to this layer."""
    if "training" in kwargs and "training" not in inspect.signature(operation.call).parameters:
        return {key: value for key, value in kwargs.items() if key != "training"}
    return kwargs


def references(spec):
    """`("name", node, place)` of each tensor in `input_layers` or `output_layers` of a config."""
    if len(spec) == 3 and isinstance(spec[0], str):
        return [tuple(spec)]
    inner = spec.values() if isinstance(spec, dict) else spec
    return [reference for part in inner for reference in references(part)]


def _results(spec, operations, tensors):
    """The output tensors. Here alone, Keras counts the nodes of a nested functional model from 1."""
    results = []
    for name, node, place in references(spec):
        operation = operations[name]
        nested = isinstance(operation, keras.Model) and not isinstance(operation, keras.Sequential)
        results.append(tensors[name, node - nested, place])
    return results if len(results) > 1 else results[0]


def _is_tensor(part):
    return isinstance(part, dict) and part.get("class_name") == "__keras_tensor__"


def needed(part):
    """References of all tensors within the serialized arguments of a call."""
    if _is_tensor(part):
        return {tuple(part["config"]["keras_history"])}
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, (list, tuple)) else ()
    return {reference for value in inner for reference in needed(value)}


def filled(part, tensors):
    """The serialized arguments of a call with tensors put in their places."""
    if _is_tensor(part):
        return tensors[tuple(part["config"]["keras_history"])]
    if isinstance(part, (list, tuple)):
        return type(part)(filled(value, tensors) for value in part)
    if isinstance(part, dict) and "class_name" in part:
        return keras.saving.deserialize_keras_object(part)
    if isinstance(part, dict):
        return {key: filled(value, tensors) for key, value in part.items()}
    return part
