"""Copies of a network whose weights are stored in fewer bits, by Keras' own means."""

import warnings

import keras
import numpy as np

from recipes.bases.channels import set_weights
from recipes.bases.flattening import Flattening, flat_copy, rebuilt
from recipes.bases.rewiring import Wiring
from recipes.bases.simplifying import simplified
from recipes.checks import complaint

HALVES = ("float16", "bfloat16")


def halved(model, dtype, where):
    """A flat copy that stores its weights and computes in `"float16"` or `"bfloat16"`.

    What comes before the first weights stays in float32, as float16 has steps of 1/8 near 255; so does
    BatchNormalization, whose variances may be beyond it, and the last activation.

    Raises:
        ValueError: a weight is beyond what float16 holds.
    """
    if dtype == "float16":
        _check_range(model, where)
    is_behind = []

    def policy(operation):
        if operation.weights:
            is_behind.append(operation)
        if not is_behind:
            return "float32"
        return f"mixed_{dtype}" if isinstance(operation, keras.layers.BatchNormalization) else dtype

    half = _with_policies(model, policy, where)
    wiring = Wiring(half)
    (last,) = [name for name, users in wiring.users.items() if None in users]
    operation = wiring.operations[last]
    if getattr(operation, "weights", None) and hasattr(operation, "activation"):
        change = halves(operation, "float32")
    elif isinstance(operation, keras.layers.Layer):
        change = _copied(operation, "float32")
    else:  # a function of keras.ops

        def change(inputs):
            return operation(keras.ops.cast(inputs, "float32"))

    return wiring.rewired(replaced={last: change})


def is_mixed(model):
    """Whether a layer of a model stores its weights in float32 and computes in half precision, as GPUs train."""
    return any(layer.dtype_policy.name.startswith("mixed") for layer in model.layers)


def in_float32(model, where):
    """A flat copy of which every layer stores and computes in float32."""
    return _with_policies(model, lambda operation: "float32", where)


def quantized_by_keras(model, where):
    """`(a flat copy after Keras' own quantize("int8"), {layer: why it stays in float})`."""
    copy = flat_copy(model, where)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Layer .* does not have a `quantize` method")
        copy.quantize("int8")
    notes = {
        layer.name: f"Keras has no int8 {type(layer).__name__}"
        for layer in copy.layers
        if layer.weights and getattr(layer, "quantization_mode", None) != "int8"
    }
    return copy, notes


def with_half_weights(model, where):
    """A flat copy in float32, BatchNormalization folded into convolutions, whose weights are such as float16 holds.

    Raises:
        ValueError: a weight is beyond what float16 holds.
    """
    copy = simplified(in_float32(model, where), is_reordered=False)
    _check_range(copy, where)
    set_weights(copy, [weight.astype(np.float16).astype(weight.dtype) for weight in copy.get_weights()])
    return copy


def _check_range(model, where):
    for weight in model.weights:
        if np.abs(keras.ops.convert_to_numpy(weight)).max(initial=0) > 65504:
            rule, mend = "float16 holds numbers up to 65504", 'Pass precision="bfloat16" or another one.'
            raise ValueError(complaint(where, rule, f"larger ones in {weight.path!r}", mend))


def halves(layer, dtype=None):
    """A function that calls a copy of a layer without its activation, and then the activation, which has a layer of
    its own, in `dtype`."""
    product = type(layer).from_config(layer.get_config() | {"activation": "linear"})
    activation = keras.layers.Activation(layer.activation, dtype=dtype, name=f"{layer.name}_activation")

    def both(inputs):
        outputs = product(inputs)
        product.set_weights(layer.get_weights())
        return activation(outputs)

    return both


def _copied(layer, dtype):
    """A function that calls a copy of a layer, in `dtype`."""
    copy = rebuilt(layer, layer.get_config() | {"dtype": dtype})

    def call(inputs):
        outputs = copy(inputs)
        set_weights(copy, layer.get_weights())
        return outputs

    return call


def _with_policies(model, policy, where):
    first = model.inputs[0]
    image = keras.Input(model.input_shape[1:], dtype=first.dtype, name=first.name)

    def edit(operation, config, tensor):
        if isinstance(operation, keras.layers.Layer):
            config["dtype"] = policy(operation)

    flattening = Flattening(where, edit)
    copy = keras.Model(image, flattening.unfold(model, image), name=model.name)
    for old, new in flattening.copies.values():
        if isinstance(old, keras.layers.Layer) and old.weights:
            set_weights(new, old.get_weights())
    return copy
