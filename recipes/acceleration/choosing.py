"""Which algorithm is fastest for a convolution or a dense layer on this machine: timed once, then looked up."""

import json
import statistics

import keras
import tensorflow as tf

from recipes.acceleration.candidates import candidates, convolver, for_serving, made
from recipes.acceleration.timings import Timings
from recipes.bases.rewiring import Wiring
from recipes.data.batches import traced
from recipes.timing import alternating

DIRECT = "direct"
HOPELESS = 1.5  # times as slow as the quickest in one call: no more calls are spent on it
_LEAST_GAIN = 1.05  # times as fast as Keras' own, or that stays: less is within the noise


def fastest(layer, input_shape, timings, *, is_trained=False, names=None):
    """`(class, arguments)` of the fastest algorithm for a built convolution or dense layer; None for Keras' own.

    Args:
        layer: operation of a model; anything else stays as it is.
        input_shape: `(batch, height, width, channels)` or `(batch, features)`, all known.
        timings: Timings.
        is_trained: whether a step of training is timed, outputs and all gradients, instead of the outputs.
        names: algorithms that may be used; None for all.
    """
    options = candidates(layer, input_shape)
    if names is not None:
        options = {name: option for name, option in options.items() if name in names}
    if not options:
        return None
    what = _described(layer, input_shape, is_trained)
    seconds = timings.read().get(what, {})
    if not {DIRECT, *options} <= set(seconds):
        seconds = _timed(layer, input_shape, options, is_trained)
        timings.add(what, seconds)
    best = min(options, key=lambda name: seconds[name] or float("inf"))
    is_faster = seconds[best] is not None and seconds[best] * _LEAST_GAIN < seconds[DIRECT]
    return options[best] if is_faster else None


def fastest_algorithms(model, batch_size, *, is_trained=False):
    """`{name: function}` of the convolutions of a flat functional model that another algorithm computes faster here.

    Args:
        model: whose layers are called in no other graph.
        batch_size: images at a time.
        is_trained: whether it trains.

    Returns:
        What `recipes.bases.folded` takes as `algorithms`.
    """
    wiring, timings, algorithms = Wiring(model), Timings(), {}
    for name, layer in wiring.operations.items():
        is_one = isinstance(layer, keras.layers.Conv2D) and wiring.calls[name] == 1
        if is_one and layer.activity_regularizer is None and None not in layer.input.shape[1:]:
            shape = (batch_size, *layer.input.shape[1:])
            choice = fastest(layer, shape, timings, is_trained=is_trained)
            if choice is not None:
                algorithms[name] = convolver(layer, *choice, shape)
    return algorithms


def _described(layer, input_shape, is_trained):
    if isinstance(layer, keras.layers.Dense):
        sizes = [layer.units]
    else:
        sizes = [list(layer.kernel_size), layer.filters, layer.padding]
    activation = keras.activations.serialize(layer.activation)
    return json.dumps(
        [
            "training" if is_trained else "inference",
            list(input_shape),
            *sizes,
            layer.use_bias,
            activation if isinstance(activation, str) else "other",
        ]
    )


def _timed(layer, input_shape, options, is_trained):
    """Median seconds of each option, and of Keras' own; None for one that this machine cannot run."""
    plain = made(layer, type(layer), {"kernel_initializer": "zeros"})  # it takes as long, and large ones are at hand
    plain.build(input_shape)
    images = tf.random.stateless_normal(input_shape, (0, 1))
    runs = {DIRECT: _run(plain, images, is_trained)}
    for name, (kind, arguments) in options.items():
        if is_trained:
            other = made(layer, kind, arguments)
            other.build(input_shape)
        else:
            other = for_serving(plain, kind, arguments, input_shape)
        runs[name] = _run(other, images, is_trained)
    runs = {name: run for name, run in runs.items() if _is_able(run)}
    seconds = alternating(runs, rounds=5, hopeless=HOPELESS)
    return {name: statistics.median(seconds[name]) if name in seconds else None for name in (DIRECT, *options)}


def _run(layer, images, is_trained):
    """A compiled call of the layer, in a graph that does not know the size of the batch, as models have it."""
    signature = [tf.TensorSpec((None, *images.shape[1:]), images.dtype)]
    if not is_trained:
        call = traced(layer, signature)
        return lambda: call(images)

    def step(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images)
        # Their own outputs in place of gradients from above: the work is the same.
        return tape.gradient(outputs, [images, *layer.trainable_weights], outputs)

    call = traced(step, signature)
    return lambda: call(images)


def _is_able(run):
    try:
        run()
    except (tf.errors.OpError, NotImplementedError):  # no XLA for this device
        return False
    return True
