"""Packed files: the same bits back, as small as arithmetic says, and no file that is not one."""

import json
import math

import keras
import ml_dtypes
import numpy as np
import pytest

import layers
import recipes
from recipes.compression.codings import decode, describe, encode, stream_sizes
from recipes.compression.streams import squeeze, unsqueeze

RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.normal(size=(200, 150)).astype("float32")
# 8 % of them, as Han's first layer has.
SPARSE = np.where(np.abs(NORMAL) > 1.75, NORMAL, 0)
SHARED = np.round(NORMAL * 4) / 4 + 0  # no -0.0
SIGNS = np.where(NORMAL > 0, 1, -1).astype("float32")
PER_FILTER = SIGNS * np.abs(NORMAL).mean(axis=0)

ARRAYS = {
    "normal": NORMAL,
    "float16": NORMAL.astype("float16"),
    "bfloat16": NORMAL.astype(ml_dtypes.bfloat16),
    "float64": NORMAL.astype("float64"),
    "sparse": SPARSE,
    "sparse bfloat16": SPARSE.astype(ml_dtypes.bfloat16),
    "sparse, shared": np.where(np.abs(NORMAL) > 1.75, SHARED, 0),
    "hardly anything": np.where(np.arange(30000).reshape(200, 150) % 9001 == 9000, NORMAL, 0),
    "whole columns": np.where(np.arange(150) % 3 == 0, NORMAL, 0),
    "shared": SHARED,
    "signs": SIGNS,
    "signs and scales": PER_FILTER,
    "three values a filter": np.where(np.abs(NORMAL) > 0.5, PER_FILTER, 0),
    "more than a byte of values": np.round(NORMAL * 150) / 150,
    "a kernel": np.where(np.abs(NORMAL) > 1, NORMAL, 0).reshape(5, 5, 40, 30),
    "zeros": np.zeros((7, 5), "float32"),
    "one value": np.full((7, 5), 1.5, "float32"),
    "one number": np.float32(3),
    "one zero": np.zeros((1,), "float32"),
    "empty": np.zeros((0, 5), "float32"),
    "strange": np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, -np.nan], "float32"),
    "NaN of all kinds": (RANDOM.integers(0, 2**20, 500, "uint32") | 0x7F800001).view("float32"),
    "negative zeros": np.where(NORMAL > 1, NORMAL, np.float32(-0.0)),
    "whole numbers": RANDOM.integers(-128, 128, (64, 9), "int8"),
    "counters": np.arange(70000, dtype="int64"),
    "seeds": RANDOM.integers(0, 2**32, 2, "uint32"),
    "booleans": NORMAL > 0,
}


def coded(array):
    """Code an array, put what is said about it through JSON, decode it; the form and the bytes."""
    result = encode(array)
    form = json.loads(json.dumps(result.form))
    assert stream_sizes(form) == [len(stream) for stream in result.streams]
    again = decode(form, iter(result.streams), np.shape(array), np.asarray(array).dtype, "test")
    assert again.dtype == np.asarray(array).dtype
    assert again.shape == np.shape(array)
    assert again.tobytes() == np.asarray(array).tobytes()
    return form, sum(map(len, result.streams))


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_every_array_comes_back_to_the_bit_and_none_grows(array):
    _, size = coded(array)
    assert size <= np.asarray(array).nbytes


def entropy(values):
    """Bits that each of `values` needs on average."""
    shares = np.unique(values, return_counts=True)[1] / np.size(values)
    return float(-(shares * np.log2(shares)).sum())


def test_sizes_are_what_arithmetic_says():
    count = NORMAL.size
    # Fixed: n log2 k bits and the codebook; Huffman's code comes within a bit of entropy, here within 2 %.
    form, size = coded(SHARED)
    values = len(np.unique(SHARED))
    assert describe(form) == f"codebook of {values}"
    assert size < entropy(SHARED) * count / 8 * 1.02 + 4 * values + 60
    assert size > entropy(SHARED) * count / 8
    # Zeros and codes together: what is zero, H(p), and which value the others have.
    form, size = coded(ARRAYS["sparse, shared"])
    kept = ARRAYS["sparse, shared"] != 0
    codes = ARRAYS["sparse, shared"][kept]
    least = (entropy(kept) * count + entropy(codes) * codes.size) / 8
    assert describe(form).startswith("sparse, codebook of ")
    assert least < size < 1.03 * least + 4 * len(np.unique(codes)) + 150
    # Sparse, as they are: 24 of the 32 bits of such a float are noise.
    _, size = coded(SPARSE)
    assert size < entropy(kept) * count / 8 * 1.03 + 4 * codes.size + 100
    # A bit a weight, and a scale a filter; two bits at most with zero.
    assert coded(SIGNS)[1] < count / 8 + 20
    assert coded(PER_FILTER)[1] < count / 8 + 4 * 2 * 150 + 60
    assert coded(ARRAYS["three values a filter"])[1] < math.log2(3) * count / 8 * 1.02 + 4 * 3 * 150 + 60
    assert coded(ARRAYS["zeros"])[1] == 0
    # The columns that are not zero lie together once the array is turned.
    assert coded(ARRAYS["whole columns"])[1] < coded(NORMAL)[1] / 3 + 300


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8])
def test_the_ratio_of_deep_compression(bits):
    """nb / (n log2 k + kb), for n numbers of b bits and k values that are equally frequent, so that no code helps."""
    count, values = 2**15, 2**bits
    book = RANDOM.normal(size=values).astype("float32")
    array = book[RANDOM.permutation(np.arange(count) % values)].reshape(128, 256)
    _, size = coded(array)
    expected = (count * 32) / (count * bits + values * 32)
    assert array.nbytes / size == pytest.approx(expected, rel=0.03)


def test_squeezing_finds_the_smallest_and_refuses_what_it_did_not_write():
    skewed = RANDOM.geometric(0.3, 20000).astype("uint8").tobytes()
    least = entropy(np.frombuffer(skewed, "uint8")) * 20000 / 8
    coder, content = squeeze(skewed)
    assert coder == "h"
    assert least < len(content) < 1.03 * least
    assert squeeze(RANDOM.bytes(1000))[0] == "r"
    assert len(squeeze(b"recipes " * 1000)[1]) < 60
    for noise in (skewed, b"", b"a", RANDOM.bytes(3_000_000), bytes(3_000_000)):
        coder, content = squeeze(noise)
        assert unsqueeze(coder, content, len(noise), "test") == noise
    with pytest.raises(ValueError, match=r"test: the file is damaged. .* \(20000 bytes for 19999\)"):
        unsqueeze("h", squeeze(skewed)[1], 19999, "test")
    for coder in "hlp?":
        with pytest.raises(ValueError, match="damaged"):
            unsqueeze(coder, b"\x00\x01\x02\xff", 100, "test")


@pytest.fixture(scope="module")
def network():
    return make_network()


def make_network():
    """Nested and shared parts, normalisation, a seed, half precision, and weights of all kinds."""
    keras.utils.set_random_seed(1)
    image = keras.Input((6, 6, 4), name="part")
    inner = keras.layers.ReLU(name="relu")(keras.layers.Conv2D(4, 3, padding="same", name="conv")(image))
    inner = keras.Model(image, inner, name="inner")
    image = keras.Input((6, 6, 3), name="image")
    x = keras.layers.Conv2D(4, 1, name="first")(image)
    x = inner(inner(x))
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dropout(0.5, seed=1, name="dropout")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dense(30, dtype="bfloat16", name="half")(x)
    x = keras.layers.Dense(3, activation="softmax", dtype="float32", name="last")(x)
    model = keras.Model(image, x, name="network")
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight + random.uniform(0, 0.1, weight.shape))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def same(one, other):
    assert [weight.path.split("/")[-1] for weight in one.weights] == [w.path.split("/")[-1] for w in other.weights]
    for mine, yours in zip(one.get_weights(), other.get_weights(), strict=True):
        assert mine.dtype == yours.dtype
        assert mine.tobytes() == yours.tobytes()


def test_a_model_comes_back_with_the_same_weights(network, tmp_path):
    packed = recipes.pack(network, tmp_path / "model.packed")
    again = recipes.unpack(tmp_path / "model.packed")
    same(again, network)
    images = np.random.default_rng(0).uniform(0, 1, (4, 6, 6, 3)).astype("float32")
    np.testing.assert_array_equal(again(images), network(images))
    assert not again.compiled
    assert packed.file_bytes == (tmp_path / "model.packed").stat().st_size
    assert packed.file_bytes == packed.header_bytes + sum(tensor.bytes for tensor in packed.tensors)
    assert sum(math.prod(tensor.shape) for tensor in packed.tensors) == network.count_params()
    row = next(tensor for tensor in packed.tensors if tensor.name == "half/kernel")
    assert (row.shape, row.dtype) == ((144, 30), "bfloat16")
    assert row.bits == pytest.approx(8 * row.bytes / (144 * 30))
    assert "half/kernel" in repr(packed)
    assert [path.name for path in tmp_path.iterdir()] == ["model.packed"]


def test_the_same_model_gives_the_same_file(network, tmp_path):
    recipes.pack(network, tmp_path / "one")
    recipes.pack(make_network(), tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_classifier_comes_back_with_its_names(classifier, tmp_path):
    recipes.pack(classifier, tmp_path / "classifier.packed")
    again = recipes.unpack(tmp_path / "classifier.packed")
    same(again.model, classifier.model)
    for field in ("class_names", "image_size", "channels", "resize"):
        assert getattr(again, field) == getattr(classifier, field)
    assert again.report.scores == classifier.report.scores
    assert again.report.settings == classifier.report.settings
    assert again.report.rows == ()
    assert "3 classes" in repr(again)
    split = classifier.data.test
    assert again.predict(split.images()[0]) == classifier.predict(split.images()[0])
    folder = classifier.save(tmp_path / "saved")
    recipes.pack(folder, tmp_path / "from_folder.packed")
    same(recipes.unpack(tmp_path / "from_folder.packed").model, classifier.model)


def few_bits():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = layers.BinaryConv(8, 3, name="binary")(image)
    x = layers.BinaryConv(8, 3, scaled=True, name="scaled")(x)
    x = layers.TernaryConv(8, 3, name="twn")(x)
    x = layers.TernaryConv(8, 3, method="ttq", name="ttq")(x)
    x = layers.TernaryDense(4, threshold=1.5, name="dense")(keras.layers.Flatten()(x))
    model = keras.Model(image, x)
    model.get_layer("ttq").negative_scale.assign(30.0)  # far from the other: signs must not depend on it
    return model


def test_binary_and_ternary_layers_take_one_or_two_bits(tmp_path):
    model = few_bits()
    packed = recipes.pack(model, tmp_path / "bits")
    again = recipes.unpack(tmp_path / "bits")
    bits = {tensor.name: tensor.bits for tensor in packed.tensors if tensor.name.endswith("kernel")}
    # A bit, or log2(3) = 1.58; scales of 32 bits, one or two a filter, on 72 or 512 weights; some bytes for the codes.
    assert bits["binary/kernel"] < 1 + 8 * 30 / 216
    assert bits["scaled/kernel"] < 1 + 64 / 72 + 8 * 30 / 576
    assert bits["ttq/kernel"] < 2 + 8 * 30 / 576
    assert bits["dense/kernel"] < 2 + 96 / 512 + 8 * 30 / 2048
    for name in ("binary", "scaled", "twn", "ttq", "dense"):
        one, other = (layers.unpack_weights(layers.packed_weights(found.get_layer(name))) for found in (again, model))
        # A scale is the mean of up to 512 equal numbers, whose roundings add up.
        np.testing.assert_allclose(one, other, rtol=0 if name in ("binary", "ttq") else 1e-5, err_msg=name)
    recipes.pack(model, tmp_path / "latent", latent=True)
    same(recipes.unpack(tmp_path / "latent"), model)


def test_what_keras_keeps_beside_weights_comes_back(tmp_path):
    words = keras.layers.StringLookup(vocabulary=["ant", "bee"], name="words")
    text = keras.Input((1,), dtype="string")
    model = keras.Model(text, keras.layers.Embedding(4, 2)(words(text)))
    recipes.pack(model, tmp_path / "words")
    again = recipes.unpack(tmp_path / "words")
    assert again.get_layer("words").get_vocabulary() == ["[UNK]", "ant", "bee"]
    same(again, model)


def test_damaged_and_foreign_files_are_told(network, tmp_path):
    path = tmp_path / "model.packed"
    recipes.pack(network, path)
    whole = path.read_bytes()
    for place in (30, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"unpack: the file is damaged\. Received .* Fetch or write"):
            recipes.unpack(path)
    path.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match="the file is damaged"):
        recipes.unpack(path)
    path.write_bytes(whole[:8] + b"\x07\x00" + whole[10:])
    with pytest.raises(ValueError, match=r"read up to version 1\. Received version 7\. Update"):
        recipes.unpack(path)
    for foreign in (b"", b"PK\x03\x04 a zip"):
        path.write_bytes(foreign)
        with pytest.raises(ValueError, match=r"unpack: the file must be one that recipes\.pack wrote"):
            recipes.unpack(path)
    with pytest.raises(FileNotFoundError, match="unpack: the file must exist"):
        recipes.unpack(tmp_path / "nothing")


def test_a_file_may_not_run_code_of_its_own(tmp_path):
    image = keras.Input((2, 2, 1))
    model = keras.Model(image, keras.layers.Lambda(lambda x: x + 1, output_shape=(2, 2, 1))(image))
    recipes.pack(model, tmp_path / "lambda")
    with pytest.raises(ValueError, match="unpack: the file must hold a model that Keras loads in safe mode"):
        recipes.unpack(tmp_path / "lambda")


def test_bad_arguments_of_pack(tmp_path):
    with pytest.raises(TypeError, match=r"pack: model is of no known kind\. Received list"):
        recipes.pack([1], tmp_path / "file")
    with pytest.raises(ValueError, match="pack: the model must be built"):
        recipes.pack(keras.Sequential([keras.layers.Dense(1)]), tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="pack: the folder of the file must exist"):
        recipes.pack(few_bits(), tmp_path / "nowhere" / "file")
