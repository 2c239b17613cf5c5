"""Convolutions by other algorithms: they round as the arithmetic says, train as a Conv2D, and exchange its weights."""

import keras
import numpy as np
import pytest
import reference

import layers
from layers.convolutions._tile_transforms import tile_transforms

ALGORITHMS = {
    "F(2, 3)": lambda **how: layers.WinogradConv2D(5, 3, tile=2, **how),
    "F(4, 3)": lambda **how: layers.WinogradConv2D(5, 3, tile=4, **how),
    "F(4, 3) in strips": lambda **how: layers.WinogradConv2D(5, 3, tile=4, rows=2, images=2, **how),
    "F(4, 3) place by place": lambda **how: layers.WinogradConv2D(5, 3, products="single", **how),
    "F(4, 3) compiled": lambda **how: layers.WinogradConv2D(5, 3, rows=1, images=2, products="compiled", **how),
    "FFT": lambda **how: layers.FFTConv2D(5, 3, **how),
    "FFT in tiles": lambda **how: layers.FFTConv2D(5, 3, size=8, **how),
    "patches": lambda **how: layers.PatchConv2D(5, 3, **how),
}
each_algorithm = pytest.mark.parametrize("make", ALGORITHMS.values(), ids=ALGORITHMS)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def far(values, expected):
    """Largest difference, relative to the largest value."""
    return np.abs(numpy(values) - numpy(expected)).max() / np.abs(numpy(expected)).max()


@pytest.mark.parametrize("tile", range(1, 7))
def test_the_transforms_are_exact(tile):
    inputs, kernel, output = tile_transforms(tile)
    random = np.random.default_rng(tile)
    pixels, taps = random.normal(size=tile + 2), random.normal(size=3)
    expected = [pixels[start : start + 3] @ taps for start in range(tile)]
    np.testing.assert_allclose(output @ ((kernel @ taps) * (inputs @ pixels)), expected, atol=1e-13)
    assert (inputs == inputs.astype("float32")).all()
    assert (output == output.astype("float32")).all()


def test_the_transforms_are_those_of_the_paper():
    """Lavin and Gray 2016, section 4.1, up to the sign of a product and the order of the points."""
    inputs, kernel, output = tile_transforms(2)
    assert np.abs(inputs).tolist() == [[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]]
    assert np.abs(kernel).tolist() == [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 1]]
    assert output.tolist() == [[1, 1, 1, 0], [0, 1, -1, 1]]


# Figures of papers_and_numbers, for He's initialisation; FFT and patches round as a direct convolution does, or nearly.
@pytest.mark.parametrize(("make", "bound"), [(2, 1e-6), (4, 2e-5), (6, 2e-5), ("fft", 2e-6), ("patches", 1e-6)])
@pytest.mark.parametrize("channels", [16, 256])
def test_rounding_against_double_precision(make, bound, channels):
    random = np.random.default_rng(channels)
    images = random.normal(size=(1, 14, 14, channels)).astype("float32")
    kernel = (random.normal(size=(3, 3, channels, 32)) * np.sqrt(2 / (9 * channels))).astype("float32")
    how = {"padding": "same", "use_bias": False}
    kinds = {"fft": layers.FFTConv2D, "patches": layers.PatchConv2D}
    layer = kinds[make](32, 3, **how) if make in kinds else layers.WinogradConv2D(32, 3, tile=make, **how)
    layer.build(images.shape)
    layer.set_weights([kernel])
    expected = reference.convolve(images, kernel)
    assert far(layer(images), expected) < bound
    np.testing.assert_array_equal(layer.convolution_op(images, layer.kernel), layer(images))
    plain = keras.ops.conv(images, kernel, padding="same")
    assert not np.array_equal(numpy(layer(images)), numpy(plain)) or make == "patches"


def outputs_and_gradients(layer, images):
    """What a layer gives, and the gradients of a curved function of it, by TensorFlow."""
    import tensorflow as tf

    images = tf.convert_to_tensor(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images)
        loss = tf.reduce_sum(outputs * tf.cos(outputs + 1))
    return [outputs, *tape.gradient(loss, [images, *(weight.value for weight in layer.trainable_weights)])]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients are taken by TensorFlow's tape")
@each_algorithm
@pytest.mark.parametrize(("padding", "activation"), [("same", "relu"), ("valid", "tanh")])
def test_gradients_are_those_of_a_plain_convolution(make, padding, activation):
    images = np.random.default_rng(0).normal(size=(5, 11, 9, 4)).astype("float32")
    plain = keras.layers.Conv2D(5, 3, padding=padding, activation=activation, bias_initializer="normal")
    layer = make(padding=padding, activation=activation)
    expected = outputs_and_gradients(plain, images)
    layer.build(images.shape)
    layer.set_weights(plain.get_weights())
    for mine, other in zip(outputs_and_gradients(layer, images), expected, strict=True):
        assert far(mine, other) < 3e-5  # as the outputs, which the loss bends


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients are taken by TensorFlow's tape")
@pytest.mark.parametrize("products", ["batched", "compiled"])
@pytest.mark.parametrize(("tile", "padding", "activation"), [(4, "same", "relu"), (2, "valid", "tanh")])
def test_gradients_pass_through_a_transformed_layer(products, tile, padding, activation):
    images = np.random.default_rng(0).normal(size=(3, 11, 9, 4)).astype("float32")
    how = {"padding": padding, "activation": activation, "bias_initializer": "normal"}
    layer = layers.WinogradConv2D(5, 3, tile=tile, rows=1, images=2, products=products, **how)
    plain = keras.layers.Conv2D(5, 3, **how)
    expected = outputs_and_gradients(plain, images)[:2]
    layer.build(images.shape)
    layer.set_weights(plain.get_weights())
    for mine, other in zip(outputs_and_gradients(layer.transformed(), images), expected, strict=True):
        assert far(mine, other) < 3e-5


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients are taken by TensorFlow's tape")
@pytest.mark.parametrize("products", ["batched", "compiled"])
def test_gradients_of_gradients(products):
    """As a penalty on gradients needs them."""
    import tensorflow as tf

    images = tf.constant(np.random.default_rng(0).normal(size=(2, 9, 8, 3)).astype("float32"))

    def penalty(layer):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as tape:
                tape.watch(images)
                loss = tf.reduce_sum(layer(images) ** 2)
            norm = tf.reduce_sum(tape.gradient(loss, images) ** 2)
        return outer.gradient(norm, layer.kernel.value)

    plain = keras.layers.Conv2D(5, 3, padding="same")
    expected = penalty(plain)
    layer = layers.WinogradConv2D(5, 3, padding="same", rows=1, products=products)
    layer.build(images.shape)
    layer.set_weights(plain.get_weights())
    assert far(penalty(layer), expected) < 3e-5


@pytest.mark.parametrize(
    ("padding", "size", "batch"),
    [("same", (13, 6), 5), ("valid", (8, 7), 5), ("same", (3, 3), 1), ("valid", (3, 9), 2)],
)
@pytest.mark.parametrize(
    ("rows", "at_once", "products"),
    [
        (1, None, "compiled"),
        (2, 2, "batched"),
        pytest.param(1, None, "batched", marks=pytest.mark.slow),
        pytest.param(2, 2, "compiled", marks=pytest.mark.slow),
        pytest.param(None, 1, "batched", marks=pytest.mark.slow),
        pytest.param(None, 1, "compiled", marks=pytest.mark.slow),
    ],
)
def test_strips_and_groups_of_images_change_nothing(padding, size, batch, rows, at_once, products):
    images = np.random.default_rng(1).normal(size=(batch, *size, 3)).astype("float32")
    image = keras.Input((*size, 3))
    whole = keras.layers.Conv2D(4, 3, padding=padding, activation="relu")
    expected = numpy(whole(images))
    how = {"rows": rows, "images": at_once, "products": products}
    layer = layers.WinogradConv2D(4, 3, padding=padding, activation="relu", **how)
    model = keras.Model(image, layer(image))
    layer.set_weights(whole.get_weights())
    assert far(layer(images), expected) < 2e-5
    # Nothing of the batch is known while this graph is made.
    assert far(model.predict(images, verbose=0, batch_size=batch), expected) < 2e-5


@pytest.mark.parametrize("products", ["batched", "compiled"])
def test_no_images_give_no_outputs(products):
    layer = layers.WinogradConv2D(4, 3, rows=1, images=2, products=products)
    assert layer(np.zeros((0, 8, 9, 3), "float32")).shape == (0, 6, 7, 4)


def test_no_image_by_image():
    image = keras.Input((8, 9, 3))
    layer = layers.ImageByImage(keras.Model(image, keras.layers.Conv2D(4, 3)(image)))
    assert layer(np.zeros((0, 8, 9, 3), "float32")).shape == (0, 6, 7, 4)


def test_fft_kernels_of_every_size_at_every_tile():
    random = np.random.default_rng(2)
    images = random.normal(size=(2, 17, 12, 2)).astype("float32")
    for kernel_size in ((1, 1), (2, 5), (7, 7), (12, 11)):
        for padding in ("same", "valid"):
            for size in (None, 13, 16, 40):
                layer = layers.FFTConv2D(3, kernel_size, padding=padding, size=size)
                outputs = layer(images)
                kernel = numpy(layer.kernel)
                assert far(outputs, reference.convolve(images, kernel, padding=padding)) < 2e-6


@pytest.mark.parametrize("kind", ["winograd", "fft"])
def test_a_transformed_layer_computes_the_same_saves_and_is_not_trained(kind, tmp_path):
    images = np.random.default_rng(3).normal(size=(2, 10, 9, 4)).astype("float32")
    layer = (
        layers.WinogradConv2D(5, 3, activation="relu", bias_initializer="normal")
        if kind == "winograd"
        else layers.FFTConv2D(5, 7, activation="relu", bias_initializer="normal")
    )
    expected = numpy(layer(images))
    fixed = layer.transformed() if kind == "winograd" else layer.transformed(images.shape)
    assert not fixed.trainable_weights
    assert far(fixed(images), expected) < 5e-6  # the kernel is rounded at another place
    image = keras.Input((10, 9, 4))
    model = keras.Model(image, fixed(image))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(images, verbose=0), model.predict(images, verbose=0))


ALIKE = {
    "winograd": lambda: layers.WinogradConv2D(5, 3, tile=4, padding="same", activation="tanh", name="one"),
    "winograd without a bias": lambda: layers.WinogradConv2D(5, 3, tile=2, use_bias=False, name="one"),
    "fft": lambda: layers.FFTConv2D(5, (7, 4), padding="same", activation="relu", name="one"),
    "patches": lambda: layers.PatchConv2D(5, 5, strides=2, padding="same", name="one"),
    "dense": lambda: layers.TransposedDense(5, activation="relu", name="one"),
    "dense without a bias": lambda: layers.TransposedDense(5, use_bias=False, name="one"),
}


@pytest.mark.parametrize(
    ("name", "is_transformed"),
    [(name, False) for name in ALIKE] + [(name, True) for name in ("winograd", "winograd without a bias", "fft")],
)
def test_each_becomes_a_layer_of_keras_that_trains(name, is_transformed):
    images, layer = np.random.default_rng(3).normal(size=(2, 10, 9, 4)).astype("float32"), ALIKE[name]()
    with pytest.raises(ValueError, match=f"{type(layer).__name__}: the layer must be built"):
        layer.plain()
    layer.build(images.shape)
    layer.set_weights([np.random.default_rng(0).normal(0, 0.1, weight.shape) for weight in layer.get_weights()])
    given = layer
    if is_transformed:
        given = layer.transformed(images.shape) if isinstance(layer, layers.FFTConv2D) else layer.transformed()
    plain = given.plain()
    assert type(plain) in (keras.layers.Conv2D, keras.layers.Dense) and plain.name == "one"
    assert len(plain.trainable_weights) == len(layer.weights)
    kernel = numpy(layer.kernel).T if isinstance(layer, layers.TransposedDense) else numpy(layer.kernel)
    if given is layer:
        np.testing.assert_array_equal(numpy(plain.kernel), kernel)
    assert far(plain.kernel, kernel) < 1e-6
    assert far(plain(images), layer(images)) < 2e-5


def test_transformed_says_what_it_needs():
    with pytest.raises(ValueError, match=r"WinogradConv2D: the layer must be built\. .* Build it first"):
        layers.WinogradConv2D(2).transformed()
    with pytest.raises(ValueError, match="FFTConv2D: the layer must be built"):
        layers.FFTConv2D(2, 3).transformed((None, 8, 8, 3))
    with pytest.raises(ValueError, match="is_transformed needs a known height"):
        layers.WinogradConv2D(2, is_transformed=True)(keras.Input((None, None, 3)))


KINDS = (layers.WinogradConv2D, layers.FFTConv2D, layers.PatchConv2D)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_network_of_one_becomes_one_of_the_other(kind, tmp_path):
    images = np.random.default_rng(4).normal(size=(2, 9, 9, 3)).astype("float32")
    image = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(5, 3, name="first", padding="same", bias_initializer="normal", activation="tanh")(image)
    second = keras.layers.Conv2D(4, 3, name="second", use_bias=False)
    inner = keras.Sequential([keras.Input((9, 9, 5)), second], name="inner")
    grouped = keras.layers.Conv2D(4, 3, groups=2, name="grouped")
    plain = keras.Model(image, keras.layers.ReLU()(grouped(inner(x))))
    plain.save(tmp_path / "plain.keras")
    other = layers.exchange_convolutions(keras.saving.load_model(tmp_path / "plain.keras"), kind)
    assert type(other.get_layer("first")) is kind
    assert type(other.get_layer("inner").get_layer("second")) is kind
    assert type(other.get_layer("grouped")) is keras.layers.Conv2D
    assert far(other(images), plain(images)) < 2e-5
    other.save(tmp_path / "other.keras")
    back = layers.exchange_convolutions(keras.saving.load_model(tmp_path / "other.keras"), keras.layers.Conv2D)
    assert type(back.get_layer("first")) is keras.layers.Conv2D
    np.testing.assert_array_equal(numpy(back(images)), numpy(plain(images)))
    assert back.get_layer("first").get_config() == plain.get_layer("first").get_config()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_one_loads_in_the_other(kind, tmp_path):
    def network(convolution):
        image = keras.Input((9, 9, 3))
        x = convolution(5, 3, name="first", bias_initializer="normal")(image)
        return keras.Model(image, convolution(4, 3, name="second", padding="same")(x))

    images = np.random.default_rng(4).normal(size=(2, 9, 9, 3)).astype("float32")
    plain, other, back = network(keras.layers.Conv2D), network(kind), network(keras.layers.Conv2D)
    plain.save(tmp_path / "plain.h5")
    other.load_weights(tmp_path / "plain.h5")
    assert far(other(images), plain(images)) < 2e-5
    other.save(tmp_path / "other.h5")
    back.load_weights(tmp_path / "other.h5")
    np.testing.assert_array_equal(numpy(back(images)), numpy(plain(images)))


def test_exchange_says_what_it_takes():
    with pytest.raises(TypeError, match=r"exchange_convolutions: model must be a keras.Model\. Received 'net'"):
        layers.exchange_convolutions("net", keras.layers.Conv2D)
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
    with pytest.raises(TypeError, match="kind must be a class of convolutions"):
        layers.exchange_convolutions(model, keras.layers.Dense)
    with pytest.raises(ValueError, match="tile is not known"):
        layers.exchange_convolutions(model, layers.WinogradConv2D, tile=9)


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 9, 3), (1, 1, 1), (17, 6, 12)])
def test_strassen_is_exact_on_whole_numbers(levels, shape):
    rows, inner, columns = shape
    random = np.random.default_rng(levels)
    left, right = random.integers(-9, 10, (rows, inner)), random.integers(-9, 10, (inner, columns))
    product = layers.strassen_product(left.astype("float32"), right.astype("float32"), levels=levels)
    np.testing.assert_array_equal(numpy(product), left @ right)


def test_strassen_takes_seven_products(monkeypatch):
    calls = []
    multiply = keras.ops.matmul
    monkeypatch.setattr(keras.ops, "matmul", lambda *both: calls.append(both[0].shape) or multiply(*both))
    layers.strassen_product(np.eye(8, dtype="float32"), np.eye(8, dtype="float32"), levels=2)
    assert len(calls) == 49
    assert {tuple(shape) for shape in calls} == {(2, 2)}


def test_strassen_says_what_it_takes():
    with pytest.raises(ValueError, match=r"must fit as matrices\. Received shapes \(2, 3\) and \(2, 3\)"):
        layers.strassen_product(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="levels=-1"):
        layers.strassen_product(np.eye(2), np.eye(2), levels=-1)
