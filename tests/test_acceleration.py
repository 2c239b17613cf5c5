"""recipes.accelerate: the fastest algorithm for each convolution, the same outputs, and nothing slower."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from fresh_python import run_python

import layers
import recipes
from recipes.acceleration import accelerating, candidates, choosing
from recipes.acceleration import by_image as by_image_module
from recipes.acceleration.by_image import by_image, first_part
from recipes.acceleration.choosing import fastest_algorithms
from recipes.acceleration.samples import sample_photos
from recipes.acceleration.timings import Timings
from recipes.bases.flattening import flat_copy
from recipes.bases.folding import folded
from recipes.bases.heads import without_classifier
from recipes.bases.simplifying import simplified
from recipes.compression.subjects import open_subject
from recipes.data.loading import pick
from recipes.timing import alternating

SIZE = 24


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def favourite(monkeypatch):
    """Lets a test say which algorithm is fastest, and counts what was timed."""

    def favour(name, whole=0):
        timed = []

        def clock(runs, rounds, hopeless=None):
            timed.append(tuple(runs))
            return {run: [1.0 if run in (name, whole) else 2.0] for run in runs}

        # Compiling what is not chosen would take most of the time of these tests.
        monkeypatch.setattr(choosing, "_is_able", lambda run: True)
        monkeypatch.setattr(choosing, "alternating", clock)
        monkeypatch.setattr(accelerating, "alternating", clock)
        return timed

    return favour


def make_network(size=SIZE):
    """All that is rewritten, and what must be left alone, with weights that are all different from their start."""
    image = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    x = keras.layers.Conv2D(16, 3, name="few_channels", padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(16, 3, name="first", padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU(name="first_relu")(x)
    x = keras.layers.Conv2D(24, 7, name="large", padding="same", activation="tanh")(x)
    x = keras.layers.Conv2D(16, 3, name="strided", strides=2)(x)
    x = keras.layers.ReLU(name="moved")(x)
    x = keras.layers.ZeroPadding2D()(x)
    x = keras.layers.MaxPooling2D(2, name="pooling")(x)
    x = layers.ResizeConv(16, name="resized")(x)
    x = keras.layers.Conv2D(16, 3, name="last", padding="valid")(x)
    model = keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
    random = np.random.default_rng(0)
    model.set_weights([value + 0.1 * random.uniform(size=value.shape) - 0.05 for value in model.get_weights()])
    return model


def kinds(model):
    return {layer.name: type(layer).__name__ for layer in model.layers}


def far(values, expected):
    return np.abs(values - expected).max() / np.abs(expected).max()


SERVE = """
import sys, numpy as np, tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
np.save(sys.argv[3], served.serve(np.load(sys.argv[2])))
assert not {"layers", "recipes"} & set(sys.modules), "more than TensorFlow was needed"
"""


def test_each_convolution_by_the_fastest_algorithm_and_the_same_outputs_saved_and_served(favourite, tmp_path):
    model = make_network()
    before = [value.copy() for value in model.get_weights()]
    images = sample_photos(5, (SIZE, SIZE), 3)
    expected = model.predict(images, verbose=0)
    favourite("winograd 4")
    faster = recipes.accelerate(model, batch_size=2)
    found = kinds(faster)
    assert found["first"] == found["last"] == "WinogradConv2D"
    assert found["few_channels"] == found["large"] == found["strided"] == "Conv2D"
    assert faster.get_layer("first").is_transformed and faster.get_layer("first").activation is keras.activations.relu
    assert "BatchNormalization" not in found.values() and "first_relu" not in found
    assert "Conv2DTranspose" in found.values() and list(found).index("moved") > list(found).index("pooling")
    for batch_size in (2, 3):
        assert far(faster.predict(images, batch_size=batch_size, verbose=0), expected) < 1e-4
    for value, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)
    np.testing.assert_array_equal(model.predict(images, verbose=0), expected)
    faster.save(tmp_path / "faster.keras")
    again = keras.saving.load_model(tmp_path / "faster.keras")
    np.testing.assert_array_equal(again.predict(images, verbose=0), faster.predict(images, verbose=0))
    faster.export(tmp_path / "served", verbose=False)
    np.save(tmp_path / "images.npy", images)
    paths = [tmp_path / name for name in ("served", "images.npy", "outputs.npy")]
    run_python(SERVE, *paths)
    assert far(np.load(tmp_path / "outputs.npy"), expected) < 1e-4


def branched_network():
    """Large maps, also in a branch, then small ones."""
    image = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(16, 3, name="widening", padding="same")(image)
    side = keras.layers.Conv2D(16, 3, name="side", padding="same")(x)
    x = keras.layers.ReLU(name="joined")(keras.layers.Add()([x, side]))
    x = keras.layers.MaxPooling2D(2, name="narrow")(x)
    x = keras.layers.Conv2D(16, 3, name="late", padding="same")(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


def test_the_first_part_ends_where_one_small_tensor_is_left(monkeypatch):
    model = branched_network()
    assert first_part(model, 1000) == ()  # 9 MB
    monkeypatch.setattr(by_image_module, "LARGE", 2 * 12 * 12 * 16 * 4 - 1)
    assert first_part(model, 1) == ()
    names = first_part(model, 2)
    assert names[-1] == "narrow" and {"widening", "side", "joined"} < set(names) and "late" not in names
    assert by_image(model, 1) is model
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")  # of layers to come: those of the model stay as they are
    try:
        split = by_image(model, 2)
    finally:
        keras.config.set_dtype_policy(policy)
    assert split.outputs[0].dtype == split.layers[1].compute_dtype == "float32"
    assert [type(layer).__name__ for layer in split.layers][1] == "ImageByImage"
    images = sample_photos(3, (12, 12), 3)
    assert far(split.predict(images, verbose=0), model.predict(images, verbose=0)) < 1e-6


def test_vgg_runs_by_image_up_to_its_third_pooling_at_batch_16():
    image = keras.Input((224, 224, 3))
    x = image
    for block, (width, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3))):
        for number in range(depth):
            x = keras.layers.SeparableConv2D(width, 3, padding="same", name=f"{block}_{number}")(x)  # of few weights
        x = keras.layers.MaxPooling2D(2, name=f"pooling_{block}")(x)
    ends = {batch: first_part(keras.Model(image, x), batch)[-1:] for batch in (1, 2, 4, 8, 16)}
    assert ends == {1: (), 2: (), 4: ("pooling_0",), 8: ("pooling_1",), 16: ("pooling_2",)}


def test_large_maps_by_image_save_serve_and_take_any_batch(favourite, monkeypatch, tmp_path):
    monkeypatch.setattr(by_image_module, "LARGE", 2 * 12 * 12 * 16 * 4 - 1)
    model = branched_network()
    timed = favourite("winograd 4")
    faster = recipes.accelerate(model, batch_size=2, verbose=False)
    (first,) = (layer for layer in faster.layers if isinstance(layer, layers.ImageByImage))
    assert kinds(first.model)["side"] == kinds(faster)["late"] == "WinogradConv2D"
    assert first.model.get_layer("side").images == 1 and faster.get_layer("late").images is None
    assert len(timed[-1]) == 5  # by image and not, with other algorithms and without, and as it was
    images = sample_photos(5, (12, 12), 3)
    expected = model.predict(images, verbose=0)
    for batch_size in (1, 2, 5):
        assert far(faster.predict(images, batch_size=batch_size, verbose=0), expected) < 1e-4
    faster.save(tmp_path / "faster.keras")
    again = keras.saving.load_model(tmp_path / "faster.keras")
    np.testing.assert_array_equal(again.predict(images, verbose=0), faster.predict(images, verbose=0))
    faster.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    assert far(served.serve(images).numpy(), expected) < 1e-4
    flat = flat_copy(faster, "here")
    assert not any(isinstance(layer, layers.ImageByImage) for layer in flat.layers)
    np.testing.assert_allclose(flat.predict(images, verbose=0), faster.predict(images, verbose=0), atol=1e-5)


def test_other_formats_hold_no_loop_over_images(favourite, monkeypatch, tmp_path):
    monkeypatch.setattr(by_image_module, "LARGE", 2 * 12 * 12 * 16 * 4 - 1)
    image = keras.Input((12, 12, 3))
    x = keras.layers.MaxPooling2D()(keras.layers.Conv2D(16, 3, padding="same", activation="relu")(image))
    x = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x))
    timed = favourite("direct")
    faster = recipes.accelerate(keras.Model(image, x), batch_size=2, verbose=False)
    assert isinstance(faster.layers[1], layers.ImageByImage) and len(timed[-1]) == 3
    version = recipes.export(faster, tmp_path / "served", formats="keras")
    again = keras.saving.load_model(version / "model.keras")
    assert {type(layer).__module__.split(".")[0] for layer in again.layers} == {"keras"}


def test_what_has_no_first_part(monkeypatch):
    monkeypatch.setattr(by_image_module, "LARGE", 2 * 12 * 12 * 16 * 4 - 1)
    image = keras.Input((12, 12, 3))
    large = keras.layers.Conv2D(16, 3, padding="same")(image)
    assert first_part(keras.Model(image, keras.layers.MaxPooling2D()(large)), 2) == ()  # nothing is left behind it
    drawn = keras.layers.MaxPooling2D()(keras.layers.Dropout(0.5)(large, training=True))
    assert first_part(keras.Model(image, keras.layers.Flatten()(drawn)), 2) == ()
    half = keras.ops.split(keras.layers.MaxPooling2D(name="small")(large), 2, axis=-1)[0]
    assert first_part(keras.Model(image, keras.layers.Flatten()(half)), 2)[-1] == "small"


def test_layers_that_mix_images_stay_as_they_are(favourite, monkeypatch):
    monkeypatch.setattr(by_image_module, "LARGE", 2 * 12 * 12 * 16 * 4 - 1)
    image = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(16, 3, padding="same")(image)
    x = keras.ops.reshape(x, (-1, 6, 6, 16))  # four windows of an image, as if they were images
    x = keras.ops.reshape(keras.layers.GlobalAveragePooling2D()(x), (-1, 4 * 16))
    model = keras.Model(image, x)
    favourite("direct")
    faster = recipes.accelerate(model, batch_size=2, verbose=False)
    assert first_part(model, 2) and not any(isinstance(layer, layers.ImageByImage) for layer in faster.layers)


def test_by_a_real_clock_whatever_it_says():
    image = keras.Input((10, 10, 16))
    model = keras.Model(image, keras.layers.Conv2D(16, 3)(image))
    images = sample_photos(2, (10, 10), 16)
    faster = recipes.accelerate(model, batch_size=2)
    assert far(faster.predict(images, verbose=0), model.predict(images, verbose=0)) < 1e-4
    (seconds,) = Timings().read().values()
    assert set(seconds) == {"direct", "winograd 2", "winograd 3", "winograd 4", "winograd 4 single"}
    assert all(value > 0 for value in seconds.values())


def test_what_is_hopelessly_slow_is_not_called_again(monkeypatch):
    clock = {"quick": 1.0, "near": 1.4, "slow": 1.6}
    called = []

    def seconds(function, repeats):
        called.append(function)
        return clock[function]

    monkeypatch.setattr("recipes.timing._seconds", seconds)
    taken = alternating({name: name for name in clock}, rounds=3, hopeless=1.5)
    assert taken == {"quick": [1.0] * 3, "near": [1.4] * 3, "slow": [1.6]}
    assert called.count("slow") == 2 < called.count("near") == 5
    assert alternating({name: name for name in clock}, rounds=3)["slow"] == [1.6] * 3


def test_an_algorithm_that_the_device_cannot_run_is_never_chosen(monkeypatch):
    layer = keras.layers.Conv2D(16, 3)
    layer.build((1, 16, 16, 16))

    def refuse(*_, **__):
        raise tf.errors.UnimplementedError(None, None, "no XLA here")

    monkeypatch.setattr("layers.convolutions.winograd_conv.convolve", refuse)
    timings = Timings()
    assert choosing.fastest(layer, (1, 16, 16, 16), timings) is None
    (seconds,) = timings.read().values()
    assert seconds["direct"] > 0 and seconds["winograd 4"] is None


def test_large_kernels_by_fourier(favourite):
    model = make_network()
    favourite("fft")
    faster = recipes.accelerate(model)
    assert kinds(faster)["large"] == "FFTConv2D" and kinds(faster)["first"] == "Conv2D"


def test_large_dense_layers_from_a_transposed_kernel_saved_and_served(favourite, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "_LEAST_WEIGHTS", 2**18)
    image = keras.Input((16, 16, 2))
    x = keras.layers.Dense(512, name="large", bias_initializer="normal")(keras.layers.Flatten()(image))
    x = keras.layers.Reshape((2, 256))(keras.layers.ReLU(name="relu")(x))
    x = keras.layers.Dense(1024, name="rows", use_bias=False)(x)
    x = keras.layers.Dense(3, name="small")(keras.layers.Flatten()(x))
    model = keras.Model(image, keras.layers.Dense(90000, name="last", activation="softmax")(x))
    favourite("transposed")
    faster = recipes.accelerate(model)
    found = kinds(faster)
    assert found["large"] == found["rows"] == found["last"] == "TransposedDense" and found["small"] == "Dense"
    assert "relu" not in found and faster.get_layer("large").activation is keras.activations.relu
    assert without_classifier(faster).shape == (None, 3)
    images = sample_photos(5, (16, 16), 2)
    assert far(faster(images), model(images)) < 1e-5
    faster.save(tmp_path / "faster.keras")
    faster.export(tmp_path / "served", verbose=False)
    loaded, served = keras.saving.load_model(tmp_path / "faster.keras"), tf.saved_model.load(tmp_path / "served")
    for count in (5, 1):
        assert far(loaded(images[:count]), faster(images[:count])) == 0
        assert far(served.serve(images[:count]), faster(images[:count])) < 1e-6


def test_whole_numbers_go_through_a_transposed_kernel(favourite, monkeypatch):
    monkeypatch.setattr(candidates, "_LEAST_WEIGHTS", 2**18)
    image = keras.Input((16, 16, 2), dtype="uint8")
    model = keras.Model(image, keras.layers.Dense(512, use_bias=False)(keras.layers.Flatten()(image)))
    favourite("transposed")
    images = sample_photos(3, (16, 16), 2).astype("uint8")
    faster = recipes.accelerate(model)
    assert "TransposedDense" in kinds(faster).values() and far(faster(images), model(images)) < 1e-5


def test_direct_convolution_stays_where_it_is_fastest(favourite):
    favourite("direct")
    faster = recipes.accelerate(make_network())
    assert "WinogradConv2D" not in kinds(faster).values()
    assert "BatchNormalization" not in kinds(faster).values()


def test_a_network_that_got_slower_comes_back_as_it_was(favourite):
    model = make_network()
    favourite("winograd 4", whole=2)  # of (all that is done, no other algorithms, nothing done)
    assert recipes.accelerate(model) is model


def test_what_was_timed_is_remembered_by_machine_and_shape(favourite, tmp_path):
    timed = favourite("winograd 4")
    model = make_network()
    recipes.accelerate(model)
    layerwise = [names for names in timed if "direct" in names]
    assert len(layerwise) == 3  # first, large, last
    timed.clear()
    recipes.accelerate(model)
    assert [names for names in timed if "direct" in names] == []
    recipes.accelerate(model, batch_size=3)
    assert len([names for names in timed if "direct" in names]) == 3
    (path,) = (tmp_path / "cache").rglob("timings/*.json")
    kept = json.loads(path.read_text())
    assert kept["machine"]["tensorflow"] == tf.__version__ and len(kept["seconds"]) == 6
    path.write_text("{")
    timed.clear()
    recipes.accelerate(model)
    assert len([names for names in timed if "direct" in names]) == 3


def test_timings_that_cannot_be_kept_are_no_matter(tmp_path):
    (tmp_path / "file").write_text("")
    timings = Timings(tmp_path / "file")
    timings.add("anything", {"direct": 1.0})
    assert timings.read() == {}


def test_algorithms_that_round_too_much_are_left_out(favourite, monkeypatch):
    model = make_network()
    timed = favourite("winograd 4")
    monkeypatch.setattr(accelerating, "TOLERANCE", 1e-9)
    with pytest.warns(UserWarning, match="stays as it is"):
        assert recipes.accelerate(model) is model
    assert timed


def test_outputs_are_compared_in_full_precision(favourite, monkeypatch):
    """In TensorFloat-32, as GPUs convolve by themselves, no folded network is within 1e-4."""
    favourite("winograd 2")
    in_graph, seen = accelerating._in_graph, []
    before = tf.config.experimental.tensor_float_32_execution_enabled()

    def graph(model):
        run = in_graph(model)

        def noted(images):
            seen.append(tf.config.experimental.tensor_float_32_execution_enabled())
            return run(images)

        return noted

    monkeypatch.setattr(accelerating, "_in_graph", graph)
    recipes.accelerate(make_network(), verbose=False)
    assert seen and not any(seen)
    assert tf.config.experimental.tensor_float_32_execution_enabled() is before


def test_models_of_any_size_nested_and_sequential(favourite):
    favourite("winograd 4")
    inner = keras.Sequential([keras.Input((None, None, 16)), keras.layers.Conv2D(16, 3, padding="same", name="inner")])
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(16, 1), inner, layers.StackedConv(16, 5)]
    )
    faster = recipes.accelerate(model, image_size=(20, 12))
    assert faster.input_shape == (None, 20, 12, 3)
    assert list(kinds(faster).values()).count("WinogradConv2D") == 3
    images = sample_photos(2, (20, 12), 3)
    assert far(faster.predict(images, verbose=0), model.predict(images, verbose=0)) < 1e-4


def test_a_shared_convolution_stays(favourite):
    favourite("winograd 4")
    image, shared = keras.Input((12, 12, 16)), keras.layers.Conv2D(16, 3, padding="same", name="shared")
    model = keras.Model(image, keras.layers.Conv2D(16, 3, name="alone")(shared(shared(image))))
    faster = recipes.accelerate(model, verbose=False)
    assert kinds(faster)["shared"] == "Conv2D" and kinds(faster)["alone"] == "WinogradConv2D"
    images = sample_photos(2, (12, 12), 16)
    assert far(faster.predict(images, verbose=0), model.predict(images, verbose=0)) < 1e-4


LOAD = """
import sys, numpy as np, recipes
labels = [each.label for each in recipes.load("faster").predict(np.load("images.npy"))]
assert labels == sys.argv[1].split(), labels
"""


@pytest.mark.slow
def test_a_result_stays_a_result_and_loads_in_a_fresh_process(favourite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = recipes.finetune("small_resnet", "digits", plan="head", epochs=1, verbose=False)
    favourite("winograd 2")
    faster = recipes.accelerate(result, verbose=False)
    assert faster.class_names == result.class_names
    assert "WinogradConv2D" in kinds(faster.model).values()
    images = result.data.test.images(0, 20)
    first, second = ([each.label for each in one.predict(images)] for one in (result, faster))
    assert first == second
    faster.save("faster")
    np.save("images.npy", images)
    run_python(LOAD, " ".join(first))


def test_accelerated_twice_it_is_chosen_anew(favourite):
    model, images = make_network(), sample_photos(4, (SIZE, SIZE), 3)
    expected = model.predict(images, verbose=0)
    favourite("winograd 4")
    first = recipes.accelerate(model, verbose=False)
    favourite("winograd 2")
    second = recipes.accelerate(first, batch_size=2, verbose=False)
    for one, tile in ((first, 4), (second, 2)):
        assert {layer.tile for layer in one.layers if isinstance(layer, layers.WinogradConv2D)} == {tile}
    assert far(second.predict(images, verbose=0), expected) < 1e-4


def accelerated():
    """As `accelerate` leaves a network: kernels transformed once and for all, a part that goes image by image."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    first = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(first)
    winograd = layers.WinogradConv2D(8, 3, padding="same", activation="relu", name="second")
    winograd.build((None, 8, 8, 8))
    x = layers.ImageByImage(keras.Model(first, winograd.transformed()(x)))(keras.layers.Rescaling(1 / 16)(image))
    fft = layers.FFTConv2D(8, 7, padding="same", activation="relu", name="third")
    fft.build((None, 8, 8, 8))
    x = keras.layers.Flatten()(fft.transformed((None, 8, 8, 8))(x))
    x = layers.TransposedDense(16, activation="relu", name="fourth")(x)
    return keras.Model(image, keras.layers.Dense(10, activation="softmax", name="last")(x), name="accelerated")


def test_what_was_accelerated_is_compressed_exported_and_trained_as_plain_layers(tmp_path):
    model, digits = accelerated(), recipes.load_data("digits", image_size=8)
    before = [value.copy() for value in model.get_weights()]
    subject = open_subject(model, digits, "compress")
    expected = model.predict(digits.test.images(0, 20), verbose=0)
    assert set(kinds(subject.model).values()) >= {"Conv2D", "Dense"}
    assert not set(kinds(subject.model).values()) & {"WinogradConv2D", "FFTConv2D", "TransposedDense", "ImageByImage"}
    assert far(subject.model.predict(digits.test.images(0, 20), verbose=0), expected) < 1e-5
    recovery = recipes.Recovery(epochs=1)
    pruned = recipes.prune_units(model, digits, fraction=0.3, max_drop=None, recovery=recovery, verbose=False)
    assert not {"image_by_image_second", "third", "fourth"} & set(pruned.notes), pruned.notes
    assert recipes.quantize(model, digits, max_drop=None, verbose=False).content
    assert pruned.rungs[0].name == "in plain layers"
    with pytest.warns(UserWarning, match="stays as it came"):
        unchanged = recipes.prune_units(model, digits, fraction=0.5, max_drop=-2.0, recovery=recovery, verbose=False)
    assert unchanged.model is model
    small = pick(digits.train, np.arange(64))
    nested = keras.Sequential([keras.Input((8, 8, 1)), model])
    version = recipes.export(nested, tmp_path / "served", formats=["keras", "litert"])
    again = keras.saving.load_model(version / "model.keras")
    assert {type(layer).__module__.split(".")[0] for layer in again.layers} == {"keras"}
    trained = recipes.finetune(
        model, dataclasses.replace(digits, train=small), plan="all", epochs=1, learning_rate=0.01, verbose=False
    )
    second = trained.model.get_layer("image_by_image_second")
    assert type(second) is keras.layers.Conv2D and len(second.trainable_weights) == 2
    assert type(trained.model.get_layer("fourth")) is keras.layers.Dense
    for old, value in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, value)


class Subclassed(keras.Model):
    def call(self, images):
        return images


UNKNOWN_SIZE = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3)])


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"model": "vgg16"}, TypeError, "model must be a keras.Model or a Result. Received a str"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1. Received 0"),
        ({"image_size": 32}, ValueError, "image_size must be that of the model, 24×24. Received image_size=32"),
        ({"image_size": "large"}, TypeError, "image_size must be a whole number"),
        ({"model": keras.Sequential([keras.layers.Conv2D(4, 3)])}, TypeError, "from one batch of images"),
        ({"model": Subclassed()}, TypeError, "model must be functional or sequential"),
        ({"model": UNKNOWN_SIZE}, ValueError, "image_size must be given"),
    ],
)
def test_wrong_arguments(arguments, error, said):
    model = arguments.get("model", None)
    model = make_network() if model is None else model
    with pytest.raises(error, match="accelerate: ") as caught:
        recipes.accelerate(model, **{name: value for name, value in arguments.items() if name != "model"})
    assert said in str(caught.value)


@pytest.mark.parametrize(("quickest", "policies"), [(0, {"float32"}), (2, {"mixed_float16"}), (3, {"mixed_float16"})])
def test_mixed_precision_is_folded_or_left_whichever_is_fastest(favourite, quickest, policies):
    """The candidates: float32 with other algorithms, float32 folded, folded as it is, as it is."""
    favourite("winograd 2", whole=quickest)
    image = keras.Input((16, 16, 16))
    half = {"dtype": "mixed_float16"}
    x = keras.layers.BatchNormalization(**half)(keras.layers.Conv2D(16, 3, **half)(image))
    model = keras.Model(image, x)
    model.layers[2].moving_mean.assign(np.linspace(-3, 3, 16))
    faster = recipes.accelerate(model, verbose=False)
    assert {layer.dtype_policy.name for layer in faster.layers if layer.weights} == policies
    assert ("WinogradConv2D" in kinds(faster).values()) == (quickest == 0)
    assert (faster is model) == (quickest == 3)
    photos = sample_photos(4, (16, 16), 16) / 255
    expected = model.predict(photos, verbose=0)
    np.testing.assert_allclose(faster.predict(photos, verbose=0), expected, atol=5e-3 * np.abs(expected).max())


# Pooling takes the largest, which ReLU leaves the largest: the same bits in either order.
@pytest.mark.parametrize("between", [[], [keras.layers.ZeroPadding2D(1)]])
@pytest.mark.parametrize("relu", [keras.layers.ReLU(), keras.layers.Activation("relu")])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_relu_goes_behind_max_pooling_bit_by_bit(between, relu, padding):
    image = keras.Input((9, 9, 3))
    x = relu(image)
    for layer in between:
        x = layer(x)
    model = keras.Model(image, keras.layers.MaxPooling2D(3, 2, padding=padding)(x))
    images = np.random.default_rng(0).normal(size=(2, 9, 9, 3)).astype("float32")
    simple = simplified(model)
    assert type(simple.layers[-1]) is type(relu)
    np.testing.assert_array_equal(simple.predict(images, verbose=0), model.predict(images, verbose=0))


@pytest.mark.parametrize(
    "build",
    [
        lambda x: keras.layers.AveragePooling2D(2)(keras.layers.ReLU()(x)),
        lambda x: keras.layers.MaxPooling2D()(keras.layers.ReLU(negative_slope=0.1)(x)),
        lambda x: keras.layers.MaxPooling2D()(keras.layers.ReLU(threshold=1.0)(x)),
        lambda x: keras.layers.MaxPooling2D()(keras.layers.Activation("tanh")(x)),
        lambda x: keras.layers.Add()([keras.layers.MaxPooling2D(1)(y := keras.layers.ReLU()(x)), y]),
    ],
)
def test_other_pairs_stay_in_order(build):
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, build(image))
    assert simplified(model) is model


@pytest.mark.parametrize("is_trained", [False, True])
def test_folded_networks_take_other_algorithms(favourite, is_trained):
    favourite("winograd 4")
    model = make_network()
    for layer in model.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    algorithms = fastest_algorithms(model, 4, is_trained=is_trained)
    assert set(algorithms) == {"first", "last"}
    run = folded(model, is_trained=is_trained, algorithms=algorithms)
    images = sample_photos(4, (SIZE, SIZE), 3)

    def gradients(function):
        with tf.GradientTape() as tape:
            outputs = function(images)
            loss = tf.reduce_sum(outputs * tf.cos(10 * outputs))
        return outputs, tape.gradient(loss, [weight.value for weight in model.trainable_weights])

    outputs, mine = gradients(run)
    expected, plain = gradients(lambda images: model(images, training=False))
    assert 0 < far(outputs.numpy(), expected.numpy()) < 2e-5  # not the same bits: they are computed otherwise
    if is_trained:
        for one, other in zip(mine, plain, strict=True):
            assert far(one.numpy(), other.numpy()) < 1e-3  # what follows amplifies rounding


def test_finetune_accelerated_ends_as_it_does_plainly(favourite):
    timed = favourite("winograd 2")
    data = recipes.load_data("digits")
    data = dataclasses.replace(data, train=pick(data.train, np.arange(320)))
    base = keras.Sequential([keras.Input((8, 8, 1))])
    for filters in (16, 24):
        base.add(keras.layers.Conv2D(filters, 3, padding="same", use_bias=False))
        base.add(keras.layers.BatchNormalization())
        base.add(keras.layers.ReLU())
    arguments = {"weights": None, "epochs": 1, "verbose": False, "plan": "all"}
    plain = recipes.finetune(base, data, **arguments)
    assert not timed
    faster = recipes.finetune(base, data, accelerate=True, **arguments)
    assert any("winograd 2" in names for names in timed)
    assert kinds(faster.model) == kinds(plain.model)
    assert faster.report.is_repeatable is False
    # One epoch of steps, each of which rounds otherwise.
    np.testing.assert_allclose(faster.report.curves["loss"], plain.report.curves["loss"], rtol=0.02)
    with pytest.raises(TypeError, match=r"accelerate must be True or False\. Received accelerate='yes'"):
        recipes.finetune("small_resnet", "digits", accelerate="yes")
