"""What each block promises beyond the laws; the networks assembled from them are in `test_networks.py`."""

import doctest

import keras
import numpy as np
import pytest

import layers


def normalized(x, name=None):
    return keras.layers.ReLU()(keras.layers.BatchNormalization(name=name)(x))


def classified(x, classes):
    return keras.layers.Dense(classes)(keras.layers.GlobalAveragePooling2D()(x))


def kernels(layer):
    """Weights without biases."""
    return sum(int(np.prod(weight.shape)) for weight in layer.weights if weight.path.endswith("kernel"))


# Inception


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


def test_highway_of_other_width_says_so():
    with pytest.raises(ValueError, match=r"HighwayBlock: units must equal the input's 5 channels.*Received units=4"):
        layers.HighwayBlock(4).build((None, 5))


# Dense


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


@pytest.mark.parametrize(
    ("run_eagerly", "arguments"),
    [
        (True, {}),
        pytest.param(False, {}, marks=pytest.mark.slow),
        pytest.param(False, {"bottleneck": 4, "dropout": 0.3}, marks=pytest.mark.slow),
        pytest.param(False, {"bottleneck": 4}, marks=pytest.mark.slow),
        pytest.param(True, {"bottleneck": 4, "dropout": 0.3}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_remat_trains_exactly_as_the_plain_block(run_eagerly, arguments):
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
