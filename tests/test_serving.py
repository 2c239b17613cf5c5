"""What is exported answers as what was measured, without this package."""

import dataclasses
import importlib.util
import io
import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import random_images, tiny_base
from fresh_python import run_python
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

import layers
import recipes
from recipes.bases.simplifying import simplified
from recipes.data.decoding import make_decoder
from recipes.locks import lock
from recipes.serving import exporting, formats
from recipes.serving.warmup import warmup_requests

ROOT = Path(__file__).parents[1]
SERVE = """
import json, sys
sys.modules["keras"] = None
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
def loaded(exported):
    return tf.saved_model.load(str(exported)).signatures


@pytest.fixture(scope="module")
def serve(loaded):
    return loaded["serving_default"]


def test_plain_tensorflow_serves_raw_files(classifier, exported, photo_data):
    files = list(photo_data.test.files)
    classes, probabilities = json.loads(run_python(SERVE, exported, *files, is_quick=False))
    for file, names, numbers in zip(files, classes, probabilities, strict=True):
        expected = classifier.predict(file)
        assert names[0] == expected.label
        assert sorted(numbers, reverse=True) == numbers
        for name, number in zip(names, numbers, strict=True):
            assert number == pytest.approx(expected.probabilities[name], abs=1e-5)


def test_layout_and_signatures(classifier, exported):
    assert exported.name == "1"
    names = {"assets", "assets.extra", "card.json", "card.md", "fingerprint.pb", "labels.txt", "saved_model.pb"}
    assert {path.name for path in exported.iterdir()} == names | {"variables"}
    assert (
        (exported / "assets" / "labels.txt").read_text()
        == (exported / "labels.txt").read_text()
        == "blue\ngreen\nred\n"
    )
    assert set(tf.saved_model.load(str(exported)).signatures) == {
        "serving_default",
        "pixels",
        "classify",
        "probabilities",
    }


def test_arrays_of_any_size_are_served_as_they_are_predicted(classifier, loaded, random):
    for size in ((16, 16), (40, 25), (7, 90)):
        images = random.integers(0, 256, (3, *size, 3), np.uint8)
        answer = loaded["pixels"](images=tf.cast(images, tf.float32))
        for expected, names, numbers in zip(
            classifier.predict(images), answer["classes"], answer["probabilities"], strict=True
        ):
            assert names[0].numpy().decode() == expected.label
            assert float(numbers[0]) == pytest.approx(expected.probability, abs=1e-5)
    halves = random.uniform(0, 255, (2, 16, 16, 3)).astype("float32")  # of the model's size: taken as they are
    expected = classifier.model.predict(halves, verbose=0)
    np.testing.assert_allclose(
        loaded["probabilities"](images=tf.constant(halves))["probabilities"], expected, atol=1e-6
    )
    np.testing.assert_allclose(
        loaded["pixels"](images=tf.constant(halves))["probabilities"], -np.sort(-expected), atol=1e-6
    )


def test_examples_are_classified_as_tensorflow_serving_asks(exported, loaded, photo_data):
    contents = [Path(file).read_bytes() for file in photo_data.test.files[:3]] + [b"no image"]
    examples = [tf.train.Example() for _ in range(5)]
    for example, content in zip(examples, contents, strict=False):
        example.features.feature["image_bytes"].bytes_list.value.append(content)
    answer = loaded["classify"](inputs=tf.constant([example.SerializeToString() for example in examples]))
    expected = loaded["serving_default"](image_bytes=tf.constant([*contents, b""]))
    assert set(answer) == {"classes", "scores"}
    np.testing.assert_array_equal(answer["classes"], expected["classes"])
    np.testing.assert_array_equal(answer["scores"], expected["probabilities"])
    model = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    methods = {name: signature.method_name for name, signature in model.meta_graphs[0].signature_def.items()}
    assert methods["classify"] == "tensorflow/serving/classify"
    assert methods["serving_default"] == "tensorflow/serving/predict"


@pytest.mark.parametrize("bad", [(0,), (1, 3), (0, 1, 2, 3)])
def test_bad_images_fail_alone(loaded, photo_data, bad):
    contents = [Path(file).read_bytes() for file in photo_data.test.files[:4]]
    whole = loaded["serving_default"](image_bytes=tf.constant(contents))
    broken = [content[: len(content) // 8] if row in bad else content for row, content in enumerate(contents)]
    answer = loaded["serving_default"](image_bytes=tf.constant(broken))
    for row in range(4):
        if row in bad:
            assert answer["error"][row].numpy() == b"the image cannot be decoded"
            assert set(answer["classes"][row].numpy()) == {b""} and not np.any(answer["probabilities"][row])
        else:
            assert answer["error"][row].numpy() == b""
            np.testing.assert_array_equal(answer["classes"][row], whole["classes"][row])
            np.testing.assert_allclose(answer["probabilities"][row], whole["probabilities"][row], atol=1e-6)


def test_the_card_says_what_it_is_and_how_it_was_proved(classifier, exported, photo_data):
    card = json.loads((exported / "card.json").read_text())
    assert card["classes"] == list(classifier.class_names) and card["scores"] == classifier.report.scores
    assert card["input"]["image_size"] == [16, 16] and card["measured_on"] == "test"
    assert card["trained_on"]["images"] == len(classifier.trained_on)
    proof = card["proof"]
    assert proof["samples"] == "raw files of the test split" and proof["of"] == len(photo_data.test)
    count, accuracy = len(photo_data.test), classifier.report.scores["accuracy"]
    assert proof["in_the_report"] == {"images": count, "same": count, "accuracy": accuracy}
    assert proof["formats"]["saved_model"]["top_1_identical"] == len(photo_data.test)
    assert proof["formats"]["saved_model"]["largest_difference"] <= 1e-5
    text = (exported / "card.md").read_text()
    assert "blue, green, red" in text and f"accuracy {classifier.report.scores['accuracy']:.4g}" in text


def test_warm_up_requests_are_those_of_tensorflow_serving_and_run(exported, loaded):
    requests = warmup_requests(exported)
    assert [len(inputs["image_bytes"]) for _, inputs in requests] == [1, 8]
    for signature, inputs in requests:
        answer = loaded[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        assert set(answer["error"].numpy()) == {b""}


def test_every_format_is_proved_and_says_its_size(classifier, photo_data, tmp_path):
    version = classifier.export(tmp_path, formats=["keras", "onnx", "litert"])
    names = {"model.keras", "model.onnx", "model.tflite", "card.json", "card.md", "labels.txt"}
    assert {path.name for path in version.iterdir()} == names
    card = json.loads((version / "card.json").read_text())
    for name, file in (("keras", "model.keras"), ("onnx", "model.onnx"), ("litert", "model.tflite")):
        assert card["proof"]["formats"][name]["top_1_identical"] == len(photo_data.test)
        assert card["proof"]["formats"][name]["largest_difference"] < 1e-5
        assert card["bytes"][name] == (version / file).stat().st_size
    assert keras.saving.load_model(version / "model.keras").output_shape == (None, 3)


@pytest.mark.parametrize("name", [pytest.param("keras", marks=pytest.mark.slow), "onnx", "litert"])
def test_a_format_that_answers_otherwise_is_not_published(classifier, tmp_path, monkeypatch, name):
    """Other weights than those that were measured."""
    other = keras.models.clone_model(classifier.model)
    write = formats.write_format
    monkeypatch.setattr(
        exporting,
        "write_format",
        lambda kind, result, folder: write(kind, dataclasses.replace(result, model=other), folder),
    )
    with pytest.raises(RuntimeError, match=f"the {name} file must answer as the model does"):
        classifier.export(tmp_path, formats=name)
    assert list(tmp_path.iterdir()) == []


def test_given_samples_and_a_bound_of_ones_own(classifier, photo_data, tmp_path):
    given = [*photo_data.test.files[:2], Path(photo_data.test.files[2]).read_bytes(), photo_data.test.images(0, 1)[0]]
    version = classifier.export(tmp_path, samples=given, tolerance=0.5)
    proof = json.loads((version / "card.json").read_text())["proof"]
    assert proof["samples"] == "given samples" and proof["of"] == 4
    assert proof["formats"]["saved_model"]["tolerance"] == 0.5


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"formats": "savedmodel"}, ValueError, "formats is not known"),
        ({"formats": ()}, ValueError, "formats must name at least one"),
        ({"tolerance": 0}, ValueError, "tolerance must be above 0"),
        ({"samples": []}, ValueError, "samples must hold an image"),
        ({"crops": 3}, ValueError, "crops is not known"),
        ({"samples": ["missing.jpg"]}, FileNotFoundError, "each sample must be there"),
        ({"samples": [np.zeros((4, 4, 3))]}, TypeError, "samples must be paths, bytes, or uint8 arrays"),
    ],
)
def test_bad_arguments(classifier, tmp_path, options, error, said):
    with pytest.raises(error, match=said):
        classifier.export(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_for_a_format_is_named(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else name)
    with pytest.raises(ImportError, match=r"without tf2onnx.*keras-recipes\[onnx\]"):
        classifier.export(tmp_path, formats="onnx")


def test_simplified_it_has_fewer_operations_and_the_same_answers(random):
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, use_bias=False)(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.BatchNormalization()(keras.layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2)(x))
    x = layers.ResizeConv(4, factor=2, activation="relu")(x)
    x = layers.ResizeConv(4, factor=1.5, interpolation="bilinear")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))
    for weight in model.weights:
        weight.assign(random.uniform(0.1, 1, weight.shape))
    simple = simplified(model)
    kinds = [type(layer).__name__ for layer in simple.layers]
    assert "BatchNormalization" not in kinds and kinds.count("ResizeConv") == kinds.count("Conv2DTranspose") == 1
    images = random.integers(0, 256, (5, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(simple.predict(images, verbose=0), model.predict(images, verbose=0), rtol=1e-4)
    assert len(model.layers) > len(simple.layers)
    sequence = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization()])
    assert len(simplified(sequence).layers) == 2


@pytest.mark.slow
def test_an_average_over_crops_exports(classifier, photo_data, tmp_path):
    version = classifier.export(tmp_path, crops=10, formats=["saved_model", "keras", "litert"])
    average = layers.CropAverage(classifier.model, 10)
    card = json.loads((version / "card.json").read_text())
    assert card["crops"] == 10 and card["input"]["image_size"] == [18, 18]
    assert {proof["top_1_identical"] for proof in card["proof"]["formats"].values()} == {len(photo_data.test)}
    images = np.stack(
        [make_decoder((18, 18), 3, "crop")([Path(file).read_bytes()])[0] for file in photo_data.test.files]
    )
    expected = average(images.astype("float32")).numpy()
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    answer = served(image_bytes=tf.constant([Path(file).read_bytes() for file in photo_data.test.files]))
    np.testing.assert_allclose(answer["probabilities"], -np.sort(-expected), atol=1e-5)


def in_mixed_precision(name):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        image = keras.Input((16, 16, 3))
        x = keras.layers.Conv2D(4, 3, use_bias=False)(keras.layers.Rescaling(1 / 255)(image))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(x))
        return keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))
    finally:
        keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("simplify", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_network_trained_on_a_gpu_is_served_in_every_format(tmp_path, simplify):
    """In float16, which LiteRT does not compute in: its file computes in float32."""
    names = ["onnx", "litert"] if simplify else ["saved_model", "keras", "onnx", "litert"]
    version = recipes.export(in_mixed_precision("mixed_float16"), tmp_path, formats=names, simplify=simplify)
    card = json.loads((version / "card.json").read_text())
    assert card["is_simplified"] is simplify
    assert all(card["proof"]["formats"][name]["largest_difference"] < 0.01 for name in names)


def test_half_precision_and_crops_have_the_bound_of_half_precision(tmp_path):
    model = in_mixed_precision("mixed_bfloat16")
    version = recipes.export(model, tmp_path, crops=2, simplify=True)
    card = json.loads((version / "card.json").read_text())
    assert card["proof"]["formats"]["saved_model"]["tolerance"] == 0.01 and card["is_simplified"] is True
    with pytest.raises(ValueError, match="a folder with versions to be served"):
        recipes.export(model, tmp_path, formats="keras")


def test_answers_in_another_order_are_not_published(classifier, tmp_path, monkeypatch):
    top_k = tf.math.top_k
    monkeypatch.setattr(
        tf.math, "top_k", lambda *arguments, **options: [part[:, ::-1] for part in top_k(*arguments, **options)]
    )
    with pytest.raises(RuntimeError, match="does not come first"):
        classifier.export(tmp_path)


@pytest.mark.parametrize("names", [("a", "b\n", "c"), ("a", "b\rb", "c"), ("a", "a", "b")])
def test_names_that_are_no_lines_are_refused(classifier, tmp_path, names):
    with pytest.raises(ValueError, match="class names must differ"):
        recipes.export(dataclasses.replace(classifier, class_names=names), tmp_path)


@pytest.mark.slow  # a trained one is in test_neighbours.py
def test_a_head_of_nearest_neighbours_exports(tmp_path, random, photo_data):
    image = keras.Input((16, 16, 3))
    features = keras.layers.GlobalAveragePooling2D()(image)
    trunk = keras.Model(image, features)
    head = layers.KNNClassifier(k=3, num_classes=3)
    images = photo_data.train.images()
    head.fit(trunk.predict(images, verbose=0), photo_data.train.labels)
    version = recipes.export(keras.Model(image, head(features)), tmp_path, samples=photo_data.test.files)
    proof = json.loads((version / "card.json").read_text())["proof"]["formats"]["saved_model"]
    assert proof["top_1_identical"] == proof["samples"] == len(photo_data.test)


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


def test_versions_follow_each_other_and_what_others_are_writing_is_left_alone(classifier, exported):
    """What killed exports left goes."""
    folder = exported.parent
    stamps = {path: path.stat().st_mtime_ns for path in exported.rglob("*")}
    (folder / "7").mkdir()
    for name in (".export-dead", ".export-alive"):
        (folder / name).mkdir()
        (folder / name / "saved_model.pb").write_text("half")
    held = os.open(folder / ".export-alive", os.O_RDONLY)
    lock(held, "exclusive")
    assert classifier.export(folder).name == "8"
    os.close(held)
    assert {path: path.stat().st_mtime_ns for path in exported.rglob("*")} == stamps
    assert sorted(path.name for path in folder.iterdir()) == [".export-alive", "1", "7", "8"]


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

    monkeypatch.setattr("recipes.serving.exporting.prove", interrupt)
    with pytest.raises(KeyboardInterrupt):
        classifier.export(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_saved_classifiers_and_bare_models_export_too(classifier, photo_data, tmp_path):
    classifier.save(tmp_path / "saved")
    for model, name in ((tmp_path / "saved", None), (classifier.model, "0")):
        version = recipes.export(model, tmp_path / f"served_{name}")
        answer = tf.saved_model.load(str(version)).signatures["serving_default"](
            image_bytes=tf.constant([tf.io.encode_png(photo_data.test.images(0, 1)[0]).numpy()])
        )
        expected = classifier.predict(photo_data.test.images(0, 1)[0])
        assert float(answer["probabilities"][0, 0]) == pytest.approx(expected.probability, abs=1e-5)


@pytest.mark.parametrize("channels", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_other_numbers_of_channels(random, tmp_path, channels):
    y = np.arange(30) % 2
    x = random_images(random, 30, channels=channels)
    result = recipes.finetune(tiny_base(channels=channels), (x, y), epochs=1, learning_rate=0.01, verbose=False)
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


JAX = """
import json, sys
from pathlib import Path
import keras
import numpy as np
import recipes
keras.utils.set_random_seed(1)
model = keras.Sequential([
    keras.Input((16, 16, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3),
    keras.layers.BatchNormalization(), keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(3, activation="softmax"),
])
version = recipes.export(model, sys.argv[1], formats=["saved_model", "keras"], samples=sys.argv[2:])
print(keras.backend.backend(), (version / "card.json").read_text().replace(chr(10), " "))
"""


@pytest.mark.slow
def test_models_of_the_jax_backend_export(tmp_path, photo_data):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    served, files = tmp_path / "served", photo_data.test.files[:5]
    said = run_python(JAX, served, *files, KERAS_BACKEND="jax", JAX_PLATFORMS="cpu", PYTHONPATH=str(ROOT))
    backend, card = said.strip().splitlines()[-1].split(" ", 1)
    assert backend == "jax"
    for proof in json.loads(card)["proof"]["formats"].values():
        assert proof["top_1_identical"] == proof["samples"] == 5
