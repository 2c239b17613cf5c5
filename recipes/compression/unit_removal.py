"""A flat model made anew without some of its units."""

import keras
import numpy as np

from recipes.bases.channels import set_weights
from recipes.bases.flattening import accepted, call_arguments
from recipes.compression.unit_shapes import whole_key
from recipes.compression.unit_slices import sliced_config, sliced_constraints, sliced_weights


def without_units(channels, removed):
    """The model with fewer filters and neurons, in layers of the same names, flags and precision.

    What a layer reads of the units that are gone, it reads as if they were 0.

    Args:
        channels: Channels of the model.
        removed: ids of the units to remove, each with all that it is tied to.

    Returns:
        keras.Model that shares nothing with the old one.
    """
    ties = channels.ties
    roots = ties.roots(np.arange(len(ties)))
    gone = np.isin(roots, roots[np.asarray(removed, dtype=np.int64)])
    first = channels.model.inputs[0]
    image = keras.Input(first.shape[1:], dtype=first.dtype, name=first.name)
    tensors, made = {channels.source: image}, {}
    for step in channels.steps:
        args, kwargs = call_arguments(step.operation, step.node, tensors)
        if step.name not in made:
            made[step.name] = _shrunk(step, gone)
        operation = made[step.name]
        outputs = operation(*_cut(step, args, gone), **accepted(operation, kwargs))
        tensors.update({(step.name, step.index, n): x for n, x in enumerate(keras.tree.flatten(outputs))})
    model = keras.Model(image, tensors[channels.target], name=channels.model.name)
    for step in channels.steps:
        if getattr(step.operation, "weights", ()):
            set_weights(made[step.name], _weights(step, gone))
    return model


def _kept(ids, gone):
    return np.flatnonzero(~gone[ids])


def _shrunk(step, gone):
    """A new operation of the same config, but for what depends on the number of channels."""
    config = step.operation.get_config()
    if step.output is None:
        return type(step.operation).from_config(config)
    before, after = ((labels, _kept(labels.ids, gone)) for labels in (step.inputs[0], step.output))
    new = type(step.operation).from_config(sliced_config(step.operation, config, before, after))
    if getattr(step.operation, "weights", ()):
        for name, constraint in sliced_constraints(step.operation, _kept(step.taken, gone), after[1]).items():
            setattr(new, name, constraint)
    return new


def _cut(step, args, gone):
    """The arguments of a call, in which the bounds of a slice count the channels that are left."""
    if type(step.operation).__name__ != "GetItem" or step.output is None:
        return args
    labels = step.inputs[0]
    key = whole_key(args[1], len(labels.shape))
    start, stop, stride = key[labels.axis].indices(len(labels.ids))
    if stride == 1:
        before = [int(np.sum(~gone[labels.ids[:place]])) for place in (start, stop)]
        key[labels.axis] = slice(*before)
    return (args[0], tuple(key))


def _weights(step, gone):
    layer = step.operation
    if step.output is None:
        return layer.get_weights()
    return sliced_weights(layer, _kept(step.taken, gone), _kept(step.output.ids, gone))
