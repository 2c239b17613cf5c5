"""The door for data: every source, what it complains about, and how it splits."""

import io
import os
import shutil
import struct
import time
import warnings
import zlib

import numpy as np
import pandas
import pytest
import tensorflow as tf
from cases import COLOURS, random_images, write_photos
from PIL import Image

import recipes
from recipes.data.batches import ordered_batches, steps_per_epoch, training_batches
from recipes.data.headers import examine
from recipes.data.sampling import balanced

SPLITS = ("train", "valid", "test")


def all_files(data):
    return sorted(file for split in SPLITS for file in getattr(data, split).files)


def split_of_files(data):
    return {file.split("/")[-1]: split for split in SPLITS for file in getattr(data, split).files}


def contents(data):
    """{(pixels, class name)} of all images, whatever their order and split."""
    return {
        (image.tobytes(), data.class_names[label])
        for split in SPLITS
        for image, label in zip(getattr(data, split).images(), getattr(data, split).labels, strict=True)
    }


# --- sources ---------------------------------------------------------------------------------------------------------


def test_folder(photos, photo_data):
    assert photo_data.class_names == ("blue", "green", "red")
    assert all_files(photo_data) == sorted(str(path) for path in photos.rglob("*.jpg"))
    for split in (photo_data.train, photo_data.valid, photo_data.test):
        for file, label, image in zip(split.files, split.labels, split.images(), strict=True):
            assert photo_data.class_names[label] in file.split("/")[-1]
            assert image.reshape(-1, 3).mean(0).argmax() == COLOURS_ARGMAX[photo_data.class_names[label]]


COLOURS_ARGMAX = {name: int(np.argmax(colour)) for name, colour in COLOURS.items()}


@pytest.mark.parametrize("spelling", [("train", "val", "test"), ("Training", "validation", "testing")])
def test_folder_with_splits(tmp_path, spelling):
    for number, name in enumerate(spelling):
        write_photos(tmp_path / name, {"red": 3 + number, "green": 4}, seed=number)
    data = recipes.load_data(tmp_path, image_size=8)
    assert [len(getattr(data, split)) for split in SPLITS] == [7, 8, 9]
    assert all(f"/{spelling[1]}/" in file for file in data.valid.files)


def test_train_and_test_folders_leave_validation_to_the_hash(tmp_path):
    write_photos(tmp_path / "train", {"red": 20, "green": 20})
    write_photos(tmp_path / "test", {"red": 5, "green": 5}, seed=1)
    data = recipes.load_data(tmp_path, image_size=8, valid=0.3)
    assert len(data.test) == 10
    assert len(data.valid) > 3
    assert all("/train/" in file for file in data.valid.files + data.train.files)


def test_a_class_called_train_is_a_class(tmp_path):
    write_photos(tmp_path, {"train": 10, "bus": 10})
    assert recipes.load_data(tmp_path, image_size=8).class_names == ("bus", "train")


@pytest.mark.parametrize("kind", ["csv", "frame"])
def test_table(photos, photo_data, tmp_path, kind, monkeypatch):
    rows = [(str(path.relative_to(photos)), path.parent.name) for path in sorted(photos.rglob("*.jpg"))]
    frame = pandas.DataFrame(rows, columns=["Filename", "Label"])
    if kind == "csv":
        frame.to_csv(photos / "labels.csv", index=False)
        table = photos / "labels.csv"
    else:
        monkeypatch.chdir(photos)
        table = frame
    data = recipes.load_data(table, image_size=16, valid=0.25, test=0.25)
    assert contents(data) == contents(photo_data)
    assert split_of_files(data) == split_of_files(photo_data)


def test_spaces_around_a_label_of_a_table_do_not_count(photos):
    rows = [(str(path), path.parent.name) for path in sorted(photos.rglob("*.jpg"))]
    (photos / "spaced.csv").write_text("image,label\n" + "".join(f"{path}, {name} \n" for path, name in rows))
    try:
        assert recipes.load_data(photos / "spaced.csv", image_size=16).class_names == ("blue", "green", "red")
    finally:
        (photos / "spaced.csv").unlink()


def test_table_with_splits(photos):
    rows = [(str(path), path.parent.name, SPLITS[i % 3]) for i, path in enumerate(sorted(photos.rglob("*.jpg")))]
    data = recipes.load_data(pandas.DataFrame(rows, columns=["image", "label", "split"]), image_size=8)
    assert split_of_files(data) == {path.split("/")[-1]: split for path, _, split in rows}


@pytest.mark.parametrize("labels", ["numbers", "one-hot", "names", "floats"])
def test_arrays(random, labels):
    x, y = random_images(random, 60), np.arange(60) % 3
    kinds = {"numbers": y, "one-hot": np.eye(3)[y], "names": np.array(["a", "b", "c"])[y], "floats": y.astype(float)}
    names = ("a", "b", "c") if labels == "names" else ("0", "1", "2")
    data = recipes.load_data((x, kinds[labels]), valid=0.2, test=0.2)
    assert contents(data) == {(image.tobytes(), names[label]) for image, label in zip(x, y, strict=True)}
    assert data.image_size == (16, 16)


def test_pairs_of_arrays(random):
    x, y = random_images(random, 20), np.arange(20) % 2
    data = recipes.load_data(((x[:12], y[:12]), (x[12:], y[12:])))
    assert [len(getattr(data, split)) for split in SPLITS] == [12, 8, 0]
    assert np.array_equal(data.valid.images(), x[12:])


def test_grey_arrays_have_one_channel_and_floats_are_rounded(random):
    x = random.uniform(0, 255, (20, 9, 9))
    data = recipes.load_data((x, np.arange(20) % 2), valid=0, test=0)
    assert data.channels == 1
    assert contents(data) == {
        (np.rint(image).astype(np.uint8).tobytes(), str(number % 2)) for number, image in enumerate(x)
    }


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("form", ["pixels", "float", "grey", "bytes"])
def test_tf_data(random, batched, form):
    x, y = random_images(random, 30, channels=1 if form == "grey" else 3), np.arange(30) % 2
    images = {
        "pixels": x,
        "float": x.astype("float32"),
        "grey": x[..., 0],
        "bytes": [tf.io.encode_png(image).numpy() for image in x],
    }[form]
    dataset = tf.data.Dataset.from_tensor_slices((images, y))
    data = recipes.load_data(dataset.batch(7) if batched else dataset, image_size=16, valid=0.2, test=0.2)
    assert contents(data) == {(image.tobytes(), str(label)) for image, label in zip(x, y, strict=True)}


def test_tf_data_of_unequal_shapes(random):
    def images():
        for number in range(24):
            yield random_images(random, 1, 10 + number % 3)[0], number % 2

    spec = (tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int64))
    data = recipes.load_data(tf.data.Dataset.from_generator(images, output_signature=spec), image_size=8)
    assert sum(len(getattr(data, split)) for split in SPLITS) == 24


def test_two_tf_datasets(random):
    x, y = random_images(random, 20), np.arange(20) % 2
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    data = recipes.load_data((dataset.take(12), dataset.skip(12).batch(3)))
    assert [len(getattr(data, split)) for split in SPLITS] == [12, 8, 0]


def test_digits():
    data = recipes.load_data("digits")
    assert sum(len(getattr(data, split)) for split in SPLITS) == 1797
    assert (data.image_size, data.channels, data.class_names) == ((8, 8), 1, tuple("0123456789"))
    assert data.train.images().max() == 255


def test_tfds_of_a_prepared_set(random, tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    names = ("cat", "dog")
    x = {"train": random_images(random, 20), "test": random_images(random, 8)}
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny_photos",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(names=names)}
        ),
        split_datasets={
            split: tf.data.Dataset.from_tensor_slices({"image": images, "label": np.arange(len(images)) % 2})
            for split, images in x.items()
        },
        data_dir=str(tmp_path),
    )
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    data = recipes.load_data("tfds:tiny_photos", image_size=16, valid=0.2)
    expected = {(image.tobytes(), names[i % 2]) for images in x.values() for i, image in enumerate(images)}
    assert contents(data) == expected
    assert len(data.test) == 8
    assert all(file.startswith("tfds:tiny_photos/test[") for file in data.test.files)


def test_tfds_without_a_network_says_so_within_seconds(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("recipes.data.sources.tfds._reachable", lambda: time.sleep(60))
    monkeypatch.setattr("recipes.data.sources.tfds._PATIENCE", 0.2)
    began = time.monotonic()
    with pytest.raises(ConnectionError, match="not prepared here"):
        recipes.load_data("tfds:mnist")
    assert time.monotonic() - began < 20  # not the 205 seconds of tensorflow-datasets' own retries; import included


def test_unknown_tfds_set_suggests_the_nearest():
    with pytest.raises(ValueError, match='"tfds:cifar10"'):
        recipes.load_data("tfds:cifar_10")


def test_data_is_handed_back(photo_data):
    assert recipes.load_data(photo_data) is photo_data


# --- inspection ------------------------------------------------------------------------------------------------------

HEADER = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
BOMB = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + HEADER + struct.pack(">I", zlib.crc32(HEADER))
BOMB += struct.pack(">I", 4) + b"IDAT" + bytes(8)
BAD_FILES = {
    "zero.jpg": (b"", "0 bytes"),
    "text.jpg": (b"<html>not found</html>", "not an image"),
    "cut.jpg": (None, "cannot be decoded"),
    "head.jpg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "not an image"),
    "bomb.png": (BOMB, "decompression bomb"),
    "flat.gif": (b"GIF89a\0\0\0\0\0\0\0", ""),
}


def write_bad(folder, name):
    content, reason = BAD_FILES[name]
    if content is None:
        content = next((folder / "red").glob("red_*.jpg")).read_bytes()
        content = content[: len(content) * 4 // 5]
    (folder / "red" / name).write_bytes(content)
    return reason


@pytest.mark.parametrize("name", BAD_FILES)
def test_one_bad_file_is_named_and_skipped(tmp_path, name):
    write_photos(tmp_path, {"red": 8, "green": 8})
    reason = write_bad(tmp_path, name)
    with pytest.warns(UserWarning, match="1 left out") as caught:
        data = recipes.load_data(tmp_path, image_size=8)
    assert len(caught) == 1
    assert name in str(caught[0].message)
    assert reason in str(caught[0].message)
    assert data.skipped[0][0].endswith(name)
    assert sum(len(getattr(data, split)) for split in SPLITS) == 16


def test_all_bad_files_at_once_give_one_warning_or_one_error(tmp_path):
    write_photos(tmp_path, {"red": 8, "green": 8})
    for name in BAD_FILES:
        write_bad(tmp_path, name)
    with pytest.warns(UserWarning) as caught:
        data = recipes.load_data(tmp_path, image_size=8)
    assert len(caught) == 1
    assert {name.split("/")[-1] for name, _ in data.skipped} == set(BAD_FILES)
    with pytest.raises(ValueError, match="on_bad"):
        recipes.load_data(tmp_path, image_size=8, on_bad="error")


def test_a_pipe_in_a_class_folder_is_passed_over(tmp_path):
    write_photos(tmp_path, {"red": 6, "green": 6})
    os.mkfifo(tmp_path / "red" / "pipe")
    assert len(all_files(recipes.load_data(tmp_path, image_size=8))) == 12


def test_a_class_without_images_is_named(random):
    rows = np.eye(4)[np.arange(30) % 3]
    with pytest.raises(ValueError, match="none of '3'"):
        recipes.load_data((random_images(random, 30), rows))


def gif(*sizes):
    """An animated GIF whose frames claim these (width, height), with colour tables and an extension between."""
    whole = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80 | 1, 0, 0) + bytes(3 * 4)
    for width, height in sizes:
        whole += b"\x21\xf9\x04" + bytes(4) + b"\0"
        whole += b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0x80) + bytes(3 * 2)
        whole += b"\x02" + b"\x02\x4c\x01" + b"\x03abc" + b"\0"
    return whole + b";"


def test_all_frames_of_a_gif_count():
    assert examine(gif((8, 8)))[1] == 64
    assert examine(gif((8, 8), (1, 3), (20_000, 20_000 - 1)))[1] == 64 + 3 + 399_980_000
    reason, _ = examine(gif((8, 8), (65_535, 65_535)))
    assert "its frames claim more than 400,000,000 pixels" in reason
    for end in range(1, 60):  # cut anywhere: no error, no endless walk
        examine(gif((8, 8), (1, 3))[:end])
    frames = [Image.new("L", (30, 20 + number), number * 40) for number in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert 600 <= examine(buffer.getvalue())[1] <= 3 * 30 * 22


@pytest.mark.parametrize("content", [b"DDS " + bytes(range(124)), b"8BPS" + bytes(100), b"BM" + bytes(30), b"GIF89a"])
def test_headers_of_any_kind_only_give_a_reason(content):
    reason, _ = examine(content)
    assert "not an image" in reason or "claims 0" in reason


def test_a_tiff_is_named_with_what_to_do(tmp_path):
    write_photos(tmp_path, {"red": 6, "green": 6})
    Image.new("RGB", (8, 8)).save(tmp_path / "red" / "scan.tiff")
    with pytest.warns(UserWarning, match="TIFF images are not decoded; convert"):
        recipes.load_data(tmp_path, image_size=8)


def test_hidden_and_system_files_and_other_files_do_not_count(tmp_path):
    write_photos(tmp_path, {"red": 6, "green": 6, "__MACOSX": 2, ".ipynb_checkpoints": 2, "@eaDir": 2})
    for name in ("Thumbs.db", ".DS_Store", "._red_0.jpg", "notes.txt", "LICENSE"):
        (tmp_path / "red" / name).write_bytes(b"some text")
    shutil.copytree(tmp_path / "green", tmp_path / "red" / ".cache")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = recipes.load_data(tmp_path, image_size=8)
    assert data.class_names == ("green", "red")
    assert len(all_files(data)) == 12


def test_wrong_and_missing_extensions_are_read_by_content(tmp_path):
    write_photos(tmp_path, {"red": 6, "green": 6})
    picture = Image.open(tmp_path / "red" / "red_0.jpg")
    picture.save(tmp_path / "red" / "png.jpg", "PNG")
    picture.save(tmp_path / "red" / "no_extension", "WEBP")
    picture.save(tmp_path / "red" / "UPPER and ünïcode.JPG", "JPEG")
    data = recipes.load_data(tmp_path, image_size=8)
    assert len(all_files(data)) == 15


def test_an_unreadable_or_vanished_file_is_named(tmp_path):
    write_photos(tmp_path, {"red": 6, "green": 6})
    (tmp_path / "red" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.warns(UserWarning, match=r"gone.jpg: cannot be read: No such file"):
        recipes.load_data(tmp_path, image_size=8)


def test_links_to_folders_are_not_followed(tmp_path):
    write_photos(tmp_path, {"red": 6, "green": 6})
    (tmp_path / "red" / "loop").symlink_to(tmp_path)
    assert len(all_files(recipes.load_data(tmp_path, image_size=8))) == 12


def test_an_empty_class_folder_is_named(tmp_path):
    write_photos(tmp_path, {"red": 6, "green": 6, "blue": 0})
    with pytest.warns(UserWarning, match="blue: this class folder holds no images"):
        assert recipes.load_data(tmp_path, image_size=8).class_names == ("green", "red")


def test_duplicates_across_given_splits_leave_the_training_set(tmp_path):
    write_photos(tmp_path / "train", {"red": 6, "green": 6})
    write_photos(tmp_path / "test", {"red": 4, "green": 4}, seed=1)
    shutil.copy(tmp_path / "test" / "red" / "red_0.jpg", tmp_path / "train" / "red" / "copy.jpg")
    with pytest.warns(UserWarning, match=r"copy.jpg: the same image as .*test"):
        data = recipes.load_data(tmp_path, image_size=8, valid=0)
    assert len(data.train) == 12
    assert len(data.test) == 8


def test_equal_images_with_different_labels_are_named(tmp_path):
    write_photos(tmp_path, {"red": 8, "green": 8})
    shutil.copy(tmp_path / "red" / "red_0.jpg", tmp_path / "green" / "green_copy.jpg")
    with pytest.warns(UserWarning, match="1 equal images have different labels"):
        recipes.load_data(tmp_path, image_size=8)


def folder_of(counts):
    return lambda path: write_photos(path / "photos", counts)


def arrays(x=None, y=None):
    images = np.random.default_rng(0).integers(2, 256, (20, 8, 8, 3), np.uint8)
    return lambda _: (images if x is None else x(images), np.arange(20) % 2 if y is None else y)


def text_files(path):
    (path / "a").mkdir()
    (path / "a" / "one.txt").write_text("text")
    return path


def loose_images(path):
    write_photos(path, {"a": 3})
    for file in (path / "a").iterdir():
        file.rename(path / file.name)
    (path / "a").rmdir()
    return path


def nan_images(images):
    images = images.astype(float)
    images[3, 1, 2, 0] = np.nan
    return images


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        (lambda path: path / "nowhere", FileNotFoundError, "does not exist"),
        (lambda path: path, ValueError, "no images were found"),
        (text_files, ValueError, "no images were found"),
        (loose_images, ValueError, "3 images directly in"),
        (folder_of({"red": 8}), ValueError, "one class, 'red'"),
        (folder_of({"red": 8, "green": 2}), ValueError, "2 different image(s) of class 'green'"),
        (lambda _: 7, TypeError, "int"),
        (lambda _: np.zeros((4, 8, 8, 3)), TypeError, "(x, y)"),
        (arrays(lambda x: x / 255), ValueError, "already scaled to 0–1"),
        (
            lambda _: tf.data.Dataset.from_tensor_slices(
                (np.random.default_rng(0).random((9, 8, 8, 3)), [0, 1, 2] * 3)
            ),
            ValueError,
            "already scaled to 0–1",
        ),
        (arrays(lambda x: x / 127.5 - 1), ValueError, "must lie in 0–255"),
        (arrays(lambda x: x.astype(np.uint16) * 257), ValueError, "must lie in 0–255"),
        (arrays(nan_images), ValueError, "nan at index (3, 1, 2, 0)"),
        (arrays(lambda x: [image[: 5 + i % 2] for i, image in enumerate(x)]), ValueError, "one shape"),
        (arrays(lambda x: x[:, 0, 0]), ValueError, "(20, 3)"),
        (arrays(lambda x: x.transpose(0, 3, 1, 2).repeat(9, 3)), ValueError, "channels"),
        (arrays(lambda x: x[:19]), ValueError, "19 images, 20 labels"),
        (arrays(lambda x: x[:0], np.zeros(0, int)), ValueError, "must be images"),
        (arrays(y=np.arange(20) % 2 + 0.5), ValueError, "0.5 at index 0"),
        (arrays(y=np.ones((20, 2))), ValueError, "no networks for several labels"),
        (arrays(y=np.linspace(0, 1, 20)), ValueError, "recipes train classifiers"),
        (arrays(y=np.where(np.arange(20) == 4, np.nan, 1.0)), ValueError, "nan at index 4"),
        (lambda _: tf.data.Dataset.range(4), ValueError, "pairs (image, label)"),
        (
            lambda _: tf.data.Dataset.from_tensors((np.zeros((8, 8, 3)), 1)).repeat(),
            ValueError,
            "must end",
        ),
    ],
)
def test_senseless_sources_are_refused(tmp_path, source, kind, said):
    with pytest.raises(kind) as caught:
        recipes.load_data(source(tmp_path), image_size=8)
    assert str(caught.value).startswith("load_data: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"valid": -0.1}, "valid must be"),
        ({"test": 1.5}, "test must be"),
        ({"valid": 0.6, "test": 0.6}, "valid + test"),
        ({"on_bad": "skp"}, "Did you mean 'skip'"),
        ({"resize": "fit"}, "resize is not known"),
        ({"image_size": 0}, "image_size must be at least 1"),
        ({"image_size": (8, 8, 3)}, "pair (height, width)"),
        ({"image_size": "8"}, "pair (height, width)"),
        ({"class_names": ["0", "0"]}, "'0' twice"),
        ({"class_names": ["0"]}, "1 at index 1"),
        ({"class_names": "01"}, "must be strings"),
        ({"seed": 0.5}, "seed must be a whole number"),
    ],
)
def test_bad_arguments_are_named(random, arguments, said):
    with pytest.raises((TypeError, ValueError)) as caught:
        recipes.load_data((random_images(random), np.arange(12) % 2), **arguments)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no image column"),
        ("image,label\n", "no rows"),
        ("a,b\n1,2\n", "no image column"),
        ("image\nx.jpg\n", "no label column"),
        ("image,label\nx.jpg\n", "1 cells in row 2"),
        ("image,label\nnowhere.jpg,a\n", "no image of the table exists"),
        ("image,label\nx.jpg,\n", "every image needs a label"),
        ("image,label,split\nx.jpg,a,sometimes\n", "'sometimes'"),
        (
            'image,label\nx.jpg,cat\ny.jpg,dog\nz.jpg,"cat, dog"\n',
            "labels must name one class each. Received 'cat, dog'",
        ),
        ("image,label\nx.jpg,0.5\ny.jpg,1\n", "labels must be names or whole numbers. Received '0.5'"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, text, said):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        recipes.load_data(tmp_path / "table.csv")
    assert said in str(caught.value)


# --- splits ----------------------------------------------------------------------------------------------------------


def test_splits_are_stratified_and_stay_when_files_come_and_go(tmp_path):
    write_photos(tmp_path, {"red": 200, "green": 100})
    before = recipes.load_data(tmp_path, image_size=4)
    for split, fraction in (("train", 0.7), ("valid", 0.15), ("test", 0.15)):
        counts = np.bincount(getattr(before, split).labels)
        expected = fraction * np.array([100, 200])
        # Four standard deviations of a binomial distribution.
        assert (np.abs(counts - expected) <= 4 * np.sqrt(expected * (1 - fraction))).all()
    write_photos(tmp_path, {"blue": 50})
    for number in range(0, 60, 2):
        (tmp_path / "red" / f"red_{number}.jpg").unlink()
    after, moved = split_of_files(recipes.load_data(tmp_path, image_size=8)), split_of_files(before)
    assert all(after[file] == split for file, split in moved.items() if file in after)


def test_another_seed_splits_otherwise_and_names_do_not_matter(photos, photo_data, tmp_path):
    other = recipes.load_data(photos, image_size=16, valid=0.25, test=0.25, seed=1)
    assert split_of_files(other) != split_of_files(photo_data)
    for path in photos.rglob("*.jpg"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / path.parent.name / f"copy_of_{path.name}")
    renamed = recipes.load_data(tmp_path, image_size=16, valid=0.25, test=0.25)
    assert renamed.fingerprint == photo_data.fingerprint
    assert recipes.load_data(photos, image_size=8, valid=0.25, test=0.25).fingerprint != photo_data.fingerprint


def test_duplicates_stand_on_one_side(tmp_path):
    write_photos(tmp_path, {"red": 30, "green": 30})
    for number in range(30):
        shutil.copy(tmp_path / "red" / f"red_{number}.jpg", tmp_path / "red" / f"red_{number}_again.jpg")
    splits = split_of_files(recipes.load_data(tmp_path, image_size=8))
    assert all(splits[f"red_{number}.jpg"] == splits[f"red_{number}_again.jpg"] for number in range(30))


def test_every_class_is_in_every_split_however_small(tmp_path):
    write_photos(tmp_path, {"red": 3, "green": 3, "blue": 3, "grey": 60})
    data = recipes.load_data(tmp_path, image_size=8, valid=0.05, test=0.05)
    for split in SPLITS:
        assert set(getattr(data, split).labels) == {0, 1, 2, 3}


def test_no_splits_on_request(photos):
    data = recipes.load_data(photos, image_size=8, valid=0, test=0)
    assert (len(data.train), len(data.valid), len(data.test)) == (60, 0, 0)


# --- batches ---------------------------------------------------------------------------------------------------------


def test_batches_hold_every_image_once_an_epoch_in_an_order_of_seed_and_epoch(photo_data):
    split = photo_data.train
    steps = steps_per_epoch(split, 7)

    def orders(seed):
        batches = [
            images.tobytes() for images, _ in training_batches(split, 7, epochs=2, seed=seed).as_numpy_iterator()
        ]
        return b"".join(batches[:steps]), b"".join(batches[steps:])

    first, second = orders(0)
    expected = sorted(image.tobytes() for image in split.images())
    length = len(expected[0])
    for epoch in (first, second):
        assert sorted(epoch[start : start + length] for start in range(0, len(epoch), length)) == expected
    assert first != second
    assert (first, second) == orders(0)
    assert first != orders(1)[0]


def test_balanced_epochs_draw_evenly_of_each_class():
    labels = np.repeat([4, 0, 7], (60, 30, 5))  # a share is 32, 32 and 31
    draw = balanced(labels)
    epochs = [draw(tf.constant([3, epoch], tf.int64)).numpy() for epoch in range(40)]
    for order in epochs:
        assert len(order) == len(labels)
        assert np.bincount(labels[order]).tolist() == [32, 0, 0, 0, 32, 0, 0, 31]
        times = np.bincount(order, minlength=len(labels))
        assert set(times[labels == 4]) == {0, 1}  # some are left out
        assert set(times[labels == 0]) == {1, 2}  # two of them twice
        assert set(times[labels == 7]) == {6, 7}
        assert not (np.diff(labels[order]) == 0).all()
    np.testing.assert_array_equal(epochs[1], draw(tf.constant([3, 1], tf.int64)).numpy())
    assert not np.array_equal(epochs[0], epochs[1])
    # Each of the 60 comes 40 · 32/60 = 21.3 times, with a deviation of 3.2; the largest of 60 lies within 4 of these.
    often = np.bincount(np.concatenate(epochs), minlength=len(labels))[:60]
    assert abs(often - 40 * 32 / 60).max() < 4 * 3.2


def test_batches_keep_images_and_labels_together(photo_data):
    split = photo_data.train
    labels = dict(zip((image.tobytes() for image in split.images()), split.labels, strict=True))
    for batches in (training_batches(split, 8, epochs=1, seed=3), ordered_batches(split, 8)):
        for images, batch_labels in batches.as_numpy_iterator():
            assert [labels[image.tobytes()] for image in images] == batch_labels.tolist()


def test_augmentation_depends_on_seed_and_place_alone(photo_data):
    from recipes.training.augmentation import make_augmentation

    for kind in ("flip", "light", "photo", "scan", "resnet", "strong"):
        augment = make_augmentation(kind, 0, "test")
        runs = [
            [images for images, _ in training_batches(photo_data.train, 8, epochs=2, seed=5, augment=augment)]
            for _ in range(2)
        ]
        assert all(np.array_equal(one, two) for one, two in zip(*runs, strict=True))
        plain = [images for images, _ in training_batches(photo_data.train, 8, epochs=2, seed=5)]
        assert not np.array_equal(runs[0][0], plain[0])
        assert all(images.numpy().min() >= 0 and images.numpy().max() <= 255 for images in runs[0])


def test_flip_mirrors_some_images_and_leaves_the_others(random):
    from recipes.training.augmentation import make_augmentation

    images = random_images(random, 64).astype("float32")
    flipped = make_augmentation("flip", 0, "test")(tf.constant(images), tf.constant([1, 2])).numpy()
    mirrored = np.array([np.array_equal(new, old[:, ::-1]) for new, old in zip(flipped, images, strict=True)])
    same = np.array([np.array_equal(new, old) for new, old in zip(flipped, images, strict=True)])
    assert (mirrored | same).all()
    assert 16 < mirrored.sum() < 48


# --- what is kept on disk -------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch, tmp_path):
    """A list of how many files each call of the decoder got, with an empty cache folder."""
    from recipes.data import reading

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    counts, original = [], reading.make_decoder

    def make(*arguments):
        decode = original(*arguments)
        return lambda contents: (counts.append(len(contents)), decode(contents))[1]

    monkeypatch.setattr(reading, "make_decoder", make)
    return counts


def test_files_are_decoded_once_for_all_runs(decoded, tmp_path):
    photos = write_photos(tmp_path / "photos", {"red": 8, "blue": 8})
    first = recipes.load_data(photos, image_size=16, valid=0.25, test=0.0)
    assert sum(decoded) == 16
    write_photos(tmp_path / "photos", {"green": 8}, seed=1)
    (photos / "red" / "red_0.jpg").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"red_0\.jpg"):
        second = recipes.load_data(photos, image_size=16, valid=0.25, test=0.0)
    assert sum(decoded) == 16 + 8
    pixels = {
        file: image
        for split in (first.train, first.valid)
        for file, image in zip(split.files, split.images(), strict=True)
    }
    again = {
        file: image
        for split in (second.train, second.valid)
        for file, image in zip(split.files, split.images(), strict=True)
    }
    shared = set(pixels) & set(again)
    assert len(shared) == 15
    for file in shared:
        np.testing.assert_array_equal(pixels[file], again[file])


@pytest.mark.parametrize("arguments", [{"image_size": 8}, {"resize": "stretch"}])
def test_what_decides_the_pixels_is_part_of_the_key(decoded, tmp_path, arguments):
    photos = write_photos(tmp_path / "photos", {"red": 4, "blue": 4})
    recipes.load_data(photos, image_size=16, valid=0.0, test=0.0)
    recipes.load_data(photos, **{"image_size": 16, "valid": 0.0, "test": 0.0} | arguments)
    assert sum(decoded) == 16


def test_without_room_in_the_cache_nothing_is_kept(decoded, tmp_path):
    photos = write_photos(tmp_path / "photos", {"red": 4, "blue": 4})
    recipes.cache(limit=1000)
    for _ in range(2):
        assert len(recipes.load_data(photos, image_size=16, valid=0.0, test=0.0).train) == 8
    assert sum(decoded) == 16 and not recipes.cache().entries
