"""The same network in fewer operations, for serving: BatchNormalization folded, ReLU behind pooling, and so on."""

import keras
import numpy as np

import layers
from recipes.bases.folding import find_folds
from recipes.bases.rewiring import Wiring


def simplified(model, is_reordered=True):
    """A model that gives what `model` gives, up to rounding, in fewer operations.

    A BatchNormalization that is all that follows a convolution becomes part of its kernel and bias; a ResizeConv by
    whole factors becomes one transposed convolution; a ReLU before a max-pooling goes behind it, where there is less to
    do. The other layers are shared with `model`, which stays as it is.

    Args:
        model: keras.Model. One that is not a flat functional model comes back as it is.
        is_reordered: whether a ReLU goes behind a max-pooling.

    Returns:
        keras.Model, not to be trained; `model` itself where there is nothing to be done, as in half precision.
    """
    wiring = Wiring(model)
    if not wiring.is_plain:
        return model
    folds = find_folds(wiring)
    replaced = {name: _joined(wiring.operations[name], normalization) for name, normalization in folds.items()}
    replaced |= {
        name: layer for name in wiring.operations if (layer := _collapsed(wiring.operations[name])) is not None
    }
    moved = _moved(wiring) if is_reordered else {}
    if not (replaced or moved):
        return model
    absorbed = {normalization.name for normalization in folds.values()}
    after = {pooling: wiring.operations[relu] for relu, pooling in moved.items()}
    return wiring.rewired(replaced=replaced, passed=absorbed | set(moved), after=after)


def _moved(wiring):
    """`{name of a ReLU: name of the max-pooling that follows it alone}`, with nothing but zeros padded in between.

    The larger of two numbers stays the larger under ReLU, and zeros stay zeros, so both orders give the same bits.
    """
    moved = {}
    for name, operation in wiring.operations.items():
        if not is_relu(operation):
            continue
        pooling = wiring.next_alone(name)
        if type(pooling) is keras.layers.ZeroPadding2D:
            pooling = wiring.next_alone(pooling.name)
        if type(pooling) is keras.layers.MaxPooling2D:
            moved[name] = pooling.name
    return moved


def is_relu(operation):
    """Whether an operation is a plain ReLU, whichever layer it is written as."""
    if type(operation) is keras.layers.ReLU:
        config = operation.get_config()
        return not config["negative_slope"] and not config["threshold"]
    return type(operation) is keras.layers.Activation and operation.activation is keras.activations.relu


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
