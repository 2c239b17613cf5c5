"""Values of the convolutions: arithmetic of the papers, exact factorizations, receptive fields, checkerboards."""

import pathlib
import sys

import keras
import numpy as np
import pytest

import layers

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "float32")


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def built(layer, channels, side=None):
    layer.build((None, side, side, channels))
    return layer


def kernel_weights(layer):
    """How many weights the kernels of a layer hold."""
    return sum(int(np.prod(weight.shape)) for weight in layer.weights if weight.path.endswith("kernel"))


def randomized(layer, random):
    layer.set_weights([random.normal(size=weight.shape).astype("float32") for weight in layer.weights])
    return layer


def assert_same_outputs(one, other, images, share=1e-5):
    """Equal up to `share` of the largest output: sums of some hundred float32 products in another order."""
    expected = numpy(one(images))
    assert np.abs(numpy(other(images)) - expected).max() <= share * np.abs(expected).max()


# SeparableFactorConv and factor_convolution


def test_sobel_factors_exactly_into_rank_one(random):
    convolution = built(keras.layers.Conv2D(1, 3, use_bias=False), 1)
    convolution.set_weights([SOBEL[:, :, None, None]])
    layer, error = layers.factor_convolution(convolution, rank=1)
    assert error < 1e-6
    vertical, horizontal = (weight.ravel() for weight in layer.get_weights())
    np.testing.assert_allclose(np.outer(vertical, horizontal), SOBEL, atol=1e-6)
    assert_same_outputs(convolution, layer, random.normal(size=(2, 9, 8, 1)).astype("float32"), 1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": (5, 3), "strides": 2},
        {"kernel_size": 5, "strides": (1, 2), "padding": "same", "activation": "tanh"},
        {"kernel_size": (2, 4), "use_bias": False},
        {"kernel_size": 3, "dilation_rate": 2, "padding": "same"},
        {"kernel_size": 3, "dilation_rate": (1, 3)},
    ],
    ids=str,
)
def test_full_rank_is_exact(arguments, random):
    convolution = randomized(built(keras.layers.Conv2D(4, **arguments), 3), random)
    layer, error = layers.factor_convolution(convolution)
    assert error == 0
    assert_same_outputs(convolution, layer, random.normal(size=(2, 12, 11, 3)).astype("float32"))


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_error_is_the_relative_norm_of_what_is_lost(rank, random):
    convolution = randomized(built(keras.layers.Conv2D(4, (3, 5)), 3), random)
    layer, error = layers.factor_convolution(convolution, rank=rank)
    kernel = convolution.get_weights()[0].astype(np.float64)
    vertical, horizontal = (weight.astype(np.float64) for weight in layer.get_weights()[:2])
    product = np.einsum("hcr,wrf->hwcf", vertical[:, 0], horizontal[0])
    assert 0 < error < 1
    assert error == pytest.approx(np.linalg.norm(product - kernel) / np.linalg.norm(kernel), rel=1e-5)


def test_more_rank_loses_less(random):
    convolution = randomized(built(keras.layers.Conv2D(4, 3), 3), random)
    errors = [layers.factor_convolution(convolution, rank=rank)[1] for rank in (1, 3, 9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0


@pytest.mark.parametrize(("kernel_size", "full", "factored"), [(3, 9, 6), (5, 25, 10), (7, 49, 14)])
def test_weights_of_the_factorization(kernel_size, full, factored):
    assert kernel_weights(built(keras.layers.Conv2D(8, kernel_size), 8)) == full * 64
    assert kernel_weights(built(layers.SeparableFactorConv(8, kernel_size), 8)) == factored * 64


def test_rank_and_order_set_the_kernels():
    layer = built(layers.SeparableFactorConv(8, (3, 5), rank=2, order="horizontal_first"), 4)
    assert [tuple(weight.shape) for weight in layer.weights] == [(1, 5, 4, 2), (3, 1, 2, 8), (8,)]


def test_what_cannot_be_factored_says_so():
    built_one = built(keras.layers.Conv2D(4, 3), 2)
    for wrong, rank, kind, said in (
        (keras.layers.Dense(3), None, TypeError, "Received Dense"),
        (keras.layers.Conv2D(4, 3), None, ValueError, "without weights"),
        (built(keras.layers.Conv2D(4, 3, groups=2), 2), None, ValueError, "groups=2"),
        (built_one, 0, ValueError, "rank=0"),
        (built_one, 7, ValueError, "rank=7"),
        (built_one, 1.5, TypeError, "rank=1.5"),
    ):
        with pytest.raises(kind, match=f"^factor_convolution: .*{said}"):
            layers.factor_convolution(wrong, rank=rank)


# StackedConv


@pytest.mark.parametrize(("kernel_size", "full", "stacked"), [(3, 9, 9), (5, 25, 18), (7, 49, 27)])
def test_weights_of_the_stack(kernel_size, full, stacked):
    assert kernel_weights(built(keras.layers.Conv2D(8, kernel_size), 8)) == full * 64
    assert kernel_weights(built(layers.StackedConv(8, kernel_size), 8)) == stacked * 64


@pytest.mark.parametrize(("kernel_size", "strides", "padding"), [(3, 1, "same"), (5, 1, "same"), (7, 2, "valid")])
def test_an_output_of_the_stack_sees_exactly_its_square(kernel_size, strides, padding):
    side = kernel_size + 8
    layer = layers.StackedConv(1, kernel_size, strides=strides, padding=padding, kernel_initializer="ones")
    impulses = np.eye(side * side, dtype="float32").reshape(-1, side, side, 1)  # one image per place of the impulse
    outputs = numpy(layer(impulses))
    row, column = outputs.shape[1] // 2, outputs.shape[2] // 2
    seen = outputs[:, row, column, 0].reshape(side, side) > 0
    first = row * strides - (kernel_size // 2 if padding == "same" else 0)
    expected = np.zeros((side, side), bool)
    expected[first : first + kernel_size, first : first + kernel_size] = True
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("side", [8, 9])
def test_a_stride_aligns_as_with_the_large_kernel(side, random):
    """A linear stack of filters of ones is one large kernel, the convolution of these filters."""
    stack = layers.StackedConv(1, 5, strides=2, between_activation=None, use_bias=False, kernel_initializer="ones")
    large = built(keras.layers.Conv2D(1, 5, strides=2, padding="same", use_bias=False), 1)
    line = np.convolve([1, 1, 1], [1, 1, 1])
    large.set_weights([np.outer(line, line)[:, :, None, None]])
    images = random.normal(size=(2, side, side, 1)).astype("float32")
    outputs, expected = numpy(stack(images)), numpy(large(images))
    assert outputs.shape == expected.shape
    # At the border the stack pads its inner images with zeros, too; inside they agree.
    np.testing.assert_allclose(outputs[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=1e-4)


def test_an_image_smaller_than_the_stack_is_refused():
    with pytest.raises(ValueError, match=r"^StackedConv: .*kernel_size=7.*input_shape=\(None, 6, 9, 3\)"):
        layers.StackedConv(2, 7, padding="valid")(keras.Input((6, 9, 3)))


# DepthwiseSeparableConv


@pytest.mark.parametrize(("filters", "kernel_size"), [(64, 3), (16, 5)])
def test_cost_of_the_depthwise_separable_block(filters, kernel_size):
    full = kernel_weights(built(keras.layers.Conv2D(filters, kernel_size), 32))
    block = kernel_weights(built(layers.DepthwiseSeparableConv(filters, kernel_size), 32))
    assert block / full == pytest.approx(1 / filters + 1 / kernel_size**2, rel=1e-12)


def test_the_block_is_that_of_keras_mobilenet():
    """Same weights in the same order as the second block of keras.applications.MobileNet: 3×3 on 32 to 64 channels."""
    mobilenet = keras.applications.MobileNet((32, 32, 3), weights=None, include_top=False)
    names = ("conv_dw_1", "conv_dw_1_bn", "conv_pw_1", "conv_pw_1_bn")
    shapes = [tuple(weight.shape) for name in names for weight in mobilenet.get_layer(name).weights]
    layer = built(layers.DepthwiseSeparableConv(64), 32)
    assert sorted(shapes) == sorted(tuple(weight.shape) for weight in layer.weights)
    part = keras.Model(mobilenet.get_layer("conv_dw_1").input, mobilenet.get_layer("conv_pw_1_relu").output)
    for ours, name in zip(layer.chain[:2] + layer.chain[3:5], names, strict=True):
        ours.set_weights(mobilenet.get_layer(name).get_weights())
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 32)).astype("float32") * 20
    assert_same_outputs(part, layer, images)


@pytest.mark.parametrize(("width", "channels"), [(1.0, 64), (0.75, 48), (0.5, 32), (0.33, 21)])
def test_width_thins_the_block(width, channels):
    assert layers.DepthwiseSeparableConv(64, width=width).compute_output_shape((1, 8, 8, 3))[-1] == channels


# ResizeConv


@pytest.mark.parametrize(
    ("kernel_size", "factor"), [(3, 2), (1, 2), (5, 2), (3, 3), ((3, 5), (2, 3)), (3, (1, 4)), (7, 2)], ids=str
)
@pytest.mark.parametrize("side", [1, 5])
def test_collapse_is_exact_up_to_the_border(kernel_size, factor, side, random):
    layer = randomized(built(layers.ResizeConv(4, kernel_size, factor=factor, activation="tanh"), 3), random)
    collapsed = layers.collapse_resize_conv(layer)
    images = 0.1 * random.normal(size=(2, side, side + 1, 3)).astype("float32")
    assert type(collapsed) is keras.layers.Conv2DTranspose
    np.testing.assert_allclose(numpy(collapsed(images)), numpy(layer(images)), atol=1e-5)


def test_collapse_saves_multiplications():
    """Of 9 per output pixel and pair of channels 4 are left: 16 weights, each used once for 4 output pixels."""
    layer = built(layers.ResizeConv(4, use_bias=False), 3)
    collapsed = layers.collapse_resize_conv(layer)
    assert collapsed.kernel_size == (4, 4)
    assert collapsed.strides == (2, 2)
    assert kernel_weights(layer) / 12 == 9
    assert kernel_weights(collapsed) / 12 / 4 == 4
    assert not collapsed.use_bias


def test_what_cannot_be_collapsed_says_so():
    for wrong, kind, said in (
        (keras.layers.Conv2D(3, 3), TypeError, "Received Conv2D"),
        (layers.ResizeConv(4), ValueError, "without weights"),
        (built(layers.ResizeConv(4, interpolation="bilinear"), 3), ValueError, "'bilinear'"),
        (built(layers.ResizeConv(4, factor=1.5), 3), ValueError, r"factor=1\.5"),
        (built(layers.ResizeConv(4, (3, 4)), 3), ValueError, "kernel_size=4"),
    ):
        with pytest.raises(kind, match=f"^collapse_resize_conv: .*{said}"):
            layers.collapse_resize_conv(wrong)


def test_a_factor_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^ResizeConv: .*factor=0\.25 for input_shape=\(None, 3, 8, 2\)"):
        layers.ResizeConv(4, factor=0.25)(keras.Input((3, 8, 2)))


def test_whole_factors_resize_as_keras_does(random):
    images = random.normal(size=(2, 5, 6, 3)).astype("float32")
    for interpolation in ("nearest", "bilinear"):
        layer = built(layers.ResizeConv(3, 1, factor=(2, 3), interpolation=interpolation, use_bias=False), 3)
        layer.set_weights([np.eye(3)[None, None]])
        expected = keras.layers.UpSampling2D((2, 3), interpolation=interpolation)(images)
        np.testing.assert_allclose(numpy(layer(images)), numpy(expected), atol=1e-5)


# Checkerboards


@pytest.fixture
def checkerboard(monkeypatch):
    monkeypatch.syspath_prepend(str(pathlib.Path(layers.__file__).parents[1] / "benchmarks"))
    monkeypatch.delitem(sys.modules, "checkerboard", raising=False)
    import checkerboard

    return checkerboard


@pytest.mark.parametrize(
    ("size", "pattern", "figures"),
    [
        ((3, 2), "2,1", (0.3333, 0.4843, 0.2346, 4)),
        ((5, 2), "3,2", (0.2000, 0.2857, 0.0816, 2.25)),
        ((4, 3), "2,1,1", (0.3536, 0.5154, 0.2656, 4)),
        ((5, 3), "2,2,1", (0.2828, 0.4079, 0.1664, 4)),
        ((5, 4), "2,1,1,1", (0.3464, 0.5044, 0.2544, 4)),
        ((7, 4), "2,2,2,1", (0.2474, 0.3552, 0.1262, 4)),
        ((4, 2), "2,2", (0, 0, 0, 1)),
        ((6, 3), "2,2,2", (0, 0, 0, 1)),
    ],
    ids=str,
)
def test_overlap_of_transposed_convolutions(checkerboard, size, pattern, figures):
    row = checkerboard.overlap(*size)
    assert row.pop("pattern") == pattern
    np.testing.assert_allclose(list(row.values()), figures, atol=6e-5)  # figures are rounded to four decimals


def test_overlap_is_what_a_kernel_of_ones_gives(checkerboard):
    layer = keras.layers.Conv2DTranspose(1, 5, strides=3, padding="same", kernel_initializer="ones", use_bias=False)
    assert checkerboard.response(layer, 3, channels=1) == pytest.approx(checkerboard.overlap(5, 3)["CoV 2-D"], rel=1e-5)


def test_resize_conv_answers_a_constant_image_evenly(checkerboard):
    for row in checkerboard.checkerboard_table(sizes=((3, 2), (4, 2)), filters=16):
        assert row["Conv2DTranspose"] > 1
        assert row["ResizeConv nearest"] < 1e-5
        assert row["ResizeConv bilinear"] < 1e-5


# prelu


def test_prelu_has_a_slope_of_a_quarter_per_channel(random):
    layer = layers.prelu()
    images = random.normal(size=(2, 5, 4, 3)).astype("float32")
    np.testing.assert_allclose(numpy(layer(images)), np.where(images > 0, images, 0.25 * images), atol=1e-7)
    assert [tuple(weight.shape) for weight in layer.weights] == [(1, 1, 3)]
    assert layer.losses == []
    assert layers.prelu(0.1, shared_axes=(1, 2, 3), name="slope").name == "slope"
    model = keras.Sequential([keras.Input((None, None, 3)), layers.prelu()])
    assert model.output_shape == (None, None, None, 3)
    with pytest.raises(TypeError, match=r"^prelu: initial_slope .*initial_slope='small'"):
        layers.prelu("small")


def test_prelu_is_left_out_of_weight_decay_as_its_docstring_says():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), layers.prelu(shared_axes=None)])
    kernel, _, slope = model.trainable_weights
    before = numpy(kernel)
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["alpha"])
    optimizer.build(model.trainable_weights)
    optimizer.apply([keras.ops.zeros(weight.shape) for weight in model.trainable_weights])
    assert (np.abs(numpy(kernel)) < np.abs(before)).all()
    np.testing.assert_array_equal(numpy(slope), 0.25)
