"""What the methods of compression share: who may be compressed, training in between, levels, and what is measured."""

import dataclasses
import gzip

import keras
import numpy as np
import pytest

import recipes
from recipes.bases.flattening import flat_copy
from recipes.bases.rewiring import detached
from recipes.compression.descending import descend, last_kept
from recipes.compression.footprints import finish
from recipes.compression.recovering import Recovery, open_recovery, recover
from recipes.compression.subjects import open_subject
from recipes.compression.teaching import Teaching

QUICK = Recovery(epochs=1, learning_rate=3e-3, batch_size=64)


def small_network():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Rescaling(1 / 16)(image)
    x = keras.layers.Conv2D(8, 3, activation="relu", name="first")(x)
    x = keras.layers.Conv2D(12, 3, strides=2, activation="relu", name="second")(x)
    x = keras.layers.BatchNormalization(name="normal")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(image, keras.layers.Dense(10, activation="softmax", name="last")(x), name="small")


@pytest.fixture(scope="module")
def digits():
    return recipes.load_data("digits", image_size=8)


@pytest.fixture(scope="module")
def result(digits):
    return recipes.finetune(small_network(), digits, weights=None, epochs=8, learning_rate=0.01, verbose=False)


@pytest.fixture
def subject(result):
    return open_subject(result, None, "compress", max_drop=0.02)


def scaled(model, factor):
    """A copy whose kernels are multiplied."""
    copy = keras.models.clone_model(model)
    copy.set_weights([weight * factor if weight.ndim > 1 else weight for weight in model.get_weights()])
    return copy, {"normal": "it has no kernel"}


def test_a_subject_is_a_copy_that_answers_as_its_original(subject, result, digits):
    pixels = digits.test.images(0, 20)
    np.testing.assert_array_equal(subject.model.predict(pixels, verbose=0), result.model.predict(pixels, verbose=0))
    shared = {id(variable) for variable in result.model.variables} & {id(v) for v in subject.model.variables}
    assert not shared
    assert subject.first_accuracy == pytest.approx(result.report.curves["val_accuracy"][-1], abs=0.05)
    assert subject.floor(0.02) == subject.first_accuracy - 0.02


def test_copies_normalize_as_their_original(random):
    """Normalization computes with what it made of its weights when they were found."""
    image = keras.Input((4, 4, 3), name="image")
    normalization = keras.layers.Normalization()
    pixels = random.uniform(0, 255, (6, 4, 4, 3)).astype("float32")
    normalization.adapt(pixels)
    model = keras.Model(image, keras.layers.Conv2D(2, 3)(normalization(image)))
    copy = flat_copy(model, "compress")
    for other in (copy, detached(copy)):
        np.testing.assert_allclose(other(pixels), model(pixels), atol=1e-6)


def test_labels_go_by_the_names_of_the_classes(result, digits):
    parts = {name: getattr(digits, name) for name in ("train", "valid", "test")}
    parts = {name: dataclasses.replace(split, labels=9 - split.labels) for name, split in parts.items()}
    turned = dataclasses.replace(digits, class_names=digits.class_names[::-1], **parts)
    plain, other = (open_subject(result, data, "compress") for data in (digits, turned))
    assert other.accuracy() == plain.accuracy() > 0.9
    np.testing.assert_array_equal(other.data.train.labels, digits.train.labels)


def test_a_bare_model_is_named_by_its_data_and_saved_when_measured(result, digits, tmp_path):
    named = dataclasses.replace(digits, class_names=tuple(f"digit {number}" for number in range(10)))
    subject = open_subject(result.model, named, "compress")
    done = finish(
        subject, descend(subject, [1], scaled, name=str, floor=None, recovery=Recovery(epochs=0), verbose=False)
    )
    assert recipes.load(done.save(tmp_path / "named")).class_names == named.class_names
    with pytest.raises(ValueError, match="must have a report"):
        recipes.save(dataclasses.replace(done.result, report=None), tmp_path / "none")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"data": None, "model": "bare"}, ValueError, "data must be given"),
        ({"data": {"source": "digits", "valid": 0.0}, "max_drop": 0.01}, ValueError, "valid=0.15"),
        ({"model": "loop"}, ValueError, "image classifier"),
        ({"model": "two"}, ValueError, "image classifier"),
        ({"model": "nobody"}, FileNotFoundError, "no finished classifier"),
        ({"model": "wide", "data": "digits"}, ValueError, "16×16×1"),
        ({"model": "binary", "data": "digits"}, ValueError, "tells 2 classes apart"),
        ({"data": "nowhere/"}, FileNotFoundError, "nowhere"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_compressed_is_said_at_the_door(arguments, error, words, result, digits):
    class Loop(keras.Model):
        def call(self, images):
            return images

    image = keras.Input((8, 8, 1))
    binary = keras.Model(image, keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(image)))
    other = keras.Input((8, 8, 1))
    wide = keras.Input((16, 16, 1))
    models = {
        "bare": result.model,
        "loop": Loop(),
        "nobody": "nobody",
        "two": keras.Model([image, other], keras.layers.Dense(10)(keras.layers.Flatten()(image + other))),
        "wide": keras.Model(wide, keras.layers.Dense(10)(keras.layers.Flatten()(wide))),
        "binary": binary,
    }
    models["loop"].build((None, 8, 8, 1))
    options = {"model": result, "data": digits} | arguments
    if options["model"] == "wide":
        options["data"] = digits
    model = models.get(options.pop("model")) if isinstance(options.get("model"), str) else options.pop("model")
    with pytest.raises(error, match=words):
        open_subject(model, options.pop("data"), "compress", **options)


def test_recovery_trains_what_stays_and_keeps_the_best(subject):
    broken, _ = scaled(subject.model, 0.3)
    before = subject.accuracy(broken)
    recover(broken, subject, QUICK, verbose=False)
    assert subject.accuracy(broken) > before + 0.02
    assert all(layer.trainable for layer in broken.layers)

    good = keras.models.clone_model(subject.model)
    good.set_weights(subject.model.get_weights())
    ruinous = Recovery(epochs=1, learning_rate=10.0, optimizer="sgd", schedule="constant")
    recover(good, subject, ruinous, verbose=False)
    for now, then in zip(good.get_weights(), subject.model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("way", ["frozen", "trained"])
def test_normalization_follows_the_images_where_it_should(way, subject):
    model, _ = scaled(subject.model, 0.3)
    before = keras.ops.convert_to_numpy(model.get_layer("normal").moving_mean)
    recover(model, subject, Recovery(epochs=1, learning_rate=3e-3, normalization=way), verbose=False)
    after = keras.ops.convert_to_numpy(model.get_layer("normal").moving_mean)
    assert np.array_equal(before, after) == (way == "frozen")


def test_a_student_learns_what_its_teacher_answers(subject, result, digits):
    """Against labels that say nothing, only the teacher can teach."""
    pixels = digits.valid.images()
    wanted = result.model.predict(pixels, verbose=0)
    fresh = small_network()
    lesson = Teaching(result.model, 0.5, 2.0)
    own = keras.losses.KLDivergence()

    def softened(probabilities):
        powers = np.maximum(probabilities, 1e-7) ** 0.5
        return powers / powers.sum(-1, keepdims=True)

    answers = fresh.predict(pixels, verbose=0)
    expected = 4 * float(own(softened(wanted), softened(answers)))
    assert float(lesson.lesson(pixels, answers)) == pytest.approx(expected, rel=1e-3)  # factor 0.5 / 0.5

    taught = Recovery(epochs=6, learning_rate=0.01, batch_size=64, distillation=0.9, normalization="trained")
    before = [variable.numpy().copy() for variable in result.model.variables]
    recover(fresh, subject, taught, verbose=False)
    agree = np.mean(fresh.predict(pixels, verbose=0).argmax(-1) == wanted.argmax(-1))
    assert agree > 0.85
    for then, now in zip(before, result.model.variables, strict=True):
        np.testing.assert_array_equal(then, now.numpy())


def test_levels_end_where_the_accuracy_falls_too_far(subject):
    tried = []

    def attempt(model, level):
        tried.append(level)
        return scaled(model, level)

    options = {"name": "scaled by {}".format, "recovery": Recovery(epochs=0), "verbose": False}
    steps = descend(subject, [1.01, 0.99, -1.0, 1.0], attempt, floor=subject.floor(0.02), **options)
    assert tried == [1.01, 0.99, -1.0]
    assert [step.is_kept for step in steps] == [True, True, False]
    assert steps[2].accuracy < subject.floor(0.02) <= steps[1].accuracy
    assert last_kept(subject, steps).model is steps[1].model
    assert last_kept(subject, steps[2:]).model is subject.model
    everything = descend(subject, [-1.0, 1.0], attempt, floor=None, **options)
    assert [step.is_kept for step in everything] == [True, True]


def test_rungs_say_what_there_is(subject, result, digits, tmp_path):
    def halved(model, _):
        copy, notes = scaled(model, 1)
        copy.set_weights([np.where(w < 0, 0, w) if w.ndim == 4 else w for w in copy.get_weights()])
        return copy, notes

    recovery = Recovery(epochs=0)
    steps = descend(subject, ["a"], halved, name=str, floor=None, recovery=recovery, verbose=False)
    steps += descend(subject, ["b"], lambda m, _: scaled(m, -1), name=str, floor=0.9, recovery=recovery, verbose=False)
    done = finish(subject, steps)
    first, kept, left = done.rungs
    assert (first.name, kept.name, left.name) == ("as it came", "a", "b")
    assert (first.is_kept, kept.is_kept, left.is_kept) == (True, True, False)
    assert first.parameters == kept.parameters == subject.model.count_params()
    zeros = sum(int((weight == 0).sum()) for weight in steps[0].model.get_weights())
    assert kept.nonzero == kept.parameters - zeros < first.nonzero
    assert kept.multiply_adds == 6 * 6 * 9 * 8 + 2 * 2 * 9 * 8 * 12 + 48 * 10  # 8→6, 6→2 pixels; 48 → 10
    assert first.milliseconds > 0 and kept.milliseconds > 0 and left.milliseconds is None
    path = done.save(tmp_path / "kept")
    size = (path / "model.keras").stat().st_size
    assert abs(size - kept.stored_bytes) < 500  # names and dates within the archive
    assert abs(len(gzip.compress((path / "model.keras").read_bytes(), 9)) - kept.compressed_bytes) < 500
    assert done.model is steps[0].model
    assert done.before.scores == recipes.evaluate(result, digits).scores
    assert done.report.scores == recipes.evaluate(done.result, digits).scores
    assert done.report.cost["nonzero"] == kept.nonzero
    assert done.notes == {"normal": "it has no kernel"}
    text = repr(done)
    assert "\n× b " in text and "left alone: normal: it has no kernel" in text
    assert max(map(len, text.splitlines())) <= 100
    with pytest.raises(ValueError, match="save"):
        done.write(tmp_path / "file")


def test_where_nothing_is_good_enough_the_model_stays_and_a_warning_says_so(subject, result):
    options = {"floor": 1.0, "recovery": Recovery(epochs=0), "verbose": False}
    steps = descend(subject, [-1.0], scaled, name="scaled by {}".format, **options)
    with pytest.warns(UserWarning, match=r"stays as it came.*scaled by -1\.0.*larger max_drop"):
        done = finish(subject, steps)
    assert done.model is result.model
    with pytest.warns(UserWarning, match="no layer"):
        finish(subject, [])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"epochs": -1}, "epochs"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"distillation": 1.0}, "distillation"),
        ({"temperature": 0}, "temperature"),
        ({"normalization": "maybe"}, "normalization"),
        ({"schedule": "plateau"}, "schedule"),
        ({"epoch": 1}, "epochs"),
    ],
)
def test_recovery_is_checked(fields, words):
    with pytest.raises((TypeError, ValueError), match=words):
        open_recovery(fields, "compress")
    with pytest.raises(TypeError, match=r"recipes\.Recovery"):
        open_recovery(3, "compress")


# What else comes to the door


@pytest.mark.parametrize("precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"])
def test_what_trained_in_mixed_precision_is_compressed_in_single(precision, digits):
    options = {"weights": None, "epochs": 4, "learning_rate": 0.01, "verbose": False}
    mixed = recipes.finetune(small_network(), digits, **options, precision=precision)
    subject = open_subject(mixed, None, "compress", max_drop=0.02)
    assert {layer.compute_dtype for layer in subject.model.layers} == {"float32"}
    small = recipes.compress(mixed, steps=["fold", "quantize"], max_drop=0.1, verbose=False)
    assert small.rungs[-1].is_kept and small.content[4:8] == b"TFL3"
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in small.result.model.layers)


def test_images_that_were_trained_on_are_not_measured_later(digits, result, tmp_path):
    small = recipes.prune_weights(result.model, digits, sparsity=0.3, recovery=QUICK, max_drop=None, verbose=False)
    recipes.save(small.result, tmp_path / "small")
    seen = digits.train.images(0, 50), digits.train.labels[:50]
    with pytest.raises(ValueError, match="the classifier was trained on every one of these images"):
        recipes.evaluate(tmp_path / "small", seen)


def test_a_packed_rung_has_the_size_of_the_file(digits, result):
    small = recipes.share_weights(result.model, digits, bits=4, recovery=QUICK, max_drop=None, verbose=False)
    assert small.form == "packed"
    assert small.rungs[-1].stored_bytes == len(small.content) == small.result.report.cost["stored_bytes"]


def test_a_model_of_two_outputs_or_one_number_is_told_so(digits):
    image = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(image)
    two = keras.Model(image, [keras.layers.Dense(10)(flat), keras.layers.Dense(10)(flat)])
    with pytest.raises(ValueError, match="the model must be an image classifier"):
        recipes.evaluate(two, digits)
    one = keras.Model(image, keras.layers.Dense(1, activation="sigmoid")(flat))
    with pytest.raises(ValueError, match="a probability for each of two classes or more"):
        recipes.evaluate(one, digits)
