"""Blocks by the numbers: exact parameters and multiply-adds of the papers' networks, and promises of each block."""

import doctest

import keras
import numpy as np
import pytest

import layers

# Networks assembled from the blocks. Each is what its name says, from plain arguments.


def normalized(x, name=None):
    return keras.layers.ReLU()(keras.layers.BatchNormalization(name=name)(x))


def classified(x, classes):
    return keras.layers.Dense(classes)(keras.layers.GlobalAveragePooling2D()(x))


def cifar_resnet(depth, classes=10):
    """He 2015, section 4.2: three stages of basic units with padded shortcuts, 6n + 2 layers."""
    image = keras.Input((32, 32, 3))
    x = normalized(keras.layers.Conv2D(16, 3, padding="same", use_bias=False)(image))
    for stage, filters in enumerate((16, 32, 64)):
        for unit in range((depth - 2) // 6):
            x = layers.ResidualBottleneck(
                filters,
                version="v1",
                bottleneck=False,
                strides=2 if stage and not unit else 1,
                shortcut="padded",
            )(x)
    return keras.Model(image, classified(x, classes))


def cifar_densenet(depth, growth_rate, bottleneck=None, compression=1.0, classes=10, remat=False):
    """Huang 2017, section 4: three dense blocks of equal depth; BC has bottleneck=4 and compression=0.5."""
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(2 * growth_rate if bottleneck else 16, 3, padding="same", use_bias=False)(image)
    for block in range(3):
        if block:
            x = layers.TransitionBlock(compression)(x)
        count = (depth - 4) // (6 if bottleneck else 3)
        x = layers.DenseBlock(count, growth_rate, bottleneck=bottleneck, remat=remat)(x)
    return keras.Model(image, classified(normalized(x), classes))


def squeezenet_features():
    """SqueezeNet 1.1 up to its classifier."""
    image = keras.Input((224, 224, 3))
    x = keras.layers.Conv2D(64, 3, strides=2, activation="relu")(image)
    for squeeze, expand, pool in (
        (16, 64, True),
        (16, 64, False),
        (32, 128, True),
        (32, 128, False),
        (48, 192, True),
        (48, 192, False),
        (64, 256, False),
        (64, 256, False),
    ):
        x = keras.layers.MaxPooling2D(3, strides=2)(x) if pool else x
        x = layers.FireBlock(squeeze, expand)(x)
    return keras.Model(image, x)


# Table 1 of Szegedy 2014: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection.
GOOGLENET = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet_block(row, **arguments):
    one, reduce_three, three, reduce_five, five, pool = GOOGLENET[row]
    return layers.InceptionBlock(
        (one, three, five), reductions=(None, reduce_three, reduce_five), pool_projection=pool, **arguments
    )


def googlenet(classes=1000):
    """Szegedy 2014, table 1, without auxiliary classifiers and local normalization."""
    image = keras.Input((224, 224, 3))
    pool = {"pool_size": 3, "strides": 2, "padding": "same"}
    x = keras.layers.Conv2D(64, 7, strides=2, padding="same", activation="relu")(image)
    x = keras.layers.MaxPooling2D(**pool)(x)
    x = keras.layers.Conv2D(64, 1, activation="relu")(x)
    x = keras.layers.Conv2D(192, 3, padding="same", activation="relu")(x)
    for row in GOOGLENET:
        x = keras.layers.MaxPooling2D(**pool)(x) if row in ("3a", "4a", "5a") else x
        x = googlenet_block(row, name=f"inception_{row}")(x)
    return keras.Model(image, classified(x, classes))


def highway_network(depth, units, features=784, classes=10, transform_bias=-2.0):
    """Srivastava 2015, section 3.1: a plain layer, then highway layers."""
    image = keras.Input((features,))
    x = keras.layers.Dense(units, activation="relu")(image)
    for _ in range(depth - 1):
        x = layers.HighwayBlock(units, transform_bias=transform_bias)(x)
    return keras.Model(image, keras.layers.Dense(classes)(x))


# Counting


def trainable(layer):
    return sum(int(np.prod(weight.shape)) for weight in layer.trainable_weights)


def kernels(layer):
    """Weights without biases."""
    return sum(int(np.prod(weight.shape)) for weight in layer.weights if weight.path.endswith("kernel"))


@pytest.fixture
def multiply_adds(monkeypatch):
    """Counts the multiply-adds of what is called on one image: every kernel's size by the positions it is put at."""
    counts = {}

    def spy(cls):
        original = cls.call

        def call(layer, inputs, *arguments, **named):
            outputs = original(layer, inputs, *arguments, **named)
            positions = int(np.prod(outputs.shape[1:-1]))
            counts[id(layer)] = int(np.prod(layer.kernel.shape)) * positions
            return outputs

        monkeypatch.setattr(cls, "call", call)

    spy(keras.layers.Conv2D)
    spy(keras.layers.Dense)
    return lambda: sum(counts.values())


# Inception


@pytest.mark.parametrize(
    ("row", "side", "channels", "out", "without_biases", "with_biases", "millions", "naive", "naive_out"),
    [
        ("3a", 28, 192, 256, 163_328, 163_696, 128.0, 387_072, 416),
        ("3b", 28, 256, 480, 388_096, 388_736, 304.3, 1_089_536, 672),
        ("4a", 14, 480, 512, 375_552, 376_176, 73.6, 1_566_720, 928),
        ("4b", 14, 512, 512, 448_512, 449_160, 87.9, 1_933_312, 960),
        ("4c", 14, 512, 512, 509_440, 510_104, 99.9, 2_064_384, 960),
        ("4d", 14, 512, 528, 604_672, 605_376, 118.5, 2_203_648, 976),
        ("4e", 14, 528, 832, 867_328, 868_352, 170.0, 3_345_408, 1232),
        ("5a", 7, 832, 832, 1_042_432, 1_043_456, 51.1, 5_271_552, 1536),
        ("5b", 7, 832, 1024, 1_442_816, 1_444_080, 70.7, 5_857_280, 1728),
    ],
)
def test_inception_rows_of_googlenet(
    row, side, channels, out, without_biases, with_biases, millions, naive, naive_out, multiply_adds
):
    block = googlenet_block(row)
    output = block(np.zeros((1, side, side, channels), "float32"))
    assert output.shape == (1, side, side, out)
    assert (kernels(block), trainable(block)) == (without_biases, with_biases)
    assert multiply_adds() == without_biases * side * side
    assert round(multiply_adds() / 1e6, 1) == millions
    one, _, three, _, five, _ = GOOGLENET[row]
    plain = layers.InceptionBlock((one, three, five))
    plain.build((None, side, side, channels))
    assert kernels(plain) == naive
    assert plain.compute_output_shape((None, side, side, channels)) == (None, side, side, naive_out)


def test_googlenet_has_the_papers_parameters_and_multiply_adds(multiply_adds):
    model = googlenet()
    assert (kernels(model), trainable(model)) == (6_990_272, 6_998_552)
    model(np.zeros((1, 224, 224, 3), "float32"))
    assert round(multiply_adds() / 1e9, 3) == 1.583


def test_factored_inception_has_the_weights_of_inception_v3():
    """mixed4 of Inception v3 without its second 7×7 branch."""
    block = layers.InceptionBlock(
        (192, 192),
        kernel_sizes=(1, 7),
        reductions=(None, 128),
        pool="average",
        pool_projection=192,
        factored=True,
        normalization=True,
    )
    block.build((None, 17, 17, 768))
    assert kernels(block) == 768 * 192 + (768 * 128 + 128 * 128 * 7 + 128 * 192 * 7) + 768 * 192
    assert not [weight.path for weight in block.weights if weight.path.endswith("bias")]
    assert [tuple(weight.shape[:2]) for weight in block.weights if "zontal/kernel" in weight.path] == [(1, 7)]


# Residual units


@pytest.mark.parametrize(
    ("depth", "expected"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_cifar_resnets_have_the_papers_parameters(depth, expected):
    assert trainable(cifar_resnet(depth)) == expected


def test_cifar_resnet_20_has_the_papers_multiply_adds(multiply_adds):
    cifar_resnet(20)(np.zeros((1, 32, 32, 3), "float32"))
    assert round(multiply_adds() / 1e6, 1) == 40.6


def copied(units, theirs, prefix):
    """Give our units the weights of theirs, whose layers are named by number; the number of weights, without biases."""
    total = 0
    for number, unit in enumerate(units, 1):
        parts = {"first": 1, "second": 2, "third": 3, "shortcut": 0}
        for part, index in parts.items():
            ours = [layer for layer in unit._flatten_layers() if layer.name == part]
            if not ours:
                continue
            convolution = theirs.get_layer(f"{prefix}_block{number}_{index}_conv")
            ours[0].set_weights(convolution.get_weights()[:1])
            total += int(np.prod(convolution.kernel.shape))
            norm = theirs.get_layer(f"{prefix}_block{number}_{index}_bn")
            mine = next(layer for layer in unit._flatten_layers() if layer.name == f"{part}_normalization")
            mine.set_weights(norm.get_weights())
            mine.epsilon = norm.epsilon
            total += sum(int(np.prod(weight.shape)) for weight in norm.weights)
    return total


def test_stage_of_resnet_50_is_that_of_keras():
    """Version 1 of the paper: equal counts without conv biases, and equal outputs, since those start at zero."""
    theirs = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(64, 64, 3))
    entry = theirs.get_layer("conv2_block3_out").output
    stage = keras.Model(entry, theirs.get_layer("conv3_block4_out").output)
    image = x = keras.Input(entry.shape[1:])
    units = [layers.ResidualBottleneck(128, version="v1", strides=1 if number else 2) for number in range(4)]
    for unit in units:
        x = unit(x)
    ours = keras.Model(image, x)
    assert ours.count_params() == copied(units, theirs, "conv3") == sum(unit.count_params() for unit in units)
    images = np.random.default_rng(0).normal(size=(2, *entry.shape[1:])).astype("float32")
    expected = stage.predict(images, verbose=0)
    np.testing.assert_allclose(ours.predict(images, verbose=0), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("version", "first", "second"), [("v1", 8, 8), ("v1.5", 15, 8), ("v2", 15, 8)])
def test_versions_stride_where_they_say(version, first, second, monkeypatch):
    sides, original = {}, keras.layers.Conv2D.call

    def call(layer, inputs):
        outputs = original(layer, inputs)
        sides[layer.name] = outputs.shape[1]
        return outputs

    monkeypatch.setattr(keras.layers.Conv2D, "call", call)
    layers.ResidualBottleneck(2, version=version, strides=2)(np.ones((1, 15, 15, 3), "float32"))
    assert (sides["first"], sides["second"], sides["third"], sides["shortcut"]) == (first, second, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "channels"),
    [
        ({"shortcut": "identity"}, 6),
        ({"shortcut": "identity", "strides": 2}, 8),
        ({"shortcut": "padded"}, 9),
    ],
)
def test_shortcuts_that_do_not_match_say_so(arguments, channels):
    with pytest.raises(ValueError, match=f"ResidualBottleneck: .*8 channels.*Received an input of {channels} channels"):
        layers.ResidualBottleneck(2, **arguments).build((None, 8, 8, channels))


# Highway


@pytest.mark.parametrize("kernel_size", [None, 3])
def test_highway_is_the_identity_when_its_gate_is_shut(kernel_size):
    images = np.random.default_rng(0).normal(size=(4, 6, 5, 7)).astype("float32")
    block = layers.HighwayBlock(kernel_size=kernel_size, transform_bias=-20.0)
    assert np.abs(keras.ops.convert_to_numpy(block(images)) - images).max() < 1e-6
    open_block = layers.HighwayBlock(kernel_size=kernel_size)
    assert np.abs(keras.ops.convert_to_numpy(open_block(images)) - images).max() > 1e-2


def test_highway_network_has_two_square_matrices_a_layer():
    model = highway_network(10, 50)
    assert model.count_params() == (784 * 50 + 50) + 9 * 2 * (50**2 + 50) + (50 * 10 + 10)
    images = np.random.default_rng(0).normal(size=(4, 784)).astype("float32")
    assert model.predict(images, verbose=0).shape == (4, 10)


def test_highway_of_other_width_says_so():
    with pytest.raises(ValueError, match=r"HighwayBlock: units must equal the input's 5 channels.*Received units=4"):
        layers.HighwayBlock(4).build((None, 5))


# Fire


def test_squeezenet_has_the_papers_parameters():
    assert trainable(squeezenet_features()) == 722_496


# Dense


@pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="JAX lacks a quick start: it compiles each shape of kernel, for minutes; the counts are the same on all",
)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"depth": 40, "growth_rate": 12}, 1_019_722),
        ({"depth": 100, "growth_rate": 12, "bottleneck": 4, "compression": 0.5}, 769_162),
    ],
)
def test_cifar_densenets_have_the_papers_parameters(arguments, expected):
    assert trainable(cifar_densenet(**arguments)) == expected


def test_compression_that_leaves_nothing_says_so():
    with pytest.raises(ValueError, match=r"TransitionBlock: compression must leave .* Received compression=0\.1"):
        layers.TransitionBlock(0.1).build((None, 8, 8, 4))


def dense_pair(**arguments):
    """The same small network twice, of which the second computes again what the first keeps."""
    models = []
    for remat in (False, True):
        image = keras.Input((8, 7, 3))
        x = layers.DenseBlock(4, 3, remat=remat, **arguments, name="block1")(image)
        x = layers.DenseBlock(2, 3, remat=remat, **arguments, name="block2")(layers.TransitionBlock(0.5)(x))
        models.append(keras.Model(image, classified(x, 3)))
    for copy, original in zip(models[1].variables, models[0].variables, strict=True):
        copy.assign(keras.ops.convert_to_numpy(original))  # also what dropout draws from
    return models


def material(count=24):
    random = np.random.default_rng(3)
    return random.normal(1, 2, (count, 8, 7, 3)).astype("float32"), random.integers(0, 3, count)


@pytest.mark.parametrize("arguments", [{}, {"bottleneck": 4}, {"bottleneck": 4, "dropout": 0.3}], ids=str)
@pytest.mark.parametrize("run_eagerly", [False, True])
def test_remat_trains_exactly_as_the_plain_block(arguments, run_eagerly):
    """Three steps of SGD, in which a weight's move is its gradient: losses, weights and moving statistics."""
    images, labels = material()
    losses, moved = [], []
    for model in dense_pair(**arguments):
        model.compile(
            keras.optimizers.SGD(0.05, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            run_eagerly=run_eagerly,
            jit_compile=False,
        )
        before = model.get_weights()
        losses.append([])
        keras.utils.set_random_seed(4)  # PyTorch draws dropout from one state for all
        batch_end = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: losses[-1].append(logs["loss"]))
        model.fit(images, labels, batch_size=8, epochs=1, shuffle=False, callbacks=[batch_end], verbose=0)
        moved.append([new - old for new, old in zip(model.get_weights(), before, strict=True)])
    assert len(losses[0]) == 3
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-6)
    for weight, plain, lean in zip(model.weights, *moved, strict=True):
        assert np.abs(plain).max() > 1e-5, weight.path
        # The two add float32 numbers in another order, which differs relative to the largest.
        np.testing.assert_allclose(lean, plain, atol=1e-6 * max(1.0, np.abs(plain).max()), err_msg=weight.path)


def test_remat_updates_moving_statistics_once():
    """Against the formula, so that both modes cannot be wrong together."""
    images, _ = material(8)
    for remat in (False, True):
        block = layers.DenseBlock(1, 2, remat=remat)
        block(images, training=True)
        normalization = block.units[0][0][0]
        expected = images.astype("float64").mean((0, 1, 2)) * 0.01
        np.testing.assert_allclose(keras.ops.convert_to_numpy(normalization.moving_mean), expected, rtol=1e-5)


def test_remat_leaves_a_frozen_block_alone():
    images, labels = material()
    for model in dense_pair(bottleneck=4):
        for name in ("block1", "block2"):
            model.get_layer(name).trainable = False
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        before = model.get_layer("block1").get_weights()
        logs = model.evaluate(images, labels, verbose=0), model.train_on_batch(images, labels)
        assert all(map(np.array_equal, model.get_layer("block1").get_weights(), before))
        assert all(np.isfinite(np.ravel(logs)))


def test_remat_and_plain_load_each_others_weights(tmp_path):
    plain, lean = dense_pair(bottleneck=4)
    images, _ = material(4)
    for number, (one, other) in enumerate(((plain, lean), (lean, plain))):
        one.set_weights([value + 0.1 * (number + 1) for value in one.get_weights()])
        one.save_weights(tmp_path / f"{number}.weights.h5")
        other.load_weights(tmp_path / f"{number}.weights.h5")
        np.testing.assert_array_equal(one.predict(images, verbose=0), other.predict(images, verbose=0))


def test_remat_in_mixed_precision_follows_the_plain_block():
    images, labels = material()
    losses = []
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        pair = dense_pair(bottleneck=4)
    finally:
        keras.config.set_dtype_policy("float32")
    for model in pair:
        model.compile(keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        losses.append([float(model.train_on_batch(images, labels)) for _ in range(3)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)  # bfloat16 keeps 8 bits


EXAMPLES = ("DenseBlock", "FireBlock", "HighwayBlock", "InceptionBlock", "ResidualBottleneck", "TransitionBlock")


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name):
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(recurse=False).find(getattr(layers, name), name, globs={}):
        assert test.examples
        runner.run(test, out=lambda text: pytest.fail(text, pytrace=False) if "Failed example" in text else None)
