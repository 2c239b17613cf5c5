"""Unit pruning: the smaller network gives what the whole one gives where the channels that went are 0."""

import keras
import numpy as np
import pytest
from cases import random_images
from cases_units import NETS, Masks, conv, dense, made, residual, scattered

import layers
import recipes
from recipes.bases import build_network, find_base, multiply_adds, networks
from recipes.bases.flattening import flat_copy
from recipes.bases.rewiring import Wiring
from recipes.compression.unit_costs import Costs
from recipes.compression.unit_groups import Channels
from recipes.compression.unit_importance import score_units
from recipes.compression.unit_pruning import UnitPruning
from recipes.compression.unit_removal import without_units
from recipes.compression.unit_transform import Judging, remove_units


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

    kinds = (conv, dense, keras.layers.SeparableConv2D)
    mixing = [layer for layer in model.layers if type(layer) in kinds and getattr(layer, "groups", 1) == 1]
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


@pytest.fixture(scope="module")
def resnet():
    return build_network(networks.cifar_resnet(input_shape=(8, 8, 3), depth=8), image_size=8, class_count=5).model


@pytest.mark.parametrize(("scope", "fraction"), [("global", 0.1), ("global", 0.6), ("layer", 0.33)])
def test_so_many_multiply_adds_go(scope, fraction, resnet):
    model = resnet
    smaller, _ = remove_units(model, fraction, Judging(scope=scope))
    before, after = (recipes.cost(network, optimizer=None).multiply_adds for network in (model, smaller))
    assert fraction <= 1 - after / before < fraction + 0.03  # no more than the last step: a unit, or one of each layer


def test_no_more_layers_give_than_must():
    model = build_network("small_resnet", weights=None, image_size=32, class_count=10).model
    smaller, _ = remove_units(model, 0.34, Judging(scope="layer", divisor=8))
    before, after = (recipes.cost(network, optimizer=None).multiply_adds for network in (model, smaller))
    # Eight channels more or less in one group are a tenth at most; every layer rounded at once would take 43 %.
    assert 0.34 <= 1 - after / before < 0.37


def test_nothing_goes_where_nothing_is_asked():
    model = small_net()
    smaller, _ = remove_units(model, 0)
    assert widths(smaller) == widths(model)
    assert smaller is not model


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_least_and_divisor(scope, resnet):
    smaller, _ = remove_units(resnet, 0.7, Judging(scope=scope, least=6, divisor=4))
    before = widths(resnet)
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


def test_what_was_pruned_before_stays_pruned(random):
    """The masks of weights are cut as the weights are, and hold in training."""
    model = small_net()
    kernel = model.get_layer("outer").kernel
    mask = random.random(kernel.shape) < 0.5
    model.get_layer("outer").kernel_constraint = kernel.constraint = layers.ZerosKept(mask)
    kernel.assign(keras.ops.convert_to_numpy(kernel) * mask)
    smaller, _ = remove_units(model, 0.4)
    smaller.compile("sgd", "sparse_categorical_crossentropy")
    smaller.fit(random_images(random, 8, 9).astype("float32"), random.integers(0, 3, 8), verbose=0)
    before, after = (kernel_of(network, "outer") for network in (remove_units(model, 0.4)[0], smaller))
    np.testing.assert_array_equal(before == 0, after == 0)
    assert 0.3 < np.mean(after == 0) < 0.7
    assert not np.array_equal(before, after)


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


QUICK = recipes.Recovery(epochs=1, learning_rate=3e-3, batch_size=64)


@pytest.fixture(scope="module")
def digits():
    return recipes.load_data("digits", image_size=8)


@pytest.fixture(scope="module")
def result(digits):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = conv(12, 3, activation="relu", name="first")(keras.layers.Rescaling(1 / 16)(image))
    x = keras.layers.BatchNormalization(name="normal")(conv(16, 3, strides=2, name="second")(x))
    x = dense(24, activation="relu", name="hidden")(keras.layers.Flatten()(keras.layers.ReLU()(x)))
    model = keras.Model(image, dense(10, activation="softmax", name="last")(x), name="small")
    return recipes.finetune(model, digits, weights=None, epochs=8, learning_rate=0.01, verbose=False)


def test_so_much_goes_and_training_brings_it_back(result, tmp_path):
    before = result.model.get_weights()
    small = recipes.prune_units(result, fraction=(0.3, 0.6), max_drop=None, recovery=QUICK, verbose=False)
    first, second, third = small.rungs
    assert second.multiply_adds <= 0.7 * first.multiply_adds
    assert third.multiply_adds <= 0.4 * first.multiply_adds < second.multiply_adds
    assert third.parameters < 0.7 * first.parameters
    assert third.stored_bytes < first.stored_bytes
    assert third.accuracy > first.accuracy - 0.05
    assert small.report.scores["accuracy"] > 0.9
    assert all(np.array_equal(old, new) for old, new in zip(before, result.model.get_weights(), strict=True))
    loaded = recipes.load(small.save(tmp_path / "small"))
    assert loaded.model.count_params() == third.parameters


def test_as_far_as_the_accuracy_allows(result):
    options = {"max_drop": 0.1, "recovery": recipes.Recovery(epochs=0), "verbose": False}
    small = recipes.prune_units(result, fraction=(0.2, 0.8), **options)
    *kept, last = small.rungs
    assert len(kept) == 2
    assert all(rung.accuracy >= kept[0].accuracy - 0.1 for rung in kept)
    assert last.accuracy < kept[0].accuracy - 0.1
    assert not last.is_kept
    assert small.model.count_params() == kept[-1].parameters < kept[0].parameters


def test_a_tenth_at_a_time():
    assert UnitPruning().levels(True)[:3] == (0.1, 0.2, 0.3)
    assert UnitPruning(0.25).levels(True) == (0.1, 0.2, 0.25)
    assert UnitPruning(0.25).levels(False) == (0.25,)
    assert UnitPruning((0.3, 0.5)).levels(True) == (0.3, 0.5)


def test_what_nothing_reaches_is_said(result):
    options = {"criterion": "random", "recovery": recipes.Recovery(epochs=0), "verbose": False}
    with pytest.warns(UserWarning, match="the model stays as it came"):
        small = recipes.prune_units(result, fraction=0.8, max_drop=0.0, **options)
    assert small.model.count_params() == result.model.count_params()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_drop": None}, "something must say how far"),
        ({"fraction": 0}, "fraction must be"),
        ({"fraction": (0.5, 0.2)}, "several that rise"),
        ({"fraction": ()}, "several that rise"),
        ({"fraction": (0.3, 0.99)}, "fraction must be at most"),
        ({"criterion": "l7"}, "criterion is not known"),
        ({"form": "jpeg"}, "form is not known"),
        ({"data": "nowhere/"}, "nowhere"),
    ],
)
def test_bad_words_for_the_recipe(options, said, result):
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=said):
        recipes.prune_units(result, **{"verbose": False} | options)


def test_no_data_is_needed_for_norms(result):
    options = {"max_drop": None, "criterion": "l1", "recovery": recipes.Recovery(epochs=0), "verbose": False}
    small = recipes.prune_units(result.model, fraction=0.3, **options)
    assert small.rungs[1].multiply_adds <= 0.7 * small.rungs[0].multiply_adds
    assert small.rungs[1].accuracy is None
    with pytest.raises(ValueError, match="data must be given"):
        recipes.prune_units(result.model, fraction=0.3, **options | {"criterion": "taylor"})
