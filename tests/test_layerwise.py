"""Layer-wise rates are exact multiples: compared with one plain optimizer per group."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import recipes

RATIOS = {"body/.*": 0.1, "middle/.*": 0.5}
OPTIMIZERS = {
    "sgd": lambda rate: keras.optimizers.SGD(rate, weight_decay=0.01),
    "momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
    "adam": lambda rate: keras.optimizers.Adam(rate),
    "amsgrad": lambda rate: keras.optimizers.Adam(rate, amsgrad=True, weight_decay=0.05),
    "adamw": lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.1),
    "rmsprop": lambda rate: keras.optimizers.RMSprop(rate, momentum=0.5, centered=True),
    "lion": lambda rate: keras.optimizers.Lion(rate, weight_decay=0.1),
    "nadam": lambda rate: keras.optimizers.Nadam(rate),
    "adagrad": lambda rate: keras.optimizers.Adagrad(rate),
    "adamax": lambda rate: keras.optimizers.Adamax(rate),
}
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(64, 5)).astype("float32"), RANDOM.normal(size=(64, 3)).astype("float32")


def network():
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(7, activation="tanh", name=name) for name in ("body", "middle")]
    return keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(3, name="head")])


def gradients(model):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(X) - Y) ** 2)
    return tape.gradient(loss, model.trainable_variables)


def worst_difference(model, other):
    return max(
        float(np.abs(one - two).max()) for one, two in zip(model.get_weights(), other.get_weights(), strict=True)
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [1, 10])
def test_groups_step_as_with_an_optimizer_of_their_own(name, steps):
    model, reference = network(), network()
    layerwise = recipes.LayerwiseOptimizer(OPTIMIZERS[name](0.01), RATIOS)
    groups = [(slice(0, 2), 0.1), (slice(2, 4), 0.5), (slice(4, 6), 1.0)]
    separate = [OPTIMIZERS[name](0.01 * ratio) for _, ratio in groups]
    for optimizer in separate:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    start = model.get_weights()
    for _ in range(steps):
        layerwise.apply_gradients(zip(gradients(model), model.trainable_variables, strict=True))
        changes = gradients(reference)
        for (part, _), optimizer in zip(groups, separate, strict=True):
            optimizer.apply_gradients(zip(changes[part], reference.trainable_variables[part], strict=True))
    # The rate is rounded to float32 before or after the ratio: a unit in the last place of a weight below 1, each step.
    assert worst_difference(model, reference) <= 6e-8 * steps
    assert min(np.abs(new - old).max() for new, old in zip(model.get_weights(), start, strict=True)) > 1e-5


def test_weight_decay_scales_with_the_rate_and_spares_biases():
    model = network()
    optimizer = recipes.LayerwiseOptimizer(keras.optimizers.SGD(0.1, weight_decay=0.5), {"body/.*": 0.1})
    model.get_layer("body").bias.assign(np.ones(7))
    before = model.get_weights()
    zeros = [np.zeros(weight.shape, "float32") for weight in before]
    optimizer.apply_gradients(zip(map(tf.constant, zeros), model.trainable_variables, strict=True))
    factors = [1 - 0.1 * 0.5 * 0.1, 1, 1 - 0.1 * 0.5, 1, 1 - 0.1 * 0.5, 1]
    for old, new, factor in zip(before, model.get_weights(), factors, strict=True):
        np.testing.assert_allclose(new, old * factor, rtol=1e-6)  # float32 rounding


def test_a_ratio_of_zero_moves_nothing():
    model = network()
    optimizer = recipes.LayerwiseOptimizer(keras.optimizers.AdamW(0.1), {"body/.*": 0.0})
    before = model.get_layer("body").get_weights()
    optimizer.apply_gradients(zip(gradients(model), model.trainable_variables, strict=True))
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_layer("body").get_weights(), strict=True))


def test_one_global_norm_for_all_groups():
    model, reference = network(), network()
    layerwise = recipes.LayerwiseOptimizer(keras.optimizers.SGD(1.0, global_clipnorm=0.01), RATIOS)
    changes = gradients(reference)
    layerwise.apply_gradients(zip(gradients(model), model.trainable_variables, strict=True))
    norm = np.sqrt(sum(float(tf.reduce_sum(change**2)) for change in changes))
    for variable, change, ratio in zip(reference.trainable_variables, changes, [0.1, 0.1, 0.5, 0.5, 1, 1], strict=True):
        variable.assign_sub(ratio * change * 0.01 / norm)
    assert norm > 0.01
    assert worst_difference(model, reference) < 1e-8


def test_callbacks_and_schedules_move_every_group():
    halved = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 if epoch == 0 else rate / 2)
    for ratio, epochs in ((1.0, 1), (1.0, 2)):
        model, reference = network(), network()
        model.compile(recipes.LayerwiseOptimizer(keras.optimizers.SGD(1.0), {"body/.*": 0.1}), "mse")
        model.fit(X, Y, batch_size=64, epochs=epochs, callbacks=[halved], verbose=0)
        assert float(model.optimizer.learning_rate) == 0.5**epochs * ratio
        for epoch in range(epochs):
            for variable, change, own in zip(
                reference.trainable_variables, gradients(reference), [0.1, 0.1, 1, 1, 1, 1], strict=True
            ):
                variable.assign_sub(0.5 ** (epoch + 1) * own * change)
        assert worst_difference(model, reference) < 1e-6
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.01])
    optimizer = recipes.LayerwiseOptimizer(keras.optimizers.SGD(schedule), {})
    for _ in range(4):
        optimizer.apply_gradients(zip(gradients(model), model.trainable_variables, strict=True))
    assert float(optimizer.learning_rate) == pytest.approx(0.01)


def test_reduce_on_plateau_works():
    model = network()
    model.compile(recipes.LayerwiseOptimizer(keras.optimizers.SGD(1e-9), {"body/.*": 0.1}), "mse")
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, factor=0.5, min_delta=1.0)
    model.fit(X, Y, epochs=4, callbacks=[plateau], verbose=0)
    assert float(model.optimizer.learning_rate) < 1e-9


def test_accumulation_equals_one_large_batch():
    model, reference = network(), network()
    small = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model.compile(recipes.LayerwiseOptimizer(small, RATIOS), "mse")
    reference.compile(recipes.LayerwiseOptimizer(keras.optimizers.SGD(0.1), RATIOS), "mse")
    model.fit(X, Y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    reference.fit(X, Y, batch_size=64, epochs=2, shuffle=False, verbose=0)
    assert worst_difference(model, reference) < 1e-6  # sums in another order


def test_moving_average_of_weights():
    model = network()
    inner = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    optimizer = recipes.LayerwiseOptimizer(inner, RATIOS)
    expected = None
    for _ in range(3):
        optimizer.apply_gradients(zip(gradients(model), model.trainable_variables, strict=True))
        weights = model.get_weights()
        expected = weights if expected is None else [0.5 * a + 0.5 * w for a, w in zip(expected, weights, strict=True)]
    optimizer.finalize_variable_values(model.trainable_variables)
    for average, weight in zip(expected, model.get_weights(), strict=True):
        np.testing.assert_allclose(weight, average, atol=1e-6)


def test_a_loss_scale_of_the_inner_optimizer_is_applied_and_undone():
    models = network(), network()
    models[0].compile(recipes.LayerwiseOptimizer(keras.optimizers.SGD(0.1, loss_scale_factor=128.0), {}), "mse")
    models[1].compile(keras.optimizers.SGD(0.1), "mse")
    for model in models:
        model.fit(X, Y, batch_size=64, epochs=2, shuffle=False, verbose=0)
    assert worst_difference(*models) < 1e-6


def test_exclusions_from_weight_decay_are_honoured_inside_and_outside():
    for outside in (False, True):
        inner = keras.optimizers.SGD(0.1, weight_decay=0.5)
        if not outside:
            inner.exclude_from_weight_decay(var_names=["kernel"])
        optimizer = recipes.LayerwiseOptimizer(inner, {})
        if outside:
            optimizer.exclude_from_weight_decay(var_names=["kernel"])
        model = network()
        before = model.get_weights()
        optimizer.apply_gradients([(tf.zeros_like(v.value), v) for v in model.trainable_variables])
        assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("policy", ["float32", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_swapping_averages_for_measuring(policy):
    keras.config.set_dtype_policy(policy)
    try:
        models = network(), network()
    finally:
        keras.config.set_dtype_policy("float32")
    inner = [keras.optimizers.AdamW(0.01, use_ema=True, ema_momentum=0.5) for _ in models]
    models[0].compile(recipes.LayerwiseOptimizer(inner[0], {}, undecayed=()), "mse")
    models[1].compile(inner[1], "mse")
    losses = [
        model.fit(
            X,
            Y,
            epochs=3,
            shuffle=False,
            verbose=0,
            validation_data=(X, Y),
            callbacks=[keras.callbacks.SwapEMAWeights()],
        ).history["val_loss"]
        for model in models
    ]
    np.testing.assert_allclose(*losses, rtol=1e-3 if policy != "float32" else 1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = network()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(recipes.LayerwiseOptimizer(keras.optimizers.AdamW(0.01), RATIOS), "mse")
    before = model.evaluate(X, Y, verbose=0)
    model.fit(X, Y, epochs=5, verbose=0)
    assert model.evaluate(X, Y, verbose=0) < before
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")


def test_saved_and_loaded_it_goes_on_alike(tmp_path):
    model = network()
    model.compile(recipes.LayerwiseOptimizer(keras.optimizers.AdamW(0.01, weight_decay=0.2), RATIOS), "mse")
    model.fit(X, Y, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert loaded.optimizer.weight_decay == 0.2
    for one in (model, loaded):
        one.fit(X, Y, epochs=2, shuffle=False, verbose=0)
    assert worst_difference(model, loaded) == 0


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: recipes.LayerwiseOptimizer("adam", {}), TypeError, "'adam'"),
        (lambda: recipes.LayerwiseOptimizer(keras.optimizers.SGD(), {"a": -1}), ValueError, "-1"),
        (lambda: recipes.LayerwiseOptimizer(keras.optimizers.SGD(), {"a": float("nan")}), ValueError, "nan"),
        (
            lambda: recipes.LayerwiseOptimizer(recipes.LayerwiseOptimizer(keras.optimizers.SGD(), {}), {}),
            TypeError,
            "does not wrap others",
        ),
    ],
)
def test_bad_arguments_are_named(make, kind, said):
    with pytest.raises(kind, match="LayerwiseOptimizer") as caught:
        make()
    assert said in str(caught.value)


def test_a_pattern_that_matches_nothing_is_an_error():
    model = network()
    model.compile(recipes.LayerwiseOptimizer(keras.optimizers.SGD(), {"boddy/.*": 0.1}), "mse")
    with pytest.raises(ValueError, match="'boddy/"):
        model.fit(X, Y, verbose=0)


def test_a_built_optimizer_is_refused():
    inner, model = keras.optimizers.SGD(), network()
    inner.build(model.trainable_variables)
    with pytest.raises(ValueError, match="built"):
        recipes.LayerwiseOptimizer(inner, {})


def test_loss_is_scaled_once():
    """By the wrapper alone, whatever the optimizer inside was told."""
    moved = []
    for factor in (None, 8.0):
        weight = keras.Variable(np.ones(3, "float32"), name="w")
        wrapped = recipes.LayerwiseOptimizer(keras.optimizers.SGD(0.5, loss_scale_factor=factor), {})
        assert wrapped.loss_scale_factor == factor
        outer = keras.optimizers.LossScaleOptimizer(wrapped, initial_scale=4.0)
        outer.build([weight])
        outer.apply([keras.ops.ones(3) * 4.0], [weight])
        moved.append(keras.ops.convert_to_numpy(weight))
    np.testing.assert_array_equal(moved, np.full((2, 3), 0.5))
