"""Networks whose weights take two or three values: converted, trained, packed, and brought back."""

import keras
import numpy as np
import pytest

import layers
import recipes
from recipes.compression.bit_layers import METHODS, in_plain_layers, with_few_bits
from recipes.training.statistics import measure_statistics

WAYS = [(bits, method) for bits, methods in METHODS.items() for method in methods]
QUICK = recipes.Recovery(epochs=4, learning_rate=3e-3, batch_size=64, weight_decay=0.0)


def network(random):
    """Layers of all the arguments that are handed on, and of those that are not converted."""
    image = keras.Input((12, 12, 3), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(image)
    x = keras.layers.Conv2D(12, (3, 2), strides=(2, 1), use_bias=False, name="strided")(x)
    x = keras.layers.BatchNormalization(name="normal")(x)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.Conv2D(12, 3, groups=3, name="groups")(x)
    x = keras.layers.Conv2D(12, 1, dilation_rate=2, name="dilated")(x)
    x = keras.layers.Conv2D(12, 1, kernel_constraint="non_neg", name="constrained")(x)
    shared = keras.layers.Dense(12, activation="tanh", name="shared")
    x = keras.layers.Flatten()(shared(shared(x)))
    x = keras.layers.Dense(9, activation="relu", name="hidden")(x)
    model = keras.Model(image, keras.layers.Dense(4, activation="softmax", name="answers")(x))
    model.set_weights([random.normal(size=value.shape, scale=0.3) for value in model.get_weights()])
    model.get_layer("normal").moving_variance.assign(np.ones(12))
    return model


CONVERTED = ("strided", "shared", "hidden")


def few_values(kernel, method):
    """The weights that a kernel stands for, in NumPy, by the formulas of the papers."""
    axes = tuple(range(kernel.ndim - 1))
    size = np.abs(kernel)
    if method in ("bwn", "binaryconnect"):
        signs = np.where(kernel >= 0, 1.0, -1.0)
        return signs * (size.mean(axis=axes) if method == "bwn" else 1.0)
    limit = 0.7 * size.mean(axis=axes) if method == "twn" else 0.05 * size.max()
    used = size > limit
    scale = (size * used).sum(axis=axes) / used.sum(axis=axes) if method == "twn" else size[used].mean()
    return np.sign(kernel) * used * scale


@pytest.mark.parametrize(("bits", "method"), WAYS)
def test_a_network_of_few_bits_is_the_network_with_its_kernels_rounded(bits, method, random, tmp_path):
    model = network(random)
    images = random.normal(size=(3, 12, 12, 3)).astype("float32")
    few, notes = with_few_bits(model, bits, method=method, keep={"first", "answers"})
    assert set(notes) == {"first", "answers", "depthwise", "groups", "dilated", "constrained"}
    rounded = keras.models.clone_model(model)
    rounded.set_weights(model.get_weights())
    for name in CONVERTED:
        np.testing.assert_array_equal(few.get_layer(name).kernel, model.get_layer(name).kernel)
        kernel = rounded.get_layer(name).kernel
        kernel.assign(few_values(keras.ops.convert_to_numpy(kernel), method))
    expected = rounded(images).numpy()
    assert np.abs(expected - model(images).numpy()).max() > 0.01
    np.testing.assert_allclose(few(images), expected, atol=1e-5)  # scales are means of the same numbers
    plain = in_plain_layers(few)
    assert all(type(layer).__module__.startswith("keras.") for layer in plain.layers)
    np.testing.assert_allclose(plain(images), few(images), atol=1e-6)
    few.save(tmp_path / "few.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "few.keras")(images), few(images))
    recipes.pack(few, tmp_path / "few.packed")
    np.testing.assert_allclose(recipes.unpack(tmp_path / "few.packed")(images), few(images), atol=1e-5)


def test_what_stays_is_named_with_its_reason_and_nothing_is_shared(random):
    model = network(random)
    weights = [value.copy() for value in model.get_weights()]
    few, notes = with_few_bits(model, "binary", keep={"first"})
    assert "DepthwiseConv2D" in notes["depthwise"] and "3 groups" in notes["groups"]
    assert "dilated" in notes["dilated"] and "constraint" in notes["constrained"] and "kept" in notes["first"]
    assert isinstance(few.get_layer("answers"), layers.BinaryDense)
    few.set_weights([0 * value for value in few.get_weights()])
    for value, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, before)


def test_arguments_are_handed_on():
    image = keras.Input((8, 8, 2))
    arguments = {"strides": 2, "padding": "same", "activation": "elu", "activity_regularizer": "l2", "trainable": False}
    x = keras.layers.Conv2D(4, 3, name="conv", **arguments)(image)
    model = keras.Model(image, keras.layers.Dense(3, use_bias=False, name="dense")(x))
    few, _ = with_few_bits(model, "ternary", method="ttq")
    conv, dense = few.get_layer("conv"), few.get_layer("dense")
    assert (tuple(conv.strides), conv.padding, conv.trainable) == ((2, 2), "same", False)
    assert conv.activation is keras.activations.elu and isinstance(conv.activity_regularizer, keras.regularizers.L2)
    assert dense.bias is None and dense.method == "ttq"


def test_statistics_are_those_of_the_images(random):
    image = keras.Input((2,))
    normal = keras.layers.BatchNormalization(momentum=0.9, trainable=False)
    model = keras.Model(image, normal(keras.layers.Dense(3)(image)))
    images = random.normal(size=(64, 2)).astype("float32")
    measure_statistics(model, images)
    seen = keras.ops.convert_to_numpy(model.layers[1](images))
    halves = seen.reshape(2, 32, 3)  # two batches of 32, whose variances are those within each
    np.testing.assert_allclose(normal.moving_mean, seen.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(normal.moving_variance, halves.var(axis=1).mean(axis=0), rtol=1e-5)
    assert (normal.momentum, normal.trainable) == (0.9, False)


@pytest.fixture(scope="module")
def digits():
    return recipes.load_data("digits", image_size=8)


@pytest.fixture(scope="module")
def reader(digits):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Rescaling(1 / 16)(image)
    for number, filters in enumerate((16, 32, 32)):
        x = keras.layers.Conv2D(filters, 3, use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    model = keras.Model(image, keras.layers.Flatten()(x), name="reader")
    return recipes.finetune(model, digits, weights=None, epochs=8, learning_rate=0.01, verbose=False)


def test_a_network_trains_to_few_bits_and_comes_back_from_its_file(reader, tmp_path):
    weights = [value.copy() for value in reader.model.get_weights()]
    small = recipes.few_bits(reader, max_drop=0.2, recovery=QUICK, verbose=False)
    assert [rung.name for rung in small.rungs] == ["as it came", "ternary weights", "binary weights"]
    first, ternary, binary = small.rungs
    assert all(rung.is_kept and rung.accuracy > first.accuracy - 0.2 for rung in (ternary, binary))
    assert set(small.notes) == {"conv0", "probabilities"}
    zeros = ternary.parameters - ternary.nonzero
    assert 0.1 < zeros / ternary.parameters < 0.7  # about half of what is ternary, and none of the real weights
    assert binary.nonzero > 0.95 * binary.parameters
    kernels = {layer.name: layer for layer in small.model.layers if isinstance(layer, layers.BinaryConv)}
    assert set(kernels) == {"conv1", "conv2"}
    for layer in kernels.values():
        assert np.abs(layer.kernel).max() <= 1  # where training keeps them
        changed = np.sign(layer.kernel) != np.sign(reader.model.get_layer(layer.name).kernel)
        assert 0 < changed.mean() < 0.5  # it went on from the real weights, and went on
    back = recipes.unpack(small.write(tmp_path / "reader.packed"))
    images = reader.data.test.images(0, 50)
    np.testing.assert_allclose(back.model(images), small.model(images), atol=1e-5)
    assert back.class_names == reader.class_names
    weight_bytes = {layer.name: layers.packed_weights(layer).nbytes for layer in kernels.values()}
    saved = sum(4 * np.prod(layer.kernel.shape) for layer in kernels.values()) - sum(weight_bytes.values())
    assert first.stored_bytes - binary.stored_bytes > 0.75 * saved  # of the float file, 0.92 or so of its size
    for value, before in zip(reader.model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, before)


def test_what_falls_too_far_is_not_kept(reader):
    none = recipes.Recovery(epochs=0)
    with pytest.warns(UserWarning, match="few_bits: the model stays as it came"):
        small = recipes.few_bits(reader, bits="binary", keep=(), max_drop=0.0, recovery=none, verbose=False)
    assert not small.rungs[1].is_kept and small.rungs[1].accuracy < small.rungs[0].accuracy
    assert small.model is reader.model


def test_a_network_without_such_layers_stays(digits):
    image = keras.Input((8, 8, 1))
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(image)
    x = keras.layers.Dense(10, activation="softmax", name="answers")(keras.layers.Flatten()(x))
    small = recipes.few_bits(keras.Model(image, x), digits, max_drop=None, recovery=QUICK, verbose=False)
    assert small.rungs[1].name == "few bits, nothing to convert"
    assert set(small.notes) == {"depthwise", "answers"}


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"bits": "quaternary"}, ValueError, "bits is not known"),
        ({"bits": 2}, ValueError, "bits is not known"),
        ({"bits": "binary", "method": "twn"}, ValueError, "method of bits='binary' is not known"),
        ({"method": "twn"}, ValueError, "method is for one kind of bits"),
        ({"keep": "first"}, TypeError, "keep must be a tuple"),
        ({"keep": ("conv9",)}, ValueError, "keep must name layers that there are"),
        ({"form": "tiff"}, ValueError, "form is not known"),
        ({"recovery": "long"}, TypeError, "recovery must be"),
    ],
)
def test_bad_arguments_are_refused(reader, arguments, kind, words):
    with pytest.raises(kind, match=rf"^few_bits: .*{words}"):
        recipes.few_bits(reader, verbose=False, **arguments)


def test_data_must_be_there(reader):
    with pytest.raises(ValueError, match="few_bits: data must be given"):
        recipes.few_bits(reader.model)
