"""The sanity check: each fault is made, and its row fails and no other."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from cases import random_images, tiny_base

import recipes
from recipes.bases import least_image_size
from recipes.cli import main
from recipes.data.loading import pick
from recipes.sanity.labels import check_labels
from recipes.sanity.subject import balanced, open_subject


def labelled(count=150, change=None, shuffled=False):
    """Data of three classes that differ in brightness and colour."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = random_images(random, count) // 3 + (labels * 50).astype(np.uint8)[:, None, None, None]
    images[..., 0] += 30
    images = images if change is None else change(images)
    return recipes.load_data((images, random.permutation(labels) if shuffled else labels), valid=0.4, test=0.1)


@pytest.fixture(scope="module")
def data():
    return labelled()


@keras.saving.register_keras_serializable("tests")
class Disconnected(keras.layers.Layer):
    """Hands on what it is given, and no gradient."""

    def call(self, inputs):
        return keras.ops.stop_gradient(inputs)


def classifier(before=None, between=None, last=0.1, after=(), scale=1 / 127.5, offset=-1.0):
    """A classifier of three classes, from random weights."""
    keras.utils.set_random_seed(3)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(scale, offset, name="scaling")(image)
    for layer in [before] if before is not None else []:
        x = layer(x)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="low")(x)
    for layer in [between] if between is not None else []:
        x = layer(x)
    x = keras.layers.Conv2D(16, 3, activation="relu", name="high")(x)
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(x))
    start = keras.initializers.RandomNormal(stddev=last, seed=0)
    x = keras.layers.Dense(3, activation="softmax", kernel_initializer=start, name="told")(x)
    for layer in after:
        x = layer(x)
    return keras.Model(image, x, name="made")


def with_weights(model, name, change):
    layer = model.get_layer(name)
    layer.set_weights([change(weight) for weight in layer.get_weights()])
    return model


def dead(model):
    kernel, bias = model.get_layer("high").get_weights()
    model.get_layer("high").set_weights([kernel, bias - 1e6])
    return model


def remembering(images, **scaling):
    """A classifier whose BatchNormalization has seen these images."""
    normalization = keras.layers.BatchNormalization(momentum=0.0, name="remembers")
    model = classifier(between=normalization, **scaling)
    keras.Model(model.input, normalization.output)(images.astype("float32"), training=True)
    return model


def faded(images):
    """Every fifth of one colour."""
    return np.where(np.arange(len(images))[:, None, None, None] % 5, images, images[:, :1, :1])


FAULTS = {
    "weights that are no numbers": (
        "weights",
        lambda: with_weights(classifier(), "low", lambda weight: weight * np.nan),
        labelled,
        "no numbers (NaN or infinite) in low/kernel",
    ),
    "dead ReLUs": ("gradients", lambda: dead(classifier()), labelled, "low/kernel, low/bias, high/kernel"),
    "a layer that is cut off": (
        "gradients",
        lambda: classifier(between=Disconnected()),
        labelled,
        "zero for 2 of 6 weights that train: low/kernel, low/bias",
    ),
    "scaled twice": (
        "preprocessing",
        lambda: classifier(keras.layers.Rescaling(1 / 255, 0.0)),
        labelled,
        "scaled twice",
    ),
    "not scaled": ("preprocessing", lambda: classifier(scale=1.0, offset=0.0), labelled, "holds no preprocessing"),
    "red for blue": (
        "preprocessing",
        lambda: remembering(labelled().train.images()),
        lambda: labelled(change=lambda images: images[..., ::-1]),
        "exchanged",
    ),
    "scaling left out": (
        "preprocessing",
        lambda: remembering(labelled().train.images() / 127.5 - 1, scale=1.0, offset=0.0),
        labelled,
        "expects -1–1 and holds no scaling",
    ),
    "nearly black": ("pixels", classifier, lambda: labelled(change=lambda images: images // 40), "scaled to 0–1"),
    "of one colour": ("pixels", classifier, lambda: labelled(change=faded), "of one colour"),
    "shuffled labels": ("labels", classifier, lambda: labelled(shuffled=True), "belong to other images"),
    "a wild last layer": ("loss at start", lambda: classifier(last=100.0), labelled, "too large at start"),
    "softmax twice": (
        "overfitting",
        lambda: classifier(after=[keras.layers.Softmax()]),
        labelled,
        "Softmax applied twice",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_fails_its_own_row(fault):
    row, make, load, said = FAULTS[fault]
    checkup = recipes.check(make(), load())
    assert checkup.failed == (row,), repr(checkup)
    finding = checkup[row]
    assert said in " ".join((finding.measured, finding.cause, finding.mend))
    assert finding.cause and finding.mend and not checkup.passed
    assert f"failed   {row}" in repr(checkup) and max(map(len, repr(checkup).splitlines())) <= 100


def test_a_sound_classifier_passes_and_stays_as_it_is(data):
    model = classifier()
    before, images = model.get_weights(), data.train.images()
    checkup = recipes.check(model, data)
    assert checkup.passed and {finding.status for finding in checkup.findings} == {"passed"}, repr(checkup)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.5]
    np.testing.assert_array_equal(data.train.images(), images)
    again = recipes.check(model, data)
    assert [finding.measured for finding in again.findings] == [finding.measured for finding in checkup.findings]
    assert float(checkup["loss at start"].measured.split()[0]) == pytest.approx(np.log(3), abs=0.1)


def test_what_stays_behind_does_not_differ_by_the_test_before(data):
    """Every test starts from the same weights: each alone measures what it does in the row."""
    checkup = recipes.check(classifier(), data)
    subject = open_subject(classifier(), data, "pretrained", None, "linear", None, 0, "check")
    assert check_labels(subject) == checkup["labels"]


def test_frozen_layers_are_named_and_no_fault(data):
    model = classifier()
    model.get_layer("low").trainable = False
    checkup = recipes.check(model, data)
    assert checkup.passed and "1 layers are frozen: low" in checkup["gradients"].measured
    model.trainable = False
    assert recipes.check(model, data)["gradients"].cause == "Every layer is frozen."


def test_weights_behind_a_factor_that_starts_at_zero_are_reached(data):
    plain = classifier()
    low = plain.get_layer("low").output
    factor = keras.layers.BatchNormalization(gamma_initializer="zeros", name="factor")
    sum_ = low + factor(keras.layers.Conv2D(8, 3, padding="same", name="behind")(low))
    told = keras.layers.Dense(3, activation="softmax", name="end")(keras.layers.GlobalAveragePooling2D()(sum_))
    checkup = recipes.check(keras.Model(plain.input, told), data)
    assert checkup["gradients"].status == "passed", repr(checkup)


def test_a_base_gets_the_head_of_finetune(data):
    checkup = recipes.check(tiny_base(), data)
    assert checkup.passed and checkup.network == "tiny", repr(checkup)


@pytest.mark.slow
def test_small_resnet_and_digits():
    data = recipes.load_data("digits", image_size=16)
    assert recipes.check("small_resnet", data, augmentation="scan").passed


@pytest.mark.slow
@pytest.mark.parametrize(
    "base",
    [
        *("vgg16", "resnet50", "resnet50_v2", "mobilenet_025", "mobilenet_v3_small", "densenet121", "efficientnet_b0"),
        *("squeezenet", "googlenet", "cifar_densenet40", "highway10", "convnext_tiny", "inception_v3", "nasnet_mobile"),
    ],
)
def test_networks_of_the_catalogue_pass(base):
    checkup = recipes.check(base, "digits", weights=None, image_size=max(16, least_image_size(base)))
    assert checkup.passed, repr(checkup)


def test_results_and_their_folders(data, tmp_path):
    result = recipes.finetune(tiny_base(), data, plan="head", epochs=2, verbose=False)
    checkup = recipes.check(result)
    assert checkup.passed and checkup["loss at start"].measured == "The head is trained."
    assert recipes.check(result.save(tmp_path / "saved"), data).passed
    with pytest.raises(ValueError, match="check: data must be given"):
        recipes.check(tmp_path / "saved")


def test_a_picture_of_what_the_network_sees(data, tmp_path):
    checkup = recipes.check(classifier(), data, augmentation="flip", steps=1)
    assert list(checkup.seen) == ["images", "augmented", "preprocessed"] and len(checkup.labels) == 8
    np.testing.assert_allclose(checkup.seen["preprocessed"], checkup.seen["augmented"] / 127.5 - 1, atol=1e-6)
    flipped = [
        np.array_equal(one, other) or np.array_equal(one, other[:, ::-1])
        for one, other in zip(checkup.seen["augmented"], checkup.seen["images"], strict=True)
    ]
    assert all(flipped)
    figure = checkup.show()
    assert len(figure.axes) == 24 and figure.axes[0].get_title() == checkup.labels[0]
    assert figure.axes[16].get_ylabel().startswith("as the first weights")
    checkup.save(tmp_path / "checkup.json")
    assert json.loads((tmp_path / "checkup.json").read_text())["passed"] is checkup.passed


def test_images_are_drawn_from_all_classes_and_none_twice(data):
    doubled = pick(data.train, [*range(len(data.train)), *range(10)])
    places = balanced(doubled, 12, seed=0)
    assert np.bincount(doubled.labels[places]).tolist() == [4, 4, 4]
    assert len({doubled.digests[place] for place in balanced(doubled, 1000, seed=0)}) == len(data.train)


def test_bad_arguments(data):
    with pytest.raises(ValueError, match="steps must be at least 1"):
        recipes.check(classifier(), data, steps=0)
    with pytest.raises(ValueError, match="augmentation is not known"):
        recipes.check(classifier(), data, augmentation="flipp")
    with pytest.raises(ValueError, match="check: base is not known"):
        recipes.check("small_resnt", data)


def test_the_command_ends_with_4_where_a_test_fails(photos, tmp_path, capsys):
    tiny_base().save(tmp_path / "tiny.keras")
    assert main(["check", str(tmp_path / "tiny.keras"), "--data", str(photos), "--image_size=16"]) == 0
    assert "all is well" in capsys.readouterr().out
    broken = tiny_base()
    broken.layers[2].set_weights([weight * np.nan for weight in broken.layers[2].get_weights()])
    broken.save(tmp_path / "broken.keras")
    assert main(["check", str(tmp_path / "broken.keras"), "--data", str(photos), "--image_size=16"]) == 4
    assert "failed   weights" in capsys.readouterr().out


@pytest.mark.parametrize("counts", [(90, 25), (60, 20), (50, 50)])
@pytest.mark.parametrize("seed", range(3))
def test_few_images_of_two_classes_are_parted_within_each(counts, seed):
    """Dark and bright ones, without enough held-out images."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], counts)
    images = random.integers(0, 60, (len(labels), 16, 16, 3)) + 150 * labels[:, None, None, None]
    data = recipes.load_data((images.astype(np.uint8), labels), valid=0.0, test=0.0)
    finding = check_labels(open_subject("small_resnet", data, None, None, "linear", None, seed, "check"))
    assert finding.status == "passed", finding


def test_a_folder_of_the_name_of_a_base_is_not_taken_for_it(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small_resnet").mkdir()
    assert open_subject("small_resnet", data, None, None, "linear", None, 0, "check").model


def test_labels_of_a_result_go_by_their_names(data):
    """Data that names the same classes in another order."""
    result = recipes.finetune(tiny_base(), data, epochs=1, verbose=False)
    turned = {
        name: pick(getattr(data, name), range(len(getattr(data, name))), 2 - getattr(data, name).labels)
        for name in ("train", "valid", "test")
    }
    other = dataclasses.replace(data, class_names=data.class_names[::-1], **turned)
    subject = open_subject(result, other, None, None, "linear", None, 0, "check")
    assert subject.data.class_names == data.class_names
    np.testing.assert_array_equal(subject.data.train.labels, data.train.labels)
