"""Dense layers on feature maps that are large: most of a network's weights, each for one place of the image."""

import math

import keras

from recipes.advising.advice import CHOICE, advice
from recipes.advising.measuring import CONVOLUTIONS, DEPTHWISE, SEPARABLE, TRANSPOSED, kernels_of

LEAST_POSITIONS = 16  # 4×4
LEAST_WEIGHTS = 100_000
LEAST_FRACTION = 0.25


def dense_on_map(graph):
    """A Dense layer on a flattened feature map of 16 positions or more, whose kernel has 100,000 weights or more and a
    quarter or more of the network's. Pixels that are flattened before any convolution are no feature map.
    """
    found = [(step, flattening) for step in graph.steps if (flattening := _flattened_map(graph, step)) is not None]
    if not found:
        return None
    less = {id(step.operation): _weights(step) - _pooled_weights(step, flat) for step, flat in found}
    saved = sum(less.values())
    step, flattening = found[0]
    shape = "×".join(map(str, flattening.inputs[0].shape[1:]))
    return advice(
        graph,
        "dense_on_map",
        CHOICE,
        [step for step, _ in found],
        what=f"Dense({step.operation.units}) on a flattened map of {shape}: {_weights(step):,} weights, "
        f"{100 * _weights(step) / graph.parameters:.0f} % of the network's.",
        reason="Averaging the map over its positions leaves one number per channel, does not overfit and takes images "
        "of any size: Lin et al. 2013, section 3.2; Szegedy et al. 2014 gained 0.6 points of top-1 by it. Where in the "
        "image something is, is lost.",
        mend="keras.layers.GlobalAveragePooling2D() in place of keras.layers.Flatten()",
        parameters=saved,
        multiply_adds=sum(less[id(step.operation)] for step, _ in found),
    )


def _weights(step):
    return math.prod(kernels_of(step)[0].shape)


def _pooled_weights(step, flattening):
    """Weights of the same layer on the average of the map."""
    return _weights(step) // _positions(flattening)


def _positions(flattening):
    is_first = getattr(flattening.operation, "data_format", None) == "channels_first"
    shape = flattening.inputs[0].shape
    return math.prod(shape[2:] if is_first else shape[1:-1])


def _flattened_map(graph, step):
    """The step that flattens the map that a Dense layer takes; None where it takes none, or a small one."""
    if not isinstance(step.operation, keras.layers.Dense) or len(step.inputs[0].shape) != 2:
        return None
    if _weights(step) < max(LEAST_WEIGHTS, LEAST_FRACTION * graph.parameters):
        return None
    flattening = graph.maker(step.inputs[0])
    while flattening is not None and not _is_flattening(flattening):
        if kernels_of(flattening) or len(flattening.inputs) != 1:
            return None
        flattening = graph.maker(flattening.inputs[0])
    if flattening is None or _positions(flattening) < LEAST_POSITIONS:
        return None
    return flattening if _is_after_convolution(graph, flattening) else None


def _is_flattening(step):
    if type(step.operation).__name__ not in ("Flatten", "Reshape"):
        return False
    before, after = step.inputs[0].shape, step.outputs[0].shape
    return len(before) == 4 and len(after) == 2 and None not in before[1:]


def _is_after_convolution(graph, step):
    waiting, seen = [step], set()
    while waiting:
        step = waiting.pop()
        if isinstance(step.operation, (*CONVOLUTIONS, *DEPTHWISE, *SEPARABLE, *TRANSPOSED)):
            return True
        seen.add(id(step))
        makers = [graph.maker(tensor) for tensor in step.inputs]
        waiting += [maker for maker in makers if maker is not None and id(maker) not in seen]
    return False
