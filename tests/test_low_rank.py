"""Thinner layers in place of thick ones: exact at full rank, of the ranks and costs that theory gives, or refused."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest

import recipes
from recipes.bases import build_network
from recipes.bases.rewiring import detached
from recipes.compression.factoring import composed, factored, frontiers_of, with_pieces
from recipes.compression.factors import KINDS
from recipes.compression.ranks import Choice, Frontier, allot
from recipes.compression.reconstructing import reconstruct

CONVOLUTIONS = {
    "plain": {"kernel_size": 3},
    "same": {"kernel_size": (3, 5), "padding": "same", "activation": "relu"},
    "strides": {"kernel_size": 3, "strides": (2, 3), "use_bias": False},
    "strides, same": {"kernel_size": 3, "strides": 2, "padding": "same"},
    "strides, same, even kernel": {"kernel_size": (4, 2), "strides": (3, 2), "padding": "same"},
    "dilation": {"kernel_size": 3, "dilation_rate": (2, 3)},
    "dilation, same": {"kernel_size": (3, 2), "dilation_rate": 2, "padding": "same"},
}
WAYS = {
    **{(kind, name): (kind, arguments) for kind in ("spatial", "tucker") for name, arguments in CONVOLUTIONS.items()},
    ("svd", "1×1"): ("svd", {"kernel_size": 1, "activation": "tanh"}),
    ("svd", "1×1, strides, same"): ("svd", {"kernel_size": 1, "strides": (2, 3), "padding": "same"}),
    ("tucker", "3×1"): ("tucker", {"kernel_size": (3, 1), "strides": (2, 1), "padding": "same"}),
}
# Sums of a few hundred products in single precision, in another order, by intermediate results that are no larger.
CLOSE = 1e-5


def single(layer, shape=(13, 12, 6)):
    """A model of one layer with random weights."""
    image = keras.Input(shape)
    model = keras.Model(image, layer(image))
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=value.shape) for value in model.get_weights()])
    return model


def images_for(model, count=3, seed=1):
    return np.random.default_rng(seed).normal(size=(count, *model.input_shape[1:])).astype("float32")


def check_equal(one, other, images):
    expected = keras.ops.convert_to_numpy(one(images))
    given = keras.ops.convert_to_numpy(other(images))
    np.testing.assert_allclose(given, expected, atol=CLOSE * np.abs(expected).max())


def at_ranks(model, kind, ranks):
    """The model with its last layer factored in that way."""
    layer = model.layers[-1]
    way = KINDS[kind](layer)
    choices = {layer.name: Choice(way, ranks, 0, 1.0)}
    return (*with_pieces(model, choices), choices)


@pytest.mark.parametrize("name", WAYS, ids=" ".join)
def test_at_full_rank_the_outputs_are_those_of_the_layer(name):
    kind, arguments = WAYS[name]
    model = single(keras.layers.Conv2D(7, **arguments))
    full = tuple(KINDS[kind](model.layers[-1]).ranks.max(axis=0).tolist())
    factors, chains, choices = at_ranks(model, kind, full)
    check_equal(model, factors, images_for(model))
    check_equal(model, composed(factors, choices, chains), images_for(model))
    assert factors.output_shape == model.output_shape


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_tucker_with_all_of_its_three_layers_is_exact_at_full_rank(name, monkeypatch):
    whole = KINDS["tucker"].pieces
    monkeypatch.setattr(KINDS["tucker"], "pieces", lambda way, ranks: whole(way, ranks, is_whole=True))
    model = single(keras.layers.Conv2D(7, **CONVOLUTIONS[name]))
    factors, chains, choices = at_ranks(model, "tucker", (6, 7))
    assert [layer.name.rpartition("_")[2] for layer in factors.layers[1:]] == ["reduce", "core", "expand"]
    check_equal(model, factors, images_for(model))
    check_equal(model, composed(factors, choices, chains), images_for(model))


@pytest.mark.parametrize("shape", [(20,), (5, 20), (2, 3, 20)])
@pytest.mark.parametrize("units", [8, 40])
def test_dense_at_full_rank(shape, units):
    model = single(keras.layers.Dense(units, activation="relu"), shape)
    factors, *_ = at_ranks(model, "svd", (min(units, 20),))
    check_equal(model, factors, images_for(model))


def matrices(kernel):
    """A 4-axis kernel as the matrices whose singular values count, by way."""
    height, width, channels, filters = kernel.shape
    return {
        "spatial": kernel.transpose(0, 2, 1, 3).reshape(height * channels, width * filters),
        "svd": kernel.reshape(channels, -1) if height == width == 1 else None,
    }


@pytest.mark.parametrize(("kind", "size"), [("spatial", 3), ("spatial", (2, 5)), ("svd", 1)])
def test_energies_are_those_of_singular_values_and_are_kept(kind, size):
    model = single(keras.layers.Conv2D(7, size))
    layer = model.layers[-1]
    kernel = keras.ops.convert_to_numpy(layer.kernel).astype("float64")
    values = np.linalg.svd(matrices(kernel)[kind], compute_uv=False) ** 2
    way = KINDS[kind](layer)
    np.testing.assert_allclose(way.energies, np.cumsum(values) / values.sum(), rtol=1e-10)
    for rank, energy in zip(way.ranks[:, 0], way.energies, strict=True):
        left = kernel - way.composed([piece.kernel for piece in way.pieces((rank,))])
        np.testing.assert_allclose(1 - np.sum(left**2) / np.sum(kernel**2), energy, atol=1e-9)


def test_tucker_keeps_at_least_the_energy_that_it_says():
    """It says that of truncated bases; alternating least squares keeps more."""
    way = KINDS["tucker"](single(keras.layers.Conv2D(7, 3)).layers[-1])
    more = []
    for ranks, energy in zip(way.ranks.tolist(), way.energies, strict=True):
        kernels = [piece.kernel for piece in way.pieces(ranks)]
        kept = 1 - np.sum((way.kernel - way.composed(kernels)) ** 2) / np.sum(way.kernel**2)
        assert kept >= energy - 1e-9
        more.append(kept - energy)
    assert max(more) > 0.005
    np.testing.assert_allclose(way.energies[-1], 1.0, atol=1e-12)


def test_costs_are_multiply_adds():
    """Of every way, with strides, against what `recipes.cost` counts in the graph."""
    for kind, arguments in WAYS.values():
        model = single(keras.layers.Conv2D(7, **arguments))
        way = KINDS[kind](model.layers[-1])
        for row in (0, len(way.costs) // 2):
            factors, *_ = at_ranks(model, kind, tuple(way.ranks[row].tolist()))
            assert recipes.cost(factors, optimizer=None).multiply_adds == way.costs[row]


def test_a_kernel_of_low_rank_is_found_to_be_so():
    random = np.random.default_rng(0)
    columns, rows = random.normal(size=(3, 1, 16, 2)), random.normal(size=(1, 3, 2, 18))
    inner, outer = random.normal(size=(16, 3)), random.normal(size=(5, 18))
    kernels = {
        "spatial": (np.einsum("hacr,awrf->hwcf", columns, rows), (2,)),
        "tucker": (np.einsum("cr,hwrs,sf->hwcf", inner, random.normal(size=(3, 3, 3, 5)), outer), (3, 5)),
        "svd": ((columns[0, 0] @ rows[0, 0])[None, None], (2,)),
    }
    for kind, (kernel, ranks) in kernels.items():
        model = single(keras.layers.Conv2D(18, kernel.shape[:2]), (9, 9, 16))
        model.layers[-1].kernel.assign(kernel)
        frontiers, _ = frontiers_of(model, "auto")
        choice = frontiers[model.layers[-1].name].cheapest(1 - 1e-9)  # single precision leaves that much
        assert (choice.way.kind, choice.ranks) == (kind, ranks)
        factors, notes = factored(model, energy=1 - 1e-9)
        assert not notes
        check_equal(model, factors, images_for(model))


@pytest.mark.parametrize(
    ("layer", "shape", "kind", "least"),
    [
        (lambda: keras.layers.Dense(300), (784,), "svd", (216,)),  # mn / (m + n) = 216.97
        (lambda: keras.layers.Conv2D(64, 3, padding="same"), (8, 8, 64), "spatial", (95,)),  # kST / (S + T) = 96
        (lambda: keras.layers.Conv2D(48, 3, padding="same"), (8, 8, 16), "spatial", (35,)),  # 36
    ],
)
def test_ranks_save_up_to_where_costs_break_even(layer, shape, kind, least):
    model = single(layer(), shape)
    way = KINDS[kind](model.layers[-1])
    frontier = Frontier([way], np.prod(model.layers[-1].kernel.shape) * np.prod(shape[:-1], dtype=int))
    assert frontier.choice(len(frontier.costs) - 1).ranks == least
    factors, notes = factored(model, kind=kind, energy=0.9999)
    (reason,) = notes.values()
    assert f"up to rank {least[0]} ({kind})" in reason and "less than 0.9999" in reason
    assert [type(one) for one in factors.layers] == [type(one) for one in model.layers]


def test_tucker_saves_up_to_nine_tenths_of_the_channels():
    """With both ranks equal: 2Cr + 9r² < 9C² up to r = 0.895 C."""
    way = KINDS["tucker"](single(keras.layers.Conv2D(64, 3, padding="same"), (8, 8, 64)).layers[-1])
    equal = way.ranks[:, 0] == way.ranks[:, 1]
    saving = equal & (way.costs < 9 * 64 * 64 * 64) & (way.ranks[:, 0] < 64)
    assert way.ranks[saving].max() == 57


def network(random):
    """Convolutions and dense layers of different thickness, with what must stay."""
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="first")(image)
    x = keras.layers.Conv2D(24, 3, strides=2, padding="same", use_bias=False, name="second")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.Conv2D(24, 3, groups=4, name="groups")(x)
    x = keras.layers.Conv2D(32, 1, activation="relu", name="pointwise")(x)
    x = keras.layers.Conv2DTranspose(8, 2, strides=2, name="transposed")(x)
    x = keras.layers.Conv2D(8, 3, kernel_constraint="non_neg", name="constrained")(x)
    shared = keras.layers.Dense(8, name="shared")
    x = keras.layers.Flatten()(shared(shared(x)))
    x = keras.layers.Dense(40, activation="relu", name="hidden")(x)
    model = keras.Model(image, keras.layers.Dense(4, activation="softmax", name="answers")(x))
    model.set_weights([random.normal(size=value.shape, scale=0.1) for value in model.get_weights()])
    return model


def test_what_is_not_factored_is_named_and_all_else_saves_and_loads_as_plain_keras(tmp_path, random):
    model = network(random)
    weights = [value.copy() for value in model.get_weights()]
    factors, notes = factored(model, energy=0.5, keep={"answers"})
    reasons = {
        "depthwise": "DepthwiseConv2D is not factored",
        "groups": "4 groups",
        "transposed": "Conv2DTranspose is not factored",
        "constrained": "constraint",
        "shared": "called 2 times",
        "answers": "to be kept",
    }
    assert notes.keys() == reasons.keys()
    assert all(reason in notes[name] for name, reason in reasons.items())
    names = {layer.name for layer in factors.layers}
    assert not {"first", "second", "pointwise", "hidden"} & names and {"hidden_reduce", "hidden_expand"} <= names
    factors.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert all(type(layer).__module__.startswith("keras.") for layer in loaded.layers)
    images = images_for(model)
    np.testing.assert_array_equal(loaded(images), factors(images))
    factors.set_weights([0 * value for value in factors.get_weights()])
    for value, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, before)


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.6])
def test_a_budget_is_kept_and_hardly_more_is_taken(fraction, random):
    model = network(random)
    before = recipes.cost(model, optimizer=None).multiply_adds
    factors, _ = factored(model, fraction=fraction)
    after = recipes.cost(factors, optimizer=None).multiply_adds
    assert fraction <= 1 - after / before < fraction + 0.02  # a rank of its first layer is 0.034 of the whole


def test_a_budget_is_spent_where_least_is_lost():
    """It loses no more than the best of all ranks that three layers can have, were one rank more to go."""
    random = np.random.default_rng(3)
    frontiers, tables = {}, []
    for number, decay in enumerate((0.3, 0.6, 0.9)):
        model = single(keras.layers.Dense(10, name=f"dense{number}"), (12,))
        left, _, right = np.linalg.svd(random.normal(size=(12, 10)), full_matrices=False)
        model.layers[-1].kernel.assign(left * decay ** np.arange(10) @ right)
        frontier = Frontier([KINDS["svd"](model.layers[-1])], 120)
        frontiers[model.layers[-1].name] = frontier
        tables.append([(120, 0.0), *zip(frontier.costs, np.log(frontier.energies), strict=True)])
    for removed in (60, 120, 200):
        choices = allot(frontiers, removed)
        saved = sum(120 - choice.cost for choice in choices.values())
        kept = sum(np.log(choice.energy) for choice in choices.values())
        possible = [
            sum(energy for _, energy in row)
            for row in itertools.product(*tables)
            if 360 - sum(cost for cost, _ in row) >= removed + 22
        ]
        assert saved >= removed
        assert kept >= max(possible) - 1e-9
    strongest = allot(frontiers, 120)
    assert strongest["dense0"].ranks[0] <= strongest["dense1"].ranks[0]
    assert "dense2" not in strongest or strongest["dense2"].ranks[0] >= strongest["dense1"].ranks[0]


def test_a_budget_that_cannot_be_kept_says_what_can(random):
    with pytest.raises(ValueError, match=r"factor: fraction must be at most 0\.\d+, where .* Received fraction=0.99"):
        factored(network(random), fraction=0.99)


@pytest.mark.parametrize("name", WAYS, ids=" ".join)
def test_the_last_layer_is_fitted_to_answers_on_images(name):
    """Spoilt, it finds back; the rest is what keeping to the weights costs."""
    kind, arguments = WAYS[name]
    model = single(keras.layers.Conv2D(7, **arguments))
    ranks = KINDS[kind](model.layers[-1]).ranks.max(axis=0).tolist()
    factors, chains, _ = at_ranks(model, kind, tuple(ranks))
    layer = next(iter(chains.values()))[-1]
    layer.set_weights([value + 1 for value in layer.get_weights()])
    images = images_for(model, 40)
    expected, spoilt = model(images).numpy(), factors(images).numpy()
    reconstruct(model, chains, images)
    assert np.abs(factors(images).numpy() - expected).mean() < 0.02 * np.abs(spoilt - expected).mean()


def test_fitting_serves_images_that_were_not_seen():
    random = np.random.default_rng(0)
    image = keras.Input((12, 12, 8))
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="one")(image)
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="two")(x)
    model = keras.Model(image, keras.layers.Dense(12, name="three")(x))
    model.set_weights([random.normal(size=value.shape, scale=0.2) for value in model.get_weights()])
    mixture = random.normal(size=(8, 8)) * 0.5 ** np.arange(8)  # channels that vary unequally, as features do
    images = (random.normal(size=(80, 12, 12, 8)) @ mixture).astype("float32")
    frontiers, _ = frontiers_of(model, "auto")
    choices = {name: frontier.cheapest(0.7) for name, frontier in frontiers.items()}
    errors = []
    for is_fitted in (False, True):
        factors, chains = with_pieces(model, choices)
        if is_fitted:
            reconstruct(model, chains, images[:64])
        errors.append(np.mean((factors(images[64:]).numpy() - model(images[64:]).numpy()) ** 2))
    assert errors[1] < 0.6 * errors[0]


def test_trained_factors_are_multiplied_out(random):
    model = network(random)
    frontiers, _ = frontiers_of(model, "auto")
    choices = {name: frontier.cheapest(0.6) for name, frontier in frontiers.items()}
    factors, chains = with_pieces(model, choices)
    trained = detached(factors)
    trained.set_weights([value + random.normal(size=value.shape, scale=0.01) for value in trained.get_weights()])
    whole = composed(trained, choices, chains)
    assert {layer.name for layer in whole.layers[1:]} == {layer.name for layer in model.layers[1:]}
    check_equal(trained, whole, images_for(model))


QUICK = recipes.Recovery(epochs=1)


def test_the_verb_goes_as_far_as_the_accuracy_allows(classifier, monkeypatch):
    monkeypatch.setattr("recipes.compression.low_rank._LEVELS", (0.1, 0.2, 0.99))
    weights = [value.copy() for value in classifier.model.get_weights()]
    small = recipes.factor(classifier, max_drop=0.5, recovery=QUICK, verbose=False)
    assert [rung.name for rung in small.rungs[1:]] == [
        f"low rank, {part} of multiply-adds away" for part in ("10%", "20%")
    ]
    first, *rest = small.rungs
    for rung, fraction in zip(rest, (0.1, 0.2), strict=True):
        assert rung.multiply_adds <= (1 - fraction) * first.multiply_adds and rung.is_kept
    assert small.result.class_names == classifier.class_names
    for value, before in zip(classifier.model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, before)


def test_the_verb_without_data(classifier):
    model = classifier.model
    small = recipes.factor(model, energy=0.3, max_drop=None, recovery={"epochs": 0}, verbose=False)
    assert small.rungs[1].multiply_adds < small.rungs[0].multiply_adds
    assert small.rungs[1].accuracy is None
    whole = recipes.factor(model, energy=1.0, kind="tucker", max_drop=None, recovery={"epochs": 0}, verbose=False)
    assert whole.rungs[-1].multiply_adds == whole.rungs[0].multiply_adds and whole.notes
    loaded = dataclasses.replace(classifier, data=None)
    report = recipes.factor(loaded, energy=0.3, max_drop=None, recovery={"epochs": 0}, verbose=False).report
    assert report.scores == classifier.report.scores  # nothing new was measured but what the network costs
    assert report.cost["multiply_adds"] == small.rungs[1].multiply_adds
    assert report.settings["compression"] == ["low rank, 30.0% of the energy"]


def test_a_model_without_products_stays_as_it_is(photo_data):
    image = keras.Input((16, 16, 3))
    model = keras.Model(image, keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D()(image)))
    rung = recipes.factor(model, photo_data, max_drop=0.5, verbose=False).rungs[-1]
    assert (rung.name, rung.multiply_adds) == ("low rank, nothing to take away", 0)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"kind": "cp"}, ValueError, "kind is not known"),
        ({"energy": 0}, ValueError, "energy must be above 0"),
        ({"energy": 1.5}, ValueError, "energy must be above 0 and at most 1"),
        ({"energy": "all"}, TypeError, "energy must be a number"),
        ({"fraction": -0.1}, ValueError, "fraction must be above 0"),
        ({"energy": 0.9, "fraction": 0.5}, ValueError, "by energy or by the fraction"),
        ({"fraction": 0.999}, ValueError, "fraction must be at most"),
        ({"is_fitted": 1}, TypeError, "is_fitted must be true or false"),
        ({"keep": "first"}, TypeError, "keep must be a tuple"),
        ({"keep": ("nothing",)}, ValueError, "keep must name layers that there are"),
        ({"keep": ("(",)}, ValueError, "regular expressions"),
        ({"form": "tiff"}, ValueError, "form is not known"),
        ({"recovery": 3}, TypeError, "recovery must be"),
    ],
)
def test_bad_arguments_are_refused(classifier, arguments, kind, words):
    with pytest.raises(kind, match=rf"^factor: .*{words}"):
        recipes.factor(classifier, verbose=False, **{"max_drop": None, "recovery": {"epochs": 0}} | arguments)


def test_data_must_be_there_for_what_needs_it(classifier):
    with pytest.raises(ValueError, match="factor: data must be given"):
        recipes.factor(classifier.model, energy=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2_035", "squeezenet", "inception_v3"])
def test_networks_of_the_catalogue(name):
    network = build_network(name, weights=None, image_size=75, class_count=3).model
    factors, notes = factored(network, fraction=0.3)
    counts = [recipes.cost(model, optimizer=None).multiply_adds for model in (network, factors)]
    assert 0.3 <= 1 - counts[1] / counts[0] < 0.31
    layers = {layer.name for layer in network.layers if type(layer) in (keras.layers.Conv2D, keras.layers.Dense)}
    assert all((name in notes) != (name not in {layer.name for layer in factors.layers}) for name in layers)
