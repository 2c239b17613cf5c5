"""When flips are warned of, and when not."""

import warnings

import numpy as np
import pytest
from cases import random_images, tiny_base

import recipes
from recipes.training.mirroring import _thumbnails, warn_of_flips


def told(data):
    """The warning, or None."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_flips(data, "finetune")
    return str(caught[0].message) if caught else None


def data_of(images, labels):
    return recipes.load_data((images.astype(np.uint8), np.asarray(labels)))


def test_digits_are_warned_of_by_measure():
    data = recipes.load_data("digits")
    assert "tell 99% right as they are and 33% flipped" in told(data)
    few = recipes.load_data("digits", valid=0, test=0.5)  # then some of the training images are asked
    assert "flipped" in told(few)


def test_class_names_that_are_numbers_say_nothing(random):
    assert told(data_of(random_images(random, 300), np.arange(300) % 10)) is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["turn left", "turn_right"], "left and right"),
        (list("abcdef"), "are letters"),
        (["left", "straight"], None),
        (["x", "cat"], None),
        (["copyright", "leftover"], None),
    ],
)
def test_names_of_classes(random, names, said):
    labels = np.array(names)[np.arange(60) % len(names)]
    warning = told(data_of(random_images(random, 60), labels))
    assert said in warning if said else warning is None


def blobs(count, random, sides):
    """Images with a light spot; `sides` gives its column for each."""
    images = random.normal(60, 12, (count, 16, 16, 3))
    for image, column in zip(images, sides, strict=True):
        row = random.integers(4, 12)
        image[row - 2 : row + 3, column : column + 4] += 120
    return images.clip(0, 255)


def test_classes_that_are_each_others_mirror_image_are_warned_of(random):
    labels = np.arange(240) % 2
    assert "flipped" in told(data_of(blobs(240, random, np.where(labels, 11, 1)), labels))


def test_images_that_may_face_either_way_are_not(random):
    """Classes differ in contrast and the spot stands on either side, as animals do in photos."""
    labels = np.arange(240) % 2
    images = blobs(240, random, random.choice([1, 11], 240))
    images[labels == 1, ::2] *= 0.5
    assert told(data_of(images, labels)) is None


@pytest.mark.parametrize("seed", range(5))
def test_chance_does_not_warn(seed):
    random = np.random.default_rng(seed)
    assert told(data_of(random_images(random, 400), random.integers(0, 2, 400))) is None


def test_few_images_tell_nothing(random):
    labels = np.arange(40) % 2
    assert told(data_of(blobs(40, random, np.where(labels, 11, 1)), labels)) is None


def test_thumbnails_keep_the_order_that_was_asked_for(photo_data):
    places = np.array([7, 2, 30, 11])
    together = _thumbnails(photo_data.train, places)
    for place, thumbnail in zip(places, together, strict=True):
        np.testing.assert_array_equal(_thumbnails(photo_data.train, np.array([place]))[0], thumbnail)


@pytest.mark.parametrize(
    ("arguments", "warns"),
    [
        ({"augmentation": "flip"}, True),
        pytest.param({"augmentation": ["mix_up", "light"]}, True, marks=pytest.mark.slow),
        ({"augmentation": "flip", "augmentation_strength": 0}, False),
        ({"augmentation": "scan"}, False),
        pytest.param({"augmentation": "cut_mix"}, False, marks=pytest.mark.slow),
        pytest.param({}, False, marks=pytest.mark.slow),
    ],
)
def test_only_policies_with_flips_are_asked(random, arguments, warns):
    labels = np.array(["left", "right"])[np.arange(48) % 2]
    data = data_of(random_images(random, 48), labels)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recipes.finetune(tiny_base(), data, plan="head", epochs=1, verbose=False, **arguments)
    assert any("left for right" in str(warning.message) for warning in caught) == warns
