"""The rows of a cost: what each layer's calls came to in the graph."""

import collections
import math

import keras
import numpy as np

from recipes.costs.counting import Counter
from recipes.costs.tracing import tensor_bytes, tensors
from recipes.values import LayerCost


def layer_rows(model, traced, batch_size, kept=None, times=None):
    """A LayerCost for each layer that `model` calls, and one for what it computes or holds outside of its layers.

    Args:
        model: Keras model.
        traced: Trace of it at inference.
        batch_size: that it was traced at.
        kept: `{name of a layer: bytes}` that training keeps of it, or None.
        times: `{name of a layer: milliseconds}`.
    """
    counter = Counter(traced.graph)
    operations = {operation.name: operation for operation in traced.operations}  # what a layer makes in vain is not run
    rows = []
    for part in (part for part in traced.parts if part.calls):
        products, notes = counter.count([operations.pop(name) for name in part.operations if name in operations])
        weights = getattr(part.layer, "weights", [])
        sizes = {
            "parameters": numbers_in(weights),
            "multiply_adds": round(products / batch_size),
            "kept_bytes": None if kept is None else kept.get(part.name, 0),
            "milliseconds": (times or {}).get(part.name),
        }
        rows.append(_row(part.name, part.layer, part.calls, weights, sizes, notes))
    return *rows, *_rest(model, traced, batch_size, counter, operations.values(), kept)


def kept_by_layer(traced, kept):
    """`{name of a layer: bytes}` from `{operation: bytes}`; what no layer made is under the name `""`."""
    owners = {name: part.name for part in traced.parts for name in part.operations}
    sums = collections.Counter()
    for operation, size in kept.items():
        sums[owners.get(operation, "")] += size
    return dict(sums)


def numbers_in(weights):
    """How many numbers there are in weights, each weight once."""
    return sum(math.prod(weight.shape) for weight in {id(weight): weight for weight in weights}.values())


def weight_bytes(weights):
    """How many bytes weights take, each once."""
    unique = {id(weight): weight for weight in weights}.values()
    return sum(math.prod(weight.shape) * np.dtype(str(weight.dtype)).itemsize for weight in unique)


def _row(name, layer, calls, weights, sizes, notes):
    given = [tensor for call in calls for tensor in tensors(call[2])]
    read = [tensor for call in calls for tensor in tensors(call[:2])]
    written = sum(map(tensor_bytes, given))
    return LayerCost(
        name=name,
        kind=type(layer).__name__,
        calls=len(calls),
        output_shape=tuple(given[0].shape[1:]) if given else (),
        activation_bytes=written,
        moved_bytes=sum(map(tensor_bytes, read)) + written + weight_bytes(weights),
        note="; ".join(notes),
        **sizes,
    )


def _rest(model, traced, batch_size, counter, operations, kept):
    """The row of the model itself, where it computes or holds something that no layer of it does."""
    products, notes = counter.count(operations)
    held = {id(weight) for part in traced.parts for weight in getattr(part.layer, "weights", [])}
    weights = [weight for weight in model.weights if id(weight) not in held]
    if not (products or notes or weights):
        return
    outputs = [tensor for tensor in keras.tree.flatten(traced.outputs) if tensor is not None]
    sizes = {
        "parameters": numbers_in(weights),
        "multiply_adds": round(products / batch_size),
        "kept_bytes": None if kept is None else kept.get("", 0),
        "milliseconds": None,
    }
    yield _row(model.name, model, [((), {}, outputs)], weights, sizes, notes)
