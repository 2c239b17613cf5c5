"""What a search space says in plain words, and who chooses in it."""

import itertools
import json
import math

import keras_tuner
import numpy as np
import pytest

from recipes.searching.choosing import make_chooser, rung_size
from recipes.searching.spaces import from_told, grid, parse_space, told

KNOWN = ("base", "batch_size", "dropout", "epochs", "head", "learning_rate", "momentum", "optimizer", "plan", "views")


def parse(space, **fixed):
    return parse_space(space, fixed, KNOWN, "search")


def combinations(space):
    parsed = parse(space)
    return [parsed.settings(values) for values in grid(parsed.hyperparameters(), "search")]


@pytest.mark.parametrize(
    ("spelling", "values"),
    [
        ((1, 2, 4), [1, 2, 4]),
        ([0.5, 1], [0.5, 1.0]),  # as a job file has it
        ("1..4", [1, 2, 3, 4]),
        ("16..64 by 16", [16, 32, 48, 64]),
        ("16..60 by 16", [16, 32, 48]),
        ("0.0..0.3 by 0.1", [0.0, 0.1, 0.2, 0.3]),  # and not 0.30000000000000004
        ("32..256 log by 2", [32, 64, 128, 256]),
        ("1e-4..1e-1 log by 10", [1e-4, 1e-3, 1e-2, 1e-1]),
        ("1e-4..1e-1 by 10 log", [1e-4, 1e-3, 1e-2, 1e-1]),
        ("-2..1", [-2, -1, 0, 1]),
        (("linear", (256,), (512, 128)), ["linear", (256,), (512, 128)]),
        (["linear", [256]], ["linear", (256,)]),
        ((None, True, "flip", 3), [None, True, "flip", 3]),
        (np.arange(3).tolist(), [0, 1, 2]),
    ],
)
def test_choices_and_steps(spelling, values):
    found = [settings["head"] for settings in combinations({"head": spelling})]
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


def test_ranges_without_steps_are_sampled_within_their_ends():
    parsed = parse({"learning_rate": "1e-4..1e-1 log", "dropout": "0.0..0.5"})
    oracle = make_chooser("random", parsed.hyperparameters(), OBJECTIVE, 200, 1, 1, 0, "search")
    drawn = [parsed.settings(leg.values) for leg in iter(oracle.propose, None)]
    rates, dropouts = (np.array([settings[name] for settings in drawn]) for name in ("learning_rate", "dropout"))
    assert 1e-4 <= rates.min() <= rates.max() <= 1e-1
    assert 0 <= dropouts.min() <= dropouts.max() <= 0.5
    # Even in the logarithm: the middle is at its geometric mean. 200 draws: the deviation of the median is about 0.1.
    assert abs(np.median(np.log10(rates)) + 2.5) < 0.4
    assert abs(np.median(dropouts) - 0.25) < 0.08


def test_what_stands_under_a_choice_belongs_to_it_alone():
    space = {
        "optimizer": {"sgd": {"learning_rate": (0.1, 0.01), "momentum": 0.9}, "adamw": {"learning_rate": (1e-3,)}},
        "dropout": (0.0, 0.5),
    }
    expected = [
        {"optimizer": "sgd", "learning_rate": rate, "momentum": 0.9, "dropout": dropout}
        for rate, dropout in itertools.product((0.1, 0.01), (0.0, 0.5))
    ] + [{"optimizer": "adamw", "learning_rate": 1e-3, "dropout": dropout} for dropout in (0.0, 0.5)]
    assert combinations(space) == expected


def test_choices_may_be_nested_and_nothing():
    space = {"plan": {"head": None, "default": {"optimizer": {"sgd": {"momentum": (0.5, 0.9)}, "lion": {}}}}}
    assert combinations(space) == [
        {"plan": "head"},
        {"plan": "default", "optimizer": "sgd", "momentum": 0.5},
        {"plan": "default", "optimizer": "sgd", "momentum": 0.9},
        {"plan": "default", "optimizer": "lion"},
    ]


def test_objects_are_told_apart_the_same_way_in_every_process():
    """KerasTuner's values and the labels of an unpickled space must fit."""
    import pickle

    import keras

    space = {
        "head": (None, keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1), keras.layers.RandomFlip("vertical"))
    }
    parsed = parse(space)
    combined = grid(parsed.hyperparameters(), "search")
    assert [values["head"] for values in combined] == ["null", "RandomFlip 2", "RandomRotation 3", "RandomFlip 4"]
    again = pickle.loads(pickle.dumps(parsed))
    modes = [getattr(again.settings(values)["head"], "mode", None) for values in combined]
    assert modes == [None, "horizontal_and_vertical", None, "vertical"]
    assert parsed.searched(combined[1]) == {"head": "RandomFlip 2"}


def test_one_name_may_stand_under_two_choices():
    """As functions of KerasTuner's users have it."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a", "b"])
    for kind, units in (("a", [1, 2]), ("b", [3, 4])):
        with hp.conditional_scope("kind", [kind]):
            hp.Choice("units", units)
    expected = [{"kind": kind, "units": units} for kind, units in (("a", 1), ("a", 2), ("b", 3), ("b", 4))]
    assert grid(hp, "search") == expected
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    hp.Int("depth", 1, 9, step=2)
    hp.Boolean("deep")
    hp.Fixed("same", 3)
    again = from_told(json.loads(json.dumps(told(hp))))
    assert told(again) == told(hp)
    assert again.space[2].conditions == hp.space[2].conditions


def test_one_value_is_the_same_in_every_trial():
    parsed = parse({"optimizer": "sgd", "dropout": (0.0, 0.1)}, base="vgg16")
    assert parsed.fixed == {"base": "vgg16", "optimizer": "sgd"}
    assert parsed.searched({"dropout": 0.1}) == {"dropout": 0.1}


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"learning_rat": (1, 2)}, "Did you mean 'learning_rate'"),
        ({"dropout": ()}, "dropout must have a choice"),
        ({"dropout": {}}, "dropout must have a choice"),
        ({"dropout": (0.1, 0.1)}, "0.1 twice"),
        ({"dropout": "0.5..0.1"}, "must go up"),
        ({"dropout": "0..1 log"}, "above 0"),
        ({"dropout": "0..1 by 0"}, "must go up"),
        ({"dropout": "0..1 by x"}, "no range that can be read"),
        ({"dropout": "0.0..1.0 by 1e-9"}, "steps at most"),
        ({"optimizer": {"sgd": {"momentun": (1, 2)}}}, "Did you mean 'momentum'"),
        ({"optimizer": {"sgd": (1, 2)}}, "must be a dictionary"),
        ({"optimizer": {"sgd": {"dropout": (1, 2)}}, "dropout": (1, 2)}, "must be set in one place"),
        ({"base": (1, 2)}, "must be set in one place"),
        ((1, 2), "space must be a dictionary"),
    ],
)
def test_bad_spaces(space, said):
    with pytest.raises((TypeError, ValueError), match=said.replace("(", r"\(")):
        parse(space, base="vgg16")


def test_a_grid_needs_steps_and_has_an_end():
    with pytest.raises(ValueError, match="a grid needs steps in dropout"):
        combinations({"dropout": "0.0..0.5"})
    with pytest.raises(ValueError, match="100,000 combinations at most"):
        combinations({"dropout": "1..400", "views": "1..400"})


def test_every_choice_is_tried_at_the_door():
    space = {"optimizer": {"sgd": {"momentum": (0.1, 0.2)}, "lion": {}}, "dropout": (0.0, 0.3)}
    examples = list(parse(space).examples())
    assert {settings["optimizer"] for settings in examples} == {"sgd", "lion"}
    assert {settings.get("momentum") for settings in examples} == {0.1, 0.2, None}
    assert {settings["dropout"] for settings in examples} == {0.0, 0.3}


# Who chooses

OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")
WIDE = {"learning_rate": "1e-4..1e-1 log", "dropout": "0.0..0.5"}


def by_dropout(settings, leg):
    return settings["dropout"]


def choose(method, space=WIDE, trials=None, epochs=9, workers=2, seed=0, score=by_dropout):
    """All legs of a search, with their settings, in which a leg's score is `score(settings, leg)`; and the chooser."""
    parsed = parse(space)
    chooser = make_chooser(method, parsed.hyperparameters(), OBJECTIVE, trials, epochs, workers, seed, "search")
    legs, waiting = [], []
    while True:
        while len(waiting) < chooser.most_open and (leg := chooser.propose()) is not None:
            legs.append((leg, parsed.settings(leg.values)))
            waiting.append(legs[-1])
        if not waiting:
            return legs, chooser
        leg, settings = waiting.pop(0)
        chooser.report(leg, score(settings, leg))


@pytest.mark.parametrize(("method", "trials"), [("random", 12), ("bayesian", 9), ("hyperband", None)])
def test_the_same_seed_chooses_the_same(method, trials):
    first, again, other = (choose(method, trials=trials, seed=seed)[0] for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_seed_nought_is_a_seed():
    assert choose("random", trials=5)[0] == choose("random", trials=5)[0]


def test_random_search_never_repeats_itself():
    space = {"dropout": "0.0..0.5 by 0.1", "views": (1, 2)}
    legs, _ = choose("random", space, trials=8)
    assert len({tuple(settings.items()) for _, settings in legs}) == len(legs) == 8


def test_bayesian_search_comes_nearer_than_random_search():
    """By the mean of the last trials; the peak is at a dropout of 0.37, and three in a hundred draws are as near."""

    def miss(settings, leg):
        return -((settings["dropout"] - 0.37) ** 2)

    space = {"dropout": "0.0..0.5"}
    misses = {}
    for method in ("bayesian", "random"):
        legs, _ = choose(method, space, trials=15, workers=1, score=miss)
        misses[method] = np.mean([-miss(settings, None) for _, settings in legs[-5:]])
    assert misses["bayesian"] < misses["random"] / 10


def test_a_failure_keeps_nobody_from_going_on():
    for method, trials in (("random", 8), ("bayesian", 8), ("hyperband", None)):
        legs, _ = choose(method, trials=trials, score=lambda settings, leg: None if leg.trial % 3 == 0 else 0.5)
        assert len(legs) >= 8


@pytest.mark.parametrize("epochs", [2, 3, 9, 20])
def test_hyperband_lets_the_best_third_go_on(epochs):
    """As Li et al. have it: by hand for 9 epochs, 9 trials at 1 epoch, 3 at 3, 1 at 9; 5 at 3, 2 at 9; 3 at 9."""
    legs, chooser = choose("hyperband", epochs=epochs)
    assert len(legs) == chooser.total
    trained = {}
    for leg, settings in legs:
        length = leg.epochs or epochs
        assert length > trained.get(leg.trial, (0,))[0]  # from where it paused
        trained[leg.trial] = length, settings["dropout"]
    if epochs == 9:
        counts = {length: sum((leg.epochs or 9) == length for leg, _ in legs) for length in (1, 3, 9)}
        assert counts == {1: 9, 3: 3 + 5, 9: 1 + 2 + 3}
        first = [trained[number] for number in range(9)]
        assert max(first) == (9, max(dropout for _, dropout in first))


def test_what_may_go_on_is_kept_and_what_may_not_is_not():
    """A trial that goes on was always said to be one that may; and in the end none may."""
    parsed = parse(WIDE)
    chooser = make_chooser("hyperband", parsed.hyperparameters(), OBJECTIVE, None, 9, 1, 0, "search")
    waiting, ended, dropped = [], {}, set()
    while True:
        while (leg := chooser.propose()) is not None:
            assert leg.trial not in dropped
            waiting.append(leg)
        if not waiting:
            break
        leg = waiting.pop(0)
        chooser.report(leg, parsed.settings(leg.values)["dropout"])
        ended[leg.trial] = leg
        busy = {other.trial for other in waiting}
        dropped |= {number for number, last in ended.items() if last.epochs and number not in busy} - {
            number for number in ended if chooser.may_go_on(number)
        }
    assert len(dropped) >= 6 + 3  # of the rungs of nine and of five


def test_rungs_are_as_keras_tuner_counts_them():
    for epochs in (2, 3, 5, 9, 27, 50):
        oracle = keras_tuner.oracles.HyperbandOracle(OBJECTIVE, max_epochs=epochs, factor=3)
        for bracket in range(int(math.log(epochs, 3) + 1e-9) + 1):
            sizes = [rung_size(epochs, bracket, rung) for rung in range(bracket + 1)]
            assert sizes == [oracle._get_size(bracket, rung) for rung in range(bracket + 1)]


@pytest.mark.parametrize(
    ("method", "space", "trials", "said"),
    [
        ("grid", {"dropout": (0.1, 0.2, 0.3)}, 2, "a grid visits all 3 combinations"),
        ("hyperband", WIDE, 5, "hyperband decides on the number of trials"),
        ("hyperband", {"dropout": (0.1, 0.2)}, None, "the space must have 26 combinations"),
        ("random", {"dropout": (0.1, 0.2)}, 5, "the space must have 8 combinations"),
    ],
)
def test_contradictions(method, space, trials, said):
    with pytest.raises(ValueError, match=said):
        choose(method, space, trials)
