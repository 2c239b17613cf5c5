"""The same network in fewer operations, for serving: BatchNormalization folded, ResizeConv collapsed."""

import keras
import numpy as np

import layers
from recipes.bases.flattening import accepted, call_arguments, ordered_calls, references
from recipes.bases.folding import find_folds


def simplified(model):
    """A model that gives what `model` gives, up to rounding, in fewer operations.

    A BatchNormalization that is all that follows a convolution becomes part of its kernel and bias; a ResizeConv by
    whole factors becomes one transposed convolution. The other layers are shared with `model`, which stays as it is.

    Args:
        model: keras.Model. One that is not a flat functional model comes back as it is.

    Returns:
        keras.Model, not to be trained; `model` itself where there is nothing to be done, as in half precision.
    """
    given = model
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    config = model.get_config()
    if "output_layers" not in config or len(model.inputs) != 1 or len(model.outputs) != 1:
        return given
    operations = {operation.name: operation for operation in model.operations}
    calls = list(ordered_calls(config))
    (source,), (target,) = references(config["input_layers"]), references(config["output_layers"])
    folds = find_folds(operations, calls, target)
    absorbed = {normalization.name for normalization in folds.values()}
    replaced = {name: _joined(operations[name], normalization) for name, normalization in folds.items()}
    replaced |= {name: layer for name in operations if (layer := _collapsed(operations[name])) is not None}
    if not replaced:
        return given
    image = keras.Input(model.input_shape[1:], dtype=model.input.dtype, name=model.inputs[0].name)
    tensors = {source: image}
    for name, index, node in calls:
        args, kwargs = call_arguments(operations[name], node, tensors)
        operation = replaced.get(name, operations[name])
        if name in absorbed:
            (outputs,) = args
        else:
            outputs = operation(*args, **accepted(operation, kwargs))
        tensors.update({(name, index, place): x for place, x in enumerate(keras.tree.flatten(outputs))})
    return keras.Model(image, tensors[target], name=model.name)


def _joined(convolution, normalization):
    """One convolution that does what both do."""
    factors = 1 / np.sqrt(_values(normalization.moving_variance) + normalization.epsilon)
    if normalization.gamma is not None:
        factors = factors * _values(normalization.gamma)
    bias = -_values(normalization.moving_mean) * factors
    if normalization.beta is not None:
        bias = bias + _values(normalization.beta)
    if convolution.bias is not None:
        bias = bias + _values(convolution.bias) * factors
    is_depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
    by_kernel = factors.reshape(1, 1, -1, convolution.depth_multiplier) if is_depthwise else factors
    joined = type(convolution).from_config(convolution.get_config() | {"use_bias": True})
    joined.build(convolution.input.shape)
    joined.set_weights([_values(convolution.kernel) * by_kernel, bias])
    return joined


def _values(variable):
    """In double precision: rounding happens once, at the end."""
    return keras.ops.convert_to_numpy(variable).astype(np.float64)


def _collapsed(layer):
    """The transposed convolution that a ResizeConv is; None for other layers and where it is none."""
    if not isinstance(layer, layers.ResizeConv):
        return None
    try:
        return layers.collapse_resize_conv(layer)
    except ValueError:  # bilinear, an even kernel, a factor that is not whole
        return None
