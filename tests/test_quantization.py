"""What is quantized computes in integers, answers as the network that rounds alike, and is what was measured."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import recipes
from recipes.bases.fake_quantization import fake_quantized, settled, with_rounded_kernels
from recipes.bases.precisions import halved, quantized_by_keras
from recipes.compression import quantization
from recipes.compression.forms import FORMS, content_of
from recipes.compression.recovering import Recovery, recover
from recipes.compression.subjects import open_subject
from recipes.serving.compacting import compacted
from recipes.serving.formats import write_format
from recipes.serving.quantized import stored, write_quantized
from recipes.serving.running import FileRunner
from recipes.values import Result


def soft_images(random, count=32, size=16):
    """uint8 photographs of nothing: smooth shapes and some noise."""
    shapes = tf.image.resize(random.uniform(0, 255, (count, 4, 4, 3)), (size, size), "bicubic").numpy()
    return np.clip(shapes + random.normal(0, 10, shapes.shape), 0, 255).astype(np.uint8)


def set_apart(model, random):
    """Give every weight a value of its own, as training would: kernels that keep the size of what goes through."""
    for layer in model.layers:
        for weight in layer.weights:
            scale = 1 / np.sqrt(np.prod(weight.shape[:-1])) if len(weight.shape) > 1 else 0.3
            value = random.normal(0, scale, weight.shape)
            is_factor = weight.path.endswith(("gamma", "moving_variance"))
            weight.assign(np.exp(value) if is_factor else value)
    return model


@pytest.fixture(scope="module")
def images():
    return soft_images(np.random.default_rng(0))


@pytest.fixture(scope="module")
def network():
    """Everything that is rounded in its own way: a sum, a concatenation, pooling, normalization that stands alone."""
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1, name="preprocessing")(image)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="first")(x)
    x = first = keras.layers.ReLU(6, name="first_relu")(keras.layers.BatchNormalization(name="first_norm")(x))
    x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    x = keras.layers.Add(name="sum")([keras.layers.Conv2D(8, 1, name="project")(x), first])
    x = keras.layers.BatchNormalization(name="lone_norm")(x)
    x = keras.layers.Conv2D(12, 3, activation="silu", name="silu")(keras.layers.ReLU(name="pre")(x))
    x = keras.layers.Concatenate(name="both")([x, keras.layers.Conv2D(4, 1, name="side")(x)])
    x = keras.layers.AveragePooling2D(2, name="pool")(x)
    x = keras.layers.Conv2DTranspose(8, 3, strides=2, activation="relu", name="up")(x)
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    model = keras.Model(image, keras.layers.Dense(5, activation="softmax", name="head")(x), name="network")
    return set_apart(model, np.random.default_rng(1))


def as_result(model):
    _, height, width, channels = model.input_shape
    names = tuple(str(number) for number in range(model.output_shape[1]))
    return Result(model, names, (height, width), channels, "crop", report=None)


def written(model, folder, form="litert", precision="int8"):
    """(path of the file, FileRunner) of a model that is stored so."""
    folder.mkdir(exist_ok=True)
    write_quantized(form, as_result(model), folder, precision)
    path = next(folder.iterdir())
    return path, FileRunner(form, path)


@pytest.fixture(scope="module")
def rounded(network, images):
    """The network as int8 arithmetic computes it."""
    return stored("litert", network, "int8", "quantize", images)[0]


@pytest.fixture(scope="module")
def litert(rounded, tmp_path_factory):
    return written(rounded, tmp_path_factory.mktemp("litert"))


def apart(first, second):
    """Largest difference."""
    return float(np.abs(np.asarray(first, np.float32) - np.asarray(second, np.float32)).max())


def test_rounding_moves_little_and_leaves_the_network_alone(network, images):
    before, names = network.get_weights(), [layer.name for layer in network.layers]
    model, notes = fake_quantized(network, images)
    assert notes == {} and [layer.name for layer in network.layers] == names
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert "BatchNormalization" not in kinds and kinds.count("FakeQuantizedKernel") == 8
    expected = network.predict(images, verbose=0)
    # 8 bits are 1/256 of each tensor's range, a dozen times in a row.
    assert 0 < apart(model.predict(images, verbose=0), expected) < 0.05
    fixed = settled(model)
    assert {type(layer).__name__ for layer in fixed.layers if layer.weights} <= {*dir(keras.layers), "FakeQuantize"}
    # Biases are rounded too, in steps of a product, which here and there moves an activation by a step.
    assert apart(fixed.predict(images, verbose=0), model.predict(images, verbose=0)) < 0.01


def test_the_file_gives_what_the_rounded_network_gives(rounded, litert, images):
    """Sums in another order end just beyond a half now and then, and are rounded to the next of 256 values."""
    expected, answers = rounded.predict(images, verbose=0), litert[1].predict(images)
    assert answers.dtype == np.float32 and np.allclose(answers.sum(1), 1, atol=1e-5)
    assert apart(answers, expected) < 0.01 and np.abs(answers - expected).mean() < 5e-4
    assert np.array_equal(answers.argmax(1), expected.argmax(1))
    assert np.abs(answers * 256 - np.round(answers * 256)).max() > 0.1  # an int8 softmax has steps of 1/256


def test_a_litert_file_computes_in_integers(network, litert):
    interpreter = tf.lite.Interpreter(
        str(litert[0]),
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    names = [operation["op_name"] for operation in interpreter._get_ops_details()]
    assert names[:3] == ["MUL", "ADD", "QUANTIZE"]  # preprocessing in float
    start, end = names.index("QUANTIZE"), names.index("DEQUANTIZE")
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    for operation in interpreter._get_ops_details()[start + 1 : end]:
        for index in (*operation["inputs"], *operation["outputs"]):
            assert index < 0 or np.dtype(tensors[index]["dtype"]) in (np.int8, np.int32), operation["op_name"]
    kernels = [
        tensor["quantization_parameters"]["scales"]
        for tensor in tensors.values()
        if tensor["dtype"] == np.int8 and len(tensor["quantization_parameters"]["scales"]) > 1
    ]
    # first, depthwise, project, lone_norm, silu, side, up, head: a scale per channel of the output
    assert sorted(map(len, kernels)) == sorted([8, 8, 8, 8, 12, 4, 8, 5])


def test_an_onnx_file_computes_in_integers_and_gives_the_same(network, images, tmp_path):
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, _ = stored("onnx", network, "int8", "quantize", images)
    path, runner = written(model, tmp_path / "onnx", "onnx")
    expected = model.predict(images, verbose=0)
    assert apart(runner.predict(images), expected) < 0.01
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 6 and "Conv" not in kinds
    for precision in ("float16", "int8_dynamic"):
        model, _ = stored("onnx", network, precision, "quantize")
        _, runner = written(model, tmp_path / precision, "onnx", precision)
        assert apart(runner.predict(images), model.predict(images, verbose=0)) < 1e-5


def test_a_quarter_of_the_bytes(images, tmp_path, random):
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(64, 3, strides=4, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Dense(256, activation="relu")(keras.layers.Flatten()(x))
    model = set_apart(keras.Model(image, keras.layers.Dense(4, activation="softmax")(x)), random)
    write_format("litert", as_result(model), tmp_path)
    whole = (tmp_path / "model.tflite").stat().st_size
    expected = model.predict(images, verbose=0)
    for precision, share, bound in (("float16", 0.52, 1e-3), ("int8", 0.28, 0.05), ("int8_dynamic", 0.28, 0.05)):
        quantized, notes = stored("litert", model, precision, "quantize", images)
        path, runner = written(quantized, tmp_path / precision, "litert", precision)
        assert path.stat().st_size < share * whole and notes == {}
        assert apart(runner.predict(images), expected) < bound
        assert apart(quantized.predict(images, verbose=0), expected) < bound


def test_channels_of_all_sizes_need_a_scale_each(images, random):
    """A channel that is a ten-thousandth of another is all zeros where both share a scale."""
    image = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, name="wild")(image))
    model = set_apart(keras.Model(image, keras.layers.Dense(4, activation="softmax")(x)), random)
    wild = model.get_layer("wild")
    wild.kernel.assign(np.array(wild.kernel) * 10.0 ** np.linspace(-4, 0, 8))
    kernel = np.array(wild.kernel)
    for is_by_channel, lost in ((True, 0.5 / 127), (False, 1.0)):
        rounded, _ = fake_quantized(model, images, per_channel=is_by_channel)
        found = np.array(settled(rounded).get_layer("wild").kernel)
        errors = np.abs(found - kernel).max((0, 1, 2)) / np.abs(kernel).max((0, 1, 2))
        assert 0.5 * lost < errors.max() <= lost + 1e-6


def test_channels_that_are_dead_keep_their_bias(images, tmp_path, random):
    """Their scale would be so small that the bias, an integer of 32 bits in steps of it, ran over."""
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="dead")(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x)))
    kernel, bias = random.normal(0, 0.3, (3, 3, 3, 4)), np.array([0.1, 2.0, 0.5, -0.1])
    kernel[..., 1], kernel[..., 2] = 0, 1e-12
    model.get_layer("dead").set_weights([kernel, bias])
    expected = model.predict(images, verbose=0)
    for form in ("litert", "onnx"):
        if form == "onnx":
            pytest.importorskip("onnxruntime")
        quantized, _ = stored(form, model, "int8", "quantize", images)
        _, runner = written(quantized, tmp_path / form, form)
        assert apart(runner.predict(images), expected) < 0.02


def test_layers_that_are_kept_or_not_known_stay_in_float_and_are_named(images, tmp_path, random):
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(16, 3, strides=2, activation="relu", name="stem")(image)
    x = keras.layers.SeparableConv2D(64, 3, activation="relu", name="apart")(x)
    x = keras.layers.LayerNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(64, 3, name="known")(x))
    model = set_apart(keras.Model(image, keras.layers.Dense(3, activation="softmax", name="head")(x)), random)
    model.get_layer("stem").kernel.assign(np.array(model.get_layer("stem").kernel) / 100)
    quantized, notes = stored("litert", model, "int8", "quantize", images, kept=("stem",))
    assert set(notes) == {"stem", "apart", "norm"} and "as asked" in notes["stem"] and "Separable" in notes["apart"]
    np.testing.assert_array_equal(quantized.get_layer("stem").kernel, model.get_layer("stem").kernel)
    _path, runner = written(quantized, tmp_path / "file")
    assert apart(runner.predict(images), quantized.predict(images, verbose=0)) < 0.01
    assert apart(runner.predict(images), model.predict(images, verbose=0)) < 0.1


def test_a_compacted_file_is_smaller_and_gives_the_same_bits(network, images, tmp_path):
    model = with_rounded_kernels(network)[0]
    path = tmp_path / "model.tflite"
    model.export(path, format="litert", verbose=False, optimizations=[tf.lite.Optimize.DEFAULT])
    content = path.read_bytes()
    small = compacted(content)
    assert len(small) < len(content)
    np.testing.assert_array_equal(
        FileRunner("litert", small).predict(images), FileRunner("litert", content).predict(images)
    )
    (name,) = tf.lite.Interpreter(model_content=small).get_signature_list().values()
    assert name == {"inputs": ["image"], "outputs": ["output_0"]}


def test_gradients_pass_the_rounding_and_training_makes_up_for_it(classifier, photo_data):
    """With weights of 2 bits, the network of the tests tells its colours apart no more; trained so, it does."""
    subject = open_subject(classifier, photo_data, "quantize")
    model, _ = fake_quantized(subject.model, photo_data.train.images(), bits=2)

    def loss(model):
        answers = model.predict(photo_data.train.images(), verbose=0)
        return float(-np.log(answers[np.arange(len(answers)), photo_data.train.labels] + 1e-7).mean())

    before, first = model.get_layer("conv1").layer.get_weights(), loss(model)
    recover(model, subject, Recovery(epochs=8, learning_rate=0.01, batch_size=8), verbose=False)
    for old, new in zip(before, model.get_layer("conv1").layer.get_weights(), strict=True):
        assert not np.array_equal(old, new)
    assert loss(model) < 0.7 * first and subject.accuracy(model) >= subject.accuracy(
        fake_quantized(subject.model, photo_data.train.images(), bits=2)[0]
    )
    kernel = np.array(settled(model).get_layer("conv1").kernel)
    assert max(len(np.unique(kernel[..., channel])) for channel in range(kernel.shape[-1])) <= 3


@pytest.fixture(scope="module")
def compression(classifier, photo_data):
    return recipes.quantize(classifier, photo_data, verbose=False, max_drop=0.1)


def test_the_verb_measures_the_file(compression, classifier, photo_data):
    _first, last = compression.rungs
    assert [rung.name for rung in compression.rungs] == ["as it came", "int8"] and last.is_kept
    assert last.stored_bytes == len(compression.content) and last.milliseconds > 0
    answers = FileRunner("litert", compression.content).predict(photo_data.valid.images())
    assert last.accuracy == np.mean(answers.argmax(1) == photo_data.valid.labels) > 0.8
    answers = FileRunner("litert", compression.content).predict(photo_data.test.images())
    told = {row["file"]: row["probability"] for row in compression.report.rows}
    assert told == {name: pytest.approx(row.max()) for name, row in zip(photo_data.test.files, answers, strict=True)}
    assert compression.report.settings["compression"] == ["int8"]
    assert compression.result.class_names == classifier.class_names


def test_what_is_exported_is_the_file_that_was_measured(compression, photo_data, tmp_path):
    version = compression.export(tmp_path / "served")
    assert (version / "model.tflite").read_bytes() == compression.content
    card = json.loads((version / "card.json").read_text())
    proof = card["proof"]["formats"]["litert"]
    # in a fresh process, to the bit but for what 1e-4 leaves to other threads
    assert proof["samples"] == len(photo_data.test) == proof["top_1_identical"] and proof["largest_difference"] <= 1e-4
    assert card["precision"] == {"litert": "int8"} and card["is_measured_as_file"]
    assert card["scores"] == compression.report.scores
    assert proof["in_the_report"]["accuracy"] == pytest.approx(compression.report.scores["accuracy"])
    assert proof["from_model"]["largest_difference"] < 0.02
    text = (version / "card.md").read_text()
    assert "by this file" in text and "has the precision int8" in text


def test_the_rounded_classifier_saves_loads_and_makes_the_same_file(compression, photo_data, tmp_path):
    loaded = recipes.load(compression.save(tmp_path / "saved"))
    pixels = photo_data.test.images()
    np.testing.assert_array_equal(loaded.model.predict(pixels, verbose=0), compression.model.predict(pixels, verbose=0))
    again = FileRunner("litert", content_of(FORMS["litert"], loaded))
    np.testing.assert_array_equal(again.predict(pixels), FileRunner("litert", compression.content).predict(pixels))


def test_the_verb_trains_where_calibration_loses_too_much(classifier, photo_data, monkeypatch):
    """Here, by decree: colours can be told apart by any number of bits."""
    verdicts = iter((False, True))
    monkeypatch.setattr(quantization, "is_enough", lambda accuracy, floor: next(verdicts))
    recovery = recipes.Recovery(epochs=2, learning_rate=1e-3, batch_size=8)
    trained = recipes.quantize(classifier, photo_data, recovery=recovery, keep=("first",), verbose=False)
    assert [rung.name for rung in trained.rungs] == ["as it came", "int8", "int8, trained"]
    assert [rung.is_kept for rung in trained.rungs] == [True, False, True]
    assert list(trained.notes) == ["conv0"]
    pixels = photo_data.valid.images()
    answers = FileRunner("litert", trained.content).predict(pixels)
    assert apart(answers, trained.model.predict(pixels, verbose=0)) < 0.02
    with pytest.raises(ValueError, match="quantized already is not trained again"):
        recipes.quantize(trained.result, photo_data, is_trained=True, verbose=False)


def test_any_classifier_exports_in_int8_on_images_of_its_own(network, images, tmp_path):
    pytest.importorskip("onnxruntime")
    version = recipes.export(network, tmp_path, formats="onnx", precision="int8", calibration=images)
    card = json.loads((version / "card.json").read_text())
    assert card["precision"] == {"onnx": "int8"} and not card["is_measured_as_file"]
    proof = card["proof"]["formats"]["onnx"]
    assert proof["largest_difference"] <= 1e-4 and 0 < proof["from_model"]["largest_difference"] < 0.05


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_of_the_bits(network, images, tmp_path, dtype):
    half = halved(network, dtype, "quantize")
    weights = {weight.path.split("/")[0]: keras.backend.standardize_dtype(weight.dtype) for weight in half.weights}
    assert weights.pop("first_norm") == weights.pop("lone_norm") == "float32" and set(weights.values()) == {dtype}
    answers, expected = half.predict(images, verbose=0), network.predict(images, verbose=0)
    assert answers.dtype == np.float32
    # 8 bits of mantissa, or 11, and as many roundings as there are layers
    assert apart(answers, expected) < (0.03 if dtype == "bfloat16" else 0.004)
    half.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras").predict(images, verbose=0), answers)


def test_half_of_the_bytes_of_a_keras_file_and_keras_own_int8(images, random, tmp_path):
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, activation="relu", name="conv")(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Dense(512, activation="relu")(keras.layers.Flatten()(x))
    model = set_apart(keras.Model(image, keras.layers.Dense(4, activation="softmax")(x)), random)
    sizes = {}
    for precision in ("float32", "float16", "bfloat16", "int8"):
        quantized, notes = stored("keras", model, precision, "quantize")
        quantized.save(tmp_path / f"{precision}.keras")
        sizes[precision] = (tmp_path / f"{precision}.keras").stat().st_size
        assert set(notes) == ({"conv"} if precision == "int8" else set())
        loaded = FileRunner("keras", tmp_path / f"{precision}.keras").predict(images)
        assert apart(loaded, model.predict(images, verbose=0)) < 0.02
    assert sizes["float16"] < 0.6 * sizes["float32"] and sizes["int8"] < 0.4 * sizes["float32"]
    assert quantized_by_keras(model, "quantize")[0].layers[-1].quantization_mode == "int8"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"precision": "int4"}, ValueError, "precision is not known"),
        ({"precision": "bfloat16"}, ValueError, "'litert' has no precision 'bfloat16'"),
        ({"precision": "int8_dynamic", "form": "keras"}, ValueError, "'keras' has no precision"),
        ({"precision": "float32"}, ValueError, "must be one of fewer bits"),
        ({"form": "tflite"}, ValueError, "form is not known"),
        ({"form": "packed"}, ValueError, "form must be one of"),
        ({"precision": "float16", "is_trained": True}, ValueError, "is_trained is for"),
        ({"precision": "float16", "keep": ("first",)}, ValueError, "keep is for"),
        ({"keep": ("nothing",)}, ValueError, "keep must name layers"),
        ({"keep": "last"}, TypeError, "keep must be a tuple of names of layers"),
        ({"calibration_images": 0}, ValueError, "calibration_images must be at least 1"),
        ({"calibration_images": 1.5}, TypeError, "calibration_images must be a whole number"),
        ({"recovery": "much"}, TypeError, "recovery must be"),
    ],
)
def test_bad_arguments(classifier, photo_data, options, error, said):
    with pytest.raises(error, match=said):
        recipes.quantize(classifier, photo_data, **options)


def test_images_of_calibration_must_be_there_and_fit(network, images, photo_data, tmp_path):
    with pytest.raises(ValueError, match="data must be given"):
        recipes.quantize(network, max_drop=None)
    options = {"formats": "litert", "precision": "int8"}
    with pytest.raises(ValueError, match="found on real images"):
        recipes.export(network, tmp_path, **options)
    with pytest.raises(ValueError, match=r"must be 16×16×3.*Received images of 8×8×3"):
        recipes.export(network, tmp_path, calibration=images[:, :8, :8], **options)
    with pytest.raises(ValueError, match="calibration must hold an image"):
        recipes.export(network, tmp_path, calibration=images[:0], **options)
    with pytest.raises(ValueError, match="'saved_model' has no precision 'int8'"):
        recipes.export(network, tmp_path, precision="int8")
    assert list(tmp_path.iterdir()) == []
