"""What the craft would change: each rule where it must speak, where it must not, and the catalogue, which makes no
mistake.
"""

import dataclasses
import gc
import json
import math

import keras
import numpy as np
import pytest
from cases import tiny_base
from keras import Input, Model, Sequential

import layers as kit
import recipes
from recipes.bases import build_network, list_bases

K = keras.layers


def rules(model, data=None):
    """Names of the rules that have something to say."""
    return {advice.rule for advice in recipes.advise(model, data)}


def the(rule, model, data=None):
    """The one Advice of `rule`."""
    (found,) = [advice for advice in recipes.advise(model, data) if advice.rule == rule]
    return found


def images(*inner, size=32, channels=3):
    """A model on images that are normalized."""
    return Sequential([Input((size, size, channels)), K.Rescaling(1 / 127.5, offset=-1), *inner])


def on_maps(*inner, size=16, channels=16):
    """A model on maps of many channels, normalized."""
    return Sequential([Input((size, size, channels)), K.BatchNormalization(), *inner])


def conv(filters, side=3, **arguments):
    return K.Conv2D(filters, side, **{"padding": "same", "use_bias": False, "name": "conv"} | arguments)


def weights(model, name):
    return model.get_layer(name).count_params()


def random_images(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype("float32")


# Large kernels.


@pytest.mark.parametrize(
    ("side", "fraction"), [(5, 1 - 18 / 25), (7, 1 - 27 / 49), (9, 1 - 36 / 81)], ids=["5x5", "7x7", "9x9"]
)
@pytest.mark.parametrize("use_bias", [False, True])
def test_a_large_kernel_could_be_a_stack_with_exactly_as_many_weights_less(side, fraction, use_bias):
    model = on_maps(conv(16, side, use_bias=use_bias))
    stacked = on_maps(kit.StackedConv(16, side, use_bias=use_bias, name="conv"))
    found = the("large_kernel", model)
    assert found.kind == "choice"
    assert found.layers == ("conv",)
    assert found.saving["parameters"] == weights(model, "conv") - weights(stacked, "conv")
    assert found.saving["multiply_adds"] == round(fraction * side**2) * 16 * 16 * 16 * 16
    assert found.saving["multiply_adds_fraction"] == pytest.approx(fraction)
    assert f"{side}×{side} as {(side - 1) // 2} of 3×3 (-{100 * fraction:.0f} %)" in found.what
    assert f'layers.StackedConv(16, {side}, padding="same"' in found.mend


def test_on_maps_of_middle_size_the_factors_are_named_beside_the_stack():
    assert "SeparableFactorConv" in the("large_kernel", on_maps(conv(16, 7), size=17)).mend
    assert "SeparableFactorConv" not in the("large_kernel", on_maps(conv(16, 7), size=32)).mend


def test_without_padding_the_maps_within_a_stack_are_larger():
    model = on_maps(conv(16, 7, padding="valid"))
    stack = recipes.advise(on_maps(kit.StackedConv(16, 7, padding="valid", use_bias=False)))
    saving = the("large_kernel", model).saving["multiply_adds"]
    assert saving == recipes.advise(model).multiply_adds - stack.multiply_adds > 0


@pytest.mark.parametrize(
    "layer",
    [
        conv(16, 3),
        conv(16, 7, strides=2),
        conv(16, (7, 1)),
        conv(16, 4),
        conv(16, 5, dilation_rate=2),
        conv(16, 7, groups=16),
        conv(64, 5),  # 16 to 64 channels: the stack would cost more
        K.DepthwiseConv2D(7, padding="same"),
        K.SeparableConv2D(16, 7, padding="same"),
    ],
    ids=["3x3", "strided", "factored", "even", "dilated", "grouped", "widening", "depthwise", "separable"],
)
def test_kernels_that_no_stack_makes_cheaper(layer):
    assert "large_kernel" not in rules(on_maps(layer))


def test_a_stem_is_left_alone():
    """7×7 on three channels: three of 3×3 would have eight times the weights."""
    assert "large_kernel" not in rules(images(conv(64, 7), K.BatchNormalization()))


# Bottlenecks.


@pytest.mark.parametrize("use_bias", [False, True])
def test_a_large_convolution_without_a_bottleneck(use_bias):
    model = on_maps(conv(256, use_bias=use_bias), channels=256, size=8)
    narrow = on_maps(
        *(
            conv(filters, side, use_bias=use_bias, name=f"c{i}")
            for i, (filters, side) in enumerate(((64, 1), (64, 3), (256, 1)))
        ),
        channels=256,
        size=8,
    )
    found = the("missing_bottleneck", model)
    saved = weights(model, "conv") - sum(weights(narrow, f"c{i}") for i in range(3))
    assert found.saving["parameters"] == saved
    assert found.saving["multiply_adds"] == (9 * 256 * 256 - 69632) * 64
    assert "missing_bottleneck" not in rules(narrow)


def test_a_convolution_behind_a_reduction_is_a_bottleneck_already():
    def behind(filters, channels):
        between = (K.BatchNormalization(), K.ReLU(), K.ZeroPadding2D())
        return on_maps(conv(filters, 1, name="before"), *between, conv(256), channels=channels, size=4)

    assert "missing_bottleneck" not in rules(behind(256, 512))
    assert "missing_bottleneck" in rules(behind(256, 256))
    assert "missing_bottleneck" not in rules(on_maps(conv(256, strides=2), channels=256, size=8))
    assert "missing_bottleneck" not in rules(on_maps(conv(128), channels=256, size=8))


# ReLU before max-pooling.

POOLED = {
    "layer": lambda: [conv(4), K.ReLU(name="relu"), K.MaxPooling2D(2)],
    "activation": lambda: [conv(4), K.Activation("elu", name="relu"), K.MaxPooling2D(2)],
    "fused": lambda: [conv(4, activation="relu", name="relu"), K.MaxPooling2D(2)],
    "padded": lambda: [conv(4), K.ReLU(name="relu"), K.ZeroPadding2D(1), K.MaxPooling2D(3, strides=2)],
    "global": lambda: [conv(4), K.ReLU(name="relu"), K.GlobalMaxPooling2D()],
    "same": lambda: [conv(4), K.LeakyReLU(name="relu"), K.MaxPooling2D(3, strides=2, padding="same")],
}


@pytest.mark.parametrize("kind", POOLED)
def test_relu_and_max_pooling_change_places_bit_for_bit(kind):
    keras.utils.set_random_seed(1)
    model = images(*POOLED[kind]())
    found = the("relu_before_max_pool", model)
    assert (found.kind, found.layers) == ("free", ("relu",))
    kept = 4 if kind == "global" else 16 * 16 * 4
    assert found.saving["activations"] == 32 * 32 * 4 - kept
    assert found.saving["activations_fraction"] == 1 - kept / (32 * 32 * 4)
    convolution = model.layers[1]
    activation = convolution.activation if kind == "fused" else model.layers[2]
    bare = conv(4)
    rest = [layer for layer in model.layers[2:] if layer is not activation]
    swapped = images(bare, *rest)
    bare.set_weights(convolution.get_weights())
    photos = random_images((2, 32, 32, 3))
    assert np.array_equal(activation(swapped(photos)), model(photos))


@pytest.mark.parametrize(
    "inner",
    [
        [conv(4), K.MaxPooling2D(2), K.ReLU()],
        [conv(4), K.ReLU(), K.AveragePooling2D(2)],
        [conv(4), K.ReLU(), K.MaxPooling2D(3, strides=1, padding="same")],
        [conv(4), K.Activation("gelu"), K.MaxPooling2D(2)],  # falls before it rises
        [conv(4), K.PReLU(), K.MaxPooling2D(2)],  # may learn to fall
        [conv(4), K.ReLU(threshold=1.0), K.MaxPooling2D(2)],
    ],
    ids=["after", "average", "stride 1", "gelu", "prelu", "threshold"],
)
def test_activations_that_stay_where_they_are(inner):
    assert "relu_before_max_pool" not in rules(images(*inner))


def test_a_relu_that_others_take_too_stays():
    image = Input((8, 8, 3))
    x = K.ReLU()(K.Conv2D(4, 3, padding="same")(K.Rescaling(1 / 255)(image)))
    pooled, kept = K.MaxPooling2D(2)(x), K.Conv2D(4, 3, strides=2, padding="same")(x)
    assert "relu_before_max_pool" not in rules(Model(image, K.Add()([pooled, kept])))
    assert "relu_before_max_pool" not in rules(Model(image, [pooled, x]))


# Sigmoid and tanh.


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("separate", [False, True])
def test_sigmoid_and_tanh_inside(activation, separate):
    inner = (
        [conv(4), K.Activation(activation, name="bent")] if separate else [conv(4, activation=activation, name="bent")]
    )
    found = the("saturating_activation", images(*inner, K.MaxPooling2D(2), conv(8, name="next")))
    assert (found.kind, found.layers, found.saving) == ("mistake", ("bent",), {})
    assert activation in found.what


def test_bare_operations_count_too():
    image = Input((8, 8, 3))
    x = K.Conv2D(4, 3)(K.Rescaling(1 / 255)(image))
    model = Model(image, K.Conv2D(2, 3)(keras.ops.tanh(x)))
    assert "saturating_activation" in rules(model)


def test_outputs_and_gates_may_be_sigmoid_and_tanh():
    image = Input((8, 8, 3))
    x = K.Conv2D(8, 3, activation="relu", padding="same")(K.Rescaling(1 / 255)(image))
    squeezed = K.Dense(8, activation="sigmoid")(K.Dense(2, activation="relu")(K.GlobalAveragePooling2D()(x)))
    x = K.Multiply()([x, K.Reshape((1, 1, 8))(squeezed)])
    gated = keras.ops.tanh(K.Conv2D(8, 1)(x)) * keras.ops.sigmoid(K.Conv2D(8, 1)(x))
    swish = gated * keras.ops.sigmoid(gated)
    kept = (1 - keras.ops.sigmoid(K.Conv2D(8, 1)(x))) * swish
    out = K.Conv2D(3, 1, activation="tanh")(K.Conv2D(8, 1)(kept))
    assert "saturating_activation" not in rules(Model(image, K.Rescaling(127.5, offset=127.5)(out)))
    assert "saturating_activation" not in rules(
        images(K.Flatten(), kit.HighwayBlock(3072), K.Dense(1, activation="sigmoid"), size=32)
    )


# Dense layers on maps.


def test_a_dense_layer_on_a_large_map():
    model = images(conv(16), K.Flatten(), K.Dropout(0.5), K.Dense(32, name="dense"))
    pooled = images(conv(16), K.GlobalAveragePooling2D(), K.Dropout(0.5), K.Dense(32, name="dense"))
    found = the("dense_on_map", model)
    assert (found.kind, found.layers) == ("choice", ("dense",))
    assert found.saving["parameters"] == model.count_params() - pooled.count_params() == 1023 * 16 * 32
    assert found.saving["multiply_adds"] == found.saving["parameters"]
    assert "32×32×16" in found.what
    assert "dense_on_map" not in rules(pooled)


@pytest.mark.slow
def test_the_vgg_of_the_paper_has_its_dense_layer_named():
    found = the("dense_on_map", keras.applications.VGG16(weights=None))
    assert found.layers == ("fc1",)
    assert found.saving["parameters"] == 48 * 512 * 4096
    assert "102,760,448 weights, 74 %" in found.what


@pytest.mark.parametrize(
    "model",
    [
        lambda: images(K.Flatten(), K.Dense(50)),  # pixels, no features
        lambda: images(conv(64), K.MaxPooling2D(16), K.Flatten(), K.Dense(512)),  # 2×2
        lambda: images(conv(8), K.MaxPooling2D(4), K.Flatten(), K.Dense(10)),  # 5,120 weights
        lambda: images(conv(8), K.Flatten(), K.Dense(2), K.Dense(100), K.Dense(3)),
    ],
    ids=["pixels", "small map", "few weights", "narrow"],
)
def test_dense_layers_that_are_no_burden(model):
    assert "dense_on_map" not in rules(model())


# Biases before BatchNormalization.


def test_biases_before_batch_normalization_do_nothing():
    def build(use_bias):
        return images(
            K.Conv2D(4, 3, use_bias=use_bias, name="a"),
            K.BatchNormalization(name="norm_a"),
            K.ReLU(),
            K.DepthwiseConv2D(3, use_bias=use_bias, name="b"),
            K.BatchNormalization(center=False, name="norm_b"),
            K.Flatten(),
            K.Dense(5, use_bias=use_bias, name="c"),
            K.BatchNormalization(name="norm_c"),
        )

    keras.utils.set_random_seed(0)
    model, without = build(True), build(False)
    found = the("bias_before_normalization", model)
    assert (found.kind, found.layers) == ("free", ("a", "b", "c"))
    assert found.saving["parameters"] == model.count_params() - without.count_params() == 4 + 4 + 5
    for name in "abc":
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([kernel, bias := np.random.default_rng(0).normal(size=bias.shape)])
        without.get_layer(name).set_weights([kernel])
        norm = without.get_layer(f"norm_{name}")
        norm.moving_mean.assign(norm.moving_mean - bias)
    photos = random_images((2, 32, 32, 3))
    # As the mend says; float32 sums in another order.
    assert np.allclose(model(photos), without(photos), atol=1e-5)
    # In training the batch's own mean takes the bias away; float32, means over 1,800 positions.
    assert np.allclose(model(photos, training=True), without(photos, training=True), atol=1e-4)
    assert "bias_before_normalization" not in rules(without)


@pytest.mark.parametrize(
    "inner",
    [
        [K.Conv2D(4, 3, activation="relu"), K.BatchNormalization()],
        [K.Conv2D(4, 3), K.ReLU(), K.BatchNormalization()],
        [K.Conv2D(4, 3), K.LayerNormalization()],
        [K.Conv2D(4, 3), K.GroupNormalization(2)],
        [K.Conv2D(4, 3), K.ZeroPadding2D(), K.BatchNormalization()],
        [K.Conv2D(4, 3), K.BatchNormalization(axis=1)],
    ],
    ids=["activation", "relu", "layer norm", "group norm", "padding", "other axis"],
)
def test_biases_that_have_an_effect(inner):
    assert "bias_before_normalization" not in rules(images(*inner))


def test_a_bias_that_others_see_too_has_an_effect():
    image = Input((8, 8, 3))
    x = K.Conv2D(3, 1)(K.Rescaling(1 / 255)(image))
    assert "bias_before_normalization" not in rules(Model(image, K.Add()([x, K.BatchNormalization()(x)])))


def test_a_bias_before_a_frozen_normalization_has_an_effect():
    model = images(K.Conv2D(4, 3), K.BatchNormalization())
    model.layers[-1].trainable = False
    assert "bias_before_normalization" not in rules(model)
    model.trainable = False
    assert "bias_before_normalization" in rules(model)


# Transposed convolutions.


@pytest.mark.parametrize(("side", "stride"), [(3, 2), (5, 2), (4, 3), (5, 4), ((4, 3), 2), (1, 2)])
def test_a_checkerboard(side, stride):
    layer = K.Conv2DTranspose(4, side, strides=stride, padding="same", name="up")
    found = the("checkerboard", images(layer))
    assert (found.kind, found.layers) == ("mistake", ("up",))
    assert f"layers.ResizeConv(4, 3, factor={stride})" in found.mend
    # The number that is told, from a kernel of ones on ones, away from the border.
    ones = K.Conv2DTranspose(1, side, strides=stride, kernel_initializer="ones")(np.ones((1, 12, 12, 1), "float32"))
    counts = np.asarray(ones)[0, 12:24, 12:24, 0]
    told = "no input at all" if counts.min() == 0 else f"{counts.max() / counts.min():g} times"
    assert told in found.what


@pytest.mark.parametrize(("side", "stride"), [(2, 2), (4, 2), (6, 3), (3, 1)])
def test_even_overlap(side, stride):
    assert "checkerboard" not in rules(images(K.Conv2DTranspose(4, side, strides=stride)))
    assert "checkerboard" not in rules(images(kit.ResizeConv(4, 3, factor=2)))


def test_checkerboards_in_one_dimension_have_a_mend_in_one_dimension():
    model = Sequential([Input((16, 3)), K.Conv1DTranspose(4, 3, strides=2)])
    assert "keras.layers.UpSampling1D(2) → keras.layers.Conv1D(4, 3)" in the("checkerboard", model).mend


# Inputs.


def on_pixels(*first):
    return Sequential(
        [Input((16, 16, 3)), *first, conv(4), K.GlobalAveragePooling2D(), K.Dense(3, activation="softmax")]
    )


def test_pixels_that_nothing_normalizes(photo_data):
    found = the("inputs_not_normalized", on_pixels())
    assert (found.kind, found.layers) == ("mistake", ("conv",))
    assert "noise of 0–255" in found.what
    found = the("inputs_not_normalized", on_pixels(), photo_data)
    pixels = photo_data.train.images(0, 32).astype(float)
    assert f"mean {pixels.mean():.3g} and deviation {pixels.std():.3g}" in found.what
    assert "32 images" in found.what


def adapted():
    layer = K.Normalization()
    layer.adapt(random_images((8, 16, 16, 3)))
    return layer


@pytest.mark.parametrize(
    "first",
    [
        lambda: [K.Rescaling(1 / 255)],
        lambda: [K.Rescaling(1 / 127.5, offset=-1), K.RandomFlip()],
        lambda: [K.Rescaling(1.0, offset=[-103.9, -116.8, -123.7])],
        lambda: [K.BatchNormalization()],
        lambda: [K.LayerNormalization()],
        lambda: [adapted()],
        lambda: [K.Resizing(8, 8), K.Lambda(lambda x: x / 255)],
    ],
    ids=["rescaling", "augmented", "centred", "batch", "layer", "adapted", "lambda"],
)
def test_pixels_that_are_normalized(first, photo_data):
    assert "inputs_not_normalized" not in rules(on_pixels(*first()))
    assert "inputs_not_normalized" not in rules(on_pixels(*first()), photo_data)


def test_dark_images_are_no_mistake_of_the_network():
    centred = [Input((16, 16, 1)), K.Rescaling(1.0, offset=-127.5), conv(4), K.GlobalAveragePooling2D()]
    assert rules(Sequential([*centred, K.Dense(10, activation="softmax")]), "digits") == set()


def test_models_of_other_things_than_images_are_left_alone(photo_data):
    vectors = Sequential([Input((10,)), K.Dense(3)])
    maps = Sequential([Input((8, 8, 512)), conv(3, 1)])
    assert rules(vectors) == rules(maps) == rules(vectors, photo_data) == set()


def test_normalization_that_saw_no_data_and_scaling_twice(photo_data):
    assert "inputs_not_normalized" in rules(on_pixels(K.Normalization(mean=0.0, variance=1.0)))
    found = the("inputs_not_normalized", on_pixels(K.Rescaling(1 / 255), K.Rescaling(1 / 255)), photo_data)
    assert "more than once" in found.what


def test_a_network_of_keras_applications_wants_its_preprocessing():
    assert "inputs_not_normalized" in rules(
        keras.applications.MobileNet(alpha=0.25, weights=None, input_shape=(32, 32, 3))
    )
    assert "inputs_not_normalized" not in rules("mobilenet_025")


# Initialisation.


def plain(depth, start, activation="relu", normalized=False, filters=8):
    inner = []
    for number in range(depth):
        inner.append(conv(filters, activation=activation, use_bias=True, kernel_initializer=start, name=f"c{number}"))
        inner += [K.BatchNormalization()] if normalized else []
    return images(*inner, size=8)


def test_glorot_fades_under_relu_by_half_a_layer():
    keras.utils.set_random_seed(3)
    found = the("unfitting_initialisation", plain(9, "glorot_uniform", filters=32))
    assert (found.kind, len(found.layers)) == ("mistake", 8)
    assert f"fades to {2**-8:.2g}" in found.what
    assert 'kernel_initializer="he_normal" before relu' in found.mend
    assert the("unfitting_initialisation", plain(3, "glorot_uniform")).kind == "free"


def test_the_fading_is_what_a_signal_does():
    """The number that is told, against the signal itself: 128 channels, for the estimate holds on average."""
    keras.utils.set_random_seed(5)
    model = Sequential([Input((4, 4, 128)), K.BatchNormalization(center=False, scale=False)])
    for number in range(5):
        model.add(K.Conv2D(128, 1, activation="relu", name=f"c{number}"))
    found = the("unfitting_initialisation", model)
    noise = np.random.default_rng(0).normal(size=(64, 4, 4, 128)).astype("float32")
    power = float(np.mean(np.asarray(model(noise)) ** 2))
    told = float(found.what.split("fades to ")[1].split(" ")[0])
    assert told == pytest.approx(2**-5, rel=0.05)  # two digits are told
    assert power == pytest.approx(told, rel=0.25)


@pytest.mark.parametrize(
    "model",
    [
        lambda: plain(9, "he_normal"),
        lambda: plain(9, "he_uniform"),
        lambda: plain(9, "glorot_uniform", normalized=True),
        lambda: plain(1, "glorot_uniform"),
        lambda: plain(9, "lecun_normal", "selu"),
        lambda: plain(3, "glorot_uniform", "tanh"),
        lambda: plain(1, "he_normal", "sigmoid"),
    ],
    ids=["he", "he uniform", "normalized", "one layer", "selu", "tanh", "output"],
)
def test_initialisation_that_fits(model):
    assert "unfitting_initialisation" not in rules(model())


@pytest.mark.parametrize(
    ("start", "activation", "right"),
    [
        ("glorot_uniform", "selu", "lecun_normal"),
        ("he_normal", "selu", "lecun_normal"),
        ("he_normal", "tanh", "glorot"),
    ],
)
def test_initialisation_of_other_activations(start, activation, right):
    found = the("unfitting_initialisation", plain(2, start, activation))
    assert found.kind == "mistake"
    assert right in found.mend


def test_a_start_that_blows_the_signal_up():
    found = the("unfitting_initialisation", plain(5, keras.initializers.RandomNormal(stddev=1.0)))
    assert found.kind == "mistake"
    assert "grows" in found.what


def test_how_trained_weights_started_does_not_matter():
    model = plain(9, "glorot_uniform")
    model.compile("sgd", "mse")
    model.fit(random_images((4, 8, 8, 3)) / 255, np.ones((4, 8, 8, 8)), verbose=0)
    assert "unfitting_initialisation" not in rules(model)
    bare = images(*(conv(8, activation="relu", name=f"c{number}") for number in range(9)), size=8)
    assert "unfitting_initialisation" in rules(bare)
    for layer in bare.layers[1:]:
        layer.set_weights([2 * layer.get_weights()[0]])
    assert "unfitting_initialisation" not in rules(bare)


def test_a_fresh_head_on_a_trained_plain_network_starts_well():
    keras.utils.set_random_seed(0)
    model = plain(9, "glorot_uniform")
    for layer in model.layers[1:]:
        kernel, bias = layer.get_weights()
        layer.set_weights([2 * kernel, bias + 0.1])
    for layer in (K.GlobalAveragePooling2D(), K.Dense(64, activation="relu"), K.Dense(3, activation="softmax")):
        model.add(layer)
    assert "unfitting_initialisation" not in rules(model)


# L2.


def penalized(optimizer, regularizer=None):
    model = images(conv(4, kernel_regularizer=regularizer or keras.regularizers.L2(5e-4)), conv(4, name="free"))
    model.compile(optimizer, "mse")
    return model


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "nadam", "adagrad", "lion"])
def test_l2_in_an_adaptive_optimizer(optimizer):
    found = the("penalty_in_adaptive_optimizer", penalized(optimizer))
    assert (found.kind, found.layers) == ("mistake", ("conv",))
    assert "0.0005" in found.what
    assert "weight_decay=0.001" in found.mend  # Keras' L2 has no half


def test_l2_within_wrapped_optimizers_is_seen():
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
    layerwise = recipes.LayerwiseOptimizer(keras.optimizers.RMSprop(), {".*": 1.0})
    for optimizer in (scaled, layerwise):
        assert "penalty_in_adaptive_optimizer" in rules(penalized(optimizer))


def test_the_optimizer_of_a_result_is_that_of_its_report(classifier):
    model = images(conv(4, kernel_regularizer="l2"))
    assert classifier.report.settings["optimizer"] == "adamw"
    assert "penalty_in_adaptive_optimizer" in rules(dataclasses.replace(classifier, model=model))


def test_l2_elsewhere():
    assert "penalty_in_adaptive_optimizer" not in rules(penalized("sgd"))
    assert "penalty_in_adaptive_optimizer" not in rules(penalized("adam", keras.regularizers.L1(1e-4)))
    uncompiled = images(conv(4, kernel_regularizer="l2"))
    assert "penalty_in_adaptive_optimizer" not in rules(uncompiled)


# Data.


def test_data_that_does_not_fit(photo_data):
    model = Sequential([Input((24, 24, 1)), K.Rescaling(1 / 255), K.Flatten(), K.Dense(5, activation="softmax")])
    found = the("data_does_not_fit", model, photo_data)
    assert found.kind == "mistake"
    assert "16×16" in found.what
    assert "3 channels" in found.what
    assert "5 outputs for 3 classes" in found.what
    assert "data_does_not_fit" not in rules(on_pixels(), photo_data)


def test_any_source_of_data_will_do(photos):
    assert "data_does_not_fit" not in rules(on_pixels(), str(photos))
    assert "inputs_not_normalized" in rules(on_pixels(), {"source": photos, "valid": 0.2})


def test_images_smaller_than_those_the_weights_saw(photo_data):
    assert rules("small_resnet", photo_data) == set()  # 16 of 32 pixels
    assert "images_smaller_than_trained" in rules("mobilenet_025", photo_data)


# What can be read, and what comes out.


def test_nested_models_and_blocks_are_seen_inside():
    inner = Sequential([Input((8, 8, 4)), K.Conv2D(4, 3, name="biased"), K.BatchNormalization()], name="inner")
    image = Input((8, 8, 3))
    x = K.Conv2D(4, 1)(K.Rescaling(1 / 255)(image))
    model = Model(image, kit.StackedConv(4, 5, name="stack")(inner(x)))
    assert the("bias_before_normalization", model).layers == ("inner/biased",)
    steps = recipes.advise(model)
    assert steps.parameters == model.count_params()
    assert steps.multiply_adds == 64 * 12 + 36 * 144 + 36 * 2 * 144


def test_shared_layers_are_named_and_counted_once():
    shared = K.Conv2D(8, 5, padding="same", use_bias=False, name="shared")
    image = Input((16, 16, 8))
    model = Model(image, shared(shared(K.BatchNormalization()(image))))
    found = the("large_kernel", model)
    assert found.layers == ("shared",)
    assert found.saving["parameters"] == 7 * 64
    assert found.saving["multiply_adds"] == 2 * 7 * 64 * 256
    twice = kit.StackedConv(8, 5)
    assert recipes.advise(Model(image, twice(twice(image)))).multiply_adds == 2 * 2 * 9 * 64 * 256


def test_images_of_any_size_and_channels_first():
    anywhere = Sequential([Input((None, None, 16)), K.BatchNormalization(), conv(16, 5), K.ReLU(), K.MaxPooling2D(2)])
    found = the("large_kernel", anywhere)
    assert set(found.saving) == {"parameters", "parameters_fraction"}
    assert recipes.advise(anywhere).multiply_adds is None
    first = Sequential([Input((16, 12, 12)), K.BatchNormalization(axis=1), conv(16, 5, data_format="channels_first")])
    assert the("large_kernel", first).saving["multiply_adds"] == 7 * 256 * 144


def test_several_inputs_and_outputs():
    left, right = Input((8, 8, 3), name="b"), Input((4,), name="a")
    x = K.Concatenate()([K.Flatten()(K.Conv2D(2, 3)(K.Rescaling(1 / 255)(left))), right])
    assert rules(Model([left, right], [K.Dense(2)(x), x])) == set()
    assert rules(Model({"b": left, "a": right}, {"out": K.Dense(2)(x)})) == set()


def test_the_model_stays_as_it_is(photo_data):
    model = tiny_base()
    before = [layer.get_config() for layer in model.layers], [weight.copy() for weight in model.get_weights()]
    outputs = model.layers[-1].output
    recipes.advise(model, photo_data)
    assert [layer.get_config() for layer in model.layers] == before[0]
    assert all(np.array_equal(*pair) for pair in zip(model.get_weights(), before[1], strict=True))
    assert model.layers[-1].output is outputs  # of several calls Keras would say none


def test_results_folders_and_files(classifier, tmp_path):
    expected = rules(classifier)
    assert expected == {"bias_before_normalization"}
    classifier.save(tmp_path / "saved")
    assert rules(str(tmp_path / "saved")) == expected
    classifier.model.save(tmp_path / "model.keras")
    assert rules(tmp_path / "model.keras") == expected
    assert rules(classifier, classifier.data) == expected


def test_models_that_cannot_be_read():
    class Written(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = K.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    with pytest.raises(ValueError, match="written as a class"):
        recipes.advise(Written())
    with pytest.raises(ValueError, match="has no inputs yet"):
        recipes.advise(Sequential([K.Dense(2)]))
    with pytest.raises(TypeError, match="no known kind"):
        recipes.advise(3)
    with pytest.raises(ValueError, match="vgg16"):
        recipes.advise("vgg61")
    image = Input((4,))
    nested = Model(image, K.Dense(2, activation="softmax")(Written()(image)))
    assert rules(nested) == set()


def test_advice_prints_and_is_json(tmp_path):
    nothing = recipes.advise(images(conv(4)))
    assert not nothing
    assert str(nothing).endswith("nothing to change")
    found = recipes.advise(on_maps(K.Conv2D(16, 7, activation="tanh", name="first"), conv(16, 7, name="second")))
    assert [advice.kind for advice in found] == sorted(
        (advice.kind for advice in found), key=["mistake", "free", "choice"].index
    )
    text = str(found)
    assert max(map(len, text.splitlines())) <= 100
    for part in ("large kernel (choice): first, second", "found", "why", "saves", "mend", "multiply-adds"):
        assert part in text
    found.save(tmp_path / "advice.json")
    read = json.loads((tmp_path / "advice.json").read_text())
    assert [advice["rule"] for advice in read["advices"]] == [advice.rule for advice in found]
    assert math.isclose(read["advices"][-1]["saving"]["parameters"], found[-1].saving["parameters"])


def test_the_command(capsys, tmp_path):
    from recipes.cli import main

    on_maps(conv(16, 5)).save(tmp_path / "large.keras")
    assert main(["advise", "--model", str(tmp_path / "large.keras")]) == 0
    assert "large kernel (choice): conv" in capsys.readouterr().out


# The catalogue.

POOL, BOTTLENECK, BIAS = "relu_before_max_pool", "missing_bottleneck", "bias_before_normalization"
# What is true of each network. All others are left alone: a rule that speaks there is a false alarm.
TRUE = {
    # Built of 3×3 alone, by design; ReLU within each convolution, five poolings.
    "vgg16": {POOL, BOTTLENECK},
    "vgg19": {POOL, BOTTLENECK},
    # Keras gives their convolutions biases, all before BatchNormalization; conv1_relu, padding, pooling.
    "resnet50": {POOL, BIAS},
    "resnet101": {POOL, BIAS},
    "resnet152": {POOL, BIAS},
    # Stems of convolution, ReLU, pooling.
    "googlenet": {POOL},
    "inception_v3": {POOL},
    "inception_resnet_v2": {POOL},
    "densenet121": {POOL},
    "densenet169": {POOL},
    "densenet201": {POOL},
    "squeezenet": {POOL},
    # The costly network that MobileNet was compared with.
    "mobilenet_full": {BOTTLENECK},
}
QUICK = ("small_resnet", "vgg16", "mobilenet_025", "googlenet", "highway10")


def check_row(name):
    found = recipes.advise(name)
    assert {advice.rule for advice in found} == TRUE.get(name, set())
    assert "mistake" not in {advice.kind for advice in found}


@pytest.mark.parametrize("name", QUICK)
def test_no_false_alarm_on_a_few_of_the_catalogue(name):
    check_row(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in list_bases() if name not in QUICK])
def test_no_false_alarm_on_the_catalogue(name):
    check_row(name)
    keras.backend.clear_session()
    gc.collect()  # the largest have 350 million weights


def test_pretrained_weights_raise_no_alarm():
    assert rules(build_network("small_resnet", image_size=32, class_count=3).model) == set()


@pytest.mark.slow
def test_the_biases_of_resnet50_are_counted():
    """Keras' 25,583,592 trainable weights less the paper's 25,557,032."""
    found = the(BIAS, "resnet50")
    assert found.saving["parameters"] == 26_560
    assert len(found.layers) == 53
    assert the(POOL, "resnet50").saving["activations"] == 112 * 112 * 64 * 3 // 4
