"""Measured time beside what is counted: each layer by itself, on the shapes that it meets, and the whole network."""

import tensorflow as tf

from recipes.timing import alternating

_ROUNDS = 5
_LEAST_SECONDS = 0.005
WHOLE = ""  # beside the names of layers


def clock(model, traced, inputs):
    """Milliseconds of a batch at inference, `{name of a layer: …}`, that of the whole network under the name `""`.

    All are measured in turn, compiled as graphs; the median of five rounds counts. A layer that is called several times
    counts with the sum over its calls.

    Args:
        model: Keras model.
        traced: Trace of it at inference.
        inputs: `tf.TensorSpec`s, as the model takes them.
    """
    functions = {(WHOLE, 0): _runner(lambda images: model(images, training=False), (inputs,), {})}
    for part in (part for part in traced.parts if part.calls):
        for number, (args, kwargs, _) in enumerate(part.calls):
            functions[part.name, number] = _runner(part.layer, args, kwargs)
    milliseconds = {}
    for (name, _), seconds in alternating(functions, rounds=_ROUNDS, least_seconds=_LEAST_SECONDS).items():
        milliseconds[name] = milliseconds.get(name, 0.0) + 1000 * sorted(seconds)[len(seconds) // 2]
    return milliseconds


def _runner(layer, args, kwargs):
    """A function without arguments that calls `layer` on random tensors of the shapes of a call."""
    parts = tf.nest.flatten((args, kwargs))
    places = [place for place, part in enumerate(parts) if _is_tensor(part)]

    def call(*values):
        filled = list(parts)
        for place, value in zip(places, values, strict=True):
            filled[place] = value
        positional, named = tf.nest.pack_sequence_as((args, kwargs), filled)
        return layer(*positional, **named)

    specs = [tf.TensorSpec(parts[place].shape, parts[place].dtype) for place in places]
    compiled = tf.function(call, autograph=False).get_concrete_function(*specs)
    values = [_random(spec) for spec in specs]
    return lambda: compiled(*values)


def _is_tensor(part):
    return tf.is_tensor(part) or isinstance(part, tf.TensorSpec)


def _random(spec):
    if spec.dtype.is_floating:
        return tf.cast(tf.random.stateless_uniform(spec.shape, (0, 0)), spec.dtype)
    return tf.zeros(spec.shape, spec.dtype)
