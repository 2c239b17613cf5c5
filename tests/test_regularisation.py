"""Weight decay and L2 as the papers have them, stochastic depth, and averaged weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import random_images
from endings import Death, die_at, outcome

import recipes
from recipes.bases import build_network
from recipes.bases.drop_paths import residual_branches, with_drop_paths, without_drop_paths
from recipes.training.looping import Loop
from recipes.training.optimizers import make_optimizer


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def residual_base():
    """Two residual blocks, one of them with a convolution in its shortcut."""
    keras.utils.set_random_seed(5)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    for name, filters, strides in (("one", 4, 2), ("two", 8, 2), ("three", 8, 1)):
        branch = keras.layers.Conv2D(filters, 3, strides=strides, padding="same", name=f"{name}_conv")(x)
        branch = keras.layers.BatchNormalization(name=f"{name}_norm")(branch)
        if name == "one":
            x = keras.layers.ReLU()(branch)
            continue
        branch = keras.layers.Conv2D(filters, 3, padding="same", name=f"{name}_last")(keras.layers.ReLU()(branch))
        shortcut = keras.layers.Conv2D(filters, 1, strides=2, name="short")(x) if name == "two" else x
        x = keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([shortcut, branch]))
    return keras.Model(image, x, name="residual")


def tune(data, out=None, **arguments):
    options = {"plan": "all", "weights": None, "epochs": 3, "batch_size": 8, "learning_rate": 0.02, "verbose": False}
    return recipes.finetune(residual_base(), data, out=out, **options | arguments)


# Loshchilov & Hutter 2019, "Decoupled weight decay regularization": algorithms 1 and 2, L2 in pink, decoupled in green.


def by_the_paper(start, gradients, *, rate, decay, kind, is_decoupled):
    """The weights after some steps in NumPy, with float64."""
    weight, first, second = start.astype(float), 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        gradient = gradient if is_decoupled else gradient + decay * weight
        if kind == "sgd":
            first = 0.9 * first - rate * gradient
            change = -(0.9 * first - rate * gradient)  # Nesterov's momentum, as finetune's "sgd" has it
        else:
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            change = rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-7)
        weight = weight - change - (rate * decay * weight if is_decoupled else 0.0)
    return weight


def by_ours(start, gradients, *, rate, decay, kind, is_decoupled):
    """The weights after some steps of the optimizer that `finetune` makes; L2 is Keras' penalty in the loss."""
    variable = keras.Variable(start, name="kernel")
    optimizer = make_optimizer(kind, rate, decay if is_decoupled else 0.0, {})
    optimizer.build([variable])
    penalty = keras.regularizers.L2(decay / 2)  # of which the gradient is decay × weight
    for gradient in gradients:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(variable.value * gradient.astype("float32"))
            loss += 0.0 if is_decoupled else penalty(variable.value)
        optimizer.apply([tape.gradient(loss, variable.value)], [variable])
    return keras.ops.convert_to_numpy(variable)


@pytest.mark.parametrize("is_decoupled", [True, False])
@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_decoupled_decay_and_l2_step_by_step(random, kind, is_decoupled):
    start, gradients = random.normal(size=(4, 3)).astype("float32"), random.normal(size=(6, 4, 3))
    options = {"rate": 0.05, "decay": 0.3, "kind": kind, "is_decoupled": is_decoupled}
    for steps in range(1, 7):
        expected = by_the_paper(start, gradients[:steps], **options)
        np.testing.assert_allclose(by_ours(start, gradients[:steps], **options), expected, atol=1e-5)  # float32


def test_the_two_are_one_for_plain_sgd_and_not_for_adam(random):
    """Proposition 1 of the paper, with λ' = λ / rate understood; and what proposition 2 says there is not."""
    start, gradients = random.normal(size=(4, 3)).astype("float32"), [np.zeros((4, 3))] * 5
    results = {}
    for kind in ("sgd", "adam"):
        for is_decoupled in (True, False):
            options = {"rate": 0.01, "decay": 0.3, "kind": kind, "is_decoupled": is_decoupled}
            results[kind, is_decoupled] = by_ours(start, gradients, **options) / start
    np.testing.assert_allclose(results["adam", True], (1 - 0.01 * 0.3) ** 5, rtol=1e-5)  # every weight by one factor
    shrunk = results["adam", False]  # by one amount, however large the weight and λ are: small weights by more
    np.testing.assert_allclose(np.abs(start) * (1 - shrunk), 0.05, rtol=0.1)
    plain = keras.Variable(start)
    recipes.LayerwiseOptimizer(keras.optimizers.SGD(0.01, weight_decay=0.3), {}).apply([start * 0], [plain])
    np.testing.assert_allclose(plain.numpy(), start - 0.01 * (0.3 * start), rtol=1e-6)  # a step of L2 in SGD


# Stochastic depth


def test_rates_rise_evenly_along_depth():
    network = with_drop_paths(build_network("small_resnet", weights=None, image_size=8, class_count=3), 0.6, 0, "f")
    rates = [layer.rate for layer in network.model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert len({layer.seed for layer in network.model.layers if isinstance(layer, keras.layers.Dropout)}) == 6
    names = {name for block in network.blocks for name in block.layers}
    assert {layer.name for layer in network.model.layers if layer.name.endswith("_path")} <= names


@pytest.mark.parametrize(
    ("base", "count"),
    [("small_resnet", 6), ("cifar_resnet20", 9), ("mobilenet_v2_035", 10), ("vgg16", 0), ("squeezenet", 0)],
)
def test_residual_sums_are_found(base, count):
    network = build_network(base, weights=None, image_size=32, class_count=3)
    assert len(residual_branches(network.model)) == count


def test_branches_are_dropped_image_by_image_and_kept_ones_scaled():
    plain = build_network(residual_base(), weights=None, image_size=16, class_count=3)
    network = with_drop_paths(plain, 0.5, 0, "finetune")
    images = np.repeat(random_images(np.random.default_rng(1), 1), 400, 0).astype("float32")

    def inner(model, training):
        ends = [model.get_layer(name).output for name in ("three_last", "two_out", "three_add")]
        return [part.numpy() for part in keras.Model(model.input, ends)(images, training=training)]

    for layer in network.model.layers:  # so that all images are alike but for what is dropped
        layer.trainable = False
    branch, shortcut, total = inner(network.model, True)
    is_dropped = np.all(total == shortcut, axis=(1, 2, 3))
    np.testing.assert_allclose(total[~is_dropped], (shortcut + branch / 0.5)[~is_dropped], rtol=1e-4, atol=1e-4)
    assert abs(is_dropped.mean() - 0.5) < 0.1  # four deviations
    branch, shortcut, total = inner(network.model, False)
    np.testing.assert_array_equal(total, shortcut + branch)
    before, after = inner(plain.model, False), inner(without_drop_paths(network).model, False)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_network_that_comes_out_is_the_plain_one(data):
    plain, deep = tune(data), tune(data, stochastic_depth=0.5)
    assert [layer.name for layer in deep.model.layers] == [layer.name for layer in plain.model.layers]
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in deep.model.layers)
    assert deep.report.curves["loss"] != plain.report.curves["loss"]
    measured = recipes.evaluate(deep, data)
    assert measured.scores == pytest.approx(deep.report.scores, rel=1e-5)
    assert deep.report.cost == plain.report.cost


def test_frozen_branches_are_not_dropped(data):
    options = {"plan": "head", "weights": "pretrained"}
    with pytest.warns(UserWarning, match=r"finetune: stochastic_depth drops nothing: .* \('head'\)"):
        same = tune(data, stochastic_depth=0.5, **options)
    assert outcome(same) == outcome(tune(data, **options))


@pytest.mark.parametrize(
    ("base", "said"), [("vgg16", "needs residual sums. Received vgg16"), ("efficientnet_b0", "of their own accord")]
)
def test_networks_without_residual_sums_are_refused(data, base, said):
    data = recipes.load_data((np.repeat(np.repeat(data.train.images(), 2, 1), 2, 2), data.train.labels), test=0.0)
    with pytest.raises(ValueError, match=f"finetune: stochastic_depth .*{said}"):
        recipes.finetune(base, data, weights=None, stochastic_depth=0.2, verbose=False)


# Averages


def test_the_average_is_what_is_kept(data, monkeypatch):
    """Against the weights of all steps, gone through in NumPy; where nothing is validated, the last average stays."""
    whole = recipes.Data(**{**vars(data), "valid": data.test})
    trajectory, original = [], Loop._book

    def book(loop, standing, *given):
        model = loop.averages._prepared.model
        trajectory.append([weight.numpy().copy() for weight in model.trainable_variables])
        original(loop, standing, *given)

    empty = recipes.Data(**{**vars(data), "valid": recipes.Split(data.valid.store, *no_images(data.valid))})
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_book", book)
        patch.setattr(Loop, "_has_to_save", lambda loop: True)  # so that a step is booked before the next
        result = tune(empty, ema=0.7, epochs=2, weights="pretrained")
    average = trajectory[0]
    for weights in trajectory[1:]:
        average = [0.7 * before + 0.3 * now for before, now in zip(average, weights, strict=True)]
    for expected, weight in zip(average, result.model.trainable_variables, strict=True):
        np.testing.assert_allclose(weight.numpy(), expected, atol=1e-6)
    assert len(trajectory) == 2 * -(-len(whole.train) // 8)


def no_images(split):
    return split.rows[:0], split.labels[:0], (), ()


def test_it_is_the_average_of_keras(data):
    by_argument = tune(data, ema=0.8, weights="pretrained", optimizer="adam")
    adam = keras.optimizers.Adam(1.0, use_ema=True, ema_momentum=0.8)
    assert outcome(by_argument) == outcome(tune(data, weights="pretrained", optimizer=adam))
    assert outcome(by_argument) != outcome(tune(data, weights="pretrained", optimizer="adam"))


def test_batch_normalization_fits_the_averaged_weights(data):
    """Mean and variance of each are those of the training images, batch by batch, under the weights that are kept."""
    model = tune(data, ema=0.8).model
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 3
    found = [weight.numpy().copy() for layer in norms for weight in (layer.moving_mean, layer.moving_variance)]
    images, expected = data.train.images().astype("float32"), [0.0] * 6
    probe = keras.Model(model.input, [layer.input for layer in norms])
    for start in range(0, len(images), 8):
        share = len(images[start : start + 8]) / len(images)
        for place, values in enumerate(probe(images[start : start + 8], training=True)):
            values = values.numpy().astype(float)
            expected[2 * place] = expected[2 * place] + share * values.mean((0, 1, 2))
            expected[2 * place + 1] = expected[2 * place + 1] + share * values.var((0, 1, 2))
    for value, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-3, atol=1e-4)  # float32


def test_statistics_of_an_average_are_of_the_images_that_an_epoch_draws():
    """400 dark images and 40 bright ones, drawn evenly: the mean is half-way between, with the average and without."""
    levels, random = np.repeat([60.0, 200.0], (400, 40)), np.random.default_rng(0)
    pixels = np.clip(levels[:, None, None, None] + random.normal(0, 5, (440, 4, 4, 1)), 0, 255)
    data = recipes.load_data((pixels, (levels > 100).astype(int)), valid=0.2, test=0.2)
    image = keras.Input((4, 4, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization(momentum=0.5, name="norm")(image))
    options = {"weights": None, "plan": "all", "epochs": 8, "sampling": "balanced", "verbose": False, "patience": None}
    for more in ({}, {"ema": 0.9}, {"snapshots": 3}):
        model = recipes.finetune(keras.Model(image, x), data, **options, **more).model
        (mean,) = model.get_layer("norm").moving_mean.numpy()
        assert 110 < mean < 150  # of all images it is 73


KINDS = {
    "paths and averages": {"stochastic_depth": 0.5, "ema": 0.8, "dropout": 0.3},
    "in half precision": {"stochastic_depth": 0.5, "ema": 0.8, "precision": "mixed_float16", "optimizer": "sgd"},
    "from pretrained weights, in two stages": {
        **{"stochastic_depth": 0.5, "ema": 0.8, "weights": "pretrained", "plan": "default", "cache": True},
        **{"learning_rate": None, "epochs": (2, 3)},
    },
}


# In an epoch, after one, and in the second stage.
PLACES = ((Loop, "_book", 9, False), (Loop, "_end_epoch", 2, True), (Loop, "_book", 19, False))

CASES = [
    pytest.param(kind, place, marks=[pytest.mark.slow] * (number > 0), id=kind)
    for number, (kind, place) in enumerate(zip(KINDS, PLACES, strict=True))
]


@pytest.mark.parametrize(("kind", "place"), CASES)
def test_ended_anywhere_it_goes_on_to_the_same_weights(data, tmp_path, monkeypatch, kind, place):
    expected = outcome(tune(data, **KINDS[kind]))
    with monkeypatch.context() as patch:
        die_at(patch, *place)
        with pytest.raises(Death):
            tune(data, tmp_path / "run", checkpoint_steps=2, **KINDS[kind])
    assert outcome(tune(data, tmp_path / "run", checkpoint_steps=2, **KINDS[kind])) == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"stochastic_depth": 1.0}, "stochastic_depth must be at least 0 and at most 0.99"),
        ({"ema": 0.0}, "ema must be above 0"),
        ({"ema": 1.0}, "ema must be above 0 and at most"),
    ],
)
def test_bad_arguments(data, arguments, said):
    with pytest.raises(ValueError, match=f"finetune: {said}"):
        tune(data, **arguments)
