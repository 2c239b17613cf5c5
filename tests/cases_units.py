"""Small networks with every kind of tie between channels, and the same with zeros for the units that go."""

import keras
import numpy as np

import layers

conv, dense = keras.layers.Conv2D, keras.layers.Dense


class Masks:
    """Zeros for the units that go, put by hand in front of each layer that reads them."""

    def __init__(self, removed=None):
        self.removed = removed or {}

    def __call__(self, tensor, *parts):
        """`parts`: (name of a layer, units) along the channels, names tied together being written as one."""
        if not self.removed:
            return tensor
        mask = [[0.0 if unit in self.removed.get(name, ()) else 1.0 for unit in range(units)] for name, units in parts]
        return tensor * np.concatenate(mask).astype("float32")


def residual(x, mask):
    x = conv(6, 3, padding="same", name="stem")(x)
    y = conv(5, 3, padding="same", activation="relu", name="inner")(mask(x, ("stem", 6)))
    y = conv(6, 3, padding="same", use_bias=False, name="outer")(mask(y, ("inner", 5)))
    x = keras.layers.Add()([x, keras.layers.BatchNormalization()(y)])
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return mask(keras.layers.GlobalAveragePooling2D()(x), ("stem", 6))


def projection(x, mask):
    x = keras.layers.ReLU()(conv(4, 3, name="stem")(x))
    y = conv(6, 3, strides=2, padding="same", name="outer")(mask(x, ("stem", 4)))
    shortcut = conv(6, 1, strides=2, name="shortcut")(mask(x, ("stem", 4)))
    x = keras.ops.relu(y + keras.layers.BatchNormalization()(shortcut))
    x = conv(4, 3, activation="tanh", name="last")(mask(x, ("outer", 6)))
    return mask(keras.layers.GlobalMaxPooling2D()(x), ("last", 4))


def concatenation(x, mask):
    stem = conv(4, 3, padding="same", name="stem")(x)
    one = conv(3, 3, padding="same", name="one")(mask(stem, ("stem", 4)))
    both = keras.layers.Concatenate()([stem, one])
    both = keras.layers.ReLU()(keras.layers.BatchNormalization()(both))
    two = conv(3, 3, padding="same", name="two")(mask(both, ("stem", 4), ("one", 3)))
    three = keras.layers.Concatenate()([both, two])
    return mask(keras.layers.GlobalAveragePooling2D()(three), ("stem", 4), ("one", 3), ("two", 3))


def depthwise(x, mask):
    x = conv(4, 3, activation="relu6", name="stem")(x)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2, padding="same", activation="silu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ZeroPadding2D()(x)
    if mask.removed:
        x = x * np.repeat([float(unit not in mask.removed["stem"]) for unit in range(4)], 2).astype("float32")
    x = keras.layers.SeparableConv2D(5, 3, depth_multiplier=2, name="separable")(x)
    x = keras.layers.SeparableConv2D(4, 1, name="last")(mask(x, ("separable", 5)))
    return mask(keras.layers.GlobalAveragePooling2D()(x), ("last", 4))


def squeeze_and_excite(x, mask):
    x = conv(6, 3, activation="swish", name="stem")(x)
    y = keras.layers.Reshape((1, 1, 6))(keras.layers.GlobalAveragePooling2D()(x))
    y = conv(4, 1, activation="relu", name="squeeze")(mask(y, ("stem", 6)))
    y = conv(6, 1, activation="sigmoid", name="excite")(mask(y, ("squeeze", 4)))
    x = keras.layers.Multiply()([x, y])
    x = dense(5, activation="hard_swish", name="last")(mask(x, ("stem", 6)))
    return mask(keras.layers.GlobalAveragePooling2D()(x), ("last", 5))


def flattened(x, mask):
    x = keras.layers.MaxPooling2D(2)(conv(4, 3, activation="relu", name="stem")(x))
    x = keras.layers.Flatten()(mask(x, ("stem", 4)))
    x = keras.layers.Dropout(0.5)(dense(27, activation="relu", name="wide")(x))
    x = keras.layers.Reshape((3, 3, 3))(x)  # unit 1 of three stands for nine neurons
    if mask.removed:
        x = x * np.array([1.0, 0.0, 1.0], "float32")
    x = conv(4, 2, name="last")(x)
    return mask(keras.layers.GlobalAveragePooling2D()(x), ("last", 4))


def inception(x, mask):
    one = conv(3, 1, activation="relu", name="one")(x)
    two = conv(4, 1, activation="relu", name="reduce")(x)
    two = conv(3, 3, padding="same", activation="relu", name="two")(mask(two, ("reduce", 4)))
    pool = keras.layers.AveragePooling2D(3, strides=1, padding="same")(x)
    pool = conv(2, 1, name="pool")(pool)
    x = keras.layers.Concatenate()([one, two, pool])
    x = keras.layers.Cropping2D(1)(keras.layers.UpSampling2D(2)(x))
    x = conv(4, 3, name="last")(mask(x, ("one", 3), ("two", 3), ("pool", 2)))
    return mask(keras.layers.GlobalAveragePooling2D()(x), ("last", 4))


def grouped(x, mask):
    x = conv(6, 3, name="stem")(x)
    x = conv(9, 3, groups=3, name="grouped")(x)  # each group reads two channels and makes three
    x = keras.layers.ReLU()(keras.layers.GroupNormalization(3)(x))
    if mask.removed:
        x = x * np.repeat([1.0, 0.0, 1.0], 3).astype("float32")
    x = conv(4, 1, name="last")(x)
    return mask(keras.layers.GlobalAveragePooling2D()(x), ("last", 4))


def transposed(x, mask):
    x = keras.layers.PReLU(alpha_initializer="ones", shared_axes=(1, 2))(conv(4, 3, name="stem")(x))
    x = keras.layers.Conv2DTranspose(5, 3, strides=2, name="up")(mask(x, ("stem", 4)))
    x = keras.layers.LeakyReLU()(layers.WinogradConv2D(4, padding="same", name="last")(mask(x, ("up", 5))))
    x = keras.layers.SpatialDropout2D(0.2)(x)
    return mask(keras.layers.GlobalAveragePooling2D()(x), ("last", 4))


def split_and_shuffled(x, mask):
    """A unit of ShuffleNet: what is shuffled goes in pairs, one of each half."""
    x = conv(8, 3, name="stem")(x)
    kept, changed = x[..., :4], x[..., 4:]
    changed = conv(4, 3, padding="same", activation="relu", name="branch")(mask(changed, ("stem_high", 4)))
    x = keras.layers.Concatenate()([kept, changed])
    height, width = x.shape[1:3]
    x = keras.layers.Reshape((height, width, 2, 4))(x)
    x = keras.layers.Permute((1, 2, 4, 3))(x)
    x = keras.layers.Reshape((height, width, 8))(x)
    if mask.removed:
        x = x * np.repeat([1.0, 0.0, 1.0, 1.0], 2).astype("float32")
    x = conv(4, 3, name="last")(x)
    return mask(keras.layers.GlobalAveragePooling2D()(x), ("last", 4))


def shared(x, mask):
    """One convolution at two scales, and one row of pixels fewer in what is joined along the height."""
    twice = conv(4, 3, padding="same", activation="relu", name="shared")
    x = conv(4, 3, name="stem")(x)
    small = keras.layers.AveragePooling2D(2)(keras.layers.Rescaling(2.0, np.array([0.1, 0.2, 0.3, 0.4]))(x))
    whole, half = twice(mask(x, ("stem", 4))), twice(mask(small, ("stem", 4)))
    x = keras.layers.Concatenate(axis=1)([whole[:, 1:, :6], keras.layers.ZeroPadding2D(((0, 0), (0, 3)))(half)])
    return mask(keras.ops.mean(x, axis=(1, 2)), ("shared", 4))


NETS = {
    "a residual sum": (residual, {"stem": [0, 4], "inner": [1]}, {"stem": 4, "outer": 4, "inner": 4}),
    "a projection": (projection, {"stem": [3], "outer": [0, 5], "last": [1]}, {"stem": 3, "shortcut": 4, "last": 3}),
    "concatenations": (concatenation, {"stem": [0], "one": [2], "two": [0, 1]}, {"stem": 3, "one": 2, "two": 1}),
    "depthwise": (depthwise, {"stem": [1], "separable": [0, 3], "last": [2]}, {"stem": 3, "separable": 3, "last": 3}),
    "squeeze and excite": (
        squeeze_and_excite,
        {"stem": [0, 2], "squeeze": [3], "last": [4]},
        {"stem": 4, "excite": 4, "squeeze": 3, "last": 4},
    ),
    "flattened": (flattened, {"stem": [2], "wide": [1], "last": [0]}, {"stem": 3, "wide": 18, "last": 3}),
    "inception": (
        inception,
        {"one": [0], "reduce": [1, 2], "two": [2], "pool": [0]},
        {"one": 2, "reduce": 2, "two": 2},
    ),
    "grouped": (grouped, {"stem": [2], "last": [1]}, {"stem": 4, "grouped": 6, "last": 3}),
    "transposed": (transposed, {"stem": [0], "up": [1, 4], "last": [3]}, {"stem": 3, "up": 3, "last": 3}),
    "shuffled": (split_and_shuffled, {"stem": [1], "stem_high": [], "last": [0]}, {"stem": 7, "branch": 3, "last": 3}),
    "shared": (shared, {"stem": [1], "shared": [0, 3]}, {"stem": 3, "shared": 2}),
}


def made(net, mask):
    keras.utils.set_random_seed(3)
    image = keras.Input((9, 9, 3))
    output = dense(3, name="output")(net(keras.layers.Rescaling(1 / 127.5, -1.0)(image), mask))
    return keras.Model(image, output)


def scattered(model, random):
    """The model with weights that no two channels share."""
    for weight in model.weights:
        low = 0.5 if weight.name in ("gamma", "moving_variance") else -0.7
        weight.assign(random.uniform(low, 1.3, weight.shape))
    return model
