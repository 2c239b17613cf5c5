"""BatchNormalization folded into convolutions gives the same features from fewer operations."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import random_images

import recipes
from recipes.bases import build_network, folded
from recipes.bases.simplifying import without_normalization


def with_statistics(model, random):
    """The model, its normalisation far from where it starts."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([weight + random.uniform(0, 0.5, weight.shape) for weight in layer.get_weights()])
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(random.normal(size=layer.bias.shape))
    return model


def check(model, images, fewer):
    """Same outputs, and so many normalisations less to compute."""
    plain, lean = (
        tf.function(run, autograph=False).get_concrete_function(tf.TensorSpec((None, *images.shape[1:]), "uint8"))
        for run in (lambda images: model(images, training=False), folded(model))
    )
    expected = plain(tf.constant(images)).numpy()
    np.testing.assert_allclose(lean(tf.constant(images)).numpy(), expected, atol=1e-5 * np.abs(expected).max())

    def products(run):
        """Multiplications of outputs, which hold a batch; those of kernels with factors are no matter."""
        operations = run.graph.get_operations()
        return sum(operation.type == "Mul" and operation.outputs[0].shape[0] is None for operation in operations)

    assert products(plain) - products(lean) == fewer


PAIRS = {
    "plain": keras.layers.Conv2D(5, 3, use_bias=False),
    "bias, strides": keras.layers.Conv2D(5, 3, strides=2, padding="same"),
    "dilation": keras.layers.Conv2D(5, 3, dilation_rate=(2, 2)),
    "groups": keras.layers.Conv2D(6, 1, groups=3),
    "depthwise": keras.layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("arguments", [{}, {"scale": False}, {"center": False, "axis": 3}])
def test_a_pair_becomes_one(name, arguments):
    random = np.random.default_rng(0)
    image = keras.Input((9, 9, 3))
    convolution = type(PAIRS[name]).from_config(PAIRS[name].get_config())
    normalized = keras.layers.BatchNormalization(**arguments)(convolution(image))
    model = with_statistics(keras.Model(image, keras.layers.ReLU(6)(normalized)), random)
    check(model, random_images(random, 2, 9), fewer=1)


class Clipped(keras.layers.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
        return keras.ops.relu(super().call(inputs, training=training, mask=mask))


def test_what_is_no_pair_stays():
    random = np.random.default_rng(0)
    image = keras.Input((8, 8, 3))
    active = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 1, activation="relu")(image))
    shared = keras.layers.Conv2D(4, 1)
    twice = keras.layers.Add()([keras.layers.BatchNormalization()(shared(image)), shared(image)])
    used = keras.layers.Conv2D(4, 1)(image)
    both = keras.layers.Concatenate()([keras.layers.BatchNormalization()(used), used])
    rows = keras.layers.BatchNormalization(axis=1)(keras.layers.Conv2D(4, 1)(image))
    first = keras.layers.BatchNormalization()(image)
    clipped = Clipped()(keras.layers.Conv2D(4, 1)(image))
    output = keras.layers.Concatenate()([active, twice, both, rows, first, clipped])
    check(with_statistics(keras.Model(image, output), random), random_images(random, 2, 8), fewer=0)


def test_half_precision_stays_as_it_is():
    random = np.random.default_rng(0)
    image = keras.Input((8, 8, 3))
    half = {"dtype": "mixed_bfloat16"}
    model = keras.Model(image, keras.layers.BatchNormalization(**half)(keras.layers.Conv2D(4, 3, **half)(image)))
    images = tf.constant(random_images(random, 2, 8))
    np.testing.assert_array_equal(folded(model)(images), model(images, training=False))


def test_a_pair_after_half_precision():
    random = np.random.default_rng(0)
    image = keras.Input((8, 8, 3))
    half = keras.layers.Conv2D(4, 3, dtype="mixed_float16")(image)
    model = keras.Model(image, keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(half)))
    check(with_statistics(model, random), random_images(random, 2, 8), fewer=1)


def test_arguments_may_be_named():
    image = keras.Input((8, 8, 3))
    named = keras.layers.BatchNormalization()(inputs=keras.layers.Conv2D(4, 3)(inputs=image))
    images = random_images(np.random.default_rng(0), 2, 8)
    check(keras.Model(image, named), images, fewer=1)
    assert build_network(keras.Model(image, named), image_size=8, class_count=3).model(images).shape == (2, 3)


def test_what_trains_is_read_at_every_call():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(image)))
    images = tf.constant(random_images(np.random.default_rng(0), 2, 8))
    model.layers[2].trainable = False
    run = tf.function(folded(model, is_trained=True))
    before = run(images).numpy()
    model.layers[1].kernel.assign(model.layers[1].kernel * 2)
    np.testing.assert_allclose(run(images), 2 * before, rtol=1e-5)


def test_in_training_only_what_is_frozen_is_folded():
    """Same outputs, gradients and moving statistics as the model itself."""
    random = np.random.default_rng(0)
    image = keras.Input((9, 9, 3))
    x = keras.layers.BatchNormalization(name="frozen")(keras.layers.Conv2D(4, 3, name="first")(image))
    x = keras.layers.ReLU()(x)
    x = keras.layers.BatchNormalization(name="training")(
        keras.layers.DepthwiseConv2D(3, use_bias=False, name="second")(x)
    )
    model = with_statistics(keras.Model(image, x), random)
    model.get_layer("frozen").trainable = False
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    images = tf.constant(random.normal(size=(4, 9, 9, 3)), "float32")
    weights, given = tf.constant(random.normal(size=(4, 5, 5, 4)), "float32"), []
    for one, run in ((model, folded(model, is_trained=True)), (copy, lambda x, training: copy(x, training=training))):
        with tf.GradientTape() as tape:
            outputs = run(images, True)
            loss = tf.reduce_sum((outputs * weights) ** 2)
        given.append([outputs, *tape.gradient(loss, [weight.value for weight in one.trainable_weights])])
        given[-1].extend(one.non_trainable_weights)
    for ours, expected in zip(*given, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    lean = folded(model, is_trained=True)
    graph = tf.function(lambda x: lean(x, True), autograph=False)
    kinds = [operation.type for operation in graph.get_concrete_function(images).graph.get_operations()]
    assert kinds.count("Rsqrt") == 1  # one normalization is left


@keras.saving.register_keras_serializable("tests")
class Block(keras.layers.Layer):
    """As users write them: without an argument for training, which the layers inside learn all the same."""

    def build(self, shape):
        self.convolution = keras.layers.Conv2D(4, 3, activity_regularizer=keras.regularizers.L2(0.1))
        self.normalization = keras.layers.BatchNormalization(momentum=0.5)
        self.convolution.build(shape)
        self.normalization.build(self.convolution.compute_output_shape(shape))

    def call(self, inputs):
        return self.normalization(self.convolution(inputs))

    def compute_output_shape(self, shape):
        return self.convolution.compute_output_shape(shape)


def test_training_reaches_what_is_nested_and_penalties_add_up():
    random = np.random.default_rng(0)
    image = keras.Input((9, 9, 4))
    shared = keras.layers.Dense(4, activity_regularizer=keras.regularizers.L2(0.1), name="shared")
    model = keras.Model(image, Block()(shared(shared(image))))
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    run = folded(model, is_trained=True)
    images = tf.constant(random.normal(size=(4, 9, 9, 4)), "float32")
    for training in (True, False):
        np.testing.assert_allclose(run(images, training), copy(images, training=training), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(sum(model.losses), sum(copy.losses), rtol=1e-5)
        for one, other in zip(model.weights, copy.weights, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "pairs"),
    [("mobilenet_v2_035", 52), *(pytest.param(*case, marks=pytest.mark.slow) for case in [("inception_v3", 94)])],
)
def test_whole_networks(name, pairs):
    random = np.random.default_rng(0)
    network = build_network(name, weights=None, image_size=96, class_count=3).model
    check(with_statistics(network, random), random_images(random, 4, 96), fewer=pairs)


BEFORE = {
    "convolution in groups": lambda: keras.layers.Conv2D(6, 3, groups=3, strides=2, padding="same"),
    "dilated": lambda: keras.layers.Conv2D(5, 3, dilation_rate=2, use_bias=False),
    "depthwise": lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
    "transposed": lambda: keras.layers.Conv2DTranspose(5, 3, strides=2, padding="same", use_bias=False),
    "transposed to as many": lambda: keras.layers.Conv2DTranspose(6, 2, strides=3),
    "separable": lambda: keras.layers.SeparableConv2D(5, 3, depth_multiplier=2, strides=2, padding="same"),
    "dense on pixels": lambda: keras.layers.Dense(5),
    "dense": lambda: (keras.layers.Flatten(), keras.layers.Dense(5, use_bias=False)),
    "1D": lambda: (keras.layers.Reshape((27, 18)), keras.layers.Conv1D(6, 3, padding="causal", groups=3)),
    "1D depthwise": lambda: (keras.layers.Reshape((27, 18)), keras.layers.DepthwiseConv1D(3, depth_multiplier=2)),
    "1D transposed": lambda: (keras.layers.Reshape((27, 18)), keras.layers.Conv1DTranspose(5, 3, strides=2)),
    "1D separable": lambda: (keras.layers.Reshape((27, 18)), keras.layers.SeparableConv1D(5, 3)),
    "3D": lambda: (keras.layers.Reshape((9, 9, 3, 2)), keras.layers.Conv3D(5, 2)),
    "3D transposed": lambda: (keras.layers.Reshape((9, 9, 3, 2)), keras.layers.Conv3DTranspose(5, 2)),
}
BEHIND = {
    "convolution": lambda: keras.layers.Conv2D(5, 3, strides=2, activation="relu"),
    "convolution in groups": lambda: keras.layers.Conv2D(9, 3, groups=3, dilation_rate=2, use_bias=False),
    "1×1, said to be padded": lambda: keras.layers.Conv2D(5, 1, strides=2, padding="same"),
    "depthwise": lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
    "separable": lambda: keras.layers.SeparableConv2D(5, 3, depth_multiplier=2, use_bias=False),
    "dense": lambda: keras.layers.Dense(5, activation="tanh", activity_regularizer="l2"),
    "1D": lambda: (keras.layers.Reshape((27, 18)), ..., keras.layers.Conv1D(6, 3, groups=2)),
    "1D depthwise": lambda: (keras.layers.Reshape((27, 18)), ..., keras.layers.DepthwiseConv1D(3)),
    "1D separable": lambda: (keras.layers.Reshape((27, 18)), ..., keras.layers.SeparableConv1D(5, 3)),
    "3D": lambda: (keras.layers.Reshape((9, 9, 3, 2)), ..., keras.layers.Conv3D(5, 2)),
}


def chained(*chain):
    """A model of layers in a row on images of 9×9×6, its weights far from where they start."""
    image = keras.Input((9, 9, 6))
    x = image
    for layer in chain:
        x = layer(x)
    random = np.random.default_rng(0)
    model = keras.Model(image, x)
    model.set_weights([value + random.uniform(0.1, 0.5, value.shape) for value in model.get_weights()])
    return model


def check_folded(model, stays=()):
    """Same outputs on images from `without_normalization`, with so many normalizations left; the folded model."""
    images = np.random.default_rng(1).normal(size=(3, *model.input_shape[1:])).astype("float32")
    weights = [value.copy() for value in model.get_weights()]
    expected = model(images, training=False).numpy()
    folded, notes = without_normalization(model)
    # Sums of up to 500 products in single precision, taken in another order.
    np.testing.assert_allclose(folded(images), expected, atol=1e-5 * np.abs(expected).max())
    left = [layer.name for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert set(left) == set(notes) == set(stays)
    np.testing.assert_array_equal(model(images, training=False), expected)
    for value, other in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)
    return folded


@pytest.mark.parametrize("name", BEFORE)
def test_a_layer_takes_in_what_follows(name):
    chain = BEFORE[name]()
    chain = chain if isinstance(chain, tuple) else (chain,)
    check_folded(chained(*chain, keras.layers.BatchNormalization(epsilon=0.5), keras.layers.ReLU()))


@pytest.mark.parametrize("name", BEHIND)
def test_a_layer_takes_in_what_comes_before(name):
    chain = BEHIND[name]()
    *first, last = [layer for layer in (chain if isinstance(chain, tuple) else (chain,)) if layer is not ...]
    check_folded(chained(*first, keras.layers.BatchNormalization(epsilon=0.5), last))


def test_numbers_by_hand():
    """(2x + 1 - 3) / sqrt(15 + 1) * 8 + 5 = 4x + 1, with the variance's 1 from epsilon."""
    model = chained(keras.layers.Dense(1), keras.layers.BatchNormalization(epsilon=1.0))
    dense, normalization = model.layers[1:]
    dense.set_weights([np.full((6, 1), 2.0), np.array([1.0])])
    normalization.set_weights([np.array([value]) for value in (8.0, 5.0, 3.0, 15.0)])
    kernel, bias = check_folded(model).get_weights()
    np.testing.assert_allclose(kernel, np.full((6, 1), 4.0), rtol=1e-6)
    np.testing.assert_allclose(bias, [1.0], rtol=1e-6)


def test_normalizations_in_a_row_and_on_both_sides():
    normalizations = [keras.layers.BatchNormalization(name=f"normalization_{number}") for number in range(5)]
    model = chained(
        normalizations[0],
        keras.layers.Conv2D(5, 3),
        normalizations[1],
        normalizations[2],
        keras.layers.ReLU(),
        normalizations[3],
        keras.layers.Conv2D(4, 1, activation="relu"),
        normalizations[4],
    )
    folded = check_folded(model, stays=["normalization_4"])
    assert [type(layer).__name__ for layer in folded.layers[1:]] == ["Conv2D", "ReLU", "Conv2D", "BatchNormalization"]


def test_what_stays_is_named_with_its_reason():
    image = keras.Input((9, 9, 6))
    normalized = [keras.layers.BatchNormalization(name=name) for name in ("padded", "summed", "turned")]
    x = normalized[0](keras.layers.ReLU()(image))
    x = keras.layers.Conv2D(6, 3, padding="same", name="padding")(x)
    x = keras.layers.ReLU()(normalized[1](keras.layers.Add()([x, image])))
    x = keras.layers.Conv2DTranspose(6, 3, name="transposed")(normalized[2](x))
    x = keras.layers.BatchNormalization(axis=1, name="rows_too")(keras.layers.Conv2D(4, 1, name="one")(x))
    x = keras.layers.Conv2D(4, 1, activation="relu", name="active")(x)
    model = keras.Model(image, keras.layers.BatchNormalization(name="last")(x))
    check_folded(model, stays=["padded", "summed", "turned", "rows_too", "last"])
    _, notes = without_normalization(model)
    assert "ReLU comes before" in notes["padded"] and "'padding' behind it pads" in notes["padded"]
    assert "Add comes before" in notes["summed"] and "ReLU comes behind" in notes["summed"]
    assert "Conv2DTranspose comes behind" in notes["turned"]
    assert "channels do not stand last" in notes["rows_too"]
    assert "activation of 'active'" in notes["last"]


def test_the_verb_unfolds_and_leaves_what_it_is_given_as_it_was(classifier, tmp_path):
    inner = chained(keras.layers.Conv2D(5, 3), keras.layers.BatchNormalization(name="inner"))
    image = keras.Input((9, 9, 6))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inner(image))))
    images = np.random.default_rng(0).normal(size=(2, 9, 9, 6)).astype("float32")
    expected = model(images, training=False).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        folded = recipes.fold(model)
    folded.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in loaded.layers)
    np.testing.assert_allclose(loaded(images), expected, atol=1e-5 * np.abs(expected).max())
    for layer in folded.layers[1:]:
        layer.set_weights([0 * value for value in layer.get_weights()])
    np.testing.assert_array_equal(model(images, training=False), expected)
    result = recipes.fold(classifier)
    assert result.class_names == classifier.class_names and result.model is not classifier.model
    photos = random_images(np.random.default_rng(0), 4, 16)
    np.testing.assert_allclose(result.model(photos), classifier.model(photos, training=False), atol=1e-5)


def test_the_verb_names_what_stays_and_refuses_what_is_no_graph():
    chain = [keras.layers.ReLU(), keras.layers.BatchNormalization(name="behind_relu"), keras.layers.ReLU()]
    with pytest.warns(UserWarning, match="1 BatchNormalization layers stay. 'behind_relu': a ReLU comes before it"):
        recipes.fold(chained(*chain))
    with pytest.raises(TypeError, match="fold: model must be a Result"):
        recipes.fold("network")
    one, two = keras.Input((4,)), keras.Input((4,))
    with pytest.raises(TypeError, match="fold: model must be functional or sequential, with one input"):
        recipes.fold(keras.Model([one, two], keras.layers.Add()([one, two])))
    with pytest.raises(TypeError, match="fold: model must be functional"):
        recipes.fold(keras.Sequential([keras.layers.Dense(3)]))


@pytest.mark.parametrize(
    ("name", "stay"),
    [
        ("small_resnet", 0),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("resnet50_v2", 17), ("densenet121", 62), ("mobilenet_v3_small", 0), ("xception", 0)]
        ),
    ],
)
def test_networks_without_their_normalizations(name, stay):
    """All of them go but those of networks that normalize before the activation."""
    random = np.random.default_rng(0)
    network = build_network(name, weights=None, image_size=71 if name == "xception" else 32, class_count=3).model
    model = with_statistics(network, random)
    folded, notes = without_normalization(model)
    assert len(notes) == sum(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers) == stay
    images = random_images(random, 2, model.input_shape[1]).astype("float32")
    np.testing.assert_allclose(folded(images), model(images, training=False), atol=1e-5)


class Own(keras.Model):
    """No graph of layers."""

    def __init__(self, width):
        super().__init__()
        self.dense = keras.layers.Dense(width)

    def call(self, images):
        return self.dense(images)


def test_a_model_of_a_class_of_its_own_is_refused():
    model = Own(3)
    model(np.zeros((1, 4)))
    with pytest.raises(TypeError, match="fold: model must be functional or sequential"):
        recipes.fold(model)


def test_the_verb_counts_anew(classifier):
    folded = recipes.fold(classifier)
    assert folded.report.cost["parameters"] == folded.model.count_params() < classifier.report.cost["parameters"]
