"""The augmentation layers: what they draw, what they do to an image, and that seeds repeat it."""

import keras
import numpy as np
import pytest
from cases_augmentation import mean_over_crops, reference_resize, small_classifier
from keras import ops

import layers
from layers.augmentation.pca_lighting import IMAGENET_EIGENVALUES, IMAGENET_EIGENVECTORS

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
MAKE = {
    "RandomResizedCrop": lambda seed=1, **more: layers.RandomResizedCrop((12, 10), seed=seed, **more),
    "RandomScaleCrop": lambda seed=1, **more: layers.RandomScaleCrop(10, short_side=(11, 20), seed=seed, **more),
    "RandomStretch": lambda seed=1, **more: layers.RandomStretch((0.5, 2.0), seed=seed, **more),
    "LensDistortion": lambda seed=1, **more: layers.LensDistortion((-0.3, 0.5), seed=seed, **more),
    "PCALighting": lambda seed=1, **more: layers.PCALighting(seed=seed, **more),
}
all_layers = pytest.mark.parametrize("name", MAKE)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def noise(batch=4, height=16, width=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3)).astype("uint8")


def ramp(batch, height, width):
    """Images whose first channel is the row of each pixel and whose second is its column."""
    rows, columns = np.mgrid[:height, :width]
    return np.broadcast_to(np.stack([rows, columns], -1), (batch, height, width, 2)).astype("float32")


def windows(layer, batch, height, width):
    """(top, left, height, width) of many draws."""
    return [numpy(part) for part in layer.draw_windows(ops.zeros((batch, height, width, 1)))]


@all_layers
def test_each_image_is_changed_in_its_own_way(name):
    images = np.repeat(noise(1), 6, axis=0)
    changed = numpy(MAKE[name]()(images, training=True))
    assert len({image.tobytes() for image in changed}) == 6


@all_layers
def test_a_seed_repeats_and_calls_differ(name):
    images = noise()
    first, again = MAKE[name](), MAKE[name]()
    once = numpy(first(images, training=True))
    np.testing.assert_array_equal(once, numpy(again(images, training=True)))
    assert not np.array_equal(once, numpy(first(images, training=True)))
    assert not np.array_equal(once, numpy(MAKE[name](seed=2)(images, training=True)))


@all_layers
def test_one_image_is_a_batch_of_one(name):
    image = noise(1)
    for training in (True, False):
        alone, batch = MAKE[name]()(image[0], training=training), MAKE[name]()(image, training=training)
        np.testing.assert_allclose(numpy(alone), numpy(batch)[0], atol=1e-4)


@all_layers
def test_bytes_and_floats_give_the_same_and_stay_in_range(name):
    images = noise()
    for training in (True, False):
        changed = numpy(MAKE[name]()(images, training=training))
        floats = numpy(MAKE[name]()(images.astype("float32"), training=training))
        assert changed.dtype == "float32"
        np.testing.assert_array_equal(changed, floats)
        if name != "PCALighting":  # which is not clipped
            assert changed.min() >= 0
            assert changed.max() <= 255.001


@all_layers
def test_in_a_model_that_is_fitted(name):
    images = noise(8).astype("float32")
    layer = MAKE[name]()
    model = keras.Sequential(
        [keras.Input((16, 20, 3)), layer, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    state = numpy(layer.generator.state).copy()
    model.fit(images / 255, np.arange(8) % 2, batch_size=4, epochs=1, verbose=0)
    assert not np.array_equal(numpy(layer.generator.state), state)  # it drew


@pytest.mark.skipif(not ON_TENSORFLOW, reason="tf.data maps layers only on the TensorFlow backend")
@all_layers
def test_in_a_tf_data_pipeline(name):
    import tensorflow as tf

    images = np.repeat(noise(1), 8, axis=0)
    layer = MAKE[name]()
    if not layer.built:
        layer.build((None, None, None, 3))
    data = tf.data.Dataset.from_tensor_slices(images)
    for source in (data, data.batch(3)):
        out = [numpy(image) for image in source.map(lambda image: layer(image, training=True))]
        assert out[0].shape[-3:] == layer.compute_output_shape((16, 20, 3))
        assert len({image.tobytes() for image in np.concatenate([np.atleast_1d(each) for each in out])}) > 3


@pytest.mark.parametrize("name", ["RandomStretch", "LensDistortion", "PCALighting"])
def test_without_training_images_are_unchanged(name):
    images = noise()
    np.testing.assert_array_equal(numpy(MAKE[name]()(images)), images)


def test_areas_aspects_and_places_of_crops_are_uniform():
    count, height, width = 20000, 30, 20
    top, left, tall, wide = windows(layers.RandomResizedCrop(8, scale=(0.1, 0.5), seed=3), count, height, width)
    area, aspect = tall * wide / (height * width), np.log(wide / tall)
    assert 0.1 <= area.min() < 0.101
    assert 0.499 < area.max() <= 0.5 + 1e-6
    # 20,000 draws: the error of a uniform mean is 0.4/√12/141 = 0.0008, taken four times.
    assert area.mean() == pytest.approx(0.3, abs=0.0035)
    assert area.std() == pytest.approx(0.4 / 12**0.5, abs=0.003)
    assert np.exp(np.abs(aspect).max()) <= 4 / 3 + 1e-4
    assert aspect.mean() == pytest.approx(0, abs=0.005)
    assert aspect.std() == pytest.approx(2 * np.log(4 / 3) / 12**0.5, abs=0.004)
    for start, extent, side in ((top, tall, height), (left, wide, width)):
        place = start / (side - extent)
        assert place.min() >= 0
        assert place.max() <= 1
        assert place.mean() == pytest.approx(0.5, abs=0.01)
        assert place.std() == pytest.approx(1 / 12**0.5, abs=0.005)
    assert abs(np.corrcoef(area, aspect)[0, 1]) < 0.03


def test_crops_that_cannot_fit_fall_back_to_the_center():
    """In a strip of 20 × 200 no window of half the area is at most 4/3 wide."""
    top, left, tall, wide = windows(layers.RandomResizedCrop(8, scale=(0.5, 1.0)), 5, 20, 200)
    np.testing.assert_allclose(tall, 20)
    np.testing.assert_allclose(wide, 20 * 4 / 3, rtol=1e-5)
    np.testing.assert_allclose(top, 0)
    np.testing.assert_allclose(left, (200 - wide) / 2, rtol=1e-5)


@pytest.mark.parametrize("size", [(16, 20), (7, 9), (40, 30)])
def test_the_whole_image_as_window_equals_the_resize_of_keras(size):
    images = noise(2).astype("float32")
    layer = layers.RandomResizedCrop(size, scale=(1, 1), aspect=(20 / 16, 20 / 16))
    expected = numpy(ops.image.resize(images, size, antialias=True))
    np.testing.assert_allclose(numpy(layer(images, training=True)), expected, atol=0.02)


def test_a_crop_shows_the_window_that_was_drawn():
    layer, twin = (layers.RandomResizedCrop((5, 6), scale=(0.02, 0.05), seed=4) for _ in range(2))
    images = ramp(8, 60, 80)
    top, left, tall, wide = windows(twin, 8, 60, 80)
    shown = numpy(layer(images, training=True))
    rows = top[:, None] + (np.arange(5) + 0.5) * tall[:, None] / 5 - 0.5
    columns = left[:, None] + (np.arange(6) + 0.5) * wide[:, None] / 6 - 0.5
    inner = (rows > 3) & (rows < 56)  # averages over a pixel's surroundings end at the border
    np.testing.assert_allclose(shown[..., 0].mean(2)[inner], rows[inner], atol=0.15)
    inner = (columns > 3) & (columns < 76)
    np.testing.assert_allclose(shown[..., 1].mean(1)[inner], columns[inner], atol=0.15)


def test_crops_at_inference_are_central():
    images = ramp(1, 20, 30)
    shown = numpy(layers.RandomResizedCrop(20)(images))[0]
    np.testing.assert_allclose(shown[..., 1], np.broadcast_to(np.arange(5, 25), (20, 20)), atol=1e-4)
    shown = numpy(layers.RandomScaleCrop(10, short_side=(20, 25))(images))[0]
    np.testing.assert_allclose(shown[..., 0], np.broadcast_to(np.arange(5, 15)[:, None], (10, 10)), atol=1e-4)
    np.testing.assert_allclose(shown[..., 1], np.broadcast_to(np.arange(10, 20), (10, 10)), atol=1e-4)


def test_short_sides_are_uniform_and_aspects_kept():
    top, left, tall, wide = windows(layers.RandomScaleCrop((224, 112), short_side=(256, 480), seed=5), 20000, 30, 40)
    np.testing.assert_allclose(tall / wide, 2, rtol=1e-5)
    short = 30 * 224 / tall
    assert short.min() + 1e-3 >= 256
    assert short.max() <= 480 + 1e-3
    assert short.mean() == pytest.approx(368, abs=2)
    assert short.std() == pytest.approx(224 / 12**0.5, abs=1)
    assert (top >= 0).all()
    assert (top + tall <= 30.0001).all()
    assert (left / (40 - wide)).mean() == pytest.approx(0.5, abs=0.01)


def test_a_stretch_keeps_the_center_and_one_axis():
    layer, twin = (layers.RandomStretch((0.5, 2.0), seed=6) for _ in range(2))
    images = ramp(30, 33, 21)
    _, _, tall, wide = windows(twin, 30, 33, 21)
    shown = numpy(layer(images, training=True))
    np.testing.assert_allclose(shown[:, 16, 10], np.broadcast_to([16, 10], (30, 2)), atol=1e-3)
    assert ((tall == 33) | (wide == 21)).all()
    assert (tall < 33).any()
    assert (wide < 21).any()
    np.testing.assert_allclose(shown[:, 18, 10, 0] - 16, 2 * tall / 33, atol=1e-3)
    np.testing.assert_allclose(shown[:, 16, 12, 1] - 10, 2 * wide / 21, atol=1e-3)


@pytest.mark.parametrize(("first", "second"), [(0.3, 0.0), (-0.25, 0.0), (0.1, -0.1), (0.0, 0.2)])
def test_a_known_grid_is_distorted_by_the_polynomial(first, second):
    """Each pixel shows the place it was read from, as far as that lies in the image."""
    layer = layers.LensDistortion((first, first), quartic_factor=(second, second))
    shown = numpy(layer(ramp(1, 41, 61), training=True))[0]
    down, right = (np.mgrid[:41, :61].T - [30, 20][::-1]).T
    square = (down**2 + right**2) / (20**2 + 30**2)
    stretch = 1 + first * square + second * square**2
    rows, columns = 20 + down * stretch, 30 + right * stretch
    inside = (rows >= 0) & (rows <= 40) & (columns >= 0) & (columns <= 60)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(shown[inside], np.stack([rows, columns], -1)[inside], atol=1e-3)
    # A barrel draws the corners in, so that places beyond them would be read; a pincushion the reverse.
    assert inside.all() == (stretch <= 1).all()


@pytest.mark.parametrize("fill_mode", ["reflect", "nearest", "constant"])
def test_what_lies_outside_is_filled(fill_mode):
    layer = layers.LensDistortion((0.6, 0.6), fill_mode=fill_mode)
    shown = numpy(layer(ramp(1, 21, 21) + 100, training=True))[0]
    # The corner reads 6 pixels outside, at −6: its reflection is the pixel at 5, since the edge pixel counts twice.
    np.testing.assert_allclose(shown[0, 0], {"reflect": 105, "nearest": 100, "constant": 0}[fill_mode], atol=1e-3)


def test_the_colours_added_have_the_covariance_of_the_formula():
    shift = numpy(layers.PCALighting(0.1, seed=7)(np.zeros((40000, 1, 1, 3), "float32"), training=True))[:, 0, 0]
    vectors, values = np.array(IMAGENET_EIGENVECTORS), np.array(IMAGENET_EIGENVALUES)
    expected = 0.01 * vectors @ np.diag(values**2) @ vectors.T
    # The relative error of a variance of 40,000 normal draws is √(2/40,000) = 0.7 %.
    np.testing.assert_allclose(np.cov(shift.T), expected, atol=0.03 * expected.max())
    np.testing.assert_allclose(shift.mean(0), 0, atol=0.1)


def test_one_colour_is_added_to_all_pixels_of_an_image():
    images = noise().astype("float32")
    shift = numpy(layers.PCALighting(1.0, seed=8)(images, training=True)) - images
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1, :1], shift.shape), atol=1e-3)


def test_adapt_finds_the_components_and_keeps_them(tmp_path):
    random = np.random.default_rng(9)
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
    deviations = np.array([60.0, 25.0, 8.0])
    images = 128 + (random.normal(size=(50, 40, 40, 3)) * deviations) @ rotation.T
    layer = layers.PCALighting(seed=1)
    layer.adapt(images)
    np.testing.assert_allclose(numpy(layer.amplitudes), deviations**2 / 255, rtol=0.03)
    np.testing.assert_allclose(np.abs(numpy(layer.directions).T @ rotation), np.eye(3), atol=0.03)
    parts = layers.PCALighting(seed=1)
    parts.adapt(batch for batch in np.split(images, 5))
    np.testing.assert_allclose(numpy(parts.amplitudes), numpy(layer.amplitudes), rtol=1e-5)
    model = keras.Sequential([keras.Input((4, 4, 3)), layer])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    np.testing.assert_array_equal(numpy(again.amplitudes), numpy(layer.amplitudes))


def test_channels_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"PCALighting: inputs must have 3 channels\. Received inputs of 1 channels"):
        layers.PCALighting()(np.zeros((2, 4, 4, 1), "float32"))
    with pytest.raises(ValueError, match="PCALighting: images must not be empty"):
        layers.PCALighting().adapt([])
    with pytest.raises(ValueError, match=r"LensDistortion: inputs must be of shape .*\(4, 4\)"):
        layers.LensDistortion()(np.zeros((4, 4), "float32"))


@pytest.mark.parametrize("crops", [1, 2, 5])
def test_fewer_crops_are_averaged_too(random, crops):
    layer, images = layers.CropAverage(small_classifier(), crops), random.normal(size=(2, 11, 10, 3)).astype("float32")
    found = keras.ops.convert_to_numpy(layer(images))
    np.testing.assert_allclose(found, mean_over_crops(layer, images), atol=1e-6)


def test_logits_are_averaged_as_logarithms(random):
    layer = layers.CropAverage(small_classifier(), 2, average="logits")
    images = random.normal(size=(3, 6, 7, 3)).astype("float32")
    one, other = (layer.model.predict(part, verbose=0) for part in (images, images[:, :, ::-1]))
    mean = np.sqrt(one * other)
    np.testing.assert_allclose(numpy(layer(images)), mean / mean.sum(-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("size", [(16, 18), (22, 26)])
def test_a_classifier_of_one_size_takes_ten_crops_of_each_scale(random, size):
    """Dense layers on all pixels; scales of 8: 8, 9, 14, 17 and 23."""
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    )
    layer = layers.CropAverage(model, "resnet")
    assert not layer.is_whole and layer.passes == 42
    images = random.normal(size=(2, *size, 1)).astype("float32")
    means = []
    for side in (8, 9, 14, 17, 23):
        resized = reference_resize(images, (side, side))
        ends = side - 8
        places = [(ends // 2, ends // 2)] + [(top, left) for top in (0, ends) for left in (0, ends)]
        views = [resized[:, top : top + 8, left : left + 8] for top, left in places]
        answers = [numpy(model(part)) for view in views for part in (view, view[:, :, ::-1])]
        means.append(np.mean(answers[:2] if side == 8 else answers, axis=0))
    np.testing.assert_allclose(numpy(layer(images)), np.mean(means, axis=0), atol=1e-6)


def test_passes_count_the_pixels_that_the_classifier_sees():
    assert [layers.CropAverage(small_classifier(), crops).passes for crops in (1, 2, 5, 10)] == [1, 2, 5, 10]
    model = keras.Sequential([keras.Input((224, 224, 1)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
    layer = layers.CropAverage(model, "resnet")
    assert layer.is_whole
    assert layer.passes == pytest.approx(2 * sum((side / 224) ** 2 for side in (224, 256, 384, 480, 640)))


def test_crops_that_are_larger_than_the_image_are_refused(random):
    with pytest.raises(ValueError, match=r"CropAverage: images must be at least as large as a crop, \(6, 7\)"):
        layers.CropAverage(small_classifier())(random.normal(size=(1, 6, 6, 3)))
