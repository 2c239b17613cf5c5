"""Laws over the catalogue of networks and over the classifiers built from it."""

import base64
import dataclasses
import functools
import hashlib
import http.client
import http.server
import json
import math
import os
import random
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import keras
import numpy as np
import pytest
from fresh_python import run_python

from recipes.bases import build_network, default_image_size, find_base, least_image_size, list_bases
from recipes.bases.catalogue import ROWS
from recipes.bases.downloads import impatient_downloads
from recipes.bases.naming import named_layers
from recipes.bases.preprocessing import preprocessing_model
from recipes.bases.weights import SHIPPED

REPOSITORY = Path(__file__).resolve().parents[1]
# Each stands for a family and for something particular to it.
FEW = ("small_resnet", "mobilenet_025", "vgg16", "mobilenet_v3_small", "inception_v3", "convnext_tiny")


def images(size, channels=3, count=2, seed=0):
    """float32 images of random pixels, 0–255."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels)).astype("float32")


def slow(name):
    """A row of a parametrized test that the fast tests leave out."""
    return pytest.param(name, marks=pytest.mark.slow)


def build(base, size=None, class_count=3, **arguments):
    """A network at the base's least size, from random weights, unless told otherwise."""
    arguments = {"weights": None, "image_size": size or least_image_size(base), "class_count": class_count} | arguments
    return build_network(base, **arguments)


@functools.cache
def few(name):
    """One of `FEW`, for tests that leave it as it is."""
    return build(name)


def weights_of(network):
    """Every weight by its path."""
    return {weight.path: weight.numpy() for weight in network.model.weights}


def constructor_of(row):
    """The function of keras.applications, without a chosen width."""
    return getattr(row.constructor, "func", row.constructor)


def application_module(row):
    """The module of keras.applications, with `preprocess_input`."""
    return getattr(keras.applications, constructor_of(row).__module__.rsplit(".", 1)[-1])


def check_laws(network, size, class_count):
    """What holds for every network."""
    model = network.model
    assert not [layer.name for layer in model.layers if isinstance(layer, keras.Model)], "nested models"
    public = {value for value in vars(keras.layers).values() if isinstance(value, type)}
    assert not {type(layer) for layer in model.layers} - public, "layers that are not public Keras"
    assert len({operation.name for operation in model.operations}) == len(model.operations)
    weighted = [layer.name for layer in model.layers if layer.weights and layer.name not in network.head]
    placed = [name for block in network.blocks for name in block.layers]
    assert sorted(name for name in placed if model.get_layer(name).weights) == sorted(weighted)
    assert len(set(placed)) == len(placed)
    names = [block.name for block in network.blocks]
    assert len(set(names)) == len(names)
    assert [layer.name for layer in model.layers if layer.name in network.head] == list(network.head)
    probabilities = model.predict(images(size, model.input_shape[-1]), verbose=0)
    assert probabilities.shape == (2, class_count)
    assert np.isfinite(probabilities).all()
    # Sums of a few float32 numbers.
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def check_same_features(network, row, size):
    """The features equal those that Keras' own network gives to images that its own function prepared."""
    features = keras.Model(network.model.input, network.model.get_layer("head_pool").output)
    reference = row.constructor(include_top=False, weights=None, input_shape=(size, size, 3))
    for name, layer in named_layers(reference).items():
        if layer.weights:
            layer.set_weights(features.get_layer(name).get_weights())
    pixels = images(size)
    expected = reference.predict(_prepared(row, pixels), verbose=0).mean(axis=(1, 2))
    # Other kernels may be chosen for the pooled graph, and 50 layers carry a difference in the last bit along.
    np.testing.assert_allclose(features.predict(pixels, verbose=0), expected, rtol=2e-3, atol=1e-4 * expected.max())


def _prepared(row, pixels):
    if row.preprocessing == "torch":
        return (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return application_module(row).preprocess_input(pixels.copy())


# The catalogue


def test_catalogue_covers_keras_applications():
    networks = {value for name, value in vars(keras.applications).items() if name[0].isupper() and callable(value)}
    assert len(networks) >= 38
    assert networks <= {constructor_of(row) for row in ROWS}


def test_catalogue_names_are_plain_and_unique():
    assert len(set(list_bases())) == len(ROWS) == len(list_bases())
    assert all(name == name.lower() and name.isidentifier() for name in list_bases())
    for name in ("vgg16", "resnet50_v2", "mobilenet_v2_035", "efficientnet_v2_b0", "convnext_tiny", "small_resnet"):
        assert find_base(name).name == name


def test_misspelt_base_gets_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'vgg16'"):
        find_base("vgg-16")
    with pytest.raises(ValueError, match="Did you mean 'mobilenet_v2'"):
        build("mobilnet_v2", 32)


@pytest.mark.parametrize("name", FEW)
def test_laws_hold(name):
    check_laws(few(name), least_image_size(name), 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_bases())
def test_laws_hold_for_the_whole_catalogue(name):
    keras.backend.clear_session()
    check_laws(build(name), least_image_size(name), 3)


@pytest.mark.parametrize(
    "name", ("small_resnet", "vgg16", "mobilenet_v3_small", slow("inception_v3"), slow("convnext_tiny"))
)
def test_features_equal_keras_applications(name):
    check_same_features(few(name), find_base(name), least_image_size(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    (
        "resnet50",
        "resnet50_v2",
        "inception_resnet_v2",
        "xception",
        "densenet121",
        "nasnet_mobile",
        "mobilenet",
        "mobilenet_v2",
        "mobilenet_v3_large",
        "efficientnet_b0",
        "efficientnet_v2_b0",
        "efficientnet_v2_s",
    ),
)
def test_features_of_every_family_equal_keras_applications(name):
    check_same_features(build(name), find_base(name), least_image_size(name))


@pytest.mark.parametrize("row", [row for row in ROWS if row.weights == "imagenet"], ids=lambda row: row.name)
def test_preprocessing_equals_keras_own(row):
    pixels = images(16)
    expected = application_module(row).preprocess_input(pixels.copy())
    received = preprocessing_model(row.preprocessing, 16, 16, 3, 3).predict(pixels, verbose=0)
    # Keras divides where Rescaling multiplies: a few units in the last place of numbers up to 256 ("caffe") or 3.
    np.testing.assert_allclose(received, expected, rtol=0, atol=4e-5 if row.preprocessing == "caffe" else 2e-6)


def test_least_size_is_least():
    for name in ("vgg16", "inception_v3", "xception", "nasnet_mobile"):
        least = least_image_size(name)
        with pytest.raises(ValueError, match="at least"):
            find_base(name).constructor(include_top=False, weights=None, input_shape=(least - 1, least - 1, 3))


# Blocks


def test_blocks_are_those_of_the_papers():
    names = {name: [block.name for block in few(name).blocks] for name in FEW}
    assert names["vgg16"] == ["block1", "block2", "block3", "block4", "block5"]
    assert names["mobilenet_025"] == ["stem"] + [f"block_{index}" for index in range(1, 14)]
    assert names["mobilenet_v3_small"] == ["stem"] + [f"block_{index}" for index in range(11)] + ["top"]
    assert names["inception_v3"] == ["stem"] + [f"mixed{index}" for index in range(11)]
    assert names["small_resnet"] == ["stem"] + [f"stage{s}_block{u}" for s in range(3) for u in range(2)]
    depths = enumerate((3, 3, 9, 3))
    stages = [[f"stage_{stage}_block_{index}" for index in range(depth)] for stage, depth in depths]
    expected = ["stem", *stages[0], "downsampling_0", *stages[1], "downsampling_1", *stages[2], "downsampling_2"]
    assert names["convnext_tiny"] == [*expected, *stages[3], "top"]


@pytest.mark.slow
def test_cells_of_nasnet_are_its_blocks():
    cells = ["stem", "stem_1", "stem_2", *(f"cell_{index}" for index in range(4)), "reduce_4"]
    cells += [*(f"cell_{index}" for index in range(5, 9)), "reduce_8", *(f"cell_{index}" for index in range(9, 13))]
    assert [block.name for block in build("nasnet_mobile").blocks] == cells


def test_layers_of_inception_without_names_join_the_block_they_feed():
    # Szegedy et al. 2015b: the stem has five convolutions, the first module seven.
    stem, module, *_ = few("inception_v3").blocks
    assert [name for name in stem.layers if name.startswith("conv2d")] == ["conv2d"] + [
        f"conv2d_{i}" for i in range(1, 5)
    ]
    assert {name for name in module.layers if name.startswith("conv2d")} == {f"conv2d_{i}" for i in range(5, 12)}


def test_blocks_of_a_users_model_are_cut_where_all_paths_meet():
    image = keras.Input((8, 8, 3))
    stem = keras.layers.Conv2D(4, 3, padding="same", name="first")(image)
    stem = keras.layers.ReLU()(keras.layers.BatchNormalization()(stem))
    left = keras.layers.Conv2D(4, 3, padding="same", name="left")(stem)
    right = keras.layers.Conv2D(4, 1, name="right")(stem)
    joined = keras.layers.MaxPooling2D()(keras.layers.Add()([left, right]))
    output = keras.layers.Conv2D(5, 3, name="last")(joined)
    network = build(keras.Model(image, output), 8)
    assert [block.layers for block in network.blocks] == [
        ("first", "batch_normalization", "re_lu"),
        ("left", "right", "add", "max_pooling2d"),
        ("last",),
    ]
    assert [block.name for block in network.blocks] == ["first", "left", "last"]
    check_laws(network, 8, 3)


# Users' models


def users_classifier():
    """A classifier with a nested base called with `training=False`, a nested Sequential and a layer used twice."""
    inner_image = keras.Input((None, None, 3))
    inner = keras.layers.Conv2D(4, 3, name="conv")(keras.layers.Rescaling(1 / 255)(inner_image))
    inner = keras.Model(inner_image, keras.layers.BatchNormalization()(inner), name="inner")
    twice = keras.layers.Conv2D(4, 3, padding="same", activation="tanh", name="twice")
    tail = keras.Sequential([keras.Input((None, None, 4)), keras.layers.Conv2D(6, 3, name="conv"), keras.layers.ReLU()])
    image = keras.Input((12, 12, 3))
    maps = tail(twice(twice(inner(image, training=False)) * 2.0))
    vector = keras.layers.GlobalMaxPooling2D(name="features")(maps)
    inner.trainable = False
    return keras.Model(image, keras.layers.Dense(7, activation="softmax")(vector), name="own")


def test_users_model_is_copied_exactly_and_stays_as_it_is():
    model = users_classifier()
    before = [weight.numpy() for weight in model.weights]
    flags = [layer.trainable for layer in model.layers]
    network = build_network(model, image_size=12, class_count=3)
    check_laws(network, 12, 3)
    assert network.name == "own" and network.pretrained and network.head == ("probabilities",)
    assert all(layer.trainable for layer in network.model.layers)
    features = keras.Model(network.model.input, network.model.get_layer("probabilities").input)
    expected = keras.Model(model.input, model.get_layer("features").output)
    # The same operations in the same order: only kernels' choices may differ, in the last bits.
    np.testing.assert_allclose(features(images(12)), expected(images(12)), rtol=1e-5, atol=1e-6)
    network.model.compile("sgd", "sparse_categorical_crossentropy")
    network.model.fit(images(12), np.array([0, 1]), verbose=0)
    assert all((old == new.numpy()).all() for old, new in zip(before, model.weights, strict=True))
    assert flags == [layer.trainable for layer in model.layers]


def test_users_model_without_weights_starts_anew_from_the_seed():
    model = users_classifier()
    first, second, other = (weights_of(build(model, 12, seed=seed)) for seed in (1, 1, 2))
    kernel = next(path for path in first if path.startswith("twice/kernel"))
    assert (first[kernel] == second[kernel]).all() and (first[kernel] != other[kernel]).any()
    assert (first[kernel] != model.get_layer("twice").kernel.numpy()).any()


@pytest.mark.parametrize("ending", ("dense", "activation", "features", "maps"))
def test_only_a_classifier_at_the_end_is_cut_off(ending):
    image = keras.Input((6, 6, 3))
    maps = keras.layers.Conv2D(4, 3, name="maps")(image)
    vector = keras.layers.Flatten(name="vector")(maps)
    endings = {
        "dense": lambda: keras.layers.Dense(5, "sigmoid")(vector),
        "activation": lambda: keras.layers.Activation("softmax")(keras.layers.Dense(5)(vector)),
        "features": lambda: keras.layers.Dense(5, "relu", name="kept")(vector),
        "maps": lambda: maps,
    }
    network = build(keras.Model(image, endings[ending]()), 6)
    width = network.model.get_layer("probabilities").kernel.shape[0]
    assert width == {"dense": 64, "activation": 64, "features": 5, "maps": 4}[ending]
    assert ("head_pool" in network.head) == (ending == "maps")


def test_base_from_a_file(tmp_path):
    model = users_classifier()
    model.save(tmp_path / "my é 1.keras")
    network = build_network(str(tmp_path / "my é 1.keras"), image_size=12, class_count=3)
    same = build_network(model, image_size=12, class_count=3)
    assert network.name == "my_1"
    assert default_image_size(tmp_path / "my é 1.keras", "imagenet", (50, 60)) == (12, 12)
    np.testing.assert_allclose(network.model.predict(images(12)), same.model.predict(images(12)), rtol=1e-5)


def test_files_are_loaded_in_safe_mode_only(tmp_path):
    image = keras.Input((6, 6, 3))
    output = keras.layers.Lambda(lambda x: x * 2)(keras.layers.Conv2D(4, 3)(image))
    keras.Model(image, output).save(tmp_path / "unsafe.keras")
    with pytest.raises(ValueError, match="safe mode"):
        build_network(tmp_path / "unsafe.keras", image_size=6, class_count=2)


def test_a_network_is_itself_a_base():
    first = build("small_resnet", 16, class_count=4)
    second = build_network(first.model, image_size=16, class_count=3)
    check_laws(second, 16, 3)
    pooled = [keras.Model(n.model.input, n.model.get_layer("probabilities").input) for n in (first, second)]
    np.testing.assert_allclose(pooled[0].predict(images(16)), pooled[1].predict(images(16)), rtol=1e-5)


# Seeds and names


@pytest.mark.parametrize("name", ("small_resnet", "mobilenet_025", slow("convnext_tiny")))
def test_weights_come_from_the_seed_alone(name):
    first = weights_of(build(name, seed=3, head=(8,), dropout=0.5))
    random.seed(1)
    keras.layers.Conv2D(3, 3)
    second = weights_of(build(name, seed=3, head=(8,), dropout=0.5))
    other = weights_of(build(name, seed=4, head=(8,), dropout=0.5))
    assert list(first) == list(second) == list(other)
    assert all((first[path] == second[path]).all() for path in first)
    kernels = [path for path in first if path.endswith("kernel") and "layer_scale" not in path]
    assert all((first[path] != other[path]).any() for path in kernels)
    # No two kernels of one shape start alike.
    alike = {first[path].tobytes() for path in kernels}
    assert len(alike) == len(kernels)


def test_names_do_not_depend_on_what_was_built_before():
    first = [operation.name for operation in few("inception_v3").model.operations]
    users_classifier()
    assert [operation.name for operation in build("inception_v3").model.operations] == first
    assert {"conv2d", "conv2d_93", "batch_normalization_93", "mixed10"} <= set(first)


def test_global_state_is_as_before(monkeypatch):
    monkeypatch.setattr(keras.config, "image_data_format", keras.config.image_data_format)
    keras.config.set_image_data_format("channels_first")
    try:
        python_state, numpy_state = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        network = build("vgg16")
        assert random.getstate() == python_state
        assert np.random.get_state()[1].tolist() == numpy_state  # noqa: NPY002
        assert keras.config.image_data_format() == "channels_first"
        assert network.model.get_layer("block1_conv1").output.shape[1:] == (32, 32, 64)
    finally:
        keras.config.set_image_data_format("channels_last")


# Start of training


@pytest.mark.parametrize("name", ("vgg16", slow("vgg19"), "mobilenet_025", slow("convnext_tiny"), "small_resnet"))
@pytest.mark.parametrize("head", ("linear", (16,)))
def test_the_loss_starts_near_ln_of_the_classes(name, head):
    model = build(name, 32, class_count=10, head=head).model
    # As in a step of training, where BatchNormalization takes the batch's own statistics.
    probabilities = np.array(model(images(32, count=16), training=True))
    assert -np.log(probabilities).mean() == pytest.approx(math.log(10), abs=0.1)


def test_the_signal_keeps_its_power_through_a_plain_network():
    # With Keras' own start it falls below 1e-4 of this, and nothing is learnt.
    model = build("vgg16", 32).model
    names = [f"block{block}_conv{index}" for block, index in ((1, 1), (3, 3), (5, 3))]
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in names]).predict(images(32), verbose=0)
    for output in outputs:
        assert 0.1 < np.sqrt((output**2).mean()) < 5


def test_head_layers_and_their_order():
    network = build("small_resnet", 8, class_count=5, head=(7, 6), dropout=0.25)
    assert network.head == ("head_pool", "head_dense_1", "head_dense_2", "head_dropout", "probabilities")
    layers = [network.model.get_layer(name) for name in network.head]
    assert [layer.units for layer in layers[1:3]] == [7, 6] and layers[3].rate == 0.25
    assert [layer.kernel.shape for layer in (layers[1], layers[2], layers[4])] == [(128, 7), (7, 6), (6, 5)]


def test_probabilities_are_float32_under_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        network = build("mobilenet_v3_small", 32, head=(8,))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    model = network.model
    assert model.get_layer("conv").compute_dtype == model.get_layer("head_dense_1").compute_dtype == "float16"
    assert model.output.dtype == model.get_layer("rescaling").compute_dtype == "float32"
    check_laws(network, 32, 3)


# Channels


@pytest.mark.parametrize("name", ("vgg16", "small_resnet", slow("mobilenet_v3_small")))
def test_grey_images_give_what_grey_rgb_images_give(name):
    grey = images(32, channels=1)
    single = build(name, 32, channels=1).model.predict(grey, verbose=0)
    triple = build(name, 32).model.predict(np.repeat(grey, 3, axis=-1), verbose=0)
    np.testing.assert_array_equal(single, triple)


@pytest.mark.parametrize("name", ("vgg16", "small_resnet", slow("convnext_tiny"), slow("efficientnet_b0")))
def test_further_channels_widen_the_first_convolution(name, tmp_path):
    row = find_base(name)
    reference = row.constructor(include_top=False, weights=None, input_shape=(32, 32, 3))
    reference.save_weights(tmp_path / "base.weights.h5")
    arguments = {"weights": tmp_path / "base.weights.h5", "image_size": 32, "class_count": 3}
    narrow = build_network(name, **arguments).model
    wide = build_network(name, channels=5, **arguments).model
    assert wide.input_shape == (None, 32, 32, 5)
    first = next(layer for layer in narrow.layers if isinstance(layer, keras.layers.Conv2D))
    kernel, widened = first.kernel.numpy(), wide.get_layer(first.name).kernel.numpy()
    np.testing.assert_allclose(widened[:, :, :3], kernel * 3 / 5, rtol=1e-6)
    np.testing.assert_allclose(widened[:, :, 4], kernel.mean(axis=2) * 3 / 5, rtol=1e-5, atol=1e-8)
    for layer in narrow.layers:
        if layer.weights and layer.name not in (first.name, "normalization"):
            for old, new in zip(layer.get_weights(), wide.get_layer(layer.name).get_weights(), strict=True):
                np.testing.assert_array_equal(old, new)


def test_further_channels_are_prepared_with_the_mean_constants():
    pixels = images(4, channels=5)
    caffe = preprocessing_model("caffe", 4, 4, 5, 5).predict(pixels, verbose=0)
    mean = np.array([103.939, 116.779, 123.68])
    expected = pixels[..., [2, 1, 0, 3, 4]] - np.append(mean, [mean.mean()] * 2)
    # float32 numbers up to 256.
    np.testing.assert_allclose(caffe, expected, rtol=0, atol=4e-5)


def test_two_channels_are_refused():
    with pytest.raises(ValueError, match=r"channels must be 3, 1, or more than 3\. Received 2"):
        build("vgg16", 32, channels=2)


# Weights


def test_weights_from_files_of_each_kind(tmp_path):
    row = find_base("mobilenet_025")
    headless = row.constructor(include_top=False, weights=None, input_shape=(32, 32, 3))
    whole = row.constructor(include_top=True, weights=None)
    headless.save_weights(tmp_path / "headless.weights.h5")
    whole.save_weights(tmp_path / "whole.weights.h5")
    headless.save(tmp_path / "headless.keras")
    for file, model in (("headless.weights.h5", headless), ("whole.weights.h5", whole), ("headless.keras", headless)):
        network = build_network("mobilenet_025", weights=str(tmp_path / file), image_size=48, class_count=2)
        assert network.pretrained
        for name in ("conv1", "conv_pw_7", "conv_pw_13_bn"):
            for old, new in zip(model.get_layer(name).weights, network.model.get_layer(name).weights, strict=True):
                np.testing.assert_array_equal(old.numpy(), new.numpy())


def test_a_finetuned_network_lends_its_weights(tmp_path):
    first = build("mobilenet_025", 32, class_count=4, seed=5)
    first.model.save(tmp_path / "model.keras")
    second = build_network("mobilenet_025", weights=tmp_path / "model.keras", image_size=64, class_count=2)
    kernels = [network.model.get_layer("conv_pw_9").kernel.numpy() for network in (first, second)]
    np.testing.assert_array_equal(*kernels)


@pytest.mark.slow
def test_published_slip_of_efficientnet_is_mended_in_files(tmp_path):
    base = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    layer = next(layer for layer in base.layers if isinstance(layer, keras.layers.Normalization))
    mean, deviation = [0.485, 0.456, 0.406], np.array([0.229, 0.224, 0.225])
    # Saved as they are; that the layer itself computes with other numbers until told does not matter here.
    layer.set_weights([np.array(mean), deviation, np.array(0)])
    base.save_weights(tmp_path / "b0.weights.h5")
    network = build_network("efficientnet_b0", weights=tmp_path / "b0.weights.h5", image_size=32, class_count=2)
    prepared = keras.Model(network.model.input, network.model.get_layer("normalization").output)
    expected = (images(32) / 255 - mean) / deviation
    np.testing.assert_allclose(prepared.predict(images(32), verbose=0), expected, rtol=1e-4, atol=1e-5)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    build("small_resnet", 8).model.save(tmp_path / "other.keras")
    build("small_resnet", 8).model.save_weights(tmp_path / "other.weights.h5")
    for file in ("other.keras", "other.weights.h5"):
        with pytest.raises(ValueError, match=rf"must fit base='mobilenet_025'. Received .*{file}"):
            build("mobilenet_025", 32, weights=str(tmp_path / file))
    with pytest.raises(FileNotFoundError, match=r"missing\.keras"):
        build("mobilenet_025", 32, weights=tmp_path / "missing.keras")
    with pytest.raises(
        ValueError, match=r'must be "pretrained" or "imagenet" .* Received \'imagenette\'. Leave weights'
    ):
        build("mobilenet_025", 32, weights="imagenette")
    with pytest.raises(ValueError, match=r'must be "pretrained" or "cifar10" for base=.small_resnet.'):
        build("small_resnet", 32, weights="imagenet")
    with pytest.raises(ValueError, match=r"no weights are published .* Pass weights=None"):
        build("cifar_resnet32", 32, weights="pretrained")
    with pytest.raises(ValueError, match=r"image_size must be 224 pixels for base='nasnet_mobile'. Received 64×64"):
        build("nasnet_mobile", 64, weights="imagenet")


def test_published_weights_whose_hash_keras_does_not_know_are_checked(tmp_path, monkeypatch):
    """A file of other content, in the place of a download, is told from the right one."""
    original, asked = keras.utils.get_file, []

    def get_file(name, origin, **options):
        asked.append((name, options["file_hash"]))
        (tmp_path / "published.h5").write_bytes(b"something else")
        return original(name, (tmp_path / "published.h5").as_uri(), cache_dir=tmp_path, **options)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    for name in ("mobilenet_025", "mobilenet_v2_035"):
        with pytest.raises(ValueError, match="corrupted"):
            build_network(name, image_size=224, class_count=2)
    assert [len(digest) for _, digest in asked] == [64, 64]


def test_a_failed_download_says_what_to_do():
    def constructor(**_):
        # What keras.utils.get_file raises.
        raise Exception("URL fetch failure on https://example.invalid/weights.h5: None -- no name")

    row = dataclasses.replace(find_base("vgg16"), constructor=constructor)
    with pytest.raises(ConnectionError, match=r"KERAS_HOME .* weights=None"):
        build_network(row, image_size=224, class_count=2)


def test_downloads_do_not_hang(monkeypatch):
    monkeypatch.setattr("recipes.bases.downloads.REACH_SECONDS", 0.2)
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: time.sleep(1) or socket.socket())
    before = getattr(urllib.request, "_opener", None)
    start = time.monotonic()
    with impatient_downloads(), pytest.raises(urllib.error.URLError, match=r"no answer from example\.invalid"):
        urllib.request.urlopen("https://example.invalid/file")
    assert time.monotonic() - start < 0.9
    assert getattr(urllib.request, "_opener", None) is before


@pytest.mark.parametrize("is_whole", [True, False])
def test_downloads_are_compared_with_the_hash_that_the_host_sends(monkeypatch, tmp_path, is_whole):
    content = bytes(range(256)) * 100
    digest = base64.b64encode(hashlib.md5(content).digest()).decode()

    class Host(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            sent = content if is_whole else content[:-1] + b"?"
            self.send_response(200)
            self.send_header("x-goog-hash", "crc32c=AAAAAA==")
            self.send_header("x-goog-hash", f"md5={digest}")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_):
            pass

    # What serves "https" here speaks plain HTTP.
    monkeypatch.setattr(
        http.client, "HTTPSConnection", lambda host, context=None, **_: http.client.HTTPConnection(host)
    )
    with http.server.HTTPServer(("localhost", 0), Host) as server, impatient_downloads():
        threading.Thread(target=server.serve_forever, daemon=True).start()
        get = functools.partial(keras.utils.get_file, "f.h5", f"https://localhost:{server.server_port}/f.h5")
        if is_whole:
            assert Path(get(cache_dir=tmp_path)).read_bytes() == content
        else:
            with pytest.raises(Exception, match="came damaged"):
                get(cache_dir=tmp_path)
            assert not list(tmp_path.rglob("*.h5"))
        server.shutdown()


def test_real_weights_give_keras_own_features(tmp_path):
    home = Path(os.environ.get("RECIPES_KERAS_HOME", REPOSITORY.parent / "shared/data/keras_home"))
    if not (home / "models").is_dir():
        pytest.skip("real ImageNet weights are missing: set RECIPES_KERAS_HOME to a folder whose models/ holds them")
    (tmp_path / "models").symlink_to(home / "models")
    program = """
        import keras, numpy as np
        from recipes.bases import build_network
        from keras.applications import mobilenet, mobilenet_v2
        pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype("float32")
        for name, module, constructor, width in (
            ("mobilenet_025", mobilenet, mobilenet.MobileNet, 0.25),
            ("mobilenet_v2_035", mobilenet_v2, mobilenet_v2.MobileNetV2, 0.35),
        ):
            network = build_network(name, image_size=224, class_count=2)
            features = keras.Model(network.model.input, network.model.get_layer("head_pool").output)
            reference = constructor(include_top=False, alpha=width, input_shape=(224, 224, 3), pooling="avg")
            expected = reference.predict(module.preprocess_input(pixels.copy()), verbose=0)
            assert expected.max() > 0.5
            np.testing.assert_allclose(features.predict(pixels, verbose=0), expected, atol=1e-4)
    """
    run_python(program, KERAS_HOME=str(tmp_path))


def test_the_weights_that_come_with_the_package_are_small_and_complete():
    files = sorted(SHIPPED.iterdir())
    assert {file.suffix for file in files} == {".h5", ".json", ".md"} and sum(f.stat().st_size for f in files) < 2e6
    card = json.loads((SHIPPED / "small_resnet_cifar10.json").read_text(encoding="utf-8"))
    assert card["scores"]["accuracy"] > 0.87 and card["test_images"] == 10_000
    network = build_network("small_resnet", image_size=32, class_count=3)
    assert network.pretrained
    assert (
        weights_of(network)["stem_conv/kernel"]
        == weights_of(build("small_resnet", 32, 3, weights="cifar10"))["stem_conv/kernel"]
    ).all()


def test_the_weights_that_come_with_the_package_have_learnt_to_see():
    """On frozen features a linear classifier soon tells digits, of which the base has never seen one."""
    import recipes

    split = recipes.load_data("digits", image_size=32).train
    data = recipes.load_data((split.images(0, 400), split.labels[:400]), valid=0.1, test=0.4)
    accuracy = {}
    for weights in ("pretrained", None):
        arguments = {"weights": weights, "plan": "head", "epochs": 8, "learning_rate": 0.03, "verbose": False}
        accuracy[weights] = recipes.finetune("small_resnet", data, **arguments).report.scores["accuracy"]
    # In three seeds 0.54 to 0.64 against 0.12 to 0.29 from random features.
    assert accuracy["pretrained"] > max(0.4, accuracy[None] + 0.2)


# Sizes and other arguments


def test_image_size_below_the_least():
    message = (
        'finetune: image_size must be at least 32 pixels for base="vgg16". Received 16. '
        'Pass image_size=32 or more, or base="small_resnet".'
    )
    with pytest.raises(ValueError) as caught:
        build("vgg16", 16)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    (
        ({"class_count": 1}, ValueError, "class_count must be at least 2. Received 1"),
        ({"head": "deep"}, TypeError, "head must be .* Received 'deep'"),
        ({"head": (0,)}, ValueError, "head must be at least 1. Received 0"),
        ({"dropout": 1.0}, ValueError, "dropout must be .* Received 1.0"),
        ({"channels": 0}, ValueError, "channels must be at least 1. Received 0"),
        ({"weights": 3}, TypeError, "weights must be .* Received 3"),
        ({"where": "search", "class_count": 1}, ValueError, "^search: "),
    ),
)
def test_bad_arguments(arguments, kind, message):
    with pytest.raises(kind, match=message):
        build("small_resnet", 8, **arguments)


def test_bad_bases():
    with pytest.raises(TypeError, match="base must be a name, a Keras model or the path"):
        build_network(3, image_size=32, class_count=2)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.keras"):
        build_network("nowhere.keras", image_size=32, class_count=2)
    with pytest.raises(ValueError, match="no inputs yet"):
        build_network(keras.Sequential([keras.layers.Dense(3)]), image_size=32, class_count=2)
    with pytest.raises(ValueError, match="shapes"):
        build_network(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), image_size=32, class_count=2)
    with pytest.raises(ValueError, match=r"image_size must be \(12, 12\).* Received \(16, 16\)"):
        build_network(users_classifier(), image_size=16, class_count=2)


@pytest.mark.parametrize(
    ("base", "weights", "data_size", "expected"),
    (
        ("vgg16", "imagenet", (32, 32), (224, 224)),
        ("xception", "file.keras", None, (299, 299)),
        ("vgg16", None, (32, 500), (32, 224)),
        ("vgg16", None, (28, 28), (32, 32)),
        ("inception_v3", None, (64, 96), (75, 96)),
        ("small_resnet", None, (28, 28), (28, 28)),
        ("efficientnet_b3", None, None, (300, 300)),
    ),
)
def test_default_image_size(base, weights, data_size, expected):
    assert default_image_size(base, weights, data_size) == expected


def test_default_image_size_of_models():
    assert default_image_size(users_classifier(), "imagenet", (50, 50)) == (12, 12)
    any_size = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3)])
    assert default_image_size(any_size, "imagenet", (50, 60)) == (50, 60)


# Saving


@pytest.mark.slow
def test_saved_networks_load_in_plain_keras(tmp_path):
    networks = {
        "small_resnet": build("small_resnet", 32),
        "mobilenet_025": build("mobilenet_025", 32, channels=5, class_count=2),
        "vgg16": build("vgg16", 32, channels=1),
        "convnext_tiny": build("convnext_tiny", 32),
        "cifar_densenet40": build("cifar_densenet40", 32),
        "googlenet": build("googlenet", 32),
        "highway10": build("highway10", 28),
        "own": build_network(users_classifier(), image_size=12, class_count=3),
    }
    for name, network in networks.items():
        size, channels = network.model.input_shape[2:]
        network.model.save(tmp_path / f"{name}.keras")
        np.savez(tmp_path / name, x=images(size, channels), y=network.model.predict(images(size, channels), verbose=0))
    program = f"""
        import sys, keras, numpy as np
        for name in {list(networks)}:
            model = keras.models.load_model(f"{tmp_path}/{{name}}.keras")
            case = np.load(f"{tmp_path}/{{name}}.npz")
            # The same graph on the same machine: last bits only.
            np.testing.assert_allclose(model.predict(case["x"], verbose=0), case["y"], atol=1e-6)
        assert "recipes" not in sys.modules
    """
    run_python(program)


def test_every_weight_moves_in_a_step():
    network = build("small_resnet", 16, class_count=3, head=(8,))
    before = [weight.numpy() for weight in network.model.trainable_weights]
    network.model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    network.model.train_on_batch(images(16, count=6), np.arange(6) % 3)
    after = network.model.trainable_weights
    stuck = [new.path for old, new in zip(before, after, strict=True) if (old == new.numpy()).all()]
    assert not stuck
