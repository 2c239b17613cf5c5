"""The same network in fewer operations, for serving: BatchNormalization folded, ReLU behind pooling, and so on."""

import keras

import layers
from recipes.bases.absorbing import KNOWN, before, behind, why_not_before, why_not_behind
from recipes.bases.folding import find_folds
from recipes.bases.rewiring import Wiring


def simplified(model, is_reordered=True):
    """A model that gives what `model` gives, up to rounding, in fewer operations.

    A BatchNormalization that is all that follows a convolution or a dense layer, or all that such a layer is given,
    becomes part of its kernel and bias; a ResizeConv by whole factors becomes one transposed convolution; a ReLU before
    a max-pooling goes behind it, where there is less to do. The other layers are shared with `model`, which stays as it
    is.

    Args:
        model: keras.Model. One that is not a flat functional model comes back as it is.
        is_reordered: whether a ReLU goes behind a max-pooling.

    Returns:
        keras.Model, not to be trained; `model` itself where there is nothing to be done.
    """
    if not Wiring(model).is_plain:
        return model
    model = _collapsed(model)  # first, so that what is a convolution then takes in what follows it
    model, _ = without_normalization(model)
    wiring = Wiring(model)
    moved = _moved(wiring) if is_reordered else {}
    after = {pooling: wiring.operations[relu] for relu, pooling in moved.items()}
    return wiring.rewired(passed=set(moved), after=after) if moved else model


def without_normalization(model):
    """A model in which layers have taken in the BatchNormalization behind them or before them.

    Args:
        model: flat functional model with one input and one output.

    Returns:
        `(model, notes)`: keras.Model that shares the other layers, `model` itself where there is nothing to be done;
        and `{name of a BatchNormalization that stays: why}`.
    """
    changed = True
    while changed:
        wiring = Wiring(model)
        folds = find_folds(wiring, kinds=KNOWN)
        replaced = {name: before(wiring.operations[name], normalization) for name, normalization in folds.items()}
        absorbed = {normalization.name for normalization in folds.values()}
        if not folds:  # what follows a layer goes into that one first, so that layers behind are left for others
            pairs = dict(_pairs_behind(wiring))
            replaced = {layer.name: behind(layer, wiring.operations[name]) for name, layer in pairs.items()}
            absorbed = set(pairs)
        changed = bool(replaced)
        model = wiring.rewired(replaced=replaced, passed=absorbed) if changed else model
    return model, _left(wiring)


def _pairs_behind(wiring):
    """`(name of a BatchNormalization, the layer that is all that follows it)` where that can take it in."""
    for name, operation in wiring.operations.items():
        is_fixed = type(operation) is keras.layers.BatchNormalization and name not in wiring.always_training
        following = wiring.next_alone(name) if is_fixed else None
        if following is not None and not why_not_behind(following, operation):
            yield name, following


def _left(wiring):
    """`{name of a BatchNormalization: why it stays}`."""
    made_by = {user: name for name, users in wiring.users.items() for user in users}
    left = {}
    for name, operation in wiring.operations.items():
        if isinstance(operation, keras.layers.BatchNormalization):
            earlier = wiring.operations[made_by[name]]
            is_pair = wiring.next_alone(earlier.name) is operation
            first = why_not_before(earlier, operation) if is_pair else f"more than it reads {earlier.name!r}"
            later = wiring.next_alone(name)
            second = why_not_behind(later, operation) if later is not None else "nothing, or more than one, reads it"
            left[name] = "called with training=True" if name in wiring.always_training else f"{first}; {second}"
    return left


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


def _collapsed(model):
    """The model with a transposed convolution for each ResizeConv that is one."""
    wiring = Wiring(model)
    replaced = {name: new for name, layer in wiring.operations.items() if (new := _transposed(layer)) is not None}
    return wiring.rewired(replaced=replaced) if replaced else model


def _transposed(layer):
    """The transposed convolution that a ResizeConv is; None for other layers and where it is none."""
    if not isinstance(layer, layers.ResizeConv):
        return None
    try:
        return layers.collapse_resize_conv(layer)
    except ValueError:  # bilinear, an even kernel, a factor that is not whole
        return None
