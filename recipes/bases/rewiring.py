"""A flat functional model made anew with other layers in some places, the rest shared."""

import keras

from recipes.bases.channels import set_weights
from recipes.bases.flattening import accepted, call_arguments, needed, ordered_calls, rebuilt, references


class Wiring:
    """Who calls whom in a flat functional model with one input and one output.

    Args:
        model: keras.Model, functional or sequential.

    Attributes:
        is_plain: whether it is such a model; of others nothing else is known.
        operations: those of the model by name.
        users: for each name, the names of those called on its outputs, once per call, None for the model's output.
        calls: for each name, how often it is called.
        always_training: names of operations that are called with `training=True`.
        sources: for each name, in the order of the calls, the names of those that it is called on, None for the model's
            input.
    """

    def __init__(self, model):
        if isinstance(model, keras.Sequential):
            model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
        config = model.get_config()
        self.model = model
        self.is_plain = "output_layers" in config and len(model.inputs) == len(model.outputs) == 1
        if not self.is_plain:
            return
        self.operations = {operation.name: operation for operation in model.operations}
        self._order = list(ordered_calls(config))
        (self._source,), (self._target,) = references(config["input_layers"]), references(config["output_layers"])
        self.calls, self.users, self.sources = {}, {}, {}
        self.always_training = {name for name, _, node in self._order if node["kwargs"].get("training") is True}
        for name, _, node in self._order:
            self.calls[name] = self.calls.get(name, 0) + 1
            for reference in needed(node):
                self.users.setdefault(reference[0], []).append(name)
                source = None if reference == self._source else reference[0]
                self.sources.setdefault(name, []).append(source)
        self.users.setdefault(self._target[0], []).append(None)

    def next_alone(self, name):
        """The operation that is all that follows `name`, both called once; None where there is none."""
        users = self.users.get(name, [])
        if len(users) != 1 or users[0] is None or self.calls.get(name) != 1 or self.calls[users[0]] != 1:
            return None
        return self.operations[users[0]]

    def rewired(self, *, replaced=None, passed=(), after=None):
        """The model with other layers.

        Args:
            replaced: `{name: layer}` called in the place of the operation of that name.
            passed: names of operations that hand on what they are given.
            after: `{name: layer}` called on the outputs of the operation of that name.

        Returns:
            keras.Model on an input of its own; all other layers are shared.
        """
        model = self.model
        image = keras.Input(model.input_shape[1:], dtype=model.input.dtype, name=model.inputs[0].name)
        outputs = self.follow(image, replaced=replaced, passed=passed, after=after)
        return keras.Model(image, outputs, name=model.name)

    def follow(self, image, *, replaced=None, passed=(), after=None, **context):
        """What the model gives for `image`, with other layers as in `rewired` and `context` handed to each call."""
        replaced, after = replaced or {}, after or {}
        tensors = {self._source: image}
        for name, index, node in self._order:
            args, kwargs = call_arguments(self.operations[name], node, tensors)
            if name in passed:
                outputs = args[0]
            elif name in replaced:
                outputs = replaced[name](*args)
            else:
                operation = self.operations[name]
                outputs = operation(*args, **accepted(operation, kwargs | context))
            outputs = after[name](outputs) if name in after else outputs
            tensors.update({(name, index, place): x for place, x in enumerate(keras.tree.flatten(outputs))})
        return tensors[self._target]


def detached(model):
    """A copy of a flat functional model, its layers under the same names, which shares nothing with it."""
    copy = keras.models.clone_model(model, clone_function=lambda layer: rebuilt(layer, layer.get_config()))
    for layer in (layer for layer in copy.layers if layer.weights):
        set_weights(layer, model.get_layer(layer.name).get_weights())
    return copy
