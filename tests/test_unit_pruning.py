"""Unit pruning: the smaller network gives what the whole one gives where the channels that went are 0."""

import keras
import numpy as np
import pytest
from cases import random_images

import layers
import recipes
from recipes.bases import build_network, find_base, multiply_adds
from recipes.bases.flattening import flat_copy
from recipes.bases.rewiring import Wiring
from recipes.compression.unit_costs import Costs
from recipes.compression.unit_groups import Channels
from recipes.compression.unit_importance import score_units
from recipes.compression.unit_removal import without_units
from recipes.compression.unit_transform import Judging, remove_units

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
    small = keras.layers.AveragePooling2D(2)(keras.layers.Rescaling(2.0, [0.1, 0.2, 0.3, 0.4])(x))
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


def outputs(model, images):
    return keras.ops.convert_to_numpy(model(images.astype("float32"), training=False)).astype(np.float64)


def widths(model):
    """`{layer: filters or units}`."""
    configs = {layer.name: layer.get_config() for layer in model.layers}
    return {name: config.get("filters", config.get("units")) for name, config in configs.items()}


def check_equal(smaller, masked, images):
    """Rounding alone: sums of other lengths are added up in other orders."""
    expected = outputs(masked, images)
    np.testing.assert_allclose(outputs(smaller, images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", NETS)
def test_pruned_equals_masked(name, random, tmp_path):
    net, removed, sizes = NETS[name]
    model, masked = made(net, Masks()), made(net, Masks(removed))
    scattered(model, random)
    masked.set_weights(model.get_weights())
    before, images = model.get_weights(), random_images(random, 3, 9)
    channels = Channels(flat_copy(model, "test"))
    gone = [channels.made[layer][unit] for layer, units in removed.items() if layer in channels.made for unit in units]
    smaller = without_units(channels, gone)
    assert sizes.items() <= widths(smaller).items()
    check_equal(smaller, masked, images)
    whole = outputs(model, images)
    assert np.abs(whole - outputs(masked, images)).max() > 1e-2 * np.abs(whole).max()  # or nothing was proved
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    smaller.save(tmp_path / "smaller.keras")
    check_equal(keras.saving.load_model(tmp_path / "smaller.keras"), masked, images)


def masked_alike(channels, gone):
    """The model with masks wherever channels are mixed, at the places that `without_units` is seen to leave out.

    The places are read off a copy whose kernels hold, for each channel that they read, its number.
    """
    model = channels.model
    before = model.get_weights()
    for weight in model.weights:
        if weight.name.endswith("kernel") and len(weight.shape) > 1:
            numbers = np.arange(weight.shape[-2], dtype="float32")[:, None]
            weight.assign(np.broadcast_to(numbers, weight.shape))
    numbered = without_units(channels, gone)
    model.set_weights(before)

    def masked(layer):
        smaller = numbered.get_layer(layer.name)
        kernel = smaller.depthwise_kernel if hasattr(smaller, "depthwise_kernel") else smaller.kernel
        mask = np.zeros(layer.input.shape[-1], "float32")
        mask[np.unique(keras.ops.convert_to_numpy(kernel)).astype(int)] = 1
        assert mask.sum() == kernel.shape[-2]
        return lambda x: layer(x * mask)

    mixing = [layer for layer in model.layers if type(layer) in (conv, dense, keras.layers.SeparableConv2D)]
    return Wiring(model).rewired(replaced={layer.name: masked(layer) for layer in mixing})


def settled(model, random, size):
    """The model with logits, BatchNormalization fitted to noise: no layer's outputs vanish or explode."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape)) if layer.scale else None
            layer.beta.assign(random.uniform(-0.5, 0.5, layer.beta.shape)) if layer.center else None
            layer.momentum = 0.0
        elif type(layer) is keras.layers.EinsumDense:  # LayerScale starts at 1e-6: the block would be nothing
            layer.kernel.assign(random.uniform(0.5, 1.5, layer.kernel.shape))
    model.layers[-1].activation = keras.activations.linear
    model(random_images(random, 8, size).astype("float32"), training=True)
    return model


def check_removal(model, gone_of, images):
    """That `without_units` equals masks, and that the units which go are no matter of rounding."""
    channels = Channels(model)
    gone = gone_of(channels)
    smaller = without_units(channels, gone)
    masked = masked_alike(channels, gone)
    check_equal(smaller, masked, images)
    whole = outputs(model, images)
    assert np.abs(whole - outputs(masked, images)).max() > 1e-2 * np.abs(whole).max()
    return smaller, channels.notes(gone)


def some_units(channels):
    """Every third unit of all groups."""
    groups = [group.units for group in Costs(channels).groups]
    return np.concatenate([units[1::3] for units in groups if len(units) > 1])


BLOCKS = {
    "padded shortcut": layers.ResidualBottleneck(8, version="v1", bottleneck=False, strides=2, shortcut="padded"),
    "bottleneck": layers.ResidualBottleneck(4, strides=2),
    "before the activation": layers.ResidualBottleneck(4, version="v2"),
    "dense block": layers.DenseBlock(3, 4, bottleneck=2),
    "inception": layers.InceptionBlock((4, 4, 4), reductions=(None, 3, 3), pool_projection=4),
    "fire": layers.FireBlock(4, 8),
    "highway": layers.HighwayBlock(kernel_size=3),
    "separable": layers.DepthwiseSeparableConv(8),
    "factors": layers.SeparableFactorConv(8, 3, rank=5),
    "stack": layers.StackedConv(8, 5),
    "transition": layers.TransitionBlock(0.5),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_pruned_within(name, random):
    keras.utils.set_random_seed(4)
    image = keras.Input((9, 9, 3))
    x = BLOCKS[name](conv(6, 3, padding="same", name="stem")(image))
    x = keras.layers.GlobalAveragePooling2D()(conv(5, 1, activation="relu", name="last")(x))
    model = flat_copy(keras.Model(image, dense(3, name="output")(x)), "test")
    smaller, notes = check_removal(settled(model, random, 9), some_units, random_images(random, 3, 9))
    assert notes == {"output": "what it makes is the model's output"}
    assert multiply_adds(smaller.layers) < 0.7 * multiply_adds(model.layers)


def small_net():
    """A flat classifier of 9×9 images, with a residual sum and a hidden layer."""
    model = made(residual, Masks())
    image = keras.Input((9, 9, 3))
    hidden = dense(12, activation="relu", name="hidden")(keras.Model(model.input, model.layers[-1].input)(image))
    return flat_copy(keras.Model(image, dense(3, activation="softmax", name="probabilities")(hidden)), "test")


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("fraction", [0.1, 0.33, 0.6])
def test_so_many_multiply_adds_go(scope, fraction):
    model = build_network("cifar_resnet20", weights=None, image_size=8, class_count=5).model
    smaller, _ = remove_units(model, fraction, Judging(scope=scope))
    before, after = (recipes.cost(network, optimizer=None).multiply_adds for network in (model, smaller))
    assert fraction <= 1 - after / before < fraction + 0.03  # no more than the last step: a unit, or one of each layer


def test_nothing_goes_where_nothing_is_asked():
    model = small_net()
    smaller, _ = remove_units(model, 0)
    assert widths(smaller) == widths(model)
    assert smaller is not model


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_least_and_divisor(scope):
    model = build_network("cifar_resnet20", weights=None, image_size=8, class_count=5).model
    smaller, _ = remove_units(model, 0.7, Judging(scope=scope, least=6, divisor=4))
    before = widths(model)
    for name, width in widths(smaller).items():
        if width is not None and name != "probabilities":
            assert width == before[name] or (width % 4 == 0 and width >= 8)


def test_layers_are_left_out_by_name():
    model = small_net()
    smaller, notes = remove_units(model, 0.3, Judging(keep=("hid.*", "inner")))
    assert (widths(smaller)["hidden"], widths(smaller)["inner"]) == (12, 5)
    assert notes["hidden"] == notes["inner"] == "it is to be kept"
    assert widths(smaller)["stem"] == widths(smaller)["outer"] < 6


def kernel_of(model, name):
    return keras.ops.convert_to_numpy(model.get_layer(name).kernel).astype(np.float64)


def test_norms_are_summed_over_the_layers_that_make_a_unit(random):
    model = scattered(small_net(), random)
    channels = Channels(model)
    for criterion, power in (("l1", 1), ("l2", 2)):
        norms = {
            name: np.sum(np.abs(kernel_of(model, name)) ** power, (0, 1, 2)) ** (1 / power)
            for name in ("stem", "outer")
        }
        expected = sum(norm / norm.sum() for norm in norms.values())
        scores = score_units(channels, criterion)
        np.testing.assert_allclose(scores[channels.made["stem"]], expected, rtol=1e-6)
        np.testing.assert_allclose(scores[channels.made["outer"]], expected, rtol=1e-6)


def test_factors_of_normalization(random):
    model = scattered(small_net(), random)
    channels = Channels(model)
    first, second = (layer.gamma.numpy() for layer in model.layers if type(layer) is keras.layers.BatchNormalization)
    scores = score_units(channels, "gamma")[channels.made["stem"]]
    np.testing.assert_allclose(scores, first / first.sum() + second / second.sum(), rtol=1e-6)


def test_taylor_scores_are_the_squared_slopes_of_the_loss(random):
    """Against differences: the kernel that reads a unit, a little larger and a little smaller."""
    model = small_net()
    images, labels = random_images(random, 5, 9), random.integers(0, 3, 5)
    channels = Channels(model)
    scores = score_units(channels, "taylor", batches=[(images[:3], labels[:3]), (images[3:], labels[3:])])
    hidden = model.get_layer("hidden")
    for unit, step in ((0, 0.01), (2, 0.01)):
        kernel = keras.ops.convert_to_numpy(model.get_layer("probabilities").kernel)
        losses = []
        for sign in (1, -1):
            changed = kernel.copy()
            changed[unit] *= 1 + sign * step
            model.get_layer("probabilities").kernel.assign(changed)
            losses.append(-np.log(outputs(model, images)[np.arange(5), labels]))
        model.get_layer("probabilities").kernel.assign(kernel)
        slopes = (losses[0] - losses[1]) / (2 * step)
        np.testing.assert_allclose(scores[channels.made[hidden.name][unit]], np.mean(slopes**2), rtol=0.02)


def test_the_least_important_go():
    model = small_net()
    kernel = keras.ops.convert_to_numpy(model.get_layer("inner").kernel).copy()
    kernel[..., 3] *= 0.1
    model.get_layer("inner").kernel.assign(kernel)
    smaller, _ = remove_units(model, 1e-6, Judging(keep=("stem|outer|hidden",), least=1))
    kept = keras.ops.convert_to_numpy(smaller.get_layer("inner").kernel)
    np.testing.assert_array_equal(kept, kernel[..., [0, 1, 2, 4]])


def test_everything_else_stays():
    """Flags, precision, regularizers, constraints, seeds; and the original."""
    image = keras.Input((9, 9, 3), name="picture")
    x = conv(8, 3, kernel_regularizer=keras.regularizers.L2(0.3), dtype="mixed_bfloat16", name="one")(image)
    x = keras.layers.Dropout(0.5, seed=11, name="drop")(keras.layers.BatchNormalization(name="norm")(x))
    x = conv(8, 3, kernel_constraint="non_neg", activation="relu", name="two")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, dense(3, activation="softmax", name="probabilities")(x), name="net")
    model.get_layer("norm").trainable = False
    before = model.get_weights(), model.to_json()
    smaller, _ = remove_units(model, 0.5)
    assert (smaller.name, smaller.input.name) == ("net", "picture")
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in model.layers]
    assert smaller.get_layer("one").kernel_regularizer.l2 == pytest.approx(0.3)
    assert smaller.get_layer("one").dtype_policy.name == "mixed_bfloat16"
    assert isinstance(smaller.get_layer("two").kernel_constraint, keras.constraints.NonNeg)
    assert smaller.get_layer("drop").seed == 11
    assert [layer.trainable for layer in smaller.layers] == [layer.trainable for layer in model.layers]
    assert model.to_json() == before[1]
    assert all(np.array_equal(old, new) for old, new in zip(before[0], model.get_weights(), strict=True))
    assert not {id(layer) for layer in model.layers} & {id(layer) for layer in smaller.layers}


class Mystery(keras.layers.Layer):
    def call(self, inputs):
        return inputs[..., ::-1] + inputs


def test_what_is_not_known_stays_and_is_said():
    image = keras.Input((9, 9, 3), name="image")
    x = conv(8, 3, name="before")(image)
    x = conv(8, 3, activation="relu", name="between")(Mystery(name="mystery")(x))
    x = keras.layers.LayerNormalization(name="norm")(conv(8, 3, name="normalized")(x))
    x = keras.layers.Dense(8, activation="softmax", name="gated")(x)
    x = keras.layers.GlobalAveragePooling2D()(conv(8, 1, name="after")(x))
    model = keras.Model(image, dense(3, name="output")(x))
    smaller, notes = remove_units(model, 0.3, Judging(scope="layer"))
    changed = {name for name, width in widths(smaller).items() if width != widths(model)[name]}
    assert changed == {"between", "after"}
    assert "'mystery', a Mystery that reads it, is not known" in notes["before"]
    assert "'norm', a LayerNormalization that reads it" in notes["normalized"]
    assert "softmax" in notes["gated"]
    assert "output" in notes["output"]
    assert set(notes) == {"before", "normalized", "gated", "output"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fraction": 1.0}, "fraction must be"),
        ({"fraction": -0.1}, "fraction must be"),
        ({"fraction": "half"}, "fraction must be a number"),
        ({"fraction": 0.99}, "fraction must be at most 0."),
        ({"keep": ("conv7",)}, "keep must name"),
        ({"criterion": "l3"}, "criterion is not known"),
        ({"scope": "layers"}, "scope is not known"),
        ({"least": 0}, "least must be at least 1"),
        ({"divisor": 0}, "divisor must be at least 1"),
    ],
)
def test_bad_arguments(options, said):
    with pytest.raises((TypeError, ValueError), match=said):
        remove_units(small_net(), options.pop("fraction", 0.3), Judging(**options))


def test_models_that_are_no_graph():
    sequential = keras.Sequential([conv(8, 3), keras.layers.Flatten(), dense(3)])
    anysize = keras.Input((None, None, 3))
    anysize = keras.Model(anysize, keras.layers.GlobalAveragePooling2D()(conv(8, 3)(anysize)))
    for model in (sequential, anysize, "vgg16"):
        with pytest.raises(TypeError, match="must be built"):
            remove_units(model, 0.3)


def test_nested_and_sequential_models_are_unfolded():
    inner = keras.Sequential([keras.Input((9, 9, 3)), conv(8, 3, name="one"), layers.FireBlock(8, 8, name="fire")])
    model = keras.Sequential([keras.Input((9, 9, 3)), inner, keras.layers.Flatten(), dense(3, name="output")])
    smaller, notes = remove_units(model, 0.5, Judging(scope="layer"))
    assert set(notes) == {"output"}
    assert widths(smaller)["one"] < 8
    assert smaller.output_shape == (None, 3)


@pytest.mark.slow
@pytest.mark.parametrize("base", recipes.list_bases())
def test_every_network_of_the_catalogue(base, random):
    row = find_base(base)
    size = max(row.least_size, 32)
    model = build_network(base, weights=None, image_size=size, class_count=7).model
    smaller, notes = check_removal(settled(model, random, size), some_units, random_images(random, 2, size))
    assert multiply_adds(smaller.layers) < 0.8 * multiply_adds(model.layers)
    stay = set(notes) - {"probabilities"}
    if "convnext" not in base:
        assert not stay, notes
    else:  # hidden layers of its blocks shrink; what LayerNormalization reads cannot
        assert all("LayerNormalization" in notes[name] for name in stay)
        assert not any("pointwise_conv_1" in name for name in stay)
