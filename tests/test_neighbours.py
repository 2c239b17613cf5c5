"""Classifiers that vote by their nearest examples: against scikit-learn, with new classes, and with strangers."""

import dataclasses

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

import layers
import recipes
from recipes.data.loading import pick
from recipes.training.objectives import Neighbours
from recipes.training.pausing import Pause, pausing


def without(data, label):
    """The Data without one class, the last, and the images of that class."""
    splits = {}
    for name in ("train", "valid", "test"):
        split = getattr(data, name)
        splits[name] = pick(split, np.flatnonzero(split.labels != label))
    whole = np.concatenate([getattr(data, name).images() for name in splits])
    labels = np.concatenate([getattr(data, name).labels for name in splits])
    names = tuple(name for index, name in enumerate(data.class_names) if index != label)
    fewer = dataclasses.replace(data, class_names=names, fingerprint="nine", **splits)
    return fewer, whole[labels == label]


def reader():
    image = keras.Input((8, 8, 1))
    x = keras.layers.Rescaling(1 / 255)(image)
    for filters in (16, 32):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    x = keras.layers.Flatten()(keras.layers.MaxPooling2D()(x))
    return keras.Model(image, keras.layers.Dense(64, activation="relu")(x), name="reader")


OPTIONS = {"weights": None, "epochs": 10, "learning_rate": 0.003, "verbose": False}


@pytest.fixture(scope="module")
def nine():
    """Digits without the 9, a classifier of them, and the nines."""
    data, nines = without(recipes.load_data("digits"), 9)
    return data, recipes.finetune(reader(), data, **OPTIONS), nines


@pytest.fixture(scope="module")
def voting(nine):
    return recipes.fit_knn(nine[1], unknown=0.02)


def features(result, images):
    last = result.model.layers[-1]
    return keras.Model(result.model.input, last.input).predict(images.astype("float32"), verbose=0)


@pytest.mark.parametrize(("metric", "weighting", "k"), [("cosine", "distance", 5), ("euclidean", "uniform", 3)])
def test_it_votes_as_scikit_learn_does(metric, weighting, k, nine):
    data, result, _ = nine
    voting = recipes.fit_knn(result, k=k, weighting=weighting, metric=metric)
    peer = KNeighborsClassifier(k, weights=weighting, metric=metric, algorithm="brute")
    peer.fit(features(result, data.train.images()), data.train.labels)
    expected = peer.predict_proba(features(result, data.test.images()))
    np.testing.assert_allclose(
        voting.model.predict(data.test.images().astype("float32"), verbose=0), expected, atol=2e-3
    )
    assert voting.report.scores["accuracy"] == np.mean(expected.argmax(1) == data.test.labels)
    assert isinstance(result.model.layers[-1], keras.layers.Dense)  # what came is as it was


def test_finetune_takes_the_head_and_brings_a_finished_run_back(nine, tmp_path):
    (data, _, _), network = nine, reader()
    options = {**OPTIONS, "head": "knn", "out": tmp_path / "run"}
    voting = recipes.finetune(network, data, **options)
    again = recipes.finetune(network, data, **options)
    images = data.test.images(0, 9).astype("float32")
    np.testing.assert_array_equal(again.model.predict(images, verbose=0), voting.model.predict(images, verbose=0))
    softmax = recipes.finetune(network, data, **OPTIONS)
    expected = recipes.fit_knn(softmax).model.predict(images, verbose=0)
    np.testing.assert_allclose(voting.model.predict(images, verbose=0), expected, atol=1e-5)


def test_a_new_class_comes_without_training_and_the_old_ones_lose_little(nine, tmp_path):
    data, result, nines = nine
    before = recipes.fit_knn(result)
    folder = tmp_path / "nines" / "scans"
    folder.mkdir(parents=True)
    for number, image in enumerate(nines):
        keras.utils.save_img(folder / f"{number}.png", image, scale=False)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.warns(UserWarning, match="1 left out"):
        after = before.add_class("9", [str(path) for path in sorted(folder.iterdir())])
    assert after.class_names == (*data.class_names, "9") and before.class_names == data.class_names
    assert after.report.per_class["9"]["images"] == pytest.approx(0.2 * len(nines), rel=0.4)
    assert after.report.per_class["9"]["recall"] > 0.8
    old = [row for row in after.report.rows if row["true"] != "9"]
    assert len(old) == len(data.test)
    assert np.mean([row["true"] == row["predicted"] for row in old]) > before.report.scores["accuracy"] - 0.01
    for one, other in zip(after.model.layers[:-1], before.model.layers[:-1], strict=True):
        assert all(np.array_equal(*pair) for pair in zip(one.get_weights(), other.get_weights(), strict=True))
    after.save(tmp_path / "saved")
    again = recipes.load(tmp_path / "saved")
    assert again.predict(nines[0].astype("uint8")).label == after.predict(nines[0].astype("uint8")).label == "9"
    more = recipes.add_class(again, nines[:5], name="9", data=data, held_out=0.0)
    assert more.class_names == after.class_names
    assert more.model.layers[-1].store.examples == after.model.layers[-1].store.examples + 5


def test_the_unknown_is_told_by_its_distance(voting, nine):
    data, result, nines = nine
    found = recipes.detect_unknown(voting, nines)
    search = NearestNeighbors(n_neighbors=1, metric="cosine").fit(features(result, data.train.images()))
    near, far = (search.kneighbors(features(result, part))[0][:, 0] for part in (data.test.images(), nines))
    expected = roc_auc_score(np.repeat([0, 1], (len(near), len(far))), np.concatenate([near, far]))
    assert found.auroc == pytest.approx(expected, abs=1e-4)
    assert found.auroc > 0.8
    assert (found.known, found.unknown) == (len(near), len(far))
    assert found.rejected_known < 0.1 < found.rejected_unknown
    told = voting.model.predict(nines.astype("float32"), verbose=0).argmax(1) == len(data.class_names)
    assert np.mean(told) == pytest.approx(found.rejected_unknown, abs=0.01)


def test_an_unknown_class_stays_last_when_others_come(voting, nine):
    _, _, nines = nine
    after = voting.add_class("nine", nines)
    assert after.class_names[-2:] == ("nine", "unknown")
    assert after.model.output_shape[-1] == len(after.class_names)
    assert after.report.per_class["nine"]["recall"] > 0.8


def test_it_is_served_as_it_was_measured(voting, nine, tmp_path):
    version = recipes.export(voting, tmp_path / "served")
    assert "unknown" in (version / "labels.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("verb", "options", "error", "said"),
    [
        ("fit_knn", {"k": 0}, ValueError, "k must be"),
        ("fit_knn", {"k": 10**6}, ValueError, "k must be at most the number of stored examples"),
        ("fit_knn", {"metric": "manhattan"}, ValueError, "metric"),
        ("fit_knn", {"unknown": 0.7}, ValueError, "unknown must be"),
        ("fit_knn", {"data": "nowhere/"}, FileNotFoundError, "nowhere"),
        ("add_class", {"images": "nowhere/", "name": "rat"}, (FileNotFoundError, TypeError, ValueError), "nowhere"),
        ("add_class", {"images": ["nowhere.png"], "name": "rat"}, FileNotFoundError, "must name a file"),
        ("add_class", {"images": np.ones((3, 8, 8, 1)) * 200, "name": ""}, ValueError, "name of a class"),
        ("add_class", {"images": np.ones((3, 8, 8, 1)) * 200, "name": "unknown"}, ValueError, "name of a class"),
        ("add_class", {"images": np.ones((3, 8, 8, 1)) * 200, "name": "x", "held_out": 2}, ValueError, "held_out"),
        ("add_class", {"images": {}, "name": "rat"}, TypeError, "no known kind"),
        ("detect_unknown", {"images": []}, TypeError, "no known kind"),
    ],
)
def test_bad_words(verb, options, error, said, voting, nine):
    with pytest.raises(error, match=said):
        getattr(recipes, verb)(voting if verb != "fit_knn" else nine[1], **options)


def test_who_does_not_vote_is_told_how_to(nine):
    with pytest.raises(ValueError, match="fit_knn"):
        recipes.add_class(nine[1], nine[2], name="9")
    with pytest.raises(ValueError, match="end in a head on features"):
        image = keras.Input((8, 8, 1))
        pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(10, 3)(image))
        recipes.fit_knn(keras.Model(image, pooled), "digits")


def test_a_bare_model_votes_by_the_classes_of_its_data():
    image = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, keras.layers.Dense(10, activation="softmax")(x))
    voting = recipes.fit_knn(model, "digits", metric="euclidean")  # on the pixels themselves
    assert voting.report.scores["accuracy"] > 0.95
    assert isinstance(voting.model.layers[-1], layers.KNNClassifier)


# --- trained by their distances ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded(nine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded") / "run"
    options = {**OPTIONS, "head": "knn", "loss": "knn", "batch_size": 100, "out": folder}
    return recipes.finetune(reader(), nine[0], **options)


def test_training_by_distances_ends_in_votes_on_an_embedding(embedded, nine):
    data = nine[0]
    head = embedded.model.layers[-1]
    assert isinstance(head, layers.KNNClassifier) and head.metric == "euclidean"
    assert embedded.model.layers[-2].name == "embedding"
    peer = KNeighborsClassifier(5, weights="distance", algorithm="brute")
    peer.fit(features(embedded, data.train.images()), data.train.labels)
    expected = np.mean(peer.predict(features(embedded, data.test.images())) == data.test.labels)
    assert embedded.report.scores["accuracy"] == pytest.approx(expected, abs=0.01)  # ties fall either way
    # Features that a softmax has trained tell 95 % right with this network, raw pixels 97 %.
    assert embedded.report.scores["accuracy"] > 0.965
    assert embedded.report.settings["loss"] == "knn"


def test_validation_is_told_by_the_others_of_its_split(embedded, nine):
    valid = nine[0].valid
    vectors = features(embedded, valid.images()).astype("float64")
    squares = ((vectors[:, None] - vectors) ** 2).sum(-1)
    weights = (squares + 1e-6) ** -2.0 * (1 - np.eye(len(vectors)))
    votes = np.stack([(weights * (valid.labels == label)).sum(1) for label in range(9)], 1)
    curves = embedded.report.curves
    best = int(np.argmax(np.array(curves["val_accuracy"]) - 1e-6 * np.array(curves["val_loss"])))
    assert curves["val_accuracy"][best] == pytest.approx(np.mean(votes.argmax(1) == valid.labels), abs=2e-3)
    loss = -np.log(votes[np.arange(len(votes)), valid.labels] / votes.sum(1)).mean()
    assert curves["val_loss"][best] == pytest.approx(loss, rel=1e-2)


def test_an_embedding_learns_new_classes_and_lives_on_disk(embedded, nine, tmp_path):
    data, _, nines = nine
    after = embedded.add_class("9", nines)
    assert after.report.per_class["9"]["recall"] > 0.9
    embedded.save(tmp_path / "saved")
    again = recipes.load(tmp_path / "saved")
    images = data.test.images(0, 9).astype("float32")
    expected = embedded.model.predict(images, verbose=0)
    np.testing.assert_allclose(again.model.predict(images, verbose=0), expected, atol=1e-6)
    more = recipes.fit_knn(again, data, unknown=0.05)
    assert more.class_names[-1] == "unknown" and more.model.layers[-1].metric == "euclidean"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"head": "linear"}, ValueError, "needs head=\"knn\". Received head='linear'"),
        ({"head": "knn", "label_smoothing": 0.1}, ValueError, "needs label_smoothing=0"),
        ({"head": "knn", "head_start": "fitted"}, ValueError, 'needs head_start="random"'),
        ({"head": "knn", "batch_size": "auto"}, ValueError, "needs a number for batch_size"),
        ({"head": "knn", "augmentation": "mix_up"}, ValueError, "needs an augmentation of one image"),
        ({"head": "knn", "batch_size": 16}, ValueError, "Pass batch_size=90"),
        ({"head": "knn", "loss": "triplet"}, ValueError, "triplet"),
        ({"head": "knn", "loss": keras.losses.MeanSquaredError()}, TypeError, "KNNLoss, NCALoss or StudentNCALoss"),
    ],
)
def test_bad_words_about_the_loss(options, error, said, nine):
    with pytest.raises(error, match=said):
        recipes.finetune(reader(), nine[0], weights=None, verbose=False, **{"loss": "knn", **options})


def test_nobody_may_be_alone_of_a_class_in_validation(nine):
    data = nine[0]
    few = dataclasses.replace(data, valid=pick(data.valid, np.unique(data.valid.labels, return_index=True)[1]))
    with pytest.raises(ValueError, match=r"two validation images or none\. Received one of class '0'"):
        recipes.finetune(reader(), few, **OPTIONS, head="knn", loss="knn", batch_size=90)


def test_many_are_each_classified_by_all_others():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(300), 4)  # more than are judged at a time, and few of each class
    embeddings = (5 * random.normal(size=(300, 8))[labels] + 0.1 * random.normal(size=(1200, 8))).astype("float32")
    losses, hits = Neighbours(layers.KNNLoss(power=4.0)).measure(labels, embeddings)
    assert hits.all()
    whole = layers.KNNLoss(power=4.0).call(labels, embeddings)
    np.testing.assert_allclose(losses, whole, rtol=1e-2, atol=1e-3)


def test_a_layer_of_that_name_is_no_embedding_if_it_classifies(nine):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, keras.layers.Dense(9, activation="softmax", name="embedding")(x))
    voting = recipes.fit_knn(model, nine[0])
    assert [type(layer).__name__ for layer in voting.model.layers[-2:]] == ["Flatten", "KNNClassifier"]


def test_a_paused_run_is_scored_by_what_it_trains_for(nine):
    options = {**OPTIONS, "epochs": 2, "head": "knn", "batch_size": 90}
    for loss in ("knn", None):
        with pausing(99), pytest.raises(Pause) as paused:
            recipes.finetune(reader(), dataclasses.replace(nine[0], test=nine[0].valid), loss=loss, **options)
        plain = recipes.finetune(reader(), nine[0], loss=loss, **options)
        best = max(plain.report.curves["val_accuracy"])
        assert paused.value.scores["val_accuracy"] == pytest.approx(best, abs=1e-6)


# What else it meets


def stripes(count, width=8):
    """Images like no digit: stripes of several contrasts."""
    rows = np.tile(np.arange(width) % 2 * 120, (count, width, 1))[..., None]
    return np.abs(rows - np.arange(count).reshape(count, 1, 1, 1))


def test_a_class_may_be_called_unknown_where_the_head_has_no_threshold(nine):
    data, result, _ = nine
    names = tuple("unknown" if name == "3" else name for name in data.class_names)
    named = dataclasses.replace(data, class_names=names)
    voting = recipes.fit_knn(dataclasses.replace(result, class_names=names, data=named))
    grown = recipes.add_class(voting, stripes(20), name="stripes")
    assert grown.class_names == (*names, "stripes")
    images = data.test.images().astype("float32")
    before, after = (model.model.predict(images, verbose=0).argmax(1) for model in (voting, grown))
    assert np.mean(before == after) > 0.99
    more = recipes.add_class(voting, stripes(20), name="unknown")  # images of a class that there is
    assert more.class_names == names


@pytest.mark.slow
def test_it_may_be_fitted_anew_and_keeps_what_the_data_lacks(voting, nine):
    data, result, nines = nine
    again = recipes.fit_knn(voting, unknown=0.1)
    assert again.class_names == voting.class_names
    assert again.model.layers[-1].threshold < voting.model.layers[-1].threshold
    plain = recipes.fit_knn(voting, k=3)
    assert plain.class_names == data.class_names and plain.model.output_shape == (None, 9)
    grown = recipes.fit_knn(recipes.add_class(plain, nines, name="9"), k=1)
    assert grown.class_names == (*data.class_names, "9")
    told = grown.model.predict(nines.astype("float32"), verbose=0).argmax(1)
    assert np.mean(told == 9) > 0.9  # most are stored
    with pytest.raises(ValueError, match="examples that were stored for the cosine have no length"):
        recipes.fit_knn(grown, metric="euclidean")
    few = np.flatnonzero(data.train.labels < 4)
    short = dataclasses.replace(data, train=pick(data.train, few))
    assert recipes.fit_knn(result, short).model.output_shape == (None, 9)


@pytest.mark.slow
def test_what_is_stored_is_not_measured(voting, nine):
    data, _, nines = nine
    with pytest.warns(UserWarning, match="0 of|left out, because the classifier holds them already") as told:
        grown = recipes.add_class(recipes.add_class(voting, nines, name="9", held_out=0.5), nines, name="9")
    assert any("holds them already" in str(warning.message) for warning in told)
    stored = grown.model.layers[-1].store.examples - voting.model.layers[-1].store.examples
    assert stored <= len(nines)
    with pytest.raises(ValueError, match="there must be images to store"), pytest.warns(UserWarning):
        recipes.add_class(recipes.add_class(voting, nines, name="9", held_out=0.0), nines, name="9")
    with pytest.warns(UserWarning, match="images measured on before left out of the report"):
        seen = recipes.add_class(voting, data.test.images(0, 40), name="7", held_out=0.0)
    assert seen.report.scores["images"] == len(data.test) - 40


def test_a_classifier_without_data_says_that_the_new_class_alone_is_measured(voting, nine):
    bare = dataclasses.replace(voting, data=None)
    with pytest.warns(UserWarning, match="the report is on the new class alone"):
        grown = recipes.add_class(bare, nine[2], name="9")
    assert 0 < grown.report.scores["images"] < len(nine[2])


def test_every_verb_takes_one_or_says_why_not(voting, nine):
    data = nine[0]
    images = data.test.images(0, 50).astype("float32")
    expected = voting.model.predict(images, verbose=0)
    np.testing.assert_allclose(recipes.fold(voting).model.predict(images, verbose=0), expected, atol=1e-4)
    both = recipes.ensemble([voting, voting])
    np.testing.assert_allclose(both.model.predict(images, verbose=0), expected, atol=1e-4)
    assert recipes.find_lr(voting, data, steps=20, runs=1, plan="head").suggestion > 0
    assert recipes.probe(voting, data, verbose=False).rows
    finding = {finding.test: finding.status for finding in recipes.check(voting).findings}
    assert finding["gradients"] == "passed", finding
    for verb in (recipes.quantize, recipes.prune_units, recipes.compress):
        with pytest.raises(ValueError, match="examples of a head of neighbours are features of the network as it is"):
            verb(voting, verbose=False)


def test_of_a_folded_network(nine):
    folded = recipes.fold(nine[1])
    assert recipes.fit_knn(folded).report.scores["accuracy"] > 0.9
    assert recipes.check(folded).findings


def test_fewer_images_than_neighbours(tmp_path):
    images, labels = stripes(8), np.arange(8) % 2
    data = recipes.load_data((images, labels), valid=0.25, test=0.25)
    assert len(data.train) < 5
    result = recipes.finetune(reader(), data, **OPTIONS | {"epochs": 1}, head="knn", out=tmp_path / "run")
    assert result.model.layers[-1].k == len(data.train)


def test_images_without_a_direction_are_left_out_and_named(nine):
    data, _, _ = nine
    image = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(image)
    model = keras.Model(image, keras.layers.Dense(9, activation="softmax")(flat))
    black = data.train.images().copy()
    black[:2] = 0
    split = dataclasses.replace(data.train, store=black, rows=np.arange(len(black)))
    with pytest.warns(UserWarning, match="fit_knn: 2 left out, whose features are all 0") as told:
        voting = recipes.fit_knn(model, dataclasses.replace(data, train=split))
    assert data.train.files[0] in str(told[0].message)
    assert voting.model.layers[-1].store.examples == len(black) - 2


def test_a_bare_model_takes_its_ways_from_the_data():
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(image)))
    data = recipes.load_data("digits", resize="pad")
    voting = recipes.fit_knn(model, data)
    assert voting.resize == "pad" and recipes.evaluate(voting, data).scores["accuracy"] > 0.9


def test_half_precision_measures_distances_in_single(nine):
    data, _, nines = nine
    result = recipes.finetune(reader(), data, **OPTIONS | {"epochs": 1}, precision="mixed_bfloat16")
    voting = recipes.fit_knn(result, unknown=0.05)
    assert recipes.detect_unknown(voting, nines).auroc > 0.5
