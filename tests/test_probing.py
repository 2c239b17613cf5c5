"""Probing: features at the end of blocks, classifiers on them, and the plan that follows from both."""

import dataclasses
import inspect
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from cases import tiny_base
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

import recipes
from recipes.bases import block_outputs, build_network
from recipes.cli import main
from recipes.data.loading import pick
from recipes.probing import planning
from recipes.probing.classifiers import fitted_linear, linear_answers, stratified
from recipes.probing.features import PooledFeatures, outputs_of, stage_places
from recipes.probing.fitting import fit_head
from recipes.probing.measuring import make_ground
from recipes.training.frozen_prefix import Features, FrozenParts
from recipes.training.preparing import prepare

STAGES = ["stage0_block1", "stage1_block1", "stage2_block1"]


@pytest.fixture(scope="module")
def digits():
    return recipes.load_data("digits", image_size=16)


@pytest.fixture(scope="module")
def network():
    return small_resnet(10, 1)


def small_resnet(classes, channels):
    return build_network("small_resnet", image_size=16, channels=channels, class_count=classes)


def some(data, per_class, split="train"):
    """A Data with the first images of each class in a split."""
    labels = getattr(data, split).labels
    places = np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in np.unique(labels)])
    return dataclasses.replace(data, **{split: pick(getattr(data, split), np.sort(places))})


def pooled(network, tensor, images):
    """What Keras gives: the network cut at a tensor, averaged over the map."""
    return called(keras.Model(network.model.input, tensor), images).mean(axis=(1, 2))


def called(model, images):
    """What a model gives, without tracing it first."""
    return keras.ops.convert_to_numpy(model(images.astype(np.float32), training=False))


# Features.


@pytest.mark.parametrize("is_kept", [True, False])
def test_features_are_those_of_keras_cut_there(network, digits, is_kept):
    split = pick(digits.train, np.arange(40))
    features = PooledFeatures(network, range(7), digits, is_kept=is_kept)
    features.prepare(split)
    for number, tensor in enumerate(outputs_of(network)):
        expected = pooled(network, tensor, split.images().astype(np.float32))
        # Folded BatchNormalization rounds otherwise.
        np.testing.assert_allclose(features.rows(split, number), expected, rtol=1e-3, atol=1e-4)
    assert features.widths == [16, 32, 32, 64, 64, 128, 128]
    assert features.multiply_adds == sorted(features.multiply_adds)


def test_blocks_end_where_everything_goes_through():
    """A sum without a layer of its own belongs to what it sums; a skip past a block is no end of it."""
    image = keras.Input((8, 8, 3))
    stem = keras.layers.Conv2D(4, 3, padding="same", name="stem")(image)
    x = stem + keras.layers.Conv2D(4, 3, padding="same", name="first")(stem)
    x = keras.layers.ReLU(name="after")(x)
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="second")(x)
    network = build_network(keras.Model(image, x), image_size=8, class_count=2)
    assert [block.name for block in network.blocks] == ["stem", "first", "second"]
    names = [tensor._keras_history.operation.name for tensor in block_outputs(network.model, network.blocks)]
    assert names == ["stem", "after", "second"]


def test_stages_end_where_the_map_shrinks(network):
    assert [network.blocks[place].name for place in stage_places(network)] == STAGES
    flat = keras.Sequential(
        [keras.Input((8, 8, 3)), *(keras.layers.Conv2D(3, 3, padding="same", name=f"c{n}") for n in range(9))]
    )
    assert stage_places(build_network(flat, image_size=8, class_count=2)) == (0, 2, 4, 6, 8)


def test_what_was_computed_once_is_found_again(digits, monkeypatch):
    data = some(digits, 12)
    settings = {"at": ("stage1_block0",), "verbose": False}
    first = recipes.probe("small_resnet", data, **settings)
    second = recipes.probe("small_resnet", data, **settings)
    assert second.computed == {"small_resnet": 0}
    strip = [dataclasses.replace(row, classifier_seconds=0) for row in (*first.rows, *second.rows)]
    assert strip[0] == strip[1]
    assert recipes.probe("small_resnet", data, cache=False, **settings).computed == {"small_resnet": 120}
    # And `finetune` finds the rows of the training images where probing has left them.
    passed = []
    original = Features._passed

    def counted(self, picks, number):
        passed.append((len(self), len(list(picks))))
        return original(self, picks, number)

    monkeypatch.setattr(Features, "_passed", counted)
    options = {"plan": "head", "epochs": 1, "cache": True, "verbose": False}
    recipes.finetune("small_resnet", data, features="stage1_block0", **options)
    assert 120 not in [images for images, _ in passed]


def test_layers_that_cannot_be_described_are_not_kept(digits):
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    base = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Conv2D(4, 3, name="conv"), Doubled()])
    for _ in range(2):
        assert recipes.probe(base, some(digits, 5), verbose=False).computed == {"sequential": 50}


# Classifiers.


def fold_by_fold(model, rows, labels, parts):
    """(accuracy, log-loss of each image or None) by scikit-learn, one fold after the other."""
    right, losses = [], []
    with threadpool_limits(1):
        for number, (fitted, held) in enumerate(parts):
            fold = model(number).fit(rows[fitted], labels[fitted])
            right.append(fold.predict(rows[held]) == labels[held])
            if hasattr(fold, "predict_log_proba"):
                losses.append(-fold.predict_log_proba(rows[held])[np.arange(len(held)), labels[held]])
    return np.concatenate(right).mean(), np.concatenate(losses).mean() if losses else None


@pytest.mark.parametrize("classifier", ["logistic", "svm"])
def test_numbers_are_those_of_scikit_learn(network, digits, classifier):
    """Standardised by the fitted images; `C` is for features whose squares sum to 1."""
    data = some(digits, 20)
    found = recipes.probe("small_resnet", data, at=tuple(STAGES), classifier=classifier, neighbours=3, verbose=False)
    assert (found.split, found.folds, found.images, found.classes, found.k) == ("train", 5, 200, 10, 3)
    assert found.chance == pytest.approx(0.1)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    parts = list(folds.split(data.train.labels, data.train.labels))
    for row, place in zip(found.rows, stage_places(network), strict=True):
        rows, labels = pooled(network, outputs_of(network)[place], data.train.images()), data.train.labels
        assert row.features == rows.shape[1]

        def linear(number, row=row):
            strength = row.strengths[number] / row.features
            if classifier == "svm":
                # The bias is penalised with the weights; for features of another scale it counts otherwise.
                return make_pipeline(
                    StandardScaler(), Shrunk(row.features), LinearSVC(C=row.strengths[number], random_state=0)
                )
            return make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-5, max_iter=500))

        accuracy, loss = fold_by_fold(linear, rows, labels, parts)
        assert row.linear == pytest.approx(accuracy, abs=2 / 200)  # float32 against float64, and an earlier end
        if loss is not None:
            assert row.loss == pytest.approx(loss, rel=0.05)
        near = fold_by_fold(lambda _: make_pipeline(StandardScaler(), KNeighborsClassifier(3)), rows, labels, parts)
        assert row.neighbours == pytest.approx(near[0], abs=1 / 200)  # two at one distance


class Shrunk:
    """Features divided by the root of their number."""

    def __init__(self, width):
        self._root = np.sqrt(width)

    def fit(self, rows, labels=None):
        return self

    def transform(self, rows):
        return rows / self._root


def test_the_strength_of_a_fold_is_the_best_for_the_others(random):
    """Three folds: what decides for one of them is never its own images."""
    rows = random.normal(size=(90, 40)).astype(np.float32)
    labels = (rows[:, 0] + 2 * random.normal(size=90) > 0).astype(int)
    parts = stratified(labels, 3, 0)
    answers = linear_answers(rows, labels, parts)
    path = {}
    for strength in (1.0, 10.0, 100.0, 1000.0):
        losses = []
        for fitted, held in parts:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength / 40, tol=1e-6, max_iter=1000))
            chances = model.fit(rows[fitted], labels[fitted]).predict_proba(rows[held])
            losses.append(-np.log(chances[np.arange(len(held)), labels[held]]).mean())
        path[strength] = losses
        if len(path) > 1 and np.mean(losses) > np.mean(list(path.values())[-2]):
            break
    others = [min(path, key=lambda s: sum(path[s][other] for other in range(3) if other != fold)) for fold in range(3)]
    assert list(answers.strengths) == others


def test_validation_images_by_what_was_fitted_to_the_training_images(network, digits):
    data = some(some(digits, 20), 10, "valid")
    found = recipes.probe("small_resnet", data, at=("stage2_block0",), folds=None, verbose=False)
    assert (found.split, found.folds, found.images) == ("valid", 1, 100)
    tensor = outputs_of(network)[5]
    rows = [pooled(network, tensor, split.images()) for split in (data.train, data.valid)]
    row = found.rows[0]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=row.strengths[0] / 128, max_iter=1000))
    expected = model.fit(rows[0], data.train.labels).score(rows[1], data.valid.labels)
    assert row.linear == pytest.approx(expected, abs=0.021)  # two images: an earlier end


def test_many_validation_images_decide_by_themselves(digits):
    valid = pick(digits.valid, np.resize(np.arange(len(digits.valid)), 1200))
    valid = dataclasses.replace(valid, digests=tuple(number.to_bytes(16, "big") for number in range(1200)))
    data = dataclasses.replace(digits, valid=valid)
    assert make_ground(data, "auto", 5, 0, "probe").split == "valid"
    assert make_ground(digits, "auto", 5, 0, "probe").split == "train"


def test_equal_images_count_once(digits):
    data = some(digits, 6)
    twice = dataclasses.replace(data, train=pick(data.train, np.repeat(np.arange(60), 2)))
    found = recipes.probe("small_resnet", twice, at=("stem",), verbose=False)
    assert found.images == 60
    assert found.rows[0].linear == recipes.probe("small_resnet", data, at=("stem",), verbose=False).rows[0].linear


# The value.


def test_several_bases_side_by_side_and_all_that_a_probe_tells(digits, tmp_path, random):
    other = tiny_base(16, 1)
    found = recipes.probe([other, "small_resnet", other], some(digits, 8), folds=3, verbose=False)
    assert list(found.computed) == ["tiny", "small_resnet", "tiny (2)"]
    assert found.ranking[0] == "small_resnet"
    assert found.best.linear == max(row.linear for row in found.rows)
    assert found.error_of(0.5) == pytest.approx(0.5 / np.sqrt(80))
    found.save(tmp_path / "probe.json")
    assert recipes.Probe.load(tmp_path / "probe.json") == found
    lines = repr(found).splitlines()
    assert len(lines[0]) <= 100
    assert [line for line in lines if line.endswith("*")] == [
        line for line in lines if line.startswith("small_resnet ") and f" {found.best.block} " in line
    ]
    assert "80 training images in 3 folds" in repr(found)
    figure = recipes.plot_probe(found)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == list(found.computed)


def test_each_base_sees_images_at_its_own_size(photos):
    sizes = []
    original = PooledFeatures.__init__

    def noted(self, network, places, data, **options):
        sizes.append(data.image_size)
        original(self, network, places, data, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PooledFeatures, "__init__", noted)
        recipes.probe([tiny_base(16), "small_resnet"], photos, folds=2, verbose=False)
    assert sizes == [(16, 16), (32, 32)]


def test_a_result_is_probed_with_a_warning_on_what_it_was_trained_on(classifier, photos, photo_data):
    with pytest.warns(UserWarning, match=f"trained on {len(photo_data.train)} of these images"):
        found = recipes.probe(classifier, photo_data, folds=3, verbose=False)
    assert found.rows[-1].linear > 0.9


def test_the_command(capsys, monkeypatch, digits, tmp_path, random):
    for name in ("dark", "light"):
        (tmp_path / name).mkdir()
        for number in range(8):
            value = (40 if name == "dark" else 200) + number
            image = np.clip(random.normal(value, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
            keras.utils.save_img(tmp_path / name / f"{number}.png", image, scale=False)
    words = ["probe", '["small_resnet"]', str(tmp_path), "--image-size", "16", "--folds", "2", "--neighbours", "3"]
    assert main([*words, "--verbose", "false"]) == 0
    assert "small_resnet  stage2_block1" in capsys.readouterr().out
    assert main(["probe", "small_resnt", str(tmp_path)]) == 2
    assert "small_resnet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bases", "arguments", "kind", "said"),
    [
        ([], {}, ValueError, "there must be a base"),
        ("resnet5", {}, ValueError, "Did you mean 'resnet50'"),
        (["small_resnet", 3], {}, TypeError, "base must be a name"),
        ("small_resnet", {"at": "middle"}, ValueError, "at is not known"),
        ("small_resnet", {"at": ()}, TypeError, "names of blocks"),
        ("small_resnet", {"at": ("stage9",)}, ValueError, "a block of small_resnet is not known"),
        ("small_resnet", {"classifier": "forest"}, ValueError, "'svm'"),
        ("small_resnet", {"neighbours": 0}, ValueError, "neighbours must be at least 1"),
        ("small_resnet", {"neighbours": 60}, ValueError, "neighbours must be at most 48"),
        ("small_resnet", {"folds": 1}, ValueError, "folds must be at least 2"),
        ("small_resnet", {"folds": 7}, ValueError, "every class needs 7 different training images.*pass folds=6"),
        ("small_resnet", {"seed": -1}, ValueError, "seed must be at least 0"),
        ("small_resnet", {"cache": "no"}, TypeError, "cache must be True or False"),
        ("small_resnet", {"image_size": 32}, ValueError, "image_size must be that of the Data"),
        ("mobilenet", {}, ValueError, "image_size must be at least 32 pixels"),
        (tiny_base(20, 1), {}, ValueError, r"image_size must be \(20, 20\) for this base"),
    ],
)
def test_what_cannot_be_probed_is_said(digits, bases, arguments, kind, said):
    with pytest.raises(kind, match=said):
        recipes.probe(bases, some(digits, 6), verbose=False, **arguments)


def test_one_class_and_no_validation_images_are_said(digits):
    one = dataclasses.replace(digits, train=pick(digits.train, np.flatnonzero(digits.train.labels == 3)))
    with pytest.raises(ValueError, match="at least two classes"):
        recipes.probe("small_resnet", one, verbose=False)
    none = dataclasses.replace(digits, valid=pick(digits.valid, np.zeros(0, np.int64)))
    with pytest.raises(ValueError, match="folds=None measures validation images"):
        recipes.probe("small_resnet", none, folds=None, verbose=False)


# The head on an earlier block, and the head that starts fitted.


def test_the_head_on_an_earlier_block(digits):
    whole = small_resnet(10, 1)
    cut = build_network("small_resnet", image_size=16, channels=1, class_count=10, features="stage1_block0")
    assert [block.name for block in cut.blocks] == ["stem", "stage0_block0", "stage0_block1", "stage1_block0"]
    images = digits.train.images(0, 8).astype(np.float32)
    features = cut.model.get_layer("head_pool").output
    expected = pooled(whole, outputs_of(whole)[3], images)
    found = called(keras.Model(cut.model.input, features), images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # the same operations, in other graphs
    named = {name for block in cut.blocks for name in block.layers} | set(cut.head)
    assert {layer.name for layer in cut.model.layers if layer.weights} <= named
    last = build_network("small_resnet", image_size=16, channels=1, class_count=10, features="stage2_block1")
    assert last.blocks == whole.blocks


def test_finetune_trains_a_network_that_ends_there(digits):
    data = some(digits, 4)
    options = {"plan": "all", "epochs": 1, "features": "stage0_block0", "verbose": False}
    result = recipes.finetune("small_resnet", data, **options)
    assert result.report.settings["features"] == "stage0_block0"
    assert not any(layer.name.startswith("stage1") for layer in result.model.layers)
    assert result.model.count_params() < 20_000


@pytest.mark.parametrize("classes", [2, 3])
def test_a_fitted_head_is_the_logistic_regression(digits, classes):
    split = pick(digits.train, np.flatnonzero(digits.train.labels < classes)[:80])
    data = dataclasses.replace(digits, train=split, class_names=digits.class_names[:classes])
    network = small_resnet(classes, 1)
    fit_head(network, data)
    rows = pooled(network, outputs_of(network)[-1], split.images())
    kernel, bias = fitted_linear(rows, split.labels)
    answers = [called(network.model, split.images())]
    answers.append(keras.ops.convert_to_numpy(keras.ops.softmax(rows @ kernel + bias)))
    np.testing.assert_allclose(*answers, atol=2e-3)  # features are rounded otherwise in the two
    expected = []
    for strength in (1.0, 10.0, 100.0, 1000.0):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength / 128, tol=1e-6, max_iter=1000))
        expected.append(model.fit(rows, split.labels).predict_proba(rows))
    assert min(np.abs(answers[0] - one).max() for one in expected) < 0.02  # it ends a little earlier


def test_finetune_starts_from_a_fitted_head(digits):
    """On features of this block, whose scale is small, ten epochs from a random head do not come far."""
    data = some(some(digits, 15), 15, "test")
    options = {"plan": "head", "features": "stage2_block0", "epochs": 1, "verbose": False}
    scores = [
        recipes.finetune("small_resnet", data, head_start=start, **options).report.scores["accuracy"]
        for start in ("random", "fitted")
    ]
    assert scores[1] > scores[0] + 0.2
    assert scores[1] > 0.85


# Choosing a plan.


def measured(**others):
    given = {
        "images": 30,
        "blocks": ("stem", "block_1", "block_2"),
        "linear": (0.5, 0.7, 0.9),
        "best": 2,
        "early": 1,
        "excess": -0.12,
        "excess_error": 0.05,
        "wrong": 20,
        "before": 0.30,
        "after": 0.35,
        "gain_error": 0.1,
    }
    return planning.Measured(**given | others)


UNTRIED = {"before": None, "after": None, "gain_error": None}
UNLIKE = {"linear": (0.5, 0.9, 0.7), "best": 1, "excess": 0.3, "excess_error": 0.05} | UNTRIED


@pytest.mark.parametrize(
    ("case", "plan", "features", "start", "said"),
    [
        ({}, "head", None, "fitted", "loses, no more than by chance, on held-out ones (loss 0.300 → 0.350 ± 0.100)."),
        (UNLIKE | {"images": 9}, "head", "block_1", "fitted", "too few to train blocks"),
        ({"after": 0.05}, "default", None, "random", "gains on held-out ones"),
        (UNLIKE, "all", None, "random", "unlike those of the base"),
        # Where all is told already, nothing is left to gain.
        (UNLIKE | {"wrong": 1}, "head", None, "fitted", "like those of the base"),
        # The last block may be the best of all, and what is before it almost as good.
        (UNLIKE | {"images": 9, "linear": (0.5, 0.8, 0.85), "best": 2}, "head", None, "fitted", "too few to train"),
        # An excess within its error is none; nor, with few images, a gain within one; nor, with many, a loss.
        (UNLIKE | {"excess_error": 0.4}, "head", None, "fitted", "like those of the base"),
        ({"after": 0.25}, "head", None, "fitted", "gains, no more than by chance, on held-out ones"),
        ({"images": 100}, "default", None, "random", "± 0.100), where several may gain."),
        ({"images": 100, "gain_error": 0.01}, "head", None, "fitted", "loses on held-out ones (loss 0.300"),
        (UNTRIED, "head", None, "fitted", "too few can be held out"),
    ],
)
def test_the_four_cases(case, plan, features, start, said):
    choice = planning.decide(measured(**case))
    assert (choice.plan, choice.features, choice.head_start) == (plan, features, start)
    assert said in choice.reason
    assert f"plan={plan!r}" in choice.line
    assert json.loads(json.dumps(dataclasses.asdict(choice))) == dataclasses.asdict(choice)


def test_likeness_is_what_the_second_half_of_the_base_adds():
    """Against the formula, on answers that are given."""
    labels, random = np.repeat([0, 1, 2, 3], 25), np.random.default_rng(0)
    answers = []
    for accuracy in (0.4, 0.7, 0.6, 0.8):
        predicted = np.where(random.random(100) < accuracy, labels, 9)
        answers.append(SimpleNamespace(predicted=predicted, images=np.arange(100)))
    found = planning._compared(answers, list("abcd"), labels, 25)
    right = np.array([answer.predicted == labels for answer in answers], float)
    assert found.linear == tuple(right.mean(1))
    assert (found.best, found.early) == (3, 1)
    excess = right[1] - 0.25 - 0.7 * (right[3] - 0.25)
    assert found.excess == pytest.approx(excess.mean())
    assert found.excess_error == pytest.approx(excess.std() / 10)
    assert found.wrong == (right[3] == 0).sum()
    assert planning._compared(answers[3:], ["d"], labels, 25).is_alike


def choose(network, data):
    """The Choice on the training images alone: the other splits are not there."""
    arguments = {name: kind.default for name, kind in inspect.signature(recipes.finetune).parameters.items()}
    training = prepare(arguments | {"base": "small_resnet", "data": None}).training
    return planning.choose_plan(network, dataclasses.replace(data, valid=None, test=None), training, 1e-3)


@pytest.mark.parametrize(
    ("per_class", "plan", "features"),
    [(9, "head", "stage2_block0"), (20, "all", None)],
)
def test_digits_are_unlike_photos(digits, per_class, plan, features):
    """With the weights of CIFAR-10: its last block has let go of what digits are told by."""
    network = small_resnet(10, 1)
    before = [keras.ops.convert_to_numpy(variable) for variable in network.model.variables]
    choice = choose(network, some(digits, per_class))
    assert (choice.plan, choice.features) == (plan, features)
    for variable, value in zip(network.model.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


@pytest.mark.parametrize(
    ("count", "change", "plan"), [(114, 0.0, "head"), pytest.param(400, 2.0, "default", marks=pytest.mark.slow)]
)
def test_images_whose_classes_the_last_block_tells_apart(count, change, plan):
    """Patches in two classes, by a direction among the features of the last block; with `change`, of one whose kernels
    are others, so that it has to learn them.
    """
    random = np.random.default_rng(0)
    patches = 60 * random.normal(size=(count, 4, 4, 3)).repeat(4, 1).repeat(4, 2)
    noise = 20 * random.normal(size=(count, 1, 1, 3)) + 10 * random.normal(size=(count, 16, 16, 3))
    images = np.clip(128 + patches + noise, 0, 255).astype(np.uint8)
    teacher, others = small_resnet(2, 3), np.random.default_rng(1)
    for layer in map(teacher.model.get_layer, teacher.blocks[-1].layers):
        if isinstance(layer, keras.layers.Conv2D):
            kernel, *rest = layer.get_weights()
            layer.set_weights([kernel + change * kernel.std() * others.normal(size=kernel.shape), *rest])
    features = pooled(teacher, outputs_of(teacher)[-1], images)
    scores = (features - features.mean(0)) / features.std(0) @ random.normal(size=features.shape[1])
    data = recipes.load_data((images, (scores > np.median(scores)).astype(int)), valid=0.15, test=0.15)
    choice = choose(small_resnet(2, 3), data)
    assert (choice.plan, choice.features) == (plan, None)


def test_too_few_to_measure_and_nothing_to_go_by(digits):
    few = choose(small_resnet(10, 1), some(digits, 1))
    assert (few.plan, few.head_start) == ("head", "fitted")
    assert "one training image" in few.reason
    random = build_network("small_resnet", weights=None, image_size=16, channels=1, class_count=10)
    assert choose(random, digits).plan == "all"


def test_a_sample_has_all_classes_in_their_shares():
    labels = np.repeat([0, 1, 2], [1000, 500, 3])
    picks = planning._sample(labels, 300, 0)
    assert np.bincount(labels[picks]).tolist() == [200, 100, 3]
    assert planning._sample(labels, 5000, 0).tolist() == list(range(1503))


@pytest.mark.slow
def test_auto_is_what_it_names_and_goes_on_where_it_was_stopped(digits, tmp_path, monkeypatch):
    data = some(digits, 9)
    options = {"epochs": 3, "verbose": False, "checkpoint_steps": 2}
    result = recipes.finetune("small_resnet", data, plan="auto", **options)
    chosen = result.report.settings["chosen"]
    assert chosen["plan"] == "head"
    named = {name: chosen[name] for name in ("plan", "features", "head_start")}
    overruled = recipes.finetune("small_resnet", data, **named, **options)
    same_weights(result, overruled)

    # Stopped in the middle of the second epoch, it does not measure again.
    stopped = Stopped(after=5)
    with monkeypatch.context() as patch:
        patch.setattr("recipes.training.standing.Standing.add_step", stopped.wrap())
        with pytest.raises(KeyboardInterrupt):
            recipes.finetune("small_resnet", data, plan="auto", out=tmp_path / "run", **options)
    with monkeypatch.context() as patch:
        patch.setattr("recipes.probing.planning.choose_plan", None)
        resumed = recipes.finetune("small_resnet", data, plan="auto", out=tmp_path / "run", **options)
    same_weights(result, resumed)
    assert resumed.report.settings["chosen"] == chosen
    assert recipes.load(tmp_path / "run").report.settings["chosen"] == chosen


def test_the_rate_is_sought_for_the_plan_that_is_chosen(digits, monkeypatch, capsys):
    """The head's start, the stages and the features are those of the choice."""
    data = some(digits, 9)
    options = {"steps": 20, "runs": 1}
    chosen, head = (recipes.find_lr("small_resnet", data, plan=plan, **options) for plan in ("auto", "head"))
    assert chosen.stage == head.stage == "head"
    assert chosen.losses[0] < 0.5 * head.losses[0]
    assert 'plan="auto" chose' in capsys.readouterr().out

    choice = planning.Choice("all", "stage0_block1", "random", "it is said so.")
    monkeypatch.setattr(planning, "choose_plan", lambda *_: choice)
    swept = []
    monkeypatch.setattr(
        "recipes.rate_finding.sweep_rates", lambda network, _, stage, *__: swept.append((network, stage))
    )
    recipes.find_lr("small_resnet", data, plan="auto", **options)
    ((network, stage),) = swept
    assert network.blocks[-1].name == "stage0_block1" and stage.name == "all"


class Stopped:
    """Steps that are interrupted after some."""

    def __init__(self, after):
        self._left = after

    def wrap(self):
        from recipes.training.standing import Standing

        original = Standing.add_step

        def step(standing, sums):
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
            original(standing, sums)

        return step


def same_weights(one, other):
    for first, second in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_a_search_over_depths_trains_each_head_on_its_own_features(digits):
    """Trials of heads share rows of a frozen base; those of another depth are others."""
    data = some(some(digits, 9), 9, "valid")
    blocks = ("stage0_block1", "stage2_block0")
    settings = {"plan": "head", "epochs": 2, "learning_rate": 0.1}
    found = recipes.search(
        data, "small_resnet", space={"features": blocks}, method="grid", settings=settings, verbose=False
    )
    for trial in found.trials:
        alone = recipes.finetune("small_resnet", data, **trial.settings, **settings, verbose=False)
        assert trial.score == pytest.approx(max(alone.report.curves["val_accuracy"]))


def test_auto_with_a_head_of_several_layers(digits):
    result = recipes.finetune("small_resnet", some(digits, 9), plan="auto", head=(8,), epochs=1, verbose=False)
    assert result.model.get_layer("head_dense_1").units == 8
    assert result.report.settings["chosen"]["features"] == "stage2_block0"


@pytest.mark.slow
def test_auto_for_an_embedding_chooses_by_a_softmax(digits):
    options = {"plan": "auto", "epochs": 1, "batch_size": 40, "head": "knn", "verbose": False}
    results = [recipes.finetune("small_resnet", some(digits, 9), loss=loss, **options) for loss in ("nca", None)]
    by_distances, by_softmax = (result.report.settings["chosen"] for result in results)
    assert by_distances.pop("head_start") == "random"  # an embedding cannot be fitted
    assert by_softmax.pop("head_start") == "fitted"
    assert by_distances == by_softmax
    assert results[0].model.layers[-2].name == "embedding"


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"features": "stage1_blok0"}, ValueError, "features is not known.*Did you mean.*stage1_block0"),
        ({"features": 3}, TypeError, "features must be a string"),
        ({"head_start": "warm"}, ValueError, "head_start is not known"),
        ({"head_start": "fitted", "head": (8,)}, ValueError, "is for a linear head"),
        ({"plan": "auto", "epochs": (1, 2)}, ValueError, "epochs must be one number"),
        ({"plan": "autom"}, ValueError, "Did you mean 'auto'"),
    ],
)
def test_finetune_complains(digits, monkeypatch, arguments, kind, said):
    monkeypatch.setattr(FrozenParts, "prepare", None)
    with pytest.raises(kind, match=said):
        recipes.finetune("small_resnet", some(digits, 4), verbose=False, **arguments)
