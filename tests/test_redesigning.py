"""Networks of equal cost: the formula, what is built, the budget, the moves, the clock, the search."""

import re

import cloudpickle
import keras
import numpy as np
import pytest

import recipes
from recipes import ConvStage
from recipes.bases import multiply_adds

SMALL = (ConvStage(2, 8), ConvStage(2, 16, pool=2))
# Model A of the paper, with maps of 109, 36 and 18 pixels at 224.
PAPER = (ConvStage(1, 64, 7, strides=2, padding="valid"), ConvStage(1, 128, 5, pool=3), ConvStage(3, 256, pool=2))
SHAPES = [
    SMALL,
    PAPER,
    (ConvStage(2, 6, 2, padding="alternating"), ConvStage(3, 8, 2, pool=2, padding="alternating")),
    (ConvStage(3, 6, 4, padding="alternating"), ConvStage(2, 7, 4), ConvStage(1, 5, 1)),
    (ConvStage(2, 5, 5, strides=3, padding="valid"), ConvStage(2, 9, 2, strides=2)),
    (ConvStage(3, 4, 2, strides=2, padding="alternating"), ConvStage(2, 6, 3, strides=2, padding="alternating")),
]


def convolutions_of(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def with_twos(*, padding):
    """Models B, C and D: kernels of 2 for the 3s, for the 5, and for both."""
    threes, five = ConvStage(6, 256, 2, pool=2, padding=padding), ConvStage(4, 128, 2, pool=3, padding=padding)
    return (*PAPER[:2], threes), (PAPER[0], five, PAPER[2]), (PAPER[0], five, threes)


# The formula


def test_complexity_is_that_of_the_papers_models():
    """Input channels × kernel² × filters × map², added up by hand for maps of exactly 109, 36 and 18 pixels."""
    own = recipes.complexity(PAPER, image_size=224)
    first, second = 3 * 49 * 64 * 109**2, 64 * 25 * 128 * 36**2
    assert own == first + second + (128 + 2 * 256) * 9 * 256 * 18**2
    assert own == pytest.approx(855e6, rel=1e-3)
    ratios = [recipes.complexity(model, image_size=224) / own for model in with_twos(padding="same")]
    assert ratios == pytest.approx([0.988, 1.037, 1.025], abs=5e-4)


def test_kernels_of_two_cost_a_little_less_where_maps_alternate():
    """As in the paper: every second map is a pixel smaller, the others are what they were."""
    own = recipes.complexity(PAPER, image_size=224)
    ratios = [recipes.complexity(model, image_size=224) / own for model in with_twos(padding="alternating")]
    assert ratios == pytest.approx([0.961, 1.029, 0.990], abs=5e-4)


@pytest.mark.parametrize("stages", SHAPES, ids=range(len(SHAPES)))
@pytest.mark.parametrize("image_size", [(64, 64), (61, 75)], ids=["square", "odd"])
def test_the_formula_counts_what_is_built(stages, image_size):
    """Exactly, by the kernels and the outputs of the Keras model; so do the parameters."""
    given = recipes.redesign(stages, image_size=image_size, classes=3).given
    model = given.build()
    assert given.complexity == recipes.complexity(stages, image_size=image_size)
    assert given.complexity == multiply_adds(convolutions_of(model))
    assert given.parameters == model.count_params()


def test_vgg_costs_what_is_known():
    """VGG-16: 15.347 G multiply-adds in its convolutions."""
    pairs = zip((2, 2, 3, 3, 3), (64, 128, 256, 512, 512), strict=True)
    stages = [ConvStage(depth, width, pool=1 if width == 64 else 2) for depth, width in pairs]
    assert recipes.complexity(stages, image_size=224) == pytest.approx(15.347e9, rel=1e-4)


def test_alternating_maps_shift_nothing():
    """A point stays in the middle of what a pair of even kernels makes of it; with "same" it moves up and left."""
    image = np.zeros((1, 9, 9, 3), "float32")
    image[0, 4, 4] = 255.0
    for padding, shift in (("alternating", 0.0), ("same", -1.0)):
        design = recipes.redesign([ConvStage(2, 4, 2, padding=padding)], image_size=9, classes=2).given
        model = design.build()
        layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.Rescaling)]
        features = image
        for layer in layers[1:-2]:
            if isinstance(layer, keras.layers.Conv2D):
                layer.set_weights([np.ones_like(layer.kernel), np.zeros(4)])
            features = layer(features)
        seen = np.argwhere(np.asarray(features)[0, :, :, 0] > 0).mean(axis=0)
        np.testing.assert_allclose(seen, 4 + shift)


# The budget


def random_stages(random):
    """Two to four stages as people might write them."""
    stages = []
    for number in range(random.integers(2, 5)):
        kernel = int(random.choice([1, 2, 3, 3, 3, 5, 7]))
        depth, width = int(random.integers(1, 5)), int(random.integers(3, 70))
        padding = str(random.choice(["same", "same", "valid", "alternating"]))
        strides, pool = int(random.choice([1, 1, 2])), int(random.choice([1, 2])) if number else 1
        stages.append(ConvStage(depth, width, kernel, strides=strides, pool=pool, padding=padding))
    return stages


def check_price(design, given):
    """What is paid is nowhere more and somewhere less, what is bought the reverse; width in every change."""
    if design.move == "none":
        return
    paid, bought = (side.replace("kernel", "kernel_size").split(" and ") for side in design.move.split(" for "))
    changed = [pair for pair in zip(design.stages, given.stages, strict=True) if pair[0] != pair[1]]
    for sign, names in ((-1, paid), (1, bought)):
        for name in names:
            more = [sign * (getattr(new, name) - getattr(old, name)) for new, old in changed]
            assert min(more) >= (name == "width")
            assert max(more) > 0
    assert all(new.width >= old.width / 8 for new, old in changed)


@pytest.mark.parametrize("seed", range(25))
def test_every_design_is_within_five_percent_of_the_budget(seed):
    random = np.random.default_rng(seed)
    stages, image_size = random_stages(random), int(random.integers(120, 160))
    own = recipes.complexity(stages, image_size=image_size)
    budget = int(own * random.choice([1.0, 0.5, 1.3, 2.0]))
    designs = recipes.redesign(stages, image_size=image_size, classes=10, budget=budget)
    for design in designs:
        assert design.complexity == recipes.complexity(design.stages, image_size=image_size)
        assert abs(design.complexity / budget - 1) <= 0.05
        assert design.ratio == design.complexity / budget
        check_price(design, designs.given)
    names = [design.name for design in designs]
    assert len(set(names)) == len(names) < 200
    assert designs.given in designs.designs
    order = [(design.depth, abs(design.ratio - 1)) for design in designs]
    assert order == sorted(order)


def test_the_network_given_stays_as_it_is_where_it_is_the_budget():
    designs = recipes.redesign(SMALL, image_size=32, classes=10)
    assert designs.given.stages == SMALL
    assert designs.given.ratio == 1.0
    assert designs.budget == recipes.complexity(SMALL, image_size=32)


def test_another_budget_keeps_the_depth_given():
    budget = 4 * recipes.complexity(SMALL, image_size=32)
    given = recipes.redesign(SMALL, image_size=32, classes=10, budget=budget).given
    assert [stage.depth for stage in given.stages] == [2, 2]
    assert given.stages[1].width / given.stages[0].width == pytest.approx(2, rel=0.15)  # rounded to whole filters
    assert given.stages[0].width == pytest.approx(16, rel=0.15)  # the first layer's input stays at 3 channels


# The moves


def test_the_papers_replacements_are_found():
    """One 5 for four 2s, three 3s for six 2s, and both, all widths as they were: models C, B and D."""
    designs = recipes.redesign(PAPER, image_size=224, classes=1000)
    for stages in with_twos(padding="alternating"):
        found = next(design for design in designs if design.stages == stages)
        assert found.move == "kernel for depth"


def test_every_move_is_there():
    stages = [ConvStage(2, 32, 3), ConvStage(2, 48, 5, pool=2), ConvStage(2, 64, pool=2)]
    designs = recipes.redesign(stages, image_size=32, classes=10)
    assert {design.move for design in designs} == {
        "none",
        *("kernel for depth", "width for depth", "kernel and width for depth"),
        *("depth for kernel", "depth for width", "depth for kernel and width"),
    }
    for design in designs:
        if design.move.endswith("for depth"):
            assert design.depth > designs.given.depth
        elif design.move != "none":
            assert design.depth < designs.given.depth


def test_a_width_is_traded_in_one_stage_or_in_all():
    designs = recipes.redesign(SMALL, image_size=32, classes=10)
    deeper = [design.stages for design in designs if design.move == "width for depth"]
    changed = [tuple(new != old for new, old in zip(stages, SMALL, strict=True)) for stages in deeper]
    assert set(changed) == {(True, False), (False, True), (True, True)}
    for stages in deeper:
        assert all(new.width < old.width for new, old in zip(stages, SMALL, strict=True) if new.depth > old.depth)


def test_most_takes_of_every_move():
    stages = [ConvStage(2, 32, 3), ConvStage(2, 48, 5, pool=2), ConvStage(2, 64, pool=2)]
    whole = recipes.redesign(stages, image_size=32, classes=10)
    some = recipes.redesign(stages, image_size=32, classes=10, most=8)
    assert len(some) == 8 < len(whole)
    assert some.given in some.designs
    assert {design.move for design in some} == {design.move for design in whole}
    assert some[-1] == whole[-1]
    assert set(some) <= set(whole)


# What comes out


def test_a_design_is_a_model_from_pixels_to_probabilities():
    design = recipes.redesign(SMALL, image_size=(16, 20), classes=3).given
    before = np.random.default_rng(0).integers(0, 256, (2, 16, 20, 3)).astype("uint8")
    for model in (design.build(), design.build(batch_normalization=True)):
        probabilities = np.asarray(model(before))
        assert probabilities.shape == (2, 3)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)  # a softmax in float32
        assert model.count_params() >= design.parameters
    keras.utils.set_random_seed(3)
    first = design.build().get_weights()
    keras.utils.set_random_seed(3)
    assert all(np.array_equal(one, other) for one, other in zip(first, design.build().get_weights(), strict=True))


def test_he_initialisation_keeps_the_signal_alive():
    """Through 24 layers: by Glorot's rule, half the variance would be lost in each, 6e-8 of it would be left."""
    stages = [ConvStage(24, 32)]
    keras.utils.set_random_seed(0)
    model = recipes.redesign(stages, image_size=16, classes=10, most=1).given.build()
    inner = keras.Model(model.input, model.get_layer("relu24").output)
    images = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3))
    assert 1e-2 < float(np.std(inner(images))) < 1e2  # by Glorot's: below 1e-3


def test_the_table_says_what_they_are():
    designs = recipes.redesign(SMALL, image_size=32, classes=10, most=5)
    lines = repr(designs).splitlines()
    assert lines[0].split() == ["depth", "cost", "parameters", "traded", "design"]
    assert sum("* (3,8)x2 p2 (3,16)x2" in line for line in lines) == 1
    deeper = next(design for design in designs if design.move == "width for depth")
    assert any(line.split("w→d")[-1].strip() == deeper.name for line in lines)
    assert len(lines) == 1 + 5 + 3
    assert max(map(len, lines)) <= 100


def test_designs_are_found_by_place_name_and_condition():
    designs = recipes.redesign(SMALL, image_size=32, classes=10)
    assert designs["(3,8)x2 p2 (3,16)x2"] == designs.given
    assert list(designs[:3]) == list(designs)[:3]
    deep = designs.only(lambda design: design.depth > 8)
    assert 0 < len(deep) < len(designs)
    assert deep.given == designs.given
    with pytest.raises(ValueError, match=re.escape("Did you mean '(3,8)x2 p2 (3,16)x2'")):
        designs["(3,8)x2 p2 (3,18)x2"]


@pytest.mark.parametrize("what", ["forward", "train"])
def test_seconds_are_measured_when_asked(what):
    designs = recipes.redesign(SMALL, image_size=16, classes=10, most=2)
    assert all(design.seconds is None and design.time_ratio is None for design in designs)
    timed = designs.timed(what, batch_size=4)
    assert all(design.seconds > 0 and design.time_ratio > 0 for design in timed)
    given = next(design for design in timed if design.move == "none")
    assert (timed.measured, timed.batch_size, given.stages) == (what, 4, designs.given.stages)
    assert "time" in repr(timed).splitlines()[0].split()
    assert max(timed, key=lambda design: design.depth).stages == designs[-1].stages


@pytest.mark.slow
def test_a_search_tries_designs(photo_data, tmp_path):
    designs = recipes.redesign(SMALL, image_size=16, classes=3)
    two = designs.only(lambda design: design.name in (designs[0].name, designs.given.name))
    options = {"settings": {"epochs": 1, "batch_size": 8}, "method": "grid", "verbose": False}
    found = recipes.search(photo_data, build=two.builder(keras.optimizers.Adam(0.01)), out=tmp_path / "out", **options)
    assert {trial.settings["design"] for trial in found.trials} == {designs[0].name, designs.given.name}
    assert [trial.status for trial in found.trials] == ["done", "done"]
    assert found.result.report.split == "test"
    assert found.result.model.count_params() == designs[found.best.settings["design"]].parameters
    with pytest.raises(FileExistsError, match="build was"):
        recipes.search(photo_data, build=designs[:2].builder("adam"), out=tmp_path / "out", **options)


def test_a_builder_travels_and_stays_the_same():
    import keras_tuner

    designs = recipes.redesign(SMALL, image_size=16, classes=3, most=2)
    build = designs.builder(keras.optimizers.SGD(0.1, momentum=0.9))
    timed = designs.timed(batch_size=1)
    assert repr(build.keywords) == repr(timed.builder(keras.optimizers.SGD(0.1, momentum=0.9)).keywords)
    hp = keras_tuner.HyperParameters()
    model = cloudpickle.loads(cloudpickle.dumps(build))(hp)
    assert hp.values == {"design": designs[0].name}
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)
    assert model.optimizer.momentum == 0.9


# What is wrong is said at the door

BAD_STAGES = [
    ({"depth": 0}, ValueError, "depth must be at least 1"),
    ({"width": 2.5}, TypeError, "width must be a whole number"),
    ({"kernel_size": (3, 3)}, TypeError, "kernel_size must be a whole number"),
    ({"strides": 0}, ValueError, "strides must be at least 1"),
    ({"pool": -1}, ValueError, "pool must be at least 1"),
    ({"padding": "alternate"}, ValueError, "Did you mean 'alternating'"),
]
BAD = [
    ({"stages": ConvStage(1, 8)}, TypeError, "stages must be a list"),
    ({"stages": [(1, 8)]}, TypeError, "Received (1, 8) in it"),
    ({"stages": []}, ValueError, "stages must hold a stage"),
    ({"stages": [ConvStage(9, 8, 5, padding="valid")]}, ValueError, "none after stage 1"),
    ({"image_size": "32"}, TypeError, "image_size must be"),
    ({"image_size": 1}, ValueError, "none after stage 2"),
    ({"classes": 1}, ValueError, "classes must be at least 2"),
    ({"budget": 1.5}, TypeError, "budget must be a whole number"),
    ({"budget": 3}, ValueError, "budget must be reachable"),
    ({"most": 0}, ValueError, "most must be at least 1"),
]


@pytest.mark.parametrize(("wrong", "kind", "said"), BAD_STAGES, ids=range(len(BAD_STAGES)))
def test_bad_stages(wrong, kind, said):
    with pytest.raises(kind, match=re.escape(said)):
        ConvStage(**{"depth": 2, "width": 8} | wrong)


@pytest.mark.parametrize(("wrong", "kind", "said"), BAD, ids=range(len(BAD)))
def test_bad_arguments(wrong, kind, said):
    arguments = {"stages": SMALL, "image_size": 32, "classes": 10} | wrong
    with pytest.raises(kind, match=re.escape(said)):
        recipes.redesign(arguments.pop("stages"), **arguments)


def test_bad_methods():
    designs = recipes.redesign(SMALL, image_size=16, classes=10, most=2)
    with pytest.raises(ValueError, match="Did you mean 'forward'"):
        designs.timed("forwards")
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        designs.timed(batch_size=0)
    with pytest.raises(ValueError, match="Received 'adamm'"):
        designs.builder("adamm")
    with pytest.raises(ValueError, match="there must be a design"):
        designs[:0].builder()
