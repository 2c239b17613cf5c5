"""The main recipe: what trains, at which rates, what stays, and what comes out."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
import weakref

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf
from cases import random_images, tiny_base, write_photos
from fresh_python import run_python
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

import recipes
from recipes.bases import build_network
from recipes.data.batches import compiled
from recipes.training.frozen_prefix import Prepared
from recipes.training.journal import Journal
from recipes.training.looping import Loop
from recipes.training.objectives import CrossEntropy, weighted
from recipes.training.opening import class_weights
from recipes.training.optimizers import make_rate
from recipes.training.progress import EpochLine
from recipes.training.stages import describe_stage, validate


def weights_of(model, names):
    return {name: model.get_layer(name).get_weights() for name in names}


def changed(before, model):
    """Names of the layers of which any weight differs from `before`."""
    return {
        name
        for name, old in before.items()
        if any(not np.array_equal(a, b) for a, b in zip(old, model.get_layer(name).get_weights(), strict=True))
    }


def tune(data, **arguments):
    # A rate that is given need not be found, which takes longer than an epoch of so few images.
    usual = {} if isinstance(arguments.get("plan"), list) else {"epochs": 1, "learning_rate": 0.01}
    arguments = {**usual, "batch_size": 8, "verbose": False, **arguments}
    return recipes.finetune(tiny_base(), data, **arguments)


# --- what comes out --------------------------------------------------------------------------------------------------


def test_it_learns(classifier):
    assert classifier.report.scores["accuracy"] > 0.8  # three classes: chance is a third
    assert classifier.report.split == "test"
    assert classifier.class_names == ("blue", "green", "red")


def test_report_holds_curves_cost_settings_versions_and_seconds(classifier, photo_data):
    report = classifier.report
    assert report.curves["stage"] == ["head"] * 20 + ["blocks"]
    assert {len(values) for values in report.curves.values()} == {21}
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(report.curves)
    assert report.cost["parameters"] == classifier.model.count_params()
    assert report.settings["epochs"] == [20, 1]
    assert report.settings["data_fingerprint"] == photo_data.fingerprint
    assert report.versions["keras"] == keras.__version__
    assert set(report.seconds) == {"data", "building", "training", "measuring"}
    assert "accuracy" in repr(report)


def test_accuracy_is_that_of_model_evaluate(classifier, photo_data):
    test = photo_data.test
    _, accuracy = classifier.model.evaluate(test.images().astype("float32"), test.labels, verbose=0)
    assert np.float32(classifier.report.scores["accuracy"]) == np.float32(accuracy)
    rows = classifier.report.rows
    assert [row["file"] for row in rows] == list(test.files)
    assert [row["true"] for row in rows] == [photo_data.class_names[label] for label in test.labels]
    assert np.mean([row["true"] == row["predicted"] for row in rows]) == classifier.report.scores["accuracy"]


@pytest.mark.parametrize(("batch_size", "label_smoothing"), [(4, 0.0), (5, 0.2)])
def test_validation_scores_are_those_of_keras(photo_data, batch_size, label_smoothing):
    model = build_network(tiny_base(), image_size=photo_data.image_size, class_count=len(photo_data.class_names)).model
    loss = CrossEntropy(label_smoothing, len(photo_data.class_names))
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(photo_data.train.images(), photo_data.train.labels, epochs=3, verbose=0)
    valid = photo_data.valid
    expected = model.evaluate(valid.images(), valid.labels, return_dict=True, verbose=0)
    run = compiled(lambda images, training: model(images, training=training), valid)
    received = validate(Prepared(model, None, photo_data.train, valid, run), batch_size, loss)
    assert received == pytest.approx({f"val_{name}": value for name, value in expected.items()}, rel=1e-5)


def test_same_seed_same_report_other_seed_other_weights(photo_data):
    one, two, other = (tune(photo_data, seed=seed, dropout=0.2, augmentation="photo") for seed in (4, 4, 5))
    for old, new in zip(one.model.get_weights(), two.model.get_weights(), strict=True):
        assert np.array_equal(old, new)
    assert one.report.scores == two.report.scores
    assert one.report.curves == two.report.curves
    assert not np.array_equal(one.model.get_weights()[-2], other.model.get_weights()[-2])


def test_inputs_are_left_as_they_were(random):
    x, y = random_images(random, 40), np.arange(40) % 2
    kept, base, optimizer = (x.copy(), y.copy()), tiny_base(), keras.optimizers.SGD(0.1)
    base.get_layer("conv1").trainable = False
    before = base.get_weights()
    random_state = np.random.get_state()[1].copy()  # noqa: NPY002
    recipes.finetune(base, (x, y), epochs=1, optimizer=optimizer, plan="all", verbose=False)
    assert np.array_equal(x, kept[0])
    assert np.array_equal(y, kept[1])
    assert all(np.array_equal(old, new) for old, new in zip(before, base.get_weights(), strict=True))
    assert not base.get_layer("conv1").trainable
    assert not optimizer.built
    assert np.array_equal(random_state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    "arguments",
    [
        {"plan": "head"},
        {"plan": "all", "optimizer": "sgd", "schedule": "constant"},
        {"layer_decay": 0.5, "optimizer": "lion"},
        {"schedule": "plateau", "optimizer": "rmsprop"},
        {"label_smoothing": 0.1, "dropout": 0.3, "head": (8,), "optimizer": "adam"},
        {"plan": [recipes.Stage("first", 1), {"name": "second", "epochs": 1, "early": 1.0}]},
        {"augmentation": keras.layers.RandomFlip()},
        {"optimizer": "adamw", "weight_decay": 0},
        {"optimizer": "adamw", "weight_decay": None},
        {"optimizer": "lion", "weight_decay": None},
        {"optimizer": "sgd", "weight_decay": 0},
        {"augmentation": lambda images, seed: images + tf.random.stateless_uniform((), seed)},
        {"optimizer": keras.optimizers.SGD(0.1, momentum=0.5), "weight_decay": None},
        {"patience": None, "weights": None},
    ],
)
def test_every_piece_can_be_set(photo_data, arguments):
    result = tune(photo_data, **arguments)
    assert np.isfinite(result.report.curves["loss"]).all()
    json.dumps(result.report.settings)


def test_data_as_a_dictionary(photos):
    result = tune({"source": str(photos), "valid": 0.3, "test": 0, "resize": "stretch"}, image_size=16)
    assert result.report.split == "valid"
    assert result.resize == "stretch"


def test_without_validation_images_it_says_train(photos):
    result = tune({"source": photos, "valid": 0, "test": 0})
    assert result.report.split == "train"


def test_plateau_needs_validation_images(photos):
    with pytest.raises(ValueError, match="needs validation images"):
        tune({"source": photos, "valid": 0, "test": 0}, schedule="plateau")


def test_grey_images(random):
    y = np.arange(40) % 2
    x = random.integers(0, 100, (40, 16, 16), np.uint8) + (100 * y[:, None, None]).astype(np.uint8)
    result = recipes.finetune(tiny_base(), (x, y), epochs=20, plan="all", learning_rate=0.01, verbose=False)
    assert result.channels == 1
    assert result.predict(np.full((16, 16), 150, np.uint8)).label == "1"
    assert result.predict(np.full((16, 16), 50, np.uint8)).label == "0"


# --- what trains -----------------------------------------------------------------------------------------------------


def test_frozen_is_frozen_bit_for_bit(photo_data):
    base = tiny_base()
    for number in range(4):  # a network that has seen data, so that moving statistics would move
        base.get_layer(f"norm{number}").set_weights(
            [np.full(s.shape, 1.5) for s in base.get_layer(f"norm{number}").weights]
        )
    names = [f"{kind}{number}" for kind in ("conv", "norm") for number in range(4)]
    before = weights_of(base, names)
    stages = {
        "head": recipes.Stage("head", 2),
        "top": recipes.Stage("top", 2, top=0.1),
        "most": recipes.Stage("most", 2, top=0.1, intermediate=0.01),
        "all": recipes.Stage("all", 2, top=1, intermediate=1, early=1),
    }
    network = build_network(base, image_size=16, class_count=3)
    ratios = {name: stage.ratios(len(network.blocks)) for name, stage in stages.items()}
    for name, stage in stages.items():
        result = recipes.finetune(base, photo_data, plan=[stage], batch_size=8, verbose=False)
        trained = {
            layer
            for block, ratio in zip(network.blocks, ratios[name], strict=True)
            for layer in block.layers
            if ratio and layer.startswith("conv")
        }
        assert changed(before, result.model) == trained, name  # BatchNormalization never


def test_without_weights_batchnorm_trains(photo_data):
    result = tune(photo_data, weights=None)
    fresh = build_network(tiny_base(), weights=None, image_size=16, class_count=3).model
    names = [f"{kind}{number}" for kind in ("conv", "norm") for number in range(4)]
    assert changed(weights_of(fresh, names), result.model) == set(names)


def test_statistics_of_a_new_network_follow_a_short_training(photo_data):
    """With a momentum of 0.999 and four steps an epoch, the moving mean would go 4 % of its way."""
    base = tiny_base()
    for number in range(4):
        base.get_layer(f"norm{number}").momentum = 0.999
    no_valid = recipes.Data(**{**vars(photo_data), "valid": empty(photo_data.valid)})  # the last weights, not the best
    options = {"batch_size": 8, "learning_rate": 1e-6, "verbose": False}
    result = recipes.finetune(base, no_valid, weights=None, epochs=10, **options)
    first = keras.Model(result.model.input, result.model.get_layer("conv0").output)
    mean = first.predict(photo_data.train.images(), verbose=0).mean((0, 1, 2))
    # What is left of the start after 40 steps is 0.9^40, 1.5 %; the last batches count more than the first.
    np.testing.assert_allclose(result.model.get_layer("norm0").moving_mean, mean, atol=0.1 * np.abs(mean).max())
    kept = recipes.finetune(base, photo_data, epochs=1, **options)
    assert kept.model.get_layer("norm0").momentum == 0.999  # a pretrained one is left as it is


def test_rates_of_the_groups_under_sgd(photo_data):
    """One step of SGD moves each layer by its ratio times what a uniform rate moves it."""
    stage = {"epochs": 1, "learning_rate": 0.01}
    options = {"optimizer": keras.optimizers.SGD(), "schedule": "constant", "batch_size": 1000, "weight_decay": 0.0}
    even = recipes.Stage("even", **stage, top=1, intermediate=1, early=1)
    layered = recipes.Stage("layered", **stage, top=0.1, intermediate=0.01)
    start = build_network(tiny_base(), image_size=16, class_count=3)
    no_valid = recipes.Data(**{**vars(photo_data), "valid": empty(photo_data.valid), "test": empty(photo_data.test)})
    moved = []
    for plan in (even, layered):
        model = recipes.finetune(tiny_base(), no_valid, plan=[plan], verbose=False, **options).model
        moved.append({layer.name: model.get_layer(layer.name).get_weights() for layer in start.model.layers})
    for block, ratio in zip(start.blocks, layered.ratios(len(start.blocks)), strict=True):
        for name in block.layers:
            for old, full, part in zip(
                start.model.get_layer(name).get_weights(), moved[0][name], moved[1][name], strict=True
            ):
                # Weights of about 0.3 are known to 3e-8 in float32.
                np.testing.assert_allclose(part - old, ratio * (full - old), atol=1e-7)
    head = start.model.get_layer("probabilities").get_weights()
    for old, full, part in zip(head, moved[0]["probabilities"], moved[1]["probabilities"], strict=True):
        np.testing.assert_allclose(part - old, full - old, atol=1e-7)


def empty(split):
    return recipes.Split(split.store, split.rows[:0], split.labels[:0], (), ())


def test_stage_ratios():
    stage = recipes.Stage("a", 1, top=0.1, intermediate=0.01)
    assert [stage.ratios(blocks) for blocks in (1, 2, 3)] == [(0.1,), (0.01, 0.1), (0, 0.01, 0.1)]
    assert stage.ratios(5) == (0, 0.01, 0.01, 0.1, 0.1)
    one = recipes.Stage("a", 1, top=0.1, intermediate=0.01, top_blocks=1)
    assert [one.ratios(blocks) for blocks in (1, 5)] == [(0.1,), (0, 0, 0.01, 0.01, 0.1)]
    assert recipes.Stage("a", 1, layer_decay=0.5).ratios(3) == (0.125, 0.25, 0.5)
    network = build_network(tiny_base(), image_size=16, class_count=3)
    line = describe_stage(network, recipes.Stage("blocks", 3, 1e-3, top=0.1, intermediate=0.01))
    assert line.startswith("Stage 'blocks', at most 3 epochs: head at 0.001, ")
    assert "at 0.0001" in line
    assert "at 1e-05" in line
    assert "frozen" in line


def test_cosine_schedule_warms_up_and_ends_at_zero():
    rate = make_rate("cosine", 0.1, 100)
    values = [float(rate(step)) for step in range(101)]
    np.testing.assert_allclose(values[:10], 0.01 * np.arange(1, 11), rtol=1e-5)
    assert np.argmax(values) == 9
    assert values[9 + 91 // 2] == pytest.approx(0.05, abs=1e-3)  # half way between warm-up and end
    assert values[100] == pytest.approx(0, abs=1e-9)
    assert float(make_rate("cosine", 0.1, 1)(0)) == pytest.approx(0.1)  # a single step is not lost to warm-up


def test_best_weights_of_all_stages_are_kept(photo_data):
    """A second stage that wrecks the network ends with the first stage's weights."""
    good = recipes.Stage("good", 4, 0.03)
    wreck = recipes.Stage("wreck", 1, 30.0, top=1, intermediate=1, early=1)
    one = recipes.finetune(tiny_base(), photo_data, plan=[good], batch_size=8, verbose=False)
    both = recipes.finetune(
        tiny_base(), photo_data, plan=[good, wreck], batch_size=8, schedule="constant", verbose=False
    )
    curves = both.report.curves
    best = max(range(5), key=lambda epoch: (curves["val_accuracy"][epoch], -curves["val_loss"][epoch]))
    assert curves["stage"][best] == "good"
    valid = photo_data.valid
    measured = both.model.evaluate(valid.images(), valid.labels, verbose=0)
    assert measured[1] == pytest.approx(curves["val_accuracy"][best])
    assert measured[0] == pytest.approx(curves["val_loss"][best], rel=1e-5)
    assert one.report.split == "test"


def test_early_stopping(photo_data):
    still = recipes.Stage("still", 30, 1e-12)
    result = recipes.finetune(tiny_base(), photo_data, plan=[still], patience=2, batch_size=8, verbose=False)
    assert 3 <= len(result.report.curves["loss"]) < 30


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2, 3])
def test_devices_in_step_give_what_one_gives(devices):
    """In a process of its own: TensorFlow cannot have strategies over different devices in one."""
    script = os.path.join(os.path.dirname(__file__), "devices_in_step.py")
    done = subprocess.run([sys.executable, script, str(devices)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("equal") == 4


def test_keras_layers_augment_alike_with_equal_seeds(photo_data):
    for layer in (keras.layers.RandomFlip(), keras.layers.RandomRotation(0.2, seed=3)):
        one, two = (tune(photo_data, augmentation=layer, seed=5, plan="all", epochs=2) for _ in range(2))
        assert all(np.array_equal(a, b) for a, b in zip(one.model.get_weights(), two.model.get_weights(), strict=True))


def test_frozen_dropout_drops_nothing(photo_data):
    """A head on a frozen base with Dropout trains as on the base without it."""
    plain = tiny_base()
    noisy = keras.Sequential([keras.Input((16, 16, 3)), *plain.layers[1:], keras.layers.Dropout(0.5, name="drop")])
    heads = [
        recipes.finetune(base, photo_data, plan="head", epochs=2, batch_size=8, verbose=False).model.get_layer(
            "probabilities"
        )
        for base in (plain, noisy)
    ]
    for one, two in zip(heads[0].get_weights(), heads[1].get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_moving_averages_are_measured_and_kept(photo_data):
    options = {"plan": "all", "epochs": 3, "patience": None}
    plain = tune(photo_data, optimizer=keras.optimizers.AdamW(0.01), **options)
    averaged = tune(photo_data, optimizer=keras.optimizers.AdamW(0.01, use_ema=True, ema_momentum=0.9), **options)
    assert plain.report.curves["loss"] == averaged.report.curves["loss"]  # training itself is the same
    assert plain.report.curves["val_loss"] != averaged.report.curves["val_loss"]
    curves, valid = averaged.report.curves, photo_data.valid
    best = max(range(3), key=lambda epoch: (curves["val_accuracy"][epoch], -curves["val_loss"][epoch]))
    measured = averaged.model.evaluate(valid.images(), valid.labels, verbose=0)
    assert measured[0] == pytest.approx(curves["val_loss"][best], rel=1e-5)


def test_a_given_optimizer_keeps_its_rate(photo_data):
    options = {"plan": "head", "schedule": "constant", "optimizer": keras.optimizers.SGD(0.5)}
    own, same, other = (tune(photo_data, learning_rate=rate, **options) for rate in (None, 0.5, 0.1))
    weights = [result.model.get_layer("probabilities").get_weights()[0] for result in (own, same, other)]
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_the_order_in_which_images_come_does_not_matter(random):
    x, y = random_images(random, 40), np.arange(40) % 2
    order = random.permutation(40)
    one, two = (recipes.load_data(pair) for pair in ((x, y), (x[order], y[order])))
    assert one.fingerprint == two.fingerprint
    assert np.array_equal(one.train.images(), two.train.images())


def test_data_is_let_go_when_nobody_uses_it(random):
    x, y = random_images(random, 40), np.arange(40) % 2
    data = recipes.load_data((x, y))
    tune(data)
    alive = weakref.ref(data.train)
    del data
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"])
def test_mixed_precision_gives_float32_probabilities_and_loads_without_a_word(photo_data, tmp_path, precision):
    result = tune(photo_data, precision=precision)
    assert result.model.get_layer("conv1").compute_dtype == precision.removeprefix("mixed_")
    assert result.model.output.dtype == "float32"
    result.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loaded = recipes.load(tmp_path)
    assert loaded.model.get_layer("conv1").compute_dtype == precision.removeprefix("mixed_")


# --- complaints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"base": "vg16"}, "Did you mean 'vgg16'"),
        ({"base": 3}, "base must be"),
        ({"base": "vgg16", "image_size": 16}, "at least 32 pixels"),
        ({"base": "cifar_resnet32"}, "weights=None"),
        ({"weights": "imagenets.h5"}, "weights"),
        ({"epochs": -1}, "epochs must be at least 1"),
        ({"epochs": (1, 2, 3)}, "2 stage(s)"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"layer_ratios": (1, 2)}, "three numbers"),
        ({"layer_decay": 1.5}, "layer_decay"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"optimizer": "adamm"}, "Did you mean 'adam"),
        ({"optimizer": 1}, "optimizer is of no known kind"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"dropout": 1}, "dropout"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"class_weights": 3}, "class_weights must be"),
        ({"class_weights": {"no such class": 2.0}}, "no such class"),
        ({"class_weights": {"red": 0}}, "weight of class 'red'"),
        ({"sampling": "even"}, "sampling"),
        ({"sampling": "balanced", "class_weights": "balanced"}, "makes up for rare classes by itself"),
        ({"augmentation": "flipp"}, "Did you mean 'flip'"),
        ({"augmentation": 3}, "augmentation is of no known kind"),
        ({"patience": 0}, "patience"),
        ({"precision": "float16"}, "Did you mean"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"plan": "heads"}, "Did you mean 'head'"),
        ({"plan": []}, "plan must hold stages"),
        ({"plan": [{"name": "a"}], "epochs": None}, "epochs"),
        ({"plan": [recipes.Stage("a", 1)], "epochs": 7}, "a plan of stages sets its own epochs"),
        ({"plan": [recipes.Stage("a", 1)], "learning_rate": 1.0}, "a plan of stages sets its own learning_rate"),
        ({"optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())}, "must not wrap others"),
        (
            {"optimizer": keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10))},
            "must have a plain rate",
        ),
        ({"plan": [{"name": "a", "epochs": 1, "rate": 3}]}, "rate"),
        ({"data": {"source": "digits", "image_size": 8}, "image_size": 16}, "given once"),
        ({"head": "liner"}, "head"),
        ({"data": "nowhere/"}, "does not exist"),
        ({"data": {"sourc": "digits"}}, "data needs a source"),
        ({"data": {"source": "digits", "tset": 0.1}}, "Did you mean 'test'"),
        ({"base": "small_resnet", "weights": None, "image_size": 24}, "image_size must be that of the Data"),
    ],
)
def test_complaints_come_before_any_training(photo_data, monkeypatch, arguments, said):
    def fail(*_, **__):
        raise AssertionError("training began")

    monkeypatch.setattr(Loop, "run", fail)
    arguments = dict(arguments)
    base, data = arguments.pop("base", None) or tiny_base(), arguments.pop("data", None) or photo_data
    with pytest.raises((TypeError, ValueError, FileNotFoundError)) as caught:
        recipes.finetune(base, data, verbose=False, **arguments)
    assert said in str(caught.value)


def test_bad_stages():
    for arguments, said in (
        ({"epochs": 0}, "epochs"),
        ({"epochs": 1, "learning_rate": -1}, "learning_rate"),
        ({"epochs": 1, "head": 0}, "something must train"),
        ({"epochs": 1, "layer_decay": 0.5, "top": 0.1}, "layer_decay replaces"),
        ({"epochs": 1, "layer_decay": 0.5, "head": 0}, "head, which layer_decay starts from"),
    ):
        with pytest.raises(ValueError, match="Stage 'x'") as caught:
            recipes.Stage("x", **arguments)
        assert said in str(caught.value)


@pytest.mark.parametrize("moment", [(EpochLine, "show"), (Journal, "keep_best"), (Journal, "end_stage")])
def test_ctrl_c_ends_training_wherever_it_comes(photo_data, monkeypatch, moment):
    """Also in a finalizer, where Python drops the exception that a signal raises."""
    before = signal.getsignal(signal.SIGINT)

    class Dying:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

    dying = [Dying()]

    def die(*_, **__):
        dying.clear()

    monkeypatch.setattr(*moment, die)
    with pytest.raises(KeyboardInterrupt):
        tune(photo_data, epochs=2)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_loss_that_is_no_number_stops_the_run(photo_data):
    with pytest.raises(FloatingPointError, match="Lower the learning rate"):
        tune(photo_data, plan=[recipes.Stage("wild", 3, 1e30, top=1, intermediate=1, early=1)], optimizer="sgd")


# --- run folders -----------------------------------------------------------------------------------------------------


def test_run_folder_is_complete_refuses_other_settings_and_comes_back(photo_data, tmp_path, capsys):
    out = tmp_path / "run"
    first = tune(photo_data, out=out)
    names = {path.name for path in out.iterdir()}
    assert names == {"settings.json", "report.json", "report.html", "model.keras", "classifier.json"}
    stamp = (out / "model.keras").stat().st_mtime_ns
    again = tune(photo_data, out=out, verbose=True)
    assert "is complete" in capsys.readouterr().out
    assert (out / "model.keras").stat().st_mtime_ns == stamp
    assert again.report == first.report
    with pytest.raises(FileExistsError, match=r"epochs was 1 and is 2"):
        tune(photo_data, out=out, epochs=2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"learning_rate": np.float32(1e-3)}, {"learning_rate": np.float32(1e-2)}),
        ({"optimizer": keras.optimizers.SGD(0.1)}, {"optimizer": keras.optimizers.SGD(0.2)}),
        ({"augmentation": keras.layers.RandomFlip()}, {"augmentation": keras.layers.RandomFlip("vertical")}),
        ({"plan": [recipes.Stage("a", 1)]}, {"plan": [recipes.Stage("a", 2)]}),
    ],
)
def test_settings_that_differ_are_told_apart(photo_data, tmp_path, first, second):
    tune(photo_data, out=tmp_path / "run", **first)
    with pytest.raises(FileExistsError, match=next(iter(first))):
        tune(photo_data, out=tmp_path / "run", **second)


def test_bases_that_differ_are_told_apart(photo_data, tmp_path):
    base = tiny_base()
    options = {"epochs": 1, "learning_rate": 0.01, "verbose": False, "out": tmp_path / "run"}
    recipes.finetune(base, photo_data, **options)
    base.get_layer("conv0").kernel.assign_add(np.ones((3, 3, 3, 4)))
    with pytest.raises(FileExistsError, match="base was"):
        recipes.finetune(base, photo_data, **options)
    base.save(tmp_path / "base.keras")
    recipes.finetune(tmp_path / "base.keras", photo_data, **{**options, "out": tmp_path / "two"})
    tiny_base().save(tmp_path / "base.keras")
    with pytest.raises(FileExistsError, match="base_digest was"):
        recipes.finetune(tmp_path / "base.keras", photo_data, **{**options, "out": tmp_path / "two"})


def test_functions_cannot_be_told_apart_and_are_refused_with_out(photo_data, tmp_path):
    with pytest.raises(ValueError, match="augmentation must be something that a file can say"):
        tune(photo_data, out=tmp_path / "run", augmentation=lambda images, seed: images)


def test_a_dataframe_with_other_columns_is_no_problem(photos, tmp_path):
    rows = [(str(path), path.parent.name, path.stem) for path in sorted(photos.rglob("*.jpg"))]
    table = pandas.DataFrame(rows, columns=["image", "label", "name"])
    tune({"source": table, "image_size": 16}, out=tmp_path / "run")
    assert (tmp_path / "run" / "settings.json").exists()


def test_an_interrupted_save_over_another_classifier_leaves_none(classifier, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    classifier.save(tmp_path)
    monkeypatch.setattr("recipes.saving.write_page", interrupt)
    with pytest.raises(KeyboardInterrupt):
        classifier.save(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"classifier.json missing"):
        recipes.load(tmp_path)


def test_changed_data_is_another_run(tmp_path):
    photos = write_photos(tmp_path / "photos", {"red": 8, "green": 8})
    tune(photos, out=tmp_path / "run")
    next((photos / "red").iterdir()).unlink()
    with pytest.raises(FileExistsError, match="data_fingerprint"):
        tune(photos, out=tmp_path / "run")


def test_a_folder_of_something_else_is_left_alone(photo_data, tmp_path):
    (tmp_path / "thesis.txt").write_text("text")
    with pytest.raises(FileExistsError, match="new folder"):
        tune(photo_data, out=tmp_path)


def test_a_failed_run_leaves_no_folder(photo_data, tmp_path, monkeypatch):
    monkeypatch.setattr("recipes.finetuning.network_for", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tune(photo_data, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named_before_the_data_is_read(photo_data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        tune("nowhere/", out=tmp_path / "file" / "run")


# --- saved and loaded ------------------------------------------------------------------------------------------------

LOAD = """
import json, sys
import numpy as np
import recipes
result = recipes.load(sys.argv[1])
predictions = result.predict(sys.argv[2:])
print(json.dumps([result.class_names, [p.probabilities for p in predictions], result.report.scores]))
"""
PLAIN = """
import sys
import time
import keras, numpy as np
assert "recipes" not in sys.modules
model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
"""


def test_loaded_in_a_fresh_process_it_says_the_same(classifier, photo_data, tmp_path):
    files = photo_data.test.files[:5]
    classifier.save(tmp_path / "saved")
    names, probabilities, scores = json.loads(run_python(LOAD, tmp_path / "saved", *files))
    expected = [prediction.probabilities for prediction in classifier.predict(list(files))]
    assert tuple(names) == classifier.class_names
    assert [list(row) for row in probabilities] == [list(row) for row in expected]
    for row, other in zip(probabilities, expected, strict=True):
        np.testing.assert_allclose(list(row.values()), list(other.values()), rtol=1e-6)  # printed and read back
    assert scores == classifier.report.scores


def test_plain_keras_loads_the_model_file(classifier, photo_data, tmp_path):
    classifier.save(tmp_path)
    images = photo_data.test.images()
    np.save(tmp_path / "x.npy", images)
    run_python(PLAIN, tmp_path / "model.keras", tmp_path / "x.npy", tmp_path / "y.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), classifier.model.predict(images, verbose=0))


def test_save_and_load_complain(classifier, tmp_path):
    with pytest.raises(TypeError, match="result must be a Result"):
        recipes.save(classifier.model, tmp_path)
    with pytest.raises(FileNotFoundError, match="no finished classifier"):
        recipes.load(tmp_path)


def test_a_model_that_wants_to_run_code_is_refused(classifier, tmp_path):
    classifier.save(tmp_path)
    image = keras.Input((16, 16, 3))
    flat = keras.layers.Flatten()(keras.layers.Lambda(lambda x: x)(image))
    keras.Model(image, keras.layers.Dense(3, "softmax")(flat)).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="Lambda"):
        recipes.load(tmp_path)


# --- predict and evaluate --------------------------------------------------------------------------------------------


def test_paths_bytes_and_arrays_are_predicted_alike(classifier, photo_data):
    file = photo_data.test.files[0]
    with open(file, "rb") as opened:
        content = opened.read()
    pixels = photo_data.test.images(0, 1)[0]
    by_path, by_bytes, by_pixels = (classifier.predict(image) for image in (file, content, pixels))
    assert by_path == by_bytes == by_pixels
    for among_others in (classifier.predict([file, content])[1], classifier.predict(photo_data.test.images(0, 3))[0]):
        # Some processors add up a batch in another order than one image.
        assert dict(among_others.probabilities) == pytest.approx(dict(by_path.probabilities), abs=1e-6)
    assert by_path.label == next(iter(by_path.probabilities))
    assert by_path.probability == max(by_path.probabilities.values())
    assert sum(by_path.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert classifier.predict([]) == []


def test_predictions_are_those_of_the_report(classifier, photo_data):
    predictions = classifier.predict(list(photo_data.test.files))
    for prediction, row in zip(predictions, classifier.report.rows, strict=True):
        assert prediction.label == row["predicted"]
        assert prediction.probability == pytest.approx(row["probability"], abs=1e-6)


@pytest.mark.parametrize(
    ("images", "kind", "said"),
    [
        ("nowhere.jpg", FileNotFoundError, "nowhere.jpg"),
        (b"", ValueError, "0 bytes"),
        (b"text", ValueError, "not an image"),
        ([np.zeros((4, 4, 3)), np.full((4, 4, 3), -1)], ValueError, "0–255"),
        (np.full((4, 4, 3), 0.7), ValueError, "already scaled"),
        (np.zeros(7), ValueError, "(7,)"),
        (np.zeros((4, 4, 5)), ValueError, "5 channels"),
    ],
)
def test_what_cannot_be_predicted_is_named(classifier, images, kind, said):
    with pytest.raises(kind) as caught:
        classifier.predict(images)
    assert said in str(caught.value)


def test_evaluate_equals_the_report_and_leaves_training_images_out(classifier, photo_data, photos, tmp_path):
    report = classifier.evaluate(photo_data)
    assert report.scores == pytest.approx(classifier.report.scores, rel=1e-6)  # measured with BatchNorm folded
    for row, before in zip(report.rows, classifier.report.rows, strict=True):
        assert row == before | {"probability": pytest.approx(before["probability"], rel=1e-6)}
    with pytest.warns(UserWarning, match=f"{len(photo_data.train)} of 60 images left out"):
        rest = recipes.evaluate(classifier, photos, out=tmp_path)
    assert sorted(row["file"] for row in rest.rows) == sorted(photo_data.valid.files + photo_data.test.files)
    assert recipes.Report.load(tmp_path / "report.json") == rest
    assert (tmp_path / "report.html").exists()


def test_evaluate_finds_the_classes_by_name(classifier, tmp_path):
    """A folder with some of the classes only: the labels are those of the model, not of the folder."""
    write_photos(tmp_path, {"red": 10, "green": 10}, seed=9)
    report = classifier.evaluate(tmp_path)
    assert report.class_names == classifier.class_names
    assert report.scores["accuracy"] > 0.8
    assert report.per_class["blue"]["images"] == 0


@pytest.mark.parametrize("names", [("1", "2"), ("3", "7"), ("b", "a")])
def test_evaluate_goes_by_names_whatever_the_numbers(random, names):
    """Numbers name themselves; where the classes are words, numbers count in the order of the words."""
    y = np.arange(60) % 2
    x = random.integers(0, 60, (60, 16, 16, 3), np.uint8) + (150 * y[:, None, None, None]).astype(np.uint8)
    numeric = names[0].isdecimal()
    raw = np.array([int(name) for name in names])[y] if numeric else y
    options = {} if numeric else {"class_names": names}
    data = recipes.load_data((x, raw), valid=0.2, test=0, **options)
    result = recipes.finetune(tiny_base(), data, plan="all", epochs=8, learning_rate=0.01, verbose=False)
    assert result.report.scores["accuracy"] == 1.0
    fresh = (255 - (255 - x).astype(int) * 99 // 100).astype(np.uint8)  # a little lighter: other images to the digest
    for chosen in (np.ones(60, bool), y == 1):
        assert result.evaluate((fresh[chosen], raw[chosen])).scores["accuracy"] == 1.0
    swapped = recipes.load_data((fresh, np.array(names)[y]), class_names=names[::-1], valid=0, test=0.5)
    assert result.evaluate(swapped).scores["accuracy"] == 1.0
    with pytest.raises(ValueError, match=r"Received '?9"):
        result.evaluate((fresh, np.full(60, 9))) if numeric else result.evaluate((fresh, np.full(60, "9")))


def test_evaluate_on_another_division_leaves_training_images_out(classifier, photos):
    other = recipes.load_data(photos, image_size=16, valid=0.25, test=0.25, seed=1)
    with pytest.warns(UserWarning, match="left out"):
        report = classifier.evaluate(other)
    trained = set(classifier.data.train.files)
    assert len(report.rows) < len(other.test)
    assert not trained & {row["file"] for row in report.rows}
    with pytest.raises(ValueError, match="resize='crop'"):
        classifier.evaluate(recipes.load_data(photos, image_size=16, resize="stretch"))


def test_tensors_and_pillow_images_are_images(classifier, photo_data):
    pixels = photo_data.test.images(0, 1)[0]
    expected = classifier.predict(pixels)
    assert classifier.predict(tf.constant(pixels)) == expected
    assert classifier.predict(Image.fromarray(pixels)) == expected


def test_evaluate_complains(classifier, photos, photo_data, tmp_path):
    write_photos(tmp_path, {"red": 4, "pink": 4}, seed=9)
    with pytest.raises(ValueError, match="'pink'"):
        classifier.evaluate(tmp_path)
    with pytest.raises(ValueError, match="image_size"):
        classifier.evaluate(recipes.load_data(photos, image_size=8))
    with pytest.raises(ValueError, match="neither a test nor"):
        classifier.evaluate(recipes.load_data(photos, image_size=16, valid=0, test=0))
    with pytest.raises(TypeError, match="of no known kind"):
        recipes.evaluate(3, photo_data)
    (tmp_path / "seen" / "red").mkdir(parents=True)
    shutil.copy(photo_data.train.files[0], tmp_path / "seen" / "red" / "copy.jpg")
    with pytest.raises(ValueError, match="every one of these"):
        classifier.evaluate(tmp_path / "seen")


def test_a_bare_keras_model_is_measured_too(classifier, photo_data):
    report = recipes.evaluate(classifier.model, photo_data)
    assert report.scores["accuracy"] == classifier.report.scores["accuracy"]


def imbalanced():
    """Two classes of noisy images that overlap, 400 of the one and 40 of the other."""
    draw = np.random.default_rng(0)
    counts = (400, 40)
    levels = np.concatenate([draw.normal(mean, 25, count) for mean, count in zip((110, 145), counts, strict=True)])
    pixels = np.clip(levels[:, None, None, None] + draw.normal(0, 2, (sum(counts), 4, 4, 1)), 0, 255)
    return recipes.load_data((pixels, np.repeat(["often", "rarely"], counts)), valid=0.3, test=0.3)


def brightness_network():
    image = keras.Input((4, 4, 1))
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 32, -4)(image)))


def test_weights_and_sampling_bring_the_rare_class_up():
    data, network = imbalanced(), brightness_network()
    options = {"weights": None, "epochs": 30, "learning_rate": 0.1, "verbose": False}
    ways = {"as they are": {}, "weighted": {"class_weights": "balanced"}, "sampled": {"sampling": "balanced"}}
    results = {way: recipes.finetune(network, data, **asked, **options) for way, asked in ways.items()}
    reports = {way: result.report for way, result in results.items()}
    recalls = {way: report.per_class["rarely"]["recall"] for way, report in reports.items()}
    assert recalls["as they are"] < 0.4 < 0.6 < min(recalls["weighted"], recalls["sampled"])
    # The best line of both, of which the levels are 35 apart with a deviation of 25, tells 76 % of each right.
    means = {way: np.mean([row["recall"] for row in report.per_class.values()]) for way, report in reports.items()}
    assert min(means["weighted"], means["sampled"]) > means["as they are"] + 0.1
    # Validation is told by the same measure: each class counts alike, as training has them.
    shares = compute_sample_weight("balanced", data.train.labels)
    shares = np.array([shares[data.train.labels == label][0] for label in (0, 1)])[data.valid.labels]
    for way in ("weighted", "sampled"):
        is_right = results[way].model.predict(data.valid.images(), verbose=0).argmax(1) == data.valid.labels
        wanted = np.average(is_right, weights=shares)
        assert max(results[way].report.curves["val_accuracy"]) == pytest.approx(wanted, abs=1e-6)
        assert abs(wanted - is_right.mean()) > 0.01


def test_weighted_validation_is_that_of_scikit_learn(photo_data):
    names, valid = photo_data.class_names, photo_data.valid
    model = build_network(tiny_base(), image_size=photo_data.image_size, class_count=len(names)).model
    weights = class_weights({names[1]: 3.0}, photo_data, "finetune")
    run = compiled(lambda images, training: model(images, training=training), valid)
    loss = CrossEntropy(0.0, len(names), weights)
    received = validate(Prepared(model, None, photo_data.train, valid, run), 4, loss, None, weights)
    probabilities = model.predict(valid.images(), verbose=0).astype("float64")
    shares = {"sample_weight": np.where(valid.labels == 1, 3.0, 1.0)}
    assert received["val_accuracy"] == pytest.approx(accuracy_score(valid.labels, probabilities.argmax(1), **shares))
    expected = log_loss(valid.labels, probabilities, labels=range(len(names)), **shares)
    assert received["val_loss"] == pytest.approx(expected, rel=1e-5)


def test_weights_of_classes_are_those_of_scikit_learn_and_mixed_labels_share_them(photo_data):
    labels, count = photo_data.train.labels, len(photo_data.class_names)
    weights = class_weights("balanced", photo_data, "finetune")
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(count), y=labels), rtol=1e-6)
    np.testing.assert_allclose(weighted(np.ones(len(labels), "float32"), labels, weights), weights[labels])
    shares = np.full((1, count), 1 / count, "float32")
    np.testing.assert_allclose(weighted(np.ones(1, "float32"), shares, weights), weights.mean(), rtol=1e-6)
