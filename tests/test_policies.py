"""Augmentation by name and strength: what each policy draws, that seeds alone decide, what becomes of mixed labels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import random_images, tiny_base

import recipes
from recipes import cli
from recipes.data.batches import change_each, training_batches
from recipes.training.augmentation import AUGMENTATIONS, flips, make_augmentation
from recipes.training.colouring import jitter
from recipes.training.objectives import CrossEntropy
from recipes.training.warping import warp, zoom

NAMES = [name for name in AUGMENTATIONS if name != "none"]
MIXED = ("mix_up", "cut_mix")
QUICK = [name for name in NAMES if name not in ("rand_augment", "aug_mix")]  # which take seconds to trace
every = pytest.mark.parametrize("name", NAMES)


def pair(number, seed=3):
    return tf.constant([seed, number], tf.int64)


def photos(count=12, size=16, channels=3):
    """Soft images, as changes of place are seen best in such."""
    random = np.random.default_rng(0)
    small = random.uniform(0, 255, (count, 4, 4, channels)).astype("float32")
    return tf.clip_by_value(tf.image.resize(small, (size, size), "bicubic"), 0, 255)


def change(name, images, number, strength=1.0):
    """Images, or (images, targets), changed; targets are the images' own numbers."""
    augment = make_augmentation(name, 0, "test", strength)
    if getattr(augment, "mixes", False):
        return augment(images, pair(number), tf.one_hot(np.arange(len(images)), len(images)))
    return augment(images, pair(number))


# Laws of every policy


@every
def test_images_stay_float_images_and_the_pair_alone_decides(name):
    images = photos()
    augment = make_augmentation(name, 0, "test")
    mixes = getattr(augment, "mixes", False)
    targets = (tf.one_hot(np.arange(12), 12),) if mixes else ()
    run = tf.function(augment, autograph=False)
    first, other, again = (run(images, pair(number), *targets) for number in (1, 2, 1))
    if mixes:
        np.testing.assert_array_equal(first[1], again[1])
        first, other, again = first[0], other[0], again[0]
    assert first.dtype == tf.float32
    assert first.shape == images.shape
    assert first.numpy().min() >= 0 and first.numpy().max() <= 255
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, images)


@pytest.mark.parametrize("name", QUICK)
def test_batches_are_the_same_whatever_came_before(name, photo_data):
    def batches(start):
        augment = make_augmentation(name, 0, "test")
        made = training_batches(photo_data.train, 8, epochs=2, seed=5, augment=augment, start=start, classes=3)
        return [tuple(part.numpy() for part in batch) for batch in made]

    whole, rest = batches(0), batches(3)
    assert len(rest) == len(whole) - 3
    for one, two in zip(whole[3:], rest, strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", [name for name in QUICK if name not in MIXED] + ["rand_augment"])
def test_a_view_depends_on_no_neighbour(name):
    images, seeds = photos(5), np.array([[k, 7] for k in range(5)], np.int64)
    changed = change_each(make_augmentation(name, 0, "test"))
    whole, part = changed(images, seeds), changed(images[2:4], seeds[2:4])
    # Sums over one image are the same; what a batch adds is no more than rounding.
    np.testing.assert_allclose(whole[2:4], part, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_no_strength_is_no_augmentation(name):
    assert make_augmentation(name, 0, "test", strength=0) is None
    assert make_augmentation("none", 0, "test") is None


@pytest.mark.parametrize("name", ["light", "photo", "scan", "resnet", "strong"])
def test_strength_scales_the_change(name):
    images = photos(64)
    changes = [float(np.abs(change(name, images, 1, strength) - images).mean()) for strength in (1e-3, 0.3, 1.0)]
    assert changes[0] < changes[1] < changes[2]
    assert changes[0] < 0.5  # of 255: next to nothing


@pytest.mark.parametrize("name", ["flip", "light", "photo", "resnet", "strong"])
def test_half_of_the_images_are_flipped(name):
    """Images that are dark on the left: none of the policies moves the light so far as to undo a flip."""
    dark = np.zeros((200, 16, 16, 3), np.float32)
    dark[:, :, 8:] = 200
    changed = change(name, tf.constant(dark), 1).numpy()
    left, right = changed[:, :, :4].mean((1, 2, 3)), changed[:, :, -4:].mean((1, 2, 3))
    share = np.mean(left > right)
    assert 0.3 < share < 0.65  # of 200 draws; resnet's crops may hold one side alone
    assert flips(name) and flips([name, "mix_up"])


@pytest.mark.parametrize("name", ["light", "photo", "scan", "resnet", "strong", "mix_up", "cut_mix"])
@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_are_taken(name, channels):
    changed = change(name, photos(4, channels=channels), 1)
    assert (changed[0] if name in MIXED else changed).shape[-1] == channels


# What single changes do


def test_resnet_crops_have_a_short_side_of_256_to_480_for_224():
    """On an image whose value is its column, the step from pixel to pixel tells the scale of each crop."""
    columns = np.broadcast_to(np.arange(224, dtype="float32")[None, None, :, None], (300, 8, 224, 1))
    crops = zoom(tf.constant(columns), tf.constant([1, 2], tf.int64), (256 / 224, 480 / 224), True).numpy()
    steps = (crops[:, 0, 200, 0] - crops[:, 0, 20, 0]) / 180
    short_sides = 224 / steps
    assert 255 < short_sides.min() < 262 and 474 < short_sides.max() < 481
    assert abs(short_sides.mean() - 368) < 12  # uniform; 300 draws have a standard error of 3.7
    assert crops.min() >= 0 and crops.max() <= 223


def test_warp_reads_where_a_hand_made_map_says():
    """Each pixel's own coordinates, warped, are the map; it must be flip, turn, shear and stretch about the centre."""
    tall, wide = 20, 30
    rows, columns = np.mgrid[:tall, :wide].astype("float32")
    images = np.broadcast_to(np.stack([columns, rows], -1), (40, tall, wide, 2))
    limits = {"rotation": 10, "shear": 0.1, "stretch": 0.2, "zoom": 0.1, "shift": 0.1}
    read = warp(tf.constant(images), pair(5), flips=0.5, **limits).numpy()
    flipped = 0
    for found in read:
        # From three pixels near the centre, which lie inside, the affine map; then its parts.
        origin, right, below = found[10, 15], found[10, 16], found[11, 15]
        matrix = np.stack([right - origin, below - origin], 1)  # columns: where a step right and one down lead
        flipped += matrix[0, 0] < 0
        matrix[0] *= np.sign(matrix[0, 0])
        area = np.linalg.det(matrix)
        assert np.exp(-0.2) * 0.97 < area < np.exp(0.2) * 1.03
        # Within the limits, no entry off the diagonal exceeds sin 10° + shear, stretched and zoomed.
        assert np.abs(matrix[[0, 1], [1, 0]]).max() < (np.sin(np.pi / 18) + 0.1) * np.exp(0.2) + 0.01
        centre = found[9:11, 14:16].mean((0, 1))  # what the centre shows
        assert abs(centre[0] - 14.5) < 0.1 * wide + 0.01 and abs(centre[1] - 9.5) < 0.1 * tall + 0.01
    assert 10 <= flipped <= 30


def test_a_warp_of_nothing_changes_nothing():
    images = photos(3)
    np.testing.assert_allclose(warp(images, pair(1), flips=0.0), images, atol=1e-3)


def test_a_turn_of_colours_leaves_grey_and_lightness_alone():
    grey = np.full((5, 4, 4, 3), 100, np.float32)
    np.testing.assert_allclose(jitter(tf.constant(grey), pair(1), saturation=0.4, hue=90), grey, atol=1e-2)
    colours = np.random.default_rng(0).uniform(100, 150, (5, 4, 4, 3)).astype("float32")  # nothing is clipped
    changed = jitter(tf.constant(colours), pair(1), saturation=0.4, hue=30).numpy()
    lightness = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(changed @ lightness, colours @ lightness, atol=1e-2)
    assert np.abs(changed - colours).mean() > 2


def test_rand_augment_picks_for_each_image_by_itself():
    images = tf.repeat(photos(1), 12, axis=0)
    changed = change("rand_augment", images, 1).numpy()
    assert len({image.tobytes() for image in changed}) > 8


# Mixed labels


@pytest.mark.parametrize("name", MIXED)
def test_labels_are_mixed_as_the_pixels_are(name):
    """Image k is k everywhere: its mean afterwards must be what its label says."""
    count = 20
    images = np.broadcast_to(np.arange(count, dtype="float32")[:, None, None, None], (count, 17, 13, 3))
    mixed, targets = change(name, tf.constant(images), 1)
    np.testing.assert_allclose(np.sum(targets, -1), 1, atol=1e-6)
    assert np.min(targets) >= 0
    np.testing.assert_allclose(
        np.mean(mixed, (1, 2, 3)), targets.numpy() @ np.arange(count, dtype="float32"), atol=1e-4
    )
    own = np.diagonal(targets)
    assert own.min() < 0.9 and len(set(own.round(4))) > 5


def test_cut_mix_pastes_a_box():
    images = tf.constant(np.broadcast_to(np.arange(2, dtype="float32")[:, None, None, None], (2, 16, 16, 1)))
    pasted = [change("cut_mix", images, number)[0].numpy()[0, :, :, 0] for number in range(20)]
    for mask in pasted:
        assert np.array_equal(mask, np.outer(mask.max(1), mask.max(0)))  # a box, and all of it
    assert len({mask.sum() for mask in pasted}) > 8


def test_shares_follow_their_distribution():
    images = tf.zeros((4000, 1, 1, 1))
    for strength in (0.05, 1.0, 2.0):
        augment = make_augmentation("mix_up", 0, "test", strength)
        shares = augment(images, pair(1), tf.tile(tf.constant([[1.0, 0.0], [0.0, 1.0]]), (2000, 1)))[1][::2, 0].numpy()
        alpha = 0.2 * strength
        assert np.isfinite(shares).all()
        assert abs(shares.mean() - 0.5) < 0.05
        assert abs(shares.var() - 0.25 / (2 * alpha + 1)) < 0.02  # of Beta(α, α)


def test_cross_entropy_takes_shares_and_numbers():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), 6).astype("float32")
    shares = random.dirichlet(np.ones(3), 6).astype("float32")
    numbers = np.array([0, 2, 1, 1, 0, 2], np.int32)
    for smoothing in (0.0, 0.1):
        loss = CrossEntropy(smoothing, 3)
        for labels, targets in ((tf.constant(shares), shares), (tf.constant(numbers), np.eye(3)[numbers])):
            wanted = -np.sum((targets * (1 - smoothing) + smoothing / 3) * np.log(probabilities), -1)
            np.testing.assert_allclose(loss(labels, tf.constant(probabilities)), wanted, rtol=1e-4)


def test_training_on_mixed_labels(photo_data):
    options = {"plan": "all", "epochs": 12, "learning_rate": 0.05, "batch_size": 8, "verbose": False}
    result = recipes.finetune(tiny_base(), photo_data, augmentation=["flip", "cut_mix"], label_smoothing=0.1, **options)
    curves = result.report.curves
    assert curves["loss"][-1] < curves["loss"][0]
    assert all(0 <= value <= 1 for value in curves["accuracy"])
    assert result.report.scores["accuracy"] > 0.5  # three classes: chance is a third


def test_a_batch_in_parts_mixes_as_the_whole(photo_data):
    """`batch_size="auto"` cuts batches that are mixed already, soft labels and all."""
    results = [
        recipes.finetune(
            tiny_base(), photo_data, augmentation="mix_up", plan="head", epochs=1, batch_size=size, verbose=False
        ).model.get_weights()
        for size in (32, "auto")
    ]
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


# What is refused, and the picture


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"augmentation": "mix_up", "views": 2}, ValueError, "views are of one image each"),
        ({"augmentation": ["flip", "mixup"]}, ValueError, "Did you mean 'mix_up'"),
        ({"augmentation": ["flip", 3]}, TypeError, "augmentation is of no known kind"),
        ({"augmentation": "none", "views": 2}, ValueError, "views needs an augmentation"),
        ({"augmentation": "photo", "augmentation_strength": 3}, ValueError, "augmentation_strength must be at least 0"),
        ({"augmentation": "photo", "augmentation_strength": "strong"}, TypeError, "augmentation_strength must be a"),
        (
            {"augmentation": keras.layers.RandomFlip(), "augmentation_strength": 0.5},
            ValueError,
            "augmentation_strength is for policies by name",
        ),
    ],
)
def test_bad_arguments(photo_data, arguments, error, said):
    with pytest.raises(error, match=said):
        recipes.finetune(tiny_base(), photo_data, verbose=False, **arguments)


def test_policies_of_colours_refuse_grey_images():
    images = random_images(np.random.default_rng(0), 40, channels=1)
    data = recipes.load_data((images, np.arange(40) % 2))
    with pytest.raises(ValueError, match="augmentation='rand_augment' takes RGB images"):
        recipes.finetune(tiny_base(channels=1), data, augmentation="rand_augment", verbose=False)


def test_views_of_another_strength_are_other_views(photo_data, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = {"plan": "head", "epochs": 2, "views": 2, "augmentation": "light", "verbose": False, "cache": True}
    losses = [
        recipes.finetune(tiny_base(), photo_data, augmentation_strength=strength, **options).report.curves["loss"]
        for strength in (1.0, 2.0, 1.0)
    ]
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.parametrize("augmentation", [None, "strong", ["flip", "mix_up"], keras.layers.RandomFlip()])
def test_the_picture_has_originals_and_versions(augmentation, photo_data):
    figure = recipes.plot_augmentation(augmentation, photo_data, images=3, versions=2)
    assert len(figure.axes) == 9
    assert [axes.get_title() for axes in figure.axes[::3]] == ["blue", "green", "red"]
    originals = [axes.images[0].get_array() for axes in figure.axes[::3]]
    assert len({image.tobytes() for image in originals}) == 3
    known = {image.tobytes() for image in photo_data.train.images()}
    assert all(np.asarray(image).tobytes() in known for image in originals)


def test_commands_and_jobs_take_names_lists_and_strengths(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("augmentation: [scan, mix_up]\naugmentation_strength: 0.5\n")
    words = ["small_resnet", "digits"]
    for more, wanted in (
        (["--config", str(job)], (["scan", "mix_up"], 0.5)),
        (["--augmentation", '["scan", "mix_up"]'], (["scan", "mix_up"], 1.0)),
        (["--augmentation", "scan", "--augmentation-strength", "1.5"], ("scan", 1.5)),
        (["--augmentation", "none"], (None, 1.0)),
    ):
        more = [word.replace("-strength", "_strength") for word in more]  # as `main` does
        taken = cli._parse("finetune", recipes.finetune, [*words, *more])
        assert (taken["augmentation"], taken["augmentation_strength"]) == wanted


@pytest.mark.parametrize("name", QUICK)
def test_every_policy_takes_the_greatest_strength(name):
    changed = change(name, photos(), 8, 2.0)
    assert np.isfinite(changed[0] if name in MIXED else changed).all()
