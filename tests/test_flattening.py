"""Copies in one flat graph give what the model gives."""

import keras
import numpy as np
import pytest

import layers
from recipes.bases.flattening import flat_copy
from recipes.bases.folding import find_folds
from recipes.bases.precisions import halved, in_float32, with_half_weights
from recipes.bases.rewiring import Wiring, detached

KINDS = {
    "twice a number": lambda image: image * 2.0,
    "a number more": lambda image: image + 1.0,
    "one less": lambda image: 1.0 - image,
    "a sum": lambda image: image + keras.layers.ReLU()(image),
}


def same(one, other, images):
    np.testing.assert_allclose(one(images, training=False), other(images, training=False), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_nested_model_may_be_called_on_two_things(kind, random):
    image, inner_image = keras.Input((4, 4, 3)), keras.Input((4, 4, 3))
    inner = keras.Model(inner_image, KINDS[kind](inner_image))
    other = inner(keras.layers.Conv2D(3, 1, name="between")(image))
    model = keras.Model(image, keras.layers.Concatenate()([inner(image), other]))
    same(flat_copy(model, "test"), model, random.normal(size=(2, 4, 4, 3)).astype("float32"))


def test_a_block_of_inception_resnet_may_be_called_twice(random):
    network = keras.applications.InceptionResNetV2(include_top=False, weights=None, input_shape=(75, 75, 3))
    scaled = next(layer for layer in network.layers if type(layer).__name__ == "CustomScaleLayer")
    inner_image = keras.Input((4, 4, 3))
    inner = keras.Model(
        inner_image, scaled.from_config(scaled.get_config())([inner_image, keras.layers.ReLU()(inner_image)])
    )
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, keras.layers.Subtract()([inner(image), inner(keras.layers.Conv2D(3, 1)(image))]))
    same(flat_copy(model, "test"), model, random.normal(size=(2, 4, 4, 3)).astype("float32"))


@pytest.mark.parametrize(
    "prepare", [lambda image: image * (1 / 127.5) - 1.0, lambda image: 1.0 - image / 255, lambda image: image + 1]
)
def test_whole_numbers_are_prepared_as_the_model_prepares_them(prepare, random):
    image = keras.Input((4, 4, 1), dtype="uint8")
    model = keras.Model(image, prepare(image))
    images = random.integers(0, 255, (3, 4, 4, 1)).astype("uint8")
    copy = flat_copy(model, "test")
    np.testing.assert_allclose(copy(images), model(images), atol=1e-6)
    assert copy.output.dtype == model.output.dtype


def normalizing(random):
    """A network with a Normalization that has seen images, and images."""
    images = random.uniform(0, 255, (8, 6, 6, 3)).astype("float32")
    layer = keras.layers.Normalization()
    layer.adapt(images)
    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3)(layer(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax")(x)), images


def test_statistics_of_a_normalization_come_along(random):
    model, images = normalizing(random)
    same(in_float32(model, "test"), model, images)
    np.testing.assert_allclose(halved(model, "bfloat16", "test")(images), model(images), atol=0.02)
    same(layers.exchange_convolutions(model, layers.PatchConv2D), model, images)
    crops = keras.Input((7, 7, 3))
    averaged = keras.Model(crops, layers.CropAverage(model, crops=2)(crops))
    images = random.uniform(0, 255, (2, 7, 7, 3)).astype("float32")
    same(flat_copy(averaged, "test"), averaged, images)
    same(layers.exchange_convolutions(averaged, layers.PatchConv2D), averaged, images)
    np.testing.assert_allclose(halved(averaged, "bfloat16", "test")(images), averaged(images), atol=0.02)


def test_a_head_of_neighbours_comes_along_with_its_examples(random):
    image = keras.Input((4, 4, 1))
    head = layers.KNNClassifier(k=2, name="votes")
    head.fit(random.normal(size=(9, 16)).astype("float32"), np.arange(9) % 3)
    model = keras.Model(image, head(keras.layers.Flatten()(image)))
    images = random.normal(size=(5, 4, 4, 1)).astype("float32")
    for copy in (flat_copy(model, "test"), detached(model), layers.exchange_convolutions(model, layers.PatchConv2D)):
        same(copy, model, images)
        assert [weight.path.split("/")[-1] for weight in copy.weights] == ["features", "labels", "center", "size"]
    # A store that has grown holds its weights in the same order.
    head.add(random.normal(size=(20, 16)).astype("float32"), np.full(20, 3))
    copy = flat_copy(keras.Model(image, head(keras.layers.Flatten()(image))), "test")
    assert copy.output_shape == (None, 4)


@pytest.mark.parametrize(
    "last", [keras.layers.LayerNormalization, keras.layers.PReLU, lambda: layers.KNNClassifier(k=2, name="votes")]
)
def test_half_precision_ends_in_single(last, random):
    image = keras.Input((4, 4, 1))
    layer = last()
    if isinstance(layer, layers.KNNClassifier):
        layer.fit(random.normal(size=(9, 6)).astype("float32"), np.arange(9) % 3)
    model = keras.Model(image, layer(keras.layers.Dense(6)(keras.layers.Flatten()(image))))
    model.set_weights([w + random.normal(size=w.shape) if w.dtype == "float32" else w for w in model.get_weights()])
    images = random.normal(size=(5, 4, 4, 1)).astype("float32")
    half = halved(model, "bfloat16", "test")
    assert half.output.dtype == "float32" and half.layers[-2].compute_dtype == "bfloat16"
    assert [weight.dtype for weight in half.layers[-1].weights] == [weight.dtype for weight in layer.weights]
    np.testing.assert_allclose(half(images), model(images), atol=0.1, rtol=0.05)


def test_half_precision_says_where_it_ends(random):
    model, _ = normalizing(random)
    model.layers[-1].kernel.assign(np.full(model.layers[-1].kernel.shape, 1e5))
    with pytest.raises(ValueError, match=r"float16 holds numbers up to 65504\. Received larger ones in 'dense"):
        with_half_weights(model, "test")


def test_a_network_of_mixed_precision_is_stored_in_single(random):
    model, images = normalizing(random)
    mixed = in_float32(model, "test")
    with_half = with_half_weights(halved(mixed, "bfloat16", "test"), "test")
    assert {layer.compute_dtype for layer in with_half.layers} == {"float32"}
    np.testing.assert_allclose(with_half(images), model(images), atol=0.02)


def test_what_computes_with_the_statistics_of_its_batch_is_not_folded(random):
    image = keras.Input((4, 4, 3))
    outputs = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(4, 3, name="conv")(image), training=True)
    assert not find_folds(Wiring(keras.Model(image, outputs)))
