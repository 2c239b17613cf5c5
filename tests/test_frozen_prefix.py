"""The frozen part runs once, and what comes out is what the plain loop gives."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import random_images, tiny_base

import recipes
from recipes.bases import build_network, cut_tensor, find_base, least_image_size, multiply_adds, split_at
from recipes.data.batches import change_each
from recipes.data.row_cache import RowCache, cache_limit, list_caches, make_room, set_cache_limit
from recipes.training import frozen_prefix
from recipes.training.frozen_prefix import Caching, Features, views_drawn

BLOCKS = [recipes.Stage("blocks", 3, 0.05, 1.0, 0.1, 0.01)]
HEAD_AND_BLOCKS = [recipes.Stage("head", 2, 0.05), recipes.Stage("blocks", 2, 0.05, 1.0, 0.1, 0.01)]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "keras-recipes"


@pytest.fixture
def computed(monkeypatch):
    """A list of `(shape of the rows that went in, how many)` for each time that a frozen part runs."""
    runs, original = [], frozen_prefix.ordered_rows

    def counting(rows, places, picks, *others):
        runs.append((rows.shape[1:], len(picks)))
        return original(rows, places, picks, *others)

    monkeypatch.setattr(frozen_prefix, "ordered_rows", counting)
    return runs


def arrays(random, count=32, size=16, classes=3):
    """Images whose brightness tells the class."""
    labels = np.arange(count) % classes
    images = random_images(random, count, size) // 3 + (labels * 60).astype(np.uint8)[:, None, None, None]
    return images, labels


def small_data(count=32, size=16, seed=0):
    return recipes.load_data(arrays(np.random.default_rng(seed), count, size), valid=0.25, test=0.0)


def tune(data, cache, base=None, **arguments):
    arguments = {"plan": BLOCKS, "batch_size": 8, "weight_decay": None, "verbose": False} | arguments
    return recipes.finetune(tiny_base() if base is None else base, data, cache=cache, **arguments)


def relative_difference(one, two):
    """The largest difference of two models' weights, relative to the largest number of each weight."""
    return max(
        float(np.abs(first - second).max() / max(np.abs(second).max(), 1e-12))
        for first, second in zip(one.model.get_weights(), two.model.get_weights(), strict=True)
    )


def probabilities(result, data):
    return result.model.predict(data.valid.images(), verbose=0)


# Cutting


@pytest.mark.parametrize(
    "name",
    [
        "small_resnet",
        "mobilenet_025",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("densenet121", "inception_v3")),
    ],
)
def test_a_cut_network_computes_what_the_whole_does(name):
    size = least_image_size(name)
    network = build_network(name, weights=None, image_size=size, class_count=3)
    images = random_images(np.random.default_rng(0), 2, size).astype("float32")
    whole = network.model.predict(images, verbose=0)
    for count in (1, len(network.blocks) // 2, len(network.blocks)):
        trained = {layer for block in network.blocks[count:] for layer in block.layers} | {"probabilities"}
        before, after = split_at(
            network.model, cut_tensor(network.model, lambda name, names=trained: name not in names)
        )
        last = [name for name in network.blocks[count - 1].layers if network.model.get_layer(name).weights][-1]
        assert last in {layer.name for layer in before.layers}, "a block that could be cut off was not"
        np.testing.assert_array_equal(after.predict(before.predict(images, verbose=0), verbose=0), whole)
        assert multiply_adds(before.layers) + multiply_adds(after.layers) == multiply_adds(network.model.layers)


def test_nothing_that_draws_at_random_is_cut_off():
    image = keras.Input((16, 16, 3))
    noisy = keras.layers.Conv2D(4, 3, name="second")(
        keras.layers.GaussianNoise(0.1)(keras.layers.Conv2D(4, 3, name="first")(image))
    )
    data, base = small_data(), keras.Model(image, noisy)
    network = build_network(base, image_size=16, class_count=3)
    for layer in network.model.layers:
        layer.trainable = layer.name == "probabilities"
    prefix = frozen_prefix.Prefix(network, quiet={name for block in network.blocks for name in block.layers})
    assert [layer.name for layer in prefix.frozen.layers if layer.weights] == ["first"]
    assert tune(data, cache=True, base=base, plan="head", epochs=1).report.scores["accuracy"] >= 0


@pytest.mark.parametrize("between", [True, False])
def test_no_cut_at_a_layer_that_is_called_twice(between):
    image, twice = keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 3, name="twice")
    once = keras.layers.ReLU(name="relu")(twice(image)) if between else twice(keras.layers.ReLU(name="relu")(image))
    model = keras.Model(image, keras.layers.Conv2D(2, 3, name="last")(twice(once)))
    before, after = split_at(model, cut_tensor(model, lambda name: name != "last"))
    assert before.layers[-1].name == "relu"
    images = np.random.default_rng(0).random((2, 8, 8, 3))
    np.testing.assert_array_equal(after.predict(before.predict(images, verbose=0), verbose=0), model.predict(images))


class Jitter(keras.layers.Layer):
    """Draws without a generator of its own; how much is in its code alone."""

    def call(self, inputs, training=None):
        return inputs + keras.random.uniform((1,), -9, 9) if training else inputs


class Doubled(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2


def base_with(layer):
    image = keras.Input((16, 16, 3))
    return keras.Model(image, keras.layers.Conv2D(4, 3, name="second")(layer(keras.layers.Conv2D(4, 3)(image))))


@pytest.mark.parametrize(
    "layer",
    [Jitter(name="changing"), keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 1), name="changing")],
    ids=["of the user's", "spectral normalization"],
)
def test_what_changes_in_training_is_not_cut_off(layer):
    network = build_network(base_with(layer), image_size=16, class_count=3)
    for layer in network.model.layers:
        layer.trainable = layer.name == "probabilities"
    assert "changing" not in frozen_prefix.Prefix(network, quiet=set()).layers


def test_rows_of_code_that_may_change_die_with_the_process(cache_folder, computed):
    tune(small_data(), True, base=base_with(Doubled()), plan="head", epochs=2)
    assert computed and not list(cache_folder.glob("features/*"))


@pytest.mark.parametrize("cache", [True, False])
def test_a_base_with_penalties_trains_through_two_stages(cache):
    image = keras.Input((16, 16, 3))
    penalized = keras.layers.Conv2D(4, 3, activity_regularizer="l2", kernel_regularizer="l2")(image)
    base = keras.Model(image, keras.layers.Conv2D(4, 3)(keras.layers.ReLU()(penalized)))
    assert len(tune(small_data(), cache, base=base, plan=HEAD_AND_BLOCKS).report.curves["loss"]) == 4


# Equal to the plain loop


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """`weights_file(name, size)`: random weights of a base, statistics of BatchNormalization among them."""

    def make(name, size):
        model = find_base(name).constructor(include_top=False, weights=None, input_shape=(size, size, 3))
        random = np.random.default_rng(0)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.set_weights([value + random.uniform(0, 0.2, value.shape) for value in layer.get_weights()])
        path = tmp_path_factory.mktemp("weights") / f"{name}.weights.h5"
        model.save_weights(path)
        return path

    return make


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("small_resnet", 32),
        *(
            pytest.param(name, 75 if name == "inception_v3" else 32, marks=pytest.mark.slow)
            for name in ("mobilenet_v2_035", "resnet50_v2", "densenet121", "inception_v3", "vgg16")
        ),
    ],
)
def test_cached_training_equals_the_plain_loop(name, size, weights_file):
    """Three epochs on the same images in the same order."""
    keras.backend.clear_session()
    data, path = small_data(24, size), weights_file(name, size)
    plan = [recipes.Stage("blocks", 3, 1e-3, 1.0, 0.1, 0.01)]
    momentum = keras.optimizers.SGD(1e-3, momentum=0.9)
    plain, cached = (tune(data, cache, name, weights=path, plan=plan, optimizer=momentum) for cache in (False, True))
    assert relative_difference(cached, plain) < 1e-5
    assert list_caches(), "nothing was cached"
    plain, cached = (tune(data, cache, name, weights=path, plan=plan, weight_decay=0.01) for cache in (False, True))
    # AdamW divides by the size of the gradient: where that is rounding alone, so is the step.
    np.testing.assert_allclose(probabilities(cached, data), probabilities(plain, data), atol=1e-3)


@pytest.mark.parametrize(
    "arguments", [{"head": (8,), "dropout": 0.4}, {"optimizer": "adamw"}, {"plan": HEAD_AND_BLOCKS}]
)
def test_every_way_of_training_comes_to_the_same(arguments):
    data = small_data()
    plain, cached = tune(data, False, **arguments), tune(data, True, **arguments)
    assert relative_difference(cached, plain) < 1e-5
    for name, values in plain.report.curves.items():
        if name != "stage":
            np.testing.assert_allclose(cached.report.curves[name], values, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_rows_have_the_precision_of_the_run(precision, cache_folder):
    data = small_data()
    plain, cached = (tune(data, cache, precision=precision) for cache in (False, True))
    assert precision.removeprefix("mixed_") in next(cache_folder.glob("features/*/info.json")).read_text()
    # bfloat16 has eight bits.
    np.testing.assert_allclose(probabilities(cached, data), probabilities(plain, data), atol=0.03)


def test_frozen_stays_bit_for_bit_with_the_cache():
    base, data = tiny_base(), small_data()
    before = {layer.name: layer.get_weights() for layer in base.layers}
    result = tune(data, True, base)
    frozen = [name for name in before if name.startswith(("conv0", "norm")) and before[name]]
    assert len(frozen) == 5
    for name in frozen:
        for old, new in zip(before[name], result.model.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    assert (before["conv3"][0] != result.model.get_layer("conv3").get_weights()[0]).any()


@pytest.mark.parametrize("test", [0.0, 0.25], ids=["valid", "test"])
def test_what_is_measured_on_rows_is_what_the_whole_network_says(test, computed):
    data = recipes.load_data(arrays(np.random.default_rng(0), 64), valid=0.25, test=test)
    result = tune(data, True)
    measured = len(data.test) or len(data.valid)
    assert [count for _, count in computed][-1] == measured, "the frozen part should have run once over them"
    whole = result.evaluate(data)
    assert whole.split == result.report.split and whole.scores == pytest.approx(result.report.scores, rel=1e-4)


def test_rows_mapped_from_disk_train_as_those_in_memory():
    data = small_data()
    assert relative_difference(tune(data, True, memory_budget=0), tune(data, True)) == 0


# What is computed, and what is read


def test_the_images_run_through_the_base_once_for_all_stages(computed):
    data = small_data()
    tune(data, True, plan=HEAD_AND_BLOCKS)
    images, maps = (16, 16, 3), (16, 16, 4)
    # The head's features come from those of the stage after it, whose frozen part lies beneath.
    assert computed == [(images, 24), (maps, 24), (images, 8), (maps, 8)]
    tune(data, True, plan=HEAD_AND_BLOCKS, head=(5,), seed=3)
    assert len(computed) == 4, "another head and seed should have found it all"


def test_a_changed_image_costs_one_row_and_changed_weights_all(computed):
    images, labels = arrays(np.random.default_rng(0))
    tune(recipes.load_data((images, labels), valid=0.0, test=0.0), True)
    images[5, 0, 0, 0] += 1
    tune(recipes.load_data((images, labels), valid=0.0, test=0.0), True)
    assert [count for _, count in computed] == [32, 1]
    base = tiny_base()
    base.get_layer("conv0").kernel.assign(base.get_layer("conv0").kernel * 1.001)
    tune(recipes.load_data((images, labels), valid=0.0, test=0.0), True, base)
    assert [count for _, count in computed] == [32, 1, 32]


def test_stale_rows_are_never_read():
    data, base = small_data(), tiny_base()
    tune(data, True, base)
    base.get_layer("conv0").kernel.assign(base.get_layer("conv0").kernel * -1)
    assert relative_difference(tune(data, True, base), tune(data, False, base)) < 1e-5


def test_the_estimate_keeps_small_work_live_and_says_what_it_spares(computed, capsys):
    tune(small_data(), "auto")
    assert not computed
    tune(small_data(), True, verbose=True)
    said = capsys.readouterr().out
    assert "are frozen and run in 1 pass instead of 3 (0.1 MB kept)" in said
    assert "Stage 'blocks' took" in said and "waiting for data" in said and "decoding" in said


# Augmentation


def test_views_are_taken_in_turn_and_refreshed():
    caching = Caching(True, views=3)
    assert [views_drawn(caching, epoch) for epoch in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    refreshed = Caching(True, views=2, refresh_views=3)
    assert [views_drawn(refreshed, epoch) for epoch in range(7)] == [0, 1, 0, 2, 3, 2, 4]


def brighten(images, seed):
    return images + tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed, 0, 50)


def test_a_view_depends_on_seed_image_and_number_alone():
    data = small_data()
    network = build_network(tiny_base(), image_size=16, class_count=3)
    for layer in network.model.layers:
        layer.trainable = layer.name == "probabilities"
    prefix = frozen_prefix.Prefix(network, quiet=set())

    def rows(split, seed=0, epoch=0):
        features = Features(prefix, split, Caching(True, views=2), None, brighten, seed)
        return features.take(epoch, np.arange(len(split)))

    whole, part = rows(data.train), rows(data.valid)
    assert (rows(data.train) == whole).all() and (rows(data.train, epoch=2) == whole).all()
    assert (rows(data.train, epoch=1) != whole).any() and (rows(data.train, seed=1) != whole).any()
    alone = recipes.Split(
        data.train.store, data.train.rows[3:4], data.train.labels[3:4], data.train.files[3:4], data.train.digests[3:4]
    )
    np.testing.assert_allclose(rows(alone)[0], whole[3], rtol=1e-6)
    assert part.shape == (8, *whole.shape[1:])


def test_views_are_drawn_as_live_augmentation_draws_them():
    images = tf.constant(random_images(np.random.default_rng(0), 3), tf.float32)
    seeds = np.array([[1, 0], [2, 0], [3, 5]], np.int64)
    drawn = change_each(brighten)(images, seeds)
    for image, seed, received in zip(images, seeds, drawn, strict=True):
        np.testing.assert_allclose(received, brighten(image[None], seed)[0], rtol=1e-6)


@pytest.mark.parametrize("augmentation", ["photo", brighten, keras.layers.RandomFlip()], ids=["named", "own", "layer"])
def test_training_on_views(augmentation, computed):
    data = small_data()
    tune(data, False, augmentation=augmentation, views=2, plan="head", epochs=1)
    assert not computed
    result = tune(data, "auto", augmentation=augmentation, views=2, refresh_views=4, plan="head", epochs=6)
    assert [count for _, count in computed] == [24, 8, 24, 24, 24]
    losses = result.report.curves["loss"]
    assert losses[-1] < losses[0]


def test_live_augmentation_is_the_default(computed):
    tune(small_data(), True, augmentation="flip")
    assert not computed


# The file


def test_rows_come_back_by_digest_in_any_process(cache_folder):
    cache = RowCache("features", "a", (2, 3), "float32")
    values = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
    digests = [bytes([number] * 16) for number in range(3)]
    assert cache.missing([*digests, digests[0]]) == [0, 1, 2]
    cache.append(digests, values)
    again = RowCache("features", "a", (2, 3), "float32")
    rows, places = again.rows(digests[::-1])
    np.testing.assert_array_equal(rows[places], values[::-1])
    assert again.missing(digests) == []
    for other in (("b", (2, 3), "float32"), ("a", (3, 2), "float32"), ("a", (2, 3), "float16")):
        assert RowCache("features", *other).missing(digests) == [0, 1, 2]


def test_a_kill_while_writing_leaves_a_consistent_cache(cache_folder):
    """Rows that nothing points to are written over; half a digest is none."""
    cache = RowCache("features", "a", (4,), "float32")
    digests = [bytes([number] * 16) for number in range(4)]
    cache.append(digests[:2], np.ones((2, 4), np.float32))
    with open(cache.folder / "rows.bin", "ab") as file:
        file.write(b"\xff" * 23)
    with open(cache.folder / "index.bin", "ab") as file:
        file.write(digests[2][:7])
    cache = RowCache("features", "a", (4,), "float32")
    assert cache.missing(digests) == [2, 3]
    cache.append(digests[2:], np.full((2, 4), 7, np.float32))
    rows, places = RowCache("features", "a", (4,), "float32").rows(digests)
    np.testing.assert_array_equal(rows[places], [[1] * 4] * 2 + [[7] * 4] * 2)


WRITER = """
import numpy as np
from recipes.data.row_cache import RowCache
cache = RowCache("features", "a", (1000,), "int64")
for number in range(10**6):
    cache.append([number.to_bytes(16, "little")], np.full((1, 1000), number))
    print(number, flush=True)
"""


def test_killed_for_good_in_the_middle_of_writing():
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER)], stdout=subprocess.PIPE, env=os.environ)
    for line in process.stdout:
        if int(line) >= 20:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    cache = RowCache("features", "a", (1000,), "int64")
    digests = [number.to_bytes(16, "little") for number in range(21)]
    assert cache.missing(digests) == []
    rows, places = cache.rows(digests)
    np.testing.assert_array_equal(rows[places][:, ::999], np.repeat(np.arange(21)[:, None], 2, 1))
    cache.append([b"x" * 16], np.zeros((1, 1000)))  # the lock died with its owner


def test_the_least_recently_used_goes_first(cache_folder):
    for number in range(3):
        with RowCache("features", number, (250,), "float32") as cache:
            cache.append([b"x" * 16], np.ones((1, 250)))
        os.utime(cache.folder / "info.json", (1000 + number,) * 2)
    kept = [folder for folder, _, _ in list_caches()]
    set_cache_limit(2600)
    assert make_room()
    assert [folder for folder, _, _ in list_caches()] == kept[1:]
    with RowCache("features", 1, (250,), "float32") as cache:
        assert cache.folder == kept[1]
        assert make_room(1000), "the one in use, and older, should have been passed over"
        assert [folder for folder, _, _ in list_caches()] == kept[1:2]
    assert not make_room(10**6) and not list_caches()
    assert cache_limit() == 2600


def test_two_who_write_do_not_harm_each_other():
    one, two = (RowCache("features", "a", (3,), "float32") for _ in range(2))
    digests = [bytes([number] * 16) for number in range(4)]
    one.append(digests[:2], np.full((2, 3), 1))
    two.append(digests[1:3], np.full((2, 3), 2))
    one.append(digests[3:], np.full((1, 3), 3))
    for cache in (one, RowCache("features", "a", (3,), "float32")):
        rows, places = cache.rows(digests)
        assert rows[places][:, 0].tolist() == [1, 1, 2, 3]


def test_the_verb_lists_limits_and_clears():
    tune(small_data(), True)
    listed = recipes.cache()
    assert len(listed.entries) == 1 and listed.total > 32 * 16 * 16 * 4 * 4
    assert "features of 16×16×4" in repr(listed) and "20,000 MB" in repr(listed)
    assert recipes.cache(limit=10).entries == ()
    tune(small_data(), True)
    assert recipes.cache(limit=1e9).limit == 10**9
    assert recipes.cache(clear=True).entries == ()
    with pytest.raises(ValueError, match="cache: limit"):
        recipes.cache(limit=-1)


# Waiting


def test_waiting_for_data_is_told_from_training(capsys):
    def slow(images, seed):
        with tf.control_dependencies([tf.numpy_function(lambda: time.sleep(0.5) or np.int64(0), [], tf.int64)]):
            return tf.identity(images)

    def waited(augment):
        tune(small_data(), False, augmentation=augment, verbose=True)
        return float(re.search("waiting for data ([0-9.]+) s", capsys.readouterr().out)[1])

    assert waited(slow) > waited(None) + 0.3  # for the first batch at least


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"cache": "sometimes"}, "cache must be"),
        ({"views": 2}, "views needs an augmentation"),
        ({"views": 0, "augmentation": "flip"}, "views must be at least 1"),
        ({"refresh_views": 3, "augmentation": "flip"}, "refresh_views needs views"),
        ({"memory_budget": -1}, "memory_budget must be at least 0"),
    ],
)
def test_bad_arguments(arguments, said):
    with pytest.raises(ValueError, match=said):
        recipes.finetune(tiny_base(), small_data(), **arguments)
