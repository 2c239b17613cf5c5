"""Several classifiers as one, and the average of one run's weights."""

import dataclasses

import keras
import numpy as np
import pytest
from cases import random_images, tiny_base

import recipes
from recipes.data.batches import predict_split
from recipes.data.loading import pick
from recipes.training import snapshots as snapshots_module
from recipes.training.journal import Journal
from recipes.training.statistics import measure_statistics


def tune(data, **arguments):
    options = {"plan": "head", "epochs": 2, "batch_size": 8, "learning_rate": 0.05, "verbose": False}
    return recipes.finetune(tiny_base(), data, **options | arguments)


@pytest.fixture(scope="module")
def members(photo_data):
    """Two of the same base, whose layers have the same names."""
    return [tune(photo_data, seed=seed) for seed in (1, 2)]


# Ensembles


def test_probabilities_are_the_mean_of_the_members(members, photo_data, classifier, random):
    result = recipes.ensemble([*members, classifier])
    images = random_images(random, 9).astype("float32")
    answers = [member.model.predict(images, verbose=0) for member in (*members, classifier)]
    np.testing.assert_allclose(result.model.predict(images, verbose=0), np.mean(answers, axis=0), atol=1e-6)


def test_it_is_one_flat_network_and_leaves_its_members_alone(members):
    before = [[weight.copy() for weight in member.model.get_weights()] for member in members]
    result = recipes.ensemble(members)
    assert not any(isinstance(layer, keras.Model) for layer in result.model.layers)
    assert result.model.count_params() == sum(member.model.count_params() for member in members)
    result.model.set_weights([weight + 1 for weight in result.model.get_weights()])
    for member, weights in zip(members, before, strict=True):
        for one, two in zip(member.model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(one, two)


def test_it_is_measured_on_the_common_data(members, photo_data):
    result = recipes.ensemble(members)
    mean = np.mean([predict_split(member.model, photo_data.test, 32) for member in members], axis=0)
    assert result.report.split == "test"
    assert result.report.scores["accuracy"] == np.mean(mean.argmax(1) == photo_data.test.labels)
    told = result.report.settings["members"]
    assert [member["accuracy"] for member in told] == [member.report.scores["accuracy"] for member in members]
    assert result.data is members[0].data


def test_it_saves_loads_and_predicts(members, tmp_path, random):
    result = recipes.ensemble(members)
    result.save(tmp_path)
    again = recipes.load(tmp_path)
    image = random_images(random, 1)[0]
    expected = recipes.predict(result, image).probabilities
    assert recipes.predict(again, image).probabilities == pytest.approx(expected, abs=1e-6)
    nested = recipes.ensemble([again, members[0]])
    assert nested.report is None  # one has no data any more
    assert nested.trained_on == result.trained_on


@pytest.mark.slow
def test_it_exports(members, tmp_path):
    version = recipes.ensemble(members).export(tmp_path, crops=2, formats=("saved_model", "keras"))
    assert (version / "saved_model.pb").is_file()


def test_images_that_any_member_was_trained_on_are_left_out(members, photo_data):
    other = dataclasses.replace(members[1], trained_on=frozenset([photo_data.test.digests[0].hex()]))
    with pytest.warns(UserWarning, match="1 of 14 images left out"):
        result = recipes.ensemble([members[0], other])
    assert result.report.scores["images"] == 13


def another(result, **changes):
    return dataclasses.replace(result, **changes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"class_names": ("blue", "red", "green")}, "the classes of all models must be the same"),
        ({"image_size": (16, 18)}, "the image sizes of all models must be the same"),
        ({"resize": "pad"}, "the ways of resizing of all models must be the same"),
    ],
)
def test_members_that_do_not_fit_are_refused(members, change, said):
    with pytest.raises(ValueError, match=said):
        recipes.ensemble([members[0], another(members[1], **change)])


def test_one_is_no_ensemble(members):
    for models in (members[:1], members[0]):
        with pytest.raises(TypeError, match="models must be a list of two or more"):
            recipes.ensemble(models)


# Averaged snapshots


@pytest.fixture
def snapshots(monkeypatch):
    """All weights at the end of each epoch, by the hook that keeps them."""
    kept, original = [], Journal.keep_snapshot

    def spy(journal):
        kept.append([np.array(variable) for variable in journal._variables[journal.stage]])
        original(journal)

    monkeypatch.setattr(Journal, "keep_snapshot", spy)
    return kept


def test_without_validation_the_mean_of_the_last_epochs_comes_out(random, snapshots):
    images, labels = random_images(random, 40), np.arange(40) % 2
    data = recipes.load_data((images, labels), valid=0, test=0)
    result = tune(data, epochs=5, snapshots=3, augmentation="light")
    assert len(snapshots) == 5
    mean = [np.mean(values, axis=0) for values in zip(*snapshots[-3:], strict=True)]
    dense = result.model.layers[-1].get_weights()
    found = [
        any(np.allclose(value, weight, atol=1e-7) for value in mean if value.shape == weight.shape) for weight in dense
    ]
    assert all(found)
    last = snapshots[-1]
    assert not any(np.array_equal(weight, value) for weight in dense for value in last)


@pytest.mark.parametrize("is_better", [True, False])
def test_validation_decides(photo_data, monkeypatch, snapshots, is_better, capsys):
    """The score of the average is put in its place, so that it is surely better or worse than the best epoch."""
    original = snapshots_module.average_snapshots
    score = {"val_accuracy": 1.1 if is_better else 0.0, "val_loss": 0.0}

    def judged(prepared, journal, standing, measure, name, verbose):
        return original(prepared, journal, standing, lambda: score, name, verbose)

    monkeypatch.setattr("recipes.training.stages.average_snapshots", judged)
    result = tune(photo_data, epochs=4, snapshots=2, verbose=True)
    assert result.report.settings["averages_taken"] == {"0": is_better}
    curves = result.report.curves
    best = max(range(4), key=lambda epoch: (curves["val_accuracy"][epoch], -curves["val_loss"][epoch]))
    mean = [np.mean(values, axis=0) for values in zip(*snapshots[-2:], strict=True)]
    wanted = mean if is_better else snapshots[best]
    for weight in result.model.layers[-1].get_weights():
        assert any(np.allclose(value, weight, atol=1e-7) for value in wanted if value.shape == weight.shape)
    said = "average of the weights of the last 2 epochs, validation accuracy"
    out = capsys.readouterr().out
    assert said in out and (": kept" in out) == is_better


def test_what_is_kept_is_never_worse_on_validation(photo_data):
    options = {"plan": "all", "epochs": 6, "seed": 1, "weights": None, "patience": None}
    plain, averaged = (tune(photo_data, snapshots=count, **options) for count in (None, 3))
    scores = [
        np.mean(predict_split(one.model, photo_data.valid, 32).argmax(1) == photo_data.valid.labels)
        for one in (plain, averaged)
    ]
    assert plain.report.curves == averaged.report.curves
    assert scores[1] >= scores[0]


def test_statistics_are_the_mean_over_batches(random):
    image = keras.Input((4, 4, 3))
    frozen, trained = keras.layers.BatchNormalization(trainable=False), keras.layers.BatchNormalization()
    model = keras.Model(image, trained(frozen(image)))
    images = random.normal(3, 2, (64, 4, 4, 3)).astype("float32")
    measure_statistics(model, images, [trained])
    parts = [images[:32], images[32:]]
    scale = np.sqrt(1 + 1e-3)  # what the frozen one does
    np.testing.assert_allclose(trained.moving_mean, np.mean([p.mean((0, 1, 2)) for p in parts], 0) / scale, rtol=1e-4)
    variances = np.mean([part.var((0, 1, 2)) for part in parts], axis=0) / scale**2
    np.testing.assert_allclose(trained.moving_variance, variances, rtol=1e-4)
    np.testing.assert_array_equal(frozen.moving_mean, 0)
    assert not frozen.trainable and trained.trainable and trained.momentum == 0.99


@pytest.mark.parametrize(("count", "error"), [(1, ValueError), (0, ValueError), (2.5, TypeError)])
def test_bad_snapshots(photo_data, count, error):
    with pytest.raises(error, match="finetune: snapshots must be"):
        tune(photo_data, snapshots=count)


def test_names_count_without_a_report(members, photo_data):
    """Data of some of the classes, in another order."""
    bare = recipes.ensemble([dataclasses.replace(member, data=None) for member in members])
    assert bare.report is None and "not measured" in repr(bare)
    places = np.flatnonzero(photo_data.test.labels > 0)
    names = photo_data.class_names[:0:-1]
    labels = len(names) - photo_data.test.labels
    some = dataclasses.replace(photo_data, class_names=names, test=pick(photo_data.test, places, labels))
    report = recipes.evaluate(bare, some)
    assert {row["true"] for row in report.rows} == set(names)
    expected = predict_split(bare.model, photo_data.test, 32)[places].argmax(1) == photo_data.test.labels[places]
    assert report.scores["accuracy"] == np.mean(expected)


def test_without_held_out_images_there_is_no_report(photo_data):
    none = pick(photo_data.valid, np.zeros(0, np.int64))
    data = dataclasses.replace(photo_data, valid=none, test=none)
    assert recipes.ensemble([tune(data, seed=seed, epochs=1) for seed in (1, 2)]).report is None
