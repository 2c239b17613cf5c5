"""Networks assembled from the layers, by the numbers: exact parameters and multiply-adds beside the papers' figures."""

import keras
import numpy as np
import pytest

import layers
from recipes.bases import build_network, networks
from recipes.bases.naming import named_layers

# name, side of the images, classes; parameters and multiply-adds, exact; what the paper says of them
NETWORKS = (
    ("googlenet", 224, 1000, 6_998_552, 1_582_671_872, "12 times fewer than AlexNet's 60M; about 1.5G"),
    ("small_resnet", 32, 10, 680_922, 99_534_080, "as 16-2 of wide ResNets, 0.7M, with shortcuts that hold no weights"),
    ("cifar_resnet20", 32, 10, 269_722, 40_551_040, "0.27M"),
    ("cifar_resnet32", 32, 10, 464_154, 68_862_592, "0.46M"),
    ("cifar_resnet44", 32, 10, 658_586, 97_174_144, "0.66M"),
    ("cifar_resnet56", 32, 10, 853_018, 125_485_696, "0.85M"),
    ("cifar_resnet110", 32, 10, 1_727_962, 252_887_680, "1.7M"),
    ("cifar_densenet40", 32, 10, 1_019_722, 264_812_928, "1.0M"),
    ("cifar_densenet_bc100", 32, 10, 769_162, 287_929_692, "0.8M"),
    ("mobilenet", 224, 1000, 4_231_976, 568_740_352, "4.2M; 569M"),
    ("mobilenet_separable", 224, 1000, 4_231_976, 568_740_352, "4.2M; 569M"),
    ("mobilenet_full", 224, 1000, 29_294_088, 4_867_293_184, "29.3M; 4866M"),
    ("squeezenet", 224, 1000, 722_496 + 513_000, 263_135_936, "1.2M"),
    ("highway10", 28, 10, 3 * 784 * 50 + 50 + 9 * 2 * (50**2 + 50) + 510, 163_100, "2 (n² + n) a layer"),
)

# Of a family of which two are measured.
MORE_DEPTHS = ("cifar_resnet32", "cifar_resnet44", "cifar_resnet110")


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def kernels(model):
    """Sizes of the kernels of the flat `model`, by the layer."""
    return {layer: int(np.prod(layer.kernel.shape)) for layer in model.layers if hasattr(layer, "kernel")}


def multiply_adds(model):
    """Of the flat `model` on one image: every kernel's size by the positions it is put at."""
    return sum(size * int(np.prod(layer.output.shape[1:-1])) for layer, size in kernels(model).items())


@pytest.mark.parametrize(
    ("name", "side", "classes", "parameters", "products", "paper"),
    [pytest.param(*row, marks=[pytest.mark.slow] * (row[0] in MORE_DEPTHS)) for row in NETWORKS],
    ids=lambda case: case,
)
def test_networks_have_the_papers_parameters_and_multiply_adds(name, side, classes, parameters, products, paper):
    model = build_network(name, weights=None, image_size=side, class_count=classes).model
    print(f"{name}: {trainable(model):,} parameters, {multiply_adds(model):,} multiply-adds. Paper: {paper}")
    assert (trainable(model), multiply_adds(model)) == (parameters, products)


def test_weights_without_biases_and_normalization():
    """As the papers of GoogLeNet and MobileNet count, here to all digits."""
    expected = {"googlenet": 6_990_272, "mobilenet_separable": 4_209_088, "mobilenet_full": 29_281_120}
    for name, count in expected.items():
        model = build_network(name, weights=None, image_size=32, class_count=1000).model
        assert sum(kernels(model).values()) == count


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
def test_inception_rows_of_googlenet(row, side, channels, out, without_biases, with_biases, millions, naive, naive_out):
    shape = (None, side, side, channels)
    block = layers.unfold(networks.inception(row), shape)
    assert block.output_shape == (*shape[:-1], out)
    assert (sum(kernels(block).values()), trainable(block)) == (without_biases, with_biases)
    assert multiply_adds(block) == without_biases * side * side
    assert round(multiply_adds(block) / 1e6, 1) == millions
    one, _, three, _, five, _ = networks.GOOGLENET[row]
    plain = layers.unfold(layers.InceptionBlock((one, three, five)), shape)
    assert sum(kernels(plain).values()) == naive
    assert plain.output_shape == (*shape[:-1], naive_out)


def test_separable_mobilenet_is_that_of_keras():
    """The same weights, in the same order, give the same features."""
    theirs = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(64, 64, 3))
    ours = networks.mobilenet_separable(input_shape=(64, 64, 3))
    random = np.random.default_rng(0)
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    ours.set_weights(theirs.get_weights())
    images = random.normal(size=(2, 64, 64, 3)).astype("float32")
    expected = theirs.predict(images, verbose=0)
    # Keras pads before the strided convolutions and the paper's first ReLU has no upper end; sums in another order.
    np.testing.assert_allclose(ours.predict(images, verbose=0), expected, atol=1e-5 * np.abs(expected).max())


def test_padded_shortcuts_take_every_second_pixel_and_append_zeros():
    network = build_network("cifar_resnet20", weights=None, image_size=32, class_count=10).model
    last = network.get_layer("stage1_block0_second_normalization")
    last.set_weights([np.zeros(weight.shape) for weight in last.weights])  # nothing but the shortcut is left
    entry, end = network.get_layer("stage1_block0_first").input, network.get_layer("stage1_block1_first").input
    maps = np.abs(np.random.default_rng(0).normal(size=(1, 32, 32, 16))).astype("float32")
    expected = np.concatenate([maps[:, ::2, ::2], np.zeros((1, 16, 16, 16))], axis=-1)
    np.testing.assert_array_equal(keras.Model(entry, end).predict(maps, verbose=0), expected)


@pytest.mark.parametrize("name", ["googlenet", "squeezenet", "cifar_densenet40", "highway10"])
def test_signals_keep_their_power(name):
    """From the start on, as in a step of training, the signal does not die away."""
    model = build_network(name, weights=None, image_size=64, class_count=10).model
    pixels = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3)).astype("float32")
    features = keras.Model(model.input, model.get_layer("probabilities").input)
    power = float(np.sqrt((np.array(features(pixels, training=True)) ** 2).mean()))
    assert 0.1 < power < 20, power


def test_all_of_a_block_is_named_after_it():
    row = networks.googlenet(input_shape=(32, 32, 3))
    assert {name for name in named_layers(row) if name.startswith("inception_3a_branch1")} == {
        "inception_3a_branch1_reduction",
        "inception_3a_branch1_reduction_relu",
        "inception_3a_branch1_convolution",
        "inception_3a_branch1_convolution_relu",
    }


def test_constructors_have_no_head():
    with pytest.raises(ValueError, match=r"googlenet: only the network without head.*Received include_top=True"):
        networks.googlenet(include_top=True, input_shape=(32, 32, 3))
