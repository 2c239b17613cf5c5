"""The learning-rate finder: the rule on known curves, the sweep against NumPy, and that it leaves no trace."""

import random as chance

import keras
import numpy as np
import pytest
from cases import tiny_base
from endings import Death, base, die_at, outcome

import recipes
from recipes import rate_finding
from recipes.bases import build_network
from recipes.bases.seeding import derived_seed
from recipes.cli import main
from recipes.data.batches import training_batches
from recipes.rate_finding import _DEFAULTS
from recipes.training import learning_rate_finder
from recipes.training.learning_rate_finder import Ramp, sweep_rates
from recipes.training.looping import Loop
from recipes.training.preparing import prepare
from recipes.training.rate_sweep import RateSweep, is_away
from recipes.training.stages import frozen_parts

RATES = np.geomspace(1e-5, 10, 100)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def curve(falls_at, rises_at, start=2.3, least=0.3, noise=0.0, seed=0):
    """Losses that fall from `start` to `least`, steepest at one rate, and rise again to thrice the start at another."""
    places = np.log10(RATES)
    fall = 1 / (1 + np.exp(-6 * (places - np.log10(falls_at))))
    rise = 1 / (1 + np.exp(-12 * (places - np.log10(rises_at))))
    losses = start - (start - least) * fall + 2.5 * start * rise
    return list(losses + np.random.default_rng(seed).normal(0, noise, len(RATES)))


# The rule


def test_a_tenth_of_the_rate_at_which_the_loss_rises():
    sweep = RateSweep.of(RATES, [curve(0.01, 3.0)], "head", 0.0)
    # In the curve itself, the rise is half of the fall, 1, where the second logistic is 1 / 5.75.
    expected = 3.0 * 10 ** (np.log(1 / 4.75) / 12)
    assert 0.75 * expected < sweep.diverged < expected  # smoothing brings the rise forward by a tenth of a decade
    assert sweep.suggestion == sweep.diverged / 10 and "rises again" in sweep.reason
    assert sweep.steepest == pytest.approx(0.01, rel=0.15)  # two steps
    assert sweep.steepest < sweep.best < sweep.diverged


def test_the_steepest_fall_where_the_loss_never_rises():
    sweep = RateSweep.of(RATES, [curve(0.01, 1e9)], "head", 0.0)
    assert sweep.diverged is None and sweep.suggestion == sweep.steepest == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize("runs", [1, 3])
def test_noise_moves_the_suggestion_little(runs):
    """Noise as batches of 32 images have it, a tenth of the loss; an eighth of a decade is two steps."""
    calm = RateSweep.of(RATES, [curve(0.01, 3.0)], "s", 0.0).suggestion
    found = [
        RateSweep.of(RATES, [curve(0.01, 3.0, noise=0.2, seed=10 * one + run) for run in range(runs)], "s", 0.0)
        for one in range(40)
    ]
    assert np.abs(np.log10([sweep.suggestion / calm for sweep in found])).max() < 1 / 8


def test_what_rounding_changes_it_changes_by_rounding():
    losses = np.array(curve(0.01, 3.0, noise=0.1))
    one, two = (RateSweep.of(RATES, [list(losses * factor)], "s", 0.0) for factor in (1, 1 + 1e-6))
    assert two.suggestion == pytest.approx(one.suggestion, rel=1e-5)


def test_a_loss_that_does_nothing_and_one_that_only_rises():
    still = RateSweep.of(RATES, [[1.0] * len(RATES)], "s", 0.0)
    assert still.suggestion is None and "neither falls nor rises" in repr(still)
    rising = RateSweep.of(RATES, [curve(1e9, 0.1)], "s", 0.0)
    assert rising.suggestion == pytest.approx(rising.diverged / 10) and rising.diverged < 0.1


def test_runs_of_other_lengths_and_losses_that_are_no_numbers():
    whole = curve(0.01, 3.0)
    sweep = RateSweep.of(RATES, [whole, whole[:80], [*whole[:84], np.nan]], "s", 0.0)
    assert len(sweep.rates) == len(sweep.losses) == 80 and np.isfinite(sweep.losses).all()
    ended = RateSweep.of(RATES, [[*whole[:71], np.inf]], "s", 0.0)
    assert ended.diverged == ended.rates[-1] == RATES[71]  # it had not yet risen, but then it was gone


def test_when_a_loss_has_run_away():
    assert is_away([2.3, np.nan]) and is_away([2.3, np.inf])
    assert is_away([2.0, 0.5, 5.0, 6.0, 7.0]) and not is_away([2.0, 0.5, 5.0, 0.4, 7.0])
    assert not is_away([0.1, 0.12, 0.25, 0.3, 0.22])  # small losses scatter: it is not yet four times the least
    back = [2.3] * 10 + [1.0] * 10
    assert not is_away(back) and not is_away([2.3] * 40) and is_away(back + [2.5] * 8)


# The sweep


def opened(data, **arguments):
    """(network, stages, training, parts) as `find_lr` has them."""
    options = _DEFAULTS | {"base": base(), "data": data, "batch_size": 8, "verbose": False} | arguments
    setup = prepare(options, "find_lr")
    form = {"image_size": data.image_size, "class_count": 3, "dropout": options["dropout"]}
    network = build_network(options["base"], weights=options["weights"], **form)
    stages = setup.stages_of(pretrained=network.pretrained)
    return network, stages, setup.training, frozen_parts(network, data, stages, setup.training, {})


def test_the_sweep_is_the_stages_own_step_at_rising_rates(data):
    """Against softmax regression in NumPy on the features of the base, by plain gradient descent, weight decay too."""
    sgd = keras.optimizers.SGD(1.0)
    network, stages, training, parts = opened(
        data, base=tiny_base(), optimizer=sgd, weight_decay=0.5, cache=True, layer_ratios=(0.5, 0.1, 0.01)
    )
    ramp = Ramp(1e-3, 1.0, 25, runs=2)
    kernel, offset = network.model.get_layer("probabilities").get_weights()
    features = keras.Model(network.model.input, network.model.get_layer("head_pool").output)
    expected = []
    for run in range(2):
        weight, bias, losses = kernel.astype(float), offset.astype(float), []
        batches = training_batches(data.train, 8, epochs=5, seed=derived_seed(0, "rates", run)).take(25)
        for rate, (images, labels) in zip(ramp.rates(), batches, strict=True):
            rows, targets = features(images).numpy().astype(float), np.eye(3)[labels.numpy()]
            shares = np.exp(rows @ weight + bias)
            shares /= shares.sum(1, keepdims=True)
            losses.append(-np.mean(np.log((shares * targets).sum(1))))
            error = (shares - targets) / len(rows)
            own = 0.5 * rate  # the head's ratio
            weight, bias = weight * (1 - own * 0.5) - own * rows.T @ error, bias - own * error.sum(0)
        expected.append(losses)
    sweep = sweep_rates(network, data, stages[0], 0, training, parts, {}, ramp)
    assert sweep.runs == 2 and len(sweep.raw) == 25
    np.testing.assert_allclose(sweep.raw, np.median(expected, 0), rtol=1e-4)  # float32 against float64


KINDS = {
    "all, BatchNormalization that trains, dropout": {"plan": "all", "weights": None, "dropout": 0.3},
    "the second stage, live augmentation": {"augmentation": "flip", "dropout": 0.3},
    "rows, in half precision": {"plan": "head", "cache": True, "precision": "mixed_float16"},
    "parts of batches": {"plan": "all", "batch_size": "auto"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_is_as_before_bit_by_bit(data, kind):
    adam = keras.optimizers.Adam(0.01, use_ema=True)
    network, stages, training, parts = opened(data, optimizer=adam, **KINDS[kind])
    before = [keras.ops.convert_to_numpy(variable).tobytes() for variable in network.model.variables]
    assert len(before) > len(network.model.weights)  # states of dropout among them
    chance.seed(1)
    np.random.seed(1)  # noqa: NPY002
    states = chance.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    found = [
        sweep_rates(network, data, stages[-1], len(stages) - 1, training, parts, {}, Ramp(1e-5, 10.0, 30))
        for _ in range(2)
    ]
    after = [keras.ops.convert_to_numpy(variable).tobytes() for variable in network.model.variables]
    assert after == before
    assert (chance.getstate(), np.random.get_state()[1].tolist()) == states  # noqa: NPY002
    assert found[0].raw == found[1].raw  # and the second began where the first did
    assert not adam.built and len(found[0].raw) > 10


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_auto_trains_as_the_rate_that_it_finds(data, precision):
    """A run that is given the rate ends with the same weights: the sweep leaves no trace in training."""
    options = {"plan": "head", "epochs": 2, "dropout": 0.3, "batch_size": 8, "precision": precision, "verbose": False}
    auto = recipes.finetune(base(), data, learning_rate="auto", **options)
    rate = auto.report.settings["found_learning_rates"]["0"]
    given = recipes.finetune(base(), data, learning_rate=rate, **options)
    assert outcome(auto) == outcome(given)
    found = recipes.find_lr(
        base(), data, **{name: value for name, value in options.items() if name not in ("epochs", "verbose")}
    )
    assert found.suggestion == rate


def test_a_run_that_goes_on_keeps_its_rates(data, tmp_path, monkeypatch):
    options = {"learning_rate": "auto", "epochs": (2, 2), "batch_size": 8, "checkpoint_steps": 3, "verbose": False}
    expected = recipes.finetune(base(), data, **options)
    assert len(expected.report.settings["found_learning_rates"]) == 2
    with monkeypatch.context() as patch:
        die_at(patch, Loop, "_book", 8)  # in the first stage
        with pytest.raises(Death):
            recipes.finetune(base(), data, out=tmp_path / "run", **options)
    with monkeypatch.context() as patch:
        swept = die_at(patch, learning_rate_finder, "sweep_rates", 10**9)
        went_on = recipes.finetune(base(), data, out=tmp_path / "run", **options)
    assert outcome(went_on) == outcome(expected)
    assert went_on.report.settings == expected.report.settings
    assert len(swept) == 1  # of the second stage: what was found is not looked for again


@pytest.mark.parametrize(
    ("arguments", "sought"),
    [
        ({}, ["0"]),  # of the head's stage, and not of the one that trains blocks
        ({"learning_rate": "auto"}, ["0", "1"]),
        ({"plan": "all"}, []),
        ({"learning_rate": 0.01}, []),
        ({"optimizer": keras.optimizers.SGD(0.01)}, []),
        ({"augmentation": "flip"}, []),  # every step would run the whole network
        ({"augmentation": "flip", "views": 2}, ["0"]),
        ({"plan": [recipes.Stage("head", 1, 0.01)]}, []),
    ],
)
def test_when_a_rate_is_looked_for(data, monkeypatch, arguments, sought):
    found = RateSweep.of(RATES, [curve(0.01, 1.0)], "s", 0.0)
    monkeypatch.setattr(learning_rate_finder, "sweep_rates", lambda *_: found)
    epochs = {} if isinstance(arguments.get("plan"), list) else {"epochs": 1}
    settings = recipes.finetune(tiny_base(), data, verbose=False, **epochs, **arguments).report.settings
    rates = settings.get("found_learning_rates", {})
    assert list(rates) == sought and set(rates.values()) <= {found.suggestion}


def test_the_cache_does_not_change_the_rate(data):
    options = {"plan": "head", "epochs": 1, "batch_size": 8, "verbose": False}
    cached, plain = (
        recipes.finetune(base(), data, cache=cache, **options).report.settings["found_learning_rates"]["0"]
        for cache in (True, False)
    )
    assert cached == pytest.approx(plain, rel=1e-3)  # of rounding, through a hundred steps


def test_without_anything_to_read_the_usual_rate_is_taken(data, monkeypatch):
    still = RateSweep.of(RATES, [[1.0] * len(RATES)], "s", 0.0)
    monkeypatch.setattr(learning_rate_finder, "sweep_rates", lambda *_: still)
    with pytest.warns(UserWarning, match="neither falls nor rises.*The rate is 0.001"):
        result = recipes.finetune(tiny_base(), data, plan="head", epochs=1, learning_rate="auto", verbose=False)
    assert result.report.settings["found_learning_rates"] == {"0": 0.001}


# The verb


def test_models_results_and_folders(data, tmp_path):
    result = recipes.finetune(tiny_base(), data, plan="head", epochs=1, verbose=False)
    result.model.compile("adam", "sparse_categorical_crossentropy")
    before = [weight.copy() for weight in result.model.get_weights()]
    flags = [layer.trainable for layer in result.model.layers]
    options = {"steps": 20, "runs": 1, "plan": "head"}
    found = [recipes.find_lr(one, data, **options) for one in (result, result.model, result.save(tmp_path / "saved"))]
    assert len({sweep.raw for sweep in found}) == 1
    for old, new in zip(before, result.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [layer.trainable for layer in result.model.layers] == flags
    assert found[0].save(tmp_path / "sweep.json") is None and (tmp_path / "sweep.json").exists()


def test_a_plot_shows_what_was_found():
    sweep = RateSweep.of(RATES, [curve(0.1, 0.4)], "he$d", 0.0)
    (axes,) = recipes.plot_rates(sweep).axes
    assert axes.get_xscale() == "log" and "suggestion" in axes.get_legend().get_texts()[-1].get_text()
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), sweep.losses)
    recipes.plot_rates(RateSweep.of(RATES, [[1.0] * len(RATES)], "s", 0.0))


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"steps": 5}, ValueError, "steps must be at least 20"),
        ({"lowest": 0}, ValueError, "lowest must be above 0"),
        ({"lowest": 1.0, "highest": 0.1}, ValueError, "highest must be above 1"),
        ({"stage": 2}, ValueError, "the plan has 2 stage.*0: 'head', 1: 'blocks'"),
        ({"runs": 0}, ValueError, "runs must be at least 1"),
        ({"optimizer": "adamm"}, ValueError, "find_lr: optimizer is not known"),
    ],
)
def test_bad_arguments(data, arguments, kind, said):
    with pytest.raises(kind, match=said):
        recipes.find_lr(tiny_base(), data, **arguments)


def test_auto_is_spelt_so(data):
    with pytest.raises(ValueError, match="learning_rate is not known"):
        recipes.finetune(tiny_base(), data, learning_rate="atuo")


def test_weights_that_are_no_numbers_are_told(data):
    broken = keras.Sequential(tiny_base().layers[:-1])  # a ReLU would turn them to zeros
    broken.layers[-1].set_weights([np.full_like(weight, np.nan) for weight in broken.layers[-1].get_weights()])
    with pytest.raises(FloatingPointError, match="find_lr: the loss must be a number to begin with"):
        recipes.find_lr(broken, data, plan="head")


def test_the_command_prints_the_table(photos, tmp_path, capsys):
    tiny_base().save(tmp_path / "tiny.keras")
    words = ["find_lr", str(tmp_path / "tiny.keras"), str(photos), "--steps", "20", "--plan", "head", "--batch_size=8"]
    assert main(words) == 0
    assert "Stage 'head': rate" in capsys.readouterr().out


def test_it_tries_the_loss_and_the_sampling_that_will_train(data):
    """The first loss, at a rate that moves nothing, is that of a batch drawn alike."""
    options = {
        "weights": None,
        "plan": "all",
        "batch_size": 30,
        "steps": 20,
        "lowest": 1e-8,
        "highest": 1e-7,
        "runs": 1,
    }
    found = [
        recipes.find_lr(tiny_base(), data, **options, **more)
        for more in ({}, {"head": "knn", "loss": "knn"}, {"sampling": "balanced"})
    ]
    assert len({sweep.raw[0] for sweep in found}) == 3


def test_a_folder_of_the_name_of_a_base_is_not_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small_resnet").mkdir()
    assert rate_finding._opened("small_resnet") == "small_resnet"
