"""Averages over crops: what is measured, what is predicted and what is served are one classifier."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from cases import write_photos

import recipes
from recipes.cropping import with_crops
from recipes.data.decoding import make_decoder
from recipes.data.reading import decode_all


@pytest.fixture(scope="module")
def large_photos(tmp_path_factory):
    """A folder of photos that are larger than what the classifier takes."""
    return write_photos(tmp_path_factory.mktemp("large"), {"blue": 8, "green": 8, "red": 8}, size=(60, 50), seed=5)


def by_hand(classifier, files, average="probabilities"):
    """Ten crops of 16 pixels of each image at 18, cut and mirrored one by one."""
    decode = make_decoder((18, 18), 3, "crop")
    rows = []
    for file in files:
        image = decode([Path(file).read_bytes()])[0].numpy().astype("float32")
        answers = []
        for top, left in ((1, 1), (0, 0), (0, 2), (2, 0), (2, 2)):
            crop = image[top : top + 16, left : left + 16]
            answers += [classifier.model(part[None]).numpy()[0] for part in (crop, crop[:, ::-1])]
        if average == "logits":
            mean = np.exp(np.mean(np.log(answers), axis=0))
            rows.append(mean / mean.sum())
        else:
            rows.append(np.mean(answers, axis=0))
    return np.array(rows)


def in_order(predictions, names):
    return np.array([[prediction.probabilities[name] for name in names] for prediction in predictions])


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_crops_equal_crops_cut_by_hand(classifier, large_photos, average):
    files = sorted(map(str, large_photos.glob("*/*")))[::4]
    predictions = classifier.predict(files, crops=10, average=average)
    expected = by_hand(classifier, files, average)
    np.testing.assert_allclose(in_order(predictions, classifier.class_names), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("crops", [10, "resnet"])
def test_served_answers_are_those_that_were_measured(classifier, large_photos, crops, tmp_path):
    report = recipes.evaluate(classifier, large_photos, crops=crops)
    version = classifier.export(tmp_path, crops=crops)
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    contents = [Path(row["file"]).read_bytes() for row in report.rows]
    answer = served(image_bytes=tf.constant(contents))
    assert [row["predicted"] for row in report.rows] == [names[0].decode() for names in answer["classes"].numpy()]
    measured = [row["probability"] for row in report.rows]
    np.testing.assert_allclose(answer["probabilities"].numpy()[:, 0], measured, atol=1e-5)
    assert json.loads((version / "card.json").read_text())["crops"] == crops


def test_the_report_says_what_crops_bring_and_cost(classifier, large_photos, tmp_path):
    single = recipes.evaluate(classifier, large_photos)
    report = recipes.evaluate(classifier, large_photos, crops=10, average="logits", out=tmp_path)
    crops = report.crops
    assert (crops["crops"], crops["average"], crops["passes"]) == (10, "logits", 10)
    assert crops["single"] == {name: value for name, value in single.scores.items() if name != "images"}
    assert crops["milliseconds"] > 0 < crops["single_milliseconds"]
    assert report.scores["loss"] != single.scores["loss"]
    assert "average of the logits of 10 crops; a single crop has accuracy" in repr(report).replace("\n", " ")
    assert "average of the logits of 10 crops" in (tmp_path / "report.html").read_text()
    assert recipes.Report.load(tmp_path / "report.json").crops == crops
    assert not single.crops and "crop" not in repr(single)


def test_data_at_the_size_of_training_is_read_again(classifier, photo_data):
    """Files stand behind it; so the answers are those for the files, and not for images that were enlarged."""
    report = recipes.evaluate(classifier, photo_data, crops=10)
    files = [row["file"] for row in report.rows]
    expected = by_hand(classifier, files)
    assert [row["predicted"] for row in report.rows] == [classifier.class_names[i] for i in expected.argmax(1)]
    np.testing.assert_allclose([row["probability"] for row in report.rows], expected.max(1), atol=1e-5)
    assert [row["file"] for row in recipes.evaluate(classifier, photo_data).rows] == files


def test_data_at_the_size_of_the_crops_is_taken_as_it_is(classifier, photos, photo_data):
    larger = recipes.load_data(photos, image_size=18, valid=0.25, test=0.25)
    one, two = (recipes.evaluate(classifier, data, crops=5) for data in (larger, photo_data))
    found = [{row["file"]: row["probability"] for row in report.rows} for report in (one, two)]
    assert found[0].keys() == found[1].keys()
    np.testing.assert_allclose(list(found[0].values()), [found[1][file] for file in found[0]], atol=1e-5)
    assert one.crops["single"]["accuracy"] == two.crops["single"]["accuracy"]


def test_arrays_are_enlarged(classifier, random):
    images, labels = random.integers(0, 256, (12, 16, 16, 3), np.uint8), np.arange(12) % 3
    report = recipes.evaluate(classifier, (images, np.array(["blue", "green", "red"])[labels]), crops=2)
    pixels = decode_all(list(images), (18, 18), 3, "crop", "test")
    expected = with_crops(classifier, 2).model.predict(pixels, verbose=0)
    by_file = {row["file"]: row["probability"] for row in report.rows}
    np.testing.assert_allclose([by_file[f"x[{k}]"] for k in range(12)], expected.max(1), atol=1e-5)


def test_one_crop_is_the_classifier_itself(classifier):
    assert with_crops(classifier, 1) is classifier


@pytest.mark.parametrize(
    ("options", "said"),
    [({"crops": 3}, "crops is not known"), ({"crops": 10, "average": "votes"}, "average is not known")],
)
def test_bad_arguments(classifier, photo_data, options, said, tmp_path):
    for call in (
        lambda: recipes.evaluate(classifier, photo_data, **options),
        lambda: recipes.predict(classifier, np.zeros((16, 16, 3), np.uint8), **options),
        lambda: recipes.export(classifier, tmp_path, **options),
    ):
        with pytest.raises(ValueError, match=said):
            call()
