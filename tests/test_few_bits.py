"""Values of the binary and ternary layers: how weights round, where gradients go, what packing stores."""

import keras
import numpy as np
import pytest

import layers

MAKERS = {
    "BinaryConv": lambda: layers.BinaryConv(6, 3),
    "BinaryConv scaled": lambda: layers.BinaryConv(6, 3, scaled=True),
    "BinaryDense": lambda: layers.BinaryDense(6),
    "BinaryDense scaled": lambda: layers.BinaryDense(6, scaled=True),
    "TernaryConv": lambda: layers.TernaryConv(6, 3),
    "TernaryConv ttq": lambda: layers.TernaryConv(6, 3, method="ttq", threshold=0.2),
    "TernaryDense": lambda: layers.TernaryDense(6),
    "TernaryDense ttq": lambda: layers.TernaryDense(6, method="ttq"),
}
all_kinds = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def built(layer, channels=5):
    """The layer with weights drawn in -1 … 1."""
    layer.build((None, 8, 8, channels) if "Conv" in type(layer).__name__ else (None, channels))
    random = np.random.default_rng(0)
    layer.kernel.assign(random.uniform(-1, 1, layer.kernel.shape))
    if getattr(layer, "method", "") == "ttq":
        layer.positive_scale.assign(0.75)
        layer.negative_scale.assign(0.5)
    return layer


def gradients(loss_of, variables):
    """Gradients of a scalar function without arguments with respect to `variables`, on whichever backend."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = loss_of()
        return [numpy(gradient) for gradient in tape.gradient(loss, [variable.value for variable in variables])]
    if backend == "torch":
        for variable in variables:
            variable.value.grad = None
        loss_of().backward()
        return [numpy(variable.value.grad) for variable in variables]
    import jax

    def stateless(values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return loss_of()

    return [np.asarray(value) for value in jax.grad(stateless)([variable.value for variable in variables])]


def kernel_gradients(layer, variables, **arguments):
    """Gradients of the effective kernel weighted by random numbers, and these numbers."""
    upstream = np.random.default_rng(1).normal(size=layer.kernel.shape).astype("float32")
    factors = keras.ops.convert_to_tensor(upstream)
    return gradients(lambda: keras.ops.sum(layer.effective_kernel(**arguments) * factors), variables), upstream


# Values


@all_kinds
def test_weights_take_two_or_three_values(make):
    layer = built(make(), 40)
    kernel = numpy(layer.effective_kernel()).reshape(-1, 6)
    per_filter = getattr(layer, "scaled", False) or getattr(layer, "method", "") == "twn"
    expected = 2 if "Binary" in type(layer).__name__ else 3
    for part in kernel.T if per_filter else [kernel]:
        assert len(np.unique(part)) == expected


@all_kinds
def test_the_layer_computes_with_these_values(make, random):
    """A column of the identity as inputs reads the weights out of the layer itself, not of its helper."""
    layer = built(make())
    if "Dense" in type(layer).__name__:
        read = numpy(layer(np.eye(5, dtype="float32")))
    else:
        impulses = np.zeros((5, 3, 3, 5), "float32")
        impulses[range(5), 1, 1, range(5)] = 1
        read = numpy(layer(impulses))[:, ::-1, ::-1].transpose(1, 2, 0, 3)
    np.testing.assert_allclose(read, numpy(layer.effective_kernel()), atol=1e-6)


def test_binary_by_hand():
    layer = built(layers.BinaryDense(2, scaled=True), 3)
    layer.kernel.assign([[0.5, -0.1], [-1.0, 0.0], [0.3, -0.2]])
    np.testing.assert_allclose(numpy(layer.effective_kernel()), [[0.6, -0.1], [-0.6, 0.1], [0.6, -0.1]], atol=1e-7)


def test_the_scale_is_the_best_there_is():
    """XNOR-Net equation 6: no other scale brings the signs nearer to the kernel."""
    layer = built(layers.BinaryDense(4, scaled=True), 9)
    kernel, binary = numpy(layer.kernel), numpy(layer.effective_kernel())
    distance = np.square(kernel - binary).sum(axis=0)
    for factor in (0.95, 1.05):
        assert (np.square(kernel - factor * binary).sum(axis=0) > distance).all()


def test_ternary_by_hand():
    layer = built(layers.TernaryDense(2), 4)
    layer.kernel.assign([[1.0, 0.1], [-0.8, 0.1], [0.2, -0.1], [0.0, -0.1]])
    # Mean magnitudes 0.5 and 0.1, limits 0.35 and 0.07, means above them 0.9 and 0.1.
    expected = [[0.9, 0.1], [-0.9, 0.1], [0, -0.1], [0, -0.1]]
    np.testing.assert_allclose(numpy(layer.effective_kernel()), expected, atol=1e-7)


def test_trained_scales_by_hand():
    layer = built(layers.TernaryDense(2, method="ttq", threshold=0.5), 2)
    layer.kernel.assign([[1.0, -0.6], [0.4, -0.5]])
    np.testing.assert_allclose(numpy(layer.effective_kernel()), [[0.75, -0.5], [0, 0]], atol=1e-7)


def test_trained_scales_start_at_the_mean_magnitude():
    layer = layers.TernaryConv(6, 3, method="ttq", threshold=0.3)
    layer.build((None, 8, 8, 5))
    magnitudes = np.abs(numpy(layer.kernel))
    mean = magnitudes[magnitudes > 0.3 * magnitudes.max()].mean()
    np.testing.assert_allclose([numpy(layer.positive_scale), numpy(layer.negative_scale)], mean, rtol=1e-5)


def test_half_precision_rounds_the_full_weights():
    """The limit of a ternary layer is computed before the cast: 16 bits would move weights across it."""
    layer = built(layers.TernaryConv(6, 3, dtype="mixed_bfloat16"), 64)
    exact = built(layers.TernaryConv(6, 3), 64)
    np.testing.assert_array_equal(numpy(layer.effective_kernel()), numpy(exact.effective_kernel()))


# Stochastic rounding


def test_stochastic_rounding_has_the_probability_of_the_paper():
    layer = built(layers.BinaryDense(4, rounding="stochastic", seed=1), 5)
    layer.kernel.assign(np.repeat([[-1.5, -0.5, 0.2, 1.0]], 5, axis=0))
    draws = np.concatenate([numpy(layer.effective_kernel(training=True)) for _ in range(400)])
    assert set(np.unique(draws)) == {-1, 1}
    # 2,000 draws each: four standard deviations are 0.045.
    np.testing.assert_allclose((draws > 0).mean(axis=0), [0, 0.25, 0.6, 1], atol=0.045)


def test_stochastic_rounding_only_in_training_and_by_its_seed(random):
    inputs = random.normal(size=(3, 5)).astype("float32")
    one, same, other = (built(layers.BinaryDense(64, rounding="stochastic", seed=seed)) for seed in (4, 4, 5))
    signs = built(layers.BinaryDense(64))
    first = numpy(one(inputs, training=True))
    np.testing.assert_array_equal(numpy(same(inputs, training=True)), first)
    assert not np.array_equal(numpy(other(inputs, training=True)), first)
    assert not np.array_equal(numpy(one(inputs, training=True)), first)
    np.testing.assert_array_equal(numpy(one(inputs)), numpy(signs(inputs)))
    np.testing.assert_array_equal(numpy(signs(inputs, training=True)), numpy(signs(inputs)))


# Gradients


@pytest.mark.parametrize("rounding", ["deterministic", "stochastic"])
def test_gradient_of_signs_is_straight_through(rounding):
    layer = built(layers.BinaryConv(6, 3, rounding=rounding))
    (gradient,), upstream = kernel_gradients(layer, [layer.kernel], training=True)
    np.testing.assert_allclose(gradient, upstream, atol=1e-6)


def test_gradient_of_scaled_signs_is_the_chain_rule():
    layer = built(layers.BinaryConv(6, 3, scaled=True))
    (gradient,), upstream = kernel_gradients(layer, [layer.kernel])
    kernel = numpy(layer.kernel)
    signs, scale = np.sign(kernel), np.abs(kernel).mean(axis=(0, 1, 2))
    through_scale = signs * (upstream * signs).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(gradient, scale * upstream + through_scale, atol=1e-5)


def test_gradient_of_ternary_weights_is_straight_through():
    layer = built(layers.TernaryConv(6, 3))
    (gradient,), upstream = kernel_gradients(layer, [layer.kernel])
    np.testing.assert_allclose(gradient, upstream, atol=1e-6)


def test_gradients_of_trained_scales():
    layer = built(layers.TernaryConv(6, 3, method="ttq", threshold=0.2))
    variables = [layer.kernel, layer.positive_scale, layer.negative_scale]
    (gradient, positive, negative), upstream = kernel_gradients(layer, variables)
    kernel = numpy(layer.kernel)
    limit = 0.2 * np.abs(kernel).max()
    np.testing.assert_allclose(positive, upstream[kernel > limit].sum(), rtol=1e-4)
    np.testing.assert_allclose(negative, -upstream[kernel < -limit].sum(), rtol=1e-4)
    slope = np.where(kernel > limit, 0.75, np.where(kernel < -limit, 0.5, 1))
    np.testing.assert_allclose(gradient, slope * upstream, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "greatest"),
    [({"scaled": False}, 1), ({"rounding": "stochastic"}, 1), ({"scaled": True, "rounding": "deterministic"}, None)],
    ids=["signs", "by chance", "scaled"],
)
@pytest.mark.parametrize(
    "kind", [layers.BinaryDense, lambda *count, **options: layers.BinaryConv(*count, 1, **options)]
)
def test_binary_weights_are_clipped_where_their_size_counts_for_nothing(kind, options, greatest):
    image = keras.Input((1, 1, 5))
    layer = kind(3, **options)
    model = keras.Model(image, layer(image))
    model.compile(keras.optimizers.SGD(10.0), "mse")
    model.train_on_batch(np.ones((4, 1, 1, 5), "float32"), np.full((4, 1, 1, 3), 100, "float32"))
    if greatest is None:
        assert np.abs(numpy(layer.kernel)).max() > 1
    else:
        np.testing.assert_array_equal(numpy(layer.kernel), greatest)


# Half of them: each class, and each way to scale.
SLOW_TO_LEARN = ("BinaryConv scaled", "BinaryDense", "TernaryConv ttq", "TernaryDense")


@pytest.mark.parametrize(
    "make",
    [pytest.param(make, id=kind, marks=[pytest.mark.slow] * (kind in SLOW_TO_LEARN)) for kind, make in MAKERS.items()],
)
def test_it_learns(make):
    """A rule that needs signs and zeros only: the sign of x0 - x1. Chance is one half."""
    keras.utils.set_random_seed(0)
    inputs = np.random.default_rng(3).normal(size=(512, 4, 4, 2)).astype("float32")
    labels = (inputs[..., 0].mean((1, 2)) > inputs[..., 1].mean((1, 2))).astype("int32")
    image = keras.Input((4, 4, 2))
    x = make()(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(2)(x))
    model.compile(
        keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    model.fit(inputs, labels, batch_size=64, epochs=12, verbose=0)
    assert model.evaluate(inputs, labels, verbose=0)[1] > 0.9


# Packing


@all_kinds
def test_packed_weights_read_back_exactly(make):
    layer = built(make(), 7)
    packed = layers.packed_weights(layer)
    assert isinstance(packed.data, bytes)
    np.testing.assert_array_equal(layers.unpack_weights(packed), numpy(layer.effective_kernel()))


@pytest.mark.parametrize(
    ("layer", "share"),
    [
        (layers.BinaryConv(64, 3), 1 / 32),
        (layers.BinaryConv(64, 3, scaled=True), 1 / 32),
        (layers.BinaryDense(128), 1 / 32),
        (layers.TernaryConv(64, 3), 1 / 16),
        (layers.TernaryDense(128, method="ttq"), 1 / 16),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_size_of_packed_weights(layer, share):
    size = 4 * np.prod(built(layer, 128).kernel.shape)
    packed = layers.packed_weights(layer)
    assert len(packed.data) == size * share
    assert packed.nbytes == len(packed.data) + packed.scales.nbytes
    assert packed.nbytes / size == pytest.approx(share, rel=0.06)  # the rest are scales, one per filter at most


def test_what_cannot_be_packed_says_so():
    with pytest.raises(TypeError, match=r"^packed_weights: .*Received Dense"):
        layers.packed_weights(keras.layers.Dense(3))
    with pytest.raises(ValueError, match=r"^packed_weights: .*without weights"):
        layers.packed_weights(layers.BinaryConv(4, 3))


def test_shapes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"^BinaryConv: .*input_shape=\(None, 4, 3\)"):
        layers.BinaryConv(4, 3)(keras.Input((4, 3)))
    with pytest.raises(ValueError, match=r"^TernaryDense: .*input_shape=\(None, None\)"):
        layers.TernaryDense(4)(keras.Input((None,)))
    with pytest.raises(ValueError, match=r"^TernaryConv: .*\(5, 5\).*input_shape=\(None, 4, 8, 3\)"):
        layers.TernaryConv(4, 5, padding="valid")(keras.Input((4, 8, 3)))
