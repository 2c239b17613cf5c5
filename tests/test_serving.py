"""What is exported answers as what was measured, without this package."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from cases import random_images, tiny_base
from PIL import Image

import recipes
from recipes.locks import lock

SERVE = """
import json, sys
import tensorflow as tf
assert "recipes" not in sys.modules
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
contents = [open(path, "rb").read() for path in sys.argv[2:]]
answers = served(image_bytes=tf.constant(contents))
print(json.dumps([[[name.decode() for name in row] for row in answers["classes"].numpy()],
                  answers["probabilities"].numpy().tolist()]))
"""


@pytest.fixture(scope="module")
def exported(classifier, tmp_path_factory):
    return classifier.export(tmp_path_factory.mktemp("served") / "photos")


@pytest.fixture(scope="module")
def serve(exported):
    return tf.saved_model.load(str(exported)).signatures["serving_default"]


def test_plain_tensorflow_serves_raw_files(classifier, exported, photo_data):
    files = list(photo_data.test.files)
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(exported), *files],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    classes, probabilities = json.loads(done.stdout)
    for file, names, numbers in zip(files, classes, probabilities, strict=True):
        expected = classifier.predict(file)
        assert names[0] == expected.label
        assert sorted(numbers, reverse=True) == numbers
        for name, number in zip(names, numbers, strict=True):
            assert number == pytest.approx(expected.probabilities[name], abs=1e-5)


def test_layout_and_signatures(classifier, exported):
    assert exported.name == "1"
    assert {path.name for path in exported.iterdir()} >= {"saved_model.pb", "variables"}
    loaded = tf.saved_model.load(str(exported))
    assert set(loaded.signatures) >= {"serving_default", "pixels"}
    images = np.zeros((2, 16, 16, 3), np.float32)
    answer = loaded.signatures["pixels"](images=tf.constant(images))
    np.testing.assert_allclose(
        answer["probabilities"][0], -np.sort(-classifier.model.predict(images, verbose=0)[0]), atol=1e-6
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_any_kind_and_size_of_image_is_served_as_it_is_predicted(classifier, serve, random, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    options = {"exif": exif.tobytes()} if kind in ("JPEG", "PNG", "WEBP") else {}
    Image.fromarray(random.integers(0, 256, (37, 53, 3), np.uint8)).save(buffer, kind, **options)
    expected = classifier.predict(buffer.getvalue())
    answer = serve(image_bytes=tf.constant([buffer.getvalue()]))
    assert answer["classes"].numpy()[0, 0].decode() == expected.label
    assert float(answer["probabilities"][0, 0]) == pytest.approx(expected.probability, abs=1e-5)


def test_versions_follow_each_other_and_old_ones_are_left_alone(classifier, tmp_path):
    first = classifier.export(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    (tmp_path / "7").mkdir()
    assert classifier.export(tmp_path).name == "8"
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == stamps
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "7", "8"]


def test_a_model_that_answers_otherwise_is_not_published(classifier, tmp_path, monkeypatch):
    """A decoder that differs in the exported graph, as in the bug this check exists for."""
    from recipes.serving import signatures

    real = signatures.decode_image
    monkeypatch.setattr(signatures, "decode_image", lambda *arguments: 255 - real(*arguments))
    with pytest.raises(RuntimeError, match="must answer as the model does"):
        classifier.export(tmp_path / "served")
    assert list((tmp_path / "served").iterdir()) == []


def test_an_interrupted_export_leaves_nothing(classifier, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("recipes.serving.exporting.check_parity", interrupt)
    with pytest.raises(KeyboardInterrupt):
        classifier.export(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_killed_exports_left_is_cleared_and_what_others_are_writing_is_not(classifier, tmp_path):
    for name in (".export-dead", ".export-alive"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_text("half")
    held = os.open(tmp_path / ".export-alive", os.O_RDONLY)
    lock(held, "exclusive")
    classifier.export(tmp_path)
    os.close(held)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".export-alive", "1"]


def test_saved_classifiers_and_bare_models_export_too(classifier, photo_data, tmp_path):
    classifier.save(tmp_path / "saved")
    for model, name in ((tmp_path / "saved", None), (classifier.model, "0")):
        version = recipes.export(model, tmp_path / f"served_{name}")
        answer = tf.saved_model.load(str(version)).signatures["serving_default"](
            image_bytes=tf.constant([tf.io.encode_png(photo_data.test.images(0, 1)[0]).numpy()])
        )
        expected = classifier.predict(photo_data.test.images(0, 1)[0])
        assert float(answer["probabilities"][0, 0]) == pytest.approx(expected.probability, abs=1e-5)


@pytest.mark.parametrize("channels", [1, 5])
def test_other_numbers_of_channels(random, tmp_path, channels):
    y = np.arange(30) % 2
    x = random_images(random, 30, channels=channels)
    result = recipes.finetune(tiny_base(channels=channels), (x, y), epochs=1, verbose=False)
    serve = tf.saved_model.load(str(result.export(tmp_path))).signatures["serving_default"]
    given = (
        {"images": tf.cast(x[:1], tf.float32)} if channels == 5 else {"image_bytes": [tf.io.encode_png(x[0]).numpy()]}
    )
    answer = serve(**{name: tf.constant(value) for name, value in given.items()})
    assert float(answer["probabilities"][0, 0]) == pytest.approx(result.predict(x[0]).probability, abs=1e-5)


def test_a_folder_that_cannot_be_written(classifier, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        classifier.export(tmp_path / "file")
