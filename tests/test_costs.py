"""What networks cost, beside sums by hand, beside the papers, and beside what TensorFlow takes."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import LAYERS

import layers
import recipes
from recipes.bases import multiply_adds
from recipes.costs.allocator import Allocator
from recipes.costs.optimizers import optimizer_needs

ROOT = Path(__file__).parents[1]


def model_of(*parts, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *parts])


def tiny():
    return model_of(
        keras.layers.Conv2D(4, 3, name="conv"),
        keras.layers.ReLU(name="relu"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(5, activation="softmax", name="dense"),
    )


def rows(cost):
    return {row.name: row for row in cost.layers}


def test_every_field_of_a_tiny_network_by_hand():
    """All tensors are small, so that the allocator hands out exactly what is asked for."""
    cost = recipes.cost(tiny(), batch_size=2, optimizer="adam")
    conv, relu, flatten, dense = cost.layers
    image, features, answers = 4 * 2 * 8 * 8 * 3, 4 * 2 * 6 * 6 * 4, 4 * 2 * 5
    assert dataclasses.asdict(conv) == {
        "name": "conv",
        "kind": "Conv2D",
        "calls": 1,
        "output_shape": (6, 6, 4),
        "parameters": 112,
        "multiply_adds": 6 * 6 * 4 * 27,
        "activation_bytes": features,
        "kept_bytes": features,  # written over by the ReLU, whose gradient asks for it
        "moved_bytes": image + features + 4 * 112,
        "milliseconds": None,
        "note": "",
    }
    assert (relu.multiply_adds, relu.parameters, relu.kept_bytes, relu.moved_bytes) == (0, 0, 0, 2 * features)
    assert (flatten.output_shape, flatten.kept_bytes) == ((144,), 0)
    assert (dense.multiply_adds, dense.parameters, dense.activation_bytes) == (144 * 5, 725, answers)
    assert (cost.parameters, cost.trainable_parameters, cost.multiply_adds) == (837, 837, 3888 + 720)
    assert (cost.weight_bytes, cost.gradient_bytes, cost.optimizer_bytes) == (4 * 837, 4 * 837, 2 * 4 * 837)
    assert (cost.input_bytes, cost.image_size, cost.batch_size, cost.optimizer) == (image, (8, 8), 2, "adam")
    # The convolution's output, in which bias and ReLU write, and then the dense layer's beside it.
    assert cost.inference_bytes == cost.weight_bytes + image + features + answers
    # The gradients wait until all are there. The largest, of the dense kernel, is taken third, with two more of its
    # size; beside it are that of the bias and the loss.
    held = cost.weight_bytes + cost.optimizer_bytes + image
    assert cost.training_bytes == held + 3 * 4 * 720 + 4 * 5 + 4


def attention():
    image = keras.Input((5, 8))
    return keras.Model(image, keras.layers.MultiHeadAttention(2, 4)(image, image))


KINDS = (
    # layer, shape of its input, multiply-adds
    (lambda: keras.layers.Conv1D(4, 3), (9, 3), 7 * 4 * 9),
    (lambda: keras.layers.Conv1D(4, 3, dilation_rate=2, padding="causal"), (9, 3), 9 * 4 * 9),
    (lambda: keras.layers.Conv2D(4, (3, 5), strides=2, padding="same"), (9, 8, 3), 5 * 4 * 4 * 45),
    (lambda: keras.layers.Conv2D(4, 3, dilation_rate=2, padding="same"), (9, 9, 3), 81 * 4 * 27),
    (lambda: keras.layers.Conv2D(4, 3, dilation_rate=2), (9, 9, 3), 25 * 4 * 27),
    (lambda: keras.layers.Conv2D(4, 3, groups=2), (9, 9, 6), 49 * 4 * 27),
    (lambda: keras.layers.Conv3D(4, 3), (5, 5, 5, 3), 27 * 4 * 81),
    (lambda: keras.layers.DepthwiseConv1D(3), (9, 3), 7 * 3 * 3),
    (lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2), (9, 9, 3), 49 * 6 * 9),
    (lambda: keras.layers.DepthwiseConv2D(3, dilation_rate=2, padding="same"), (9, 9, 3), 81 * 3 * 9),
    (lambda: keras.layers.SeparableConv1D(4, 3), (9, 3), 7 * (3 * 3 + 3 * 4)),
    (lambda: keras.layers.SeparableConv2D(4, 3, strides=2), (9, 9, 3), 16 * (3 * 9 + 3 * 4)),
    (lambda: keras.layers.Conv1DTranspose(4, 3, strides=2), (9, 3), 9 * 3 * 3 * 4),
    (lambda: keras.layers.Conv2DTranspose(4, 3, strides=2, padding="same"), (9, 9, 3), 81 * 3 * 9 * 4),
    (lambda: keras.layers.Conv3DTranspose(4, 3, strides=2), (3, 3, 3, 2), 27 * 2 * 27 * 4),
    (lambda: keras.layers.Dense(4), (3,), 12),
    (lambda: keras.layers.Dense(4), (5, 6, 3), 30 * 12),
    (lambda: keras.layers.EinsumDense("abc,cd->abd", output_shape=(None, 7)), (5, 3), 5 * 3 * 7),
    (lambda: keras.layers.TimeDistributed(keras.layers.Conv2D(2, 3)), (4, 9, 9, 3), 4 * 49 * 2 * 27),
    (lambda: keras.layers.SimpleRNN(4, unroll=True), (5, 3), 5 * (3 * 4 + 4 * 4)),
    (lambda: keras.layers.BatchNormalization(), (9, 9, 3), 0),
    (lambda: keras.layers.LayerNormalization(), (9, 3), 0),
    (lambda: keras.layers.PReLU(), (9, 9, 3), 0),
    (lambda: keras.layers.Embedding(10, 4), (5,), 0),
    (lambda: keras.layers.AveragePooling2D(2), (8, 8, 3), 0),
)


@pytest.mark.parametrize(("make", "shape", "expected"), KINDS)
def test_multiply_adds_of_every_kind_of_layer(make, shape, expected):
    layer = make()
    cost = recipes.cost(model_of(layer, shape=shape), batch_size=3, optimizer=None)
    assert [(row.multiply_adds, row.parameters, row.note) for row in cost.layers] == [
        (expected, layer.count_params(), "")
    ]


def test_attention_counts_its_four_projections_and_both_products():
    cost = recipes.cost(attention(), batch_size=2, optimizer=None)
    assert cost.multiply_adds == 4 * 5 * 8 * 8 + 2 * 2 * 5 * 5 * 4


@pytest.mark.parametrize("name", ["xception", "mobilenet_v2_035"])
@pytest.mark.slow
def test_the_quick_count_is_the_same(name):
    cost = recipes.cost(name, 96, optimizer=None)
    row = recipes.bases.find_base(name)
    model = row.constructor(include_top=True, weights=None, input_shape=(96, 96, 3))
    assert multiply_adds(model.layers) == cost.multiply_adds


def test_the_quick_count_knows_separable_and_transposed_convolutions():
    model = model_of(keras.layers.SeparableConv2D(4, 3), keras.layers.Conv2DTranspose(2, 3, strides=2))
    assert multiply_adds(model.layers) == recipes.cost(model, optimizer=None).multiply_adds > 0


FIRST_CASES = {type(case.make()): case for case in reversed(LAYERS)}


# They bring images to size by products of matrices.
RESAMPLED = (layers.RandomResizedCrop, layers.RandomScaleCrop)
# What they do is counted, which is not what a direct convolution does.
BY_OTHER_ALGORITHMS = (layers.FFTConv2D, layers.PatchConv2D, layers.WinogradConv2D)


@pytest.mark.parametrize("kind", FIRST_CASES, ids=lambda kind: kind.__name__)
def test_every_layer_of_the_project_is_counted(kind):
    case = FIRST_CASES[kind]
    layer = case.make()
    cost = recipes.cost(model_of(layer, shape=case.shape), batch_size=2, optimizer=None)
    (row,) = cost.layers
    assert row.kind == kind.__name__
    assert row.parameters == layer.count_params()
    assert not row.note
    if layers.is_unfoldable(layer):
        convolutions = layers.unfold(layer, (None, *case.shape)).layers
        assert row.multiply_adds == multiply_adds(convolutions) > 0
    elif isinstance(layer, layers.ImageByImage):
        assert row.multiply_adds == recipes.cost(layer.model, optimizer=None).multiply_adds > 0
    elif isinstance(layer, layers.CropAverage):
        assert row.multiply_adds % recipes.cost(layer.model, optimizer=None).multiply_adds == 0 < row.multiply_adds
    elif kind in BY_OTHER_ALGORITHMS:
        direct = np.prod(layer.kernel.shape) * np.prod(row.output_shape[:-1])
        # Cutting out patches is a convolution by ones; spectra are not products.
        assert row.multiply_adds > direct if kind is layers.PatchConv2D else 0 < row.multiply_adds < direct
    elif layer.trainable_weights:
        places = row.output_shape[:-1]  # binary, ternary and resized convolutions, dense layers
        inner = layer.layer if isinstance(layer, layers.FakeQuantizedKernel) else layer
        kernel = getattr(inner, "convolution", inner).kernel
        assert row.multiply_adds == np.prod(kernel.shape) * np.prod(places)
    elif isinstance(layer, layers.KNNClassifier):
        assert row.multiply_adds >= 40 * 5
    elif kind in RESAMPLED:
        assert row.multiply_adds > 0
    else:
        assert row.multiply_adds == 0


def test_a_block_computed_again_keeps_less_and_counts_the_same():
    costs = [recipes.cost(model_of(layers.DenseBlock(3, 4, remat=remat))) for remat in (False, True)]
    assert costs[0].multiply_adds == costs[1].multiply_adds > 0
    assert costs[1].kept_bytes < costs[0].kept_bytes


def test_layers_called_twice_count_twice_and_hold_their_weights_once():
    image = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(3, 3, padding="same", name="shared")
    cost = recipes.cost(keras.Model(image, shared(shared(image))), optimizer=None)
    assert (rows(cost)["shared"].calls, cost.parameters, cost.multiply_adds) == (2, 84, 2 * 64 * 3 * 27)
    assert "shared (2×)" in repr(cost)


def test_models_within_models_and_operations_have_rows_of_their_own():
    inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 1, name="conv")], name="inner")
    image = keras.Input((8, 8, 3))
    cost = recipes.cost(keras.Model(image, inner(inner(image)) + image), optimizer=None)
    assert rows(cost)["inner/conv"].multiply_adds == 2 * 64 * 9
    assert [row.kind for row in cost.layers] == ["Conv2D", "Add"]


class Written(keras.Model):
    """A model of the user's own that also computes outside of its layers."""

    def __init__(self):
        super().__init__(name="written")
        self.dense = keras.layers.Dense(4, name="dense")
        self.kernel = self.add_weight(shape=(4, 2), name="kernel")

    def call(self, inputs):
        return keras.ops.matmul(self.dense(inputs), self.kernel)


def test_what_a_model_computes_outside_of_its_layers_is_counted():
    image = keras.Input((3,))
    cost = recipes.cost(keras.Model(image, Written()(image), name="whole"), optimizer=None)
    assert {row.name: (row.multiply_adds, row.parameters) for row in cost.layers} == {
        "written/dense": (12, 16),
        "whole": (8, 8),
    }


class Namesakes(keras.Model):
    """Two layers of one name."""

    def __init__(self):
        super().__init__()
        self.first, self.second = keras.layers.Dense(4, name="same"), keras.layers.Dense(2, name="same")

    def call(self, inputs):
        return self.second(self.first(inputs))


def test_layers_of_one_name_are_told_apart():
    image = keras.Input((3,))
    cost = recipes.cost(keras.Model(image, Namesakes()(image)))
    assert {row.name.split("/")[1]: row.multiply_adds for row in cost.layers} == {"same": 12, "same (2)": 8}
    assert all(row.kept_bytes >= 0 for row in cost.layers)


class Hidden(keras.layers.Layer):
    """Does its work where nobody can look."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2))

    def call(self, inputs):
        outputs = tf.numpy_function(lambda x, kernel: x @ kernel, [inputs, self.kernel], tf.float32)
        return tf.ensure_shape(outputs, (inputs.shape[0], 2))

    def compute_output_shape(self, shape):
        return (shape[0], 2)


def test_what_cannot_be_counted_says_so():
    cost = recipes.cost(model_of(Hidden(name="hidden"), shape=(3,)), optimizer=None)
    assert rows(cost)["hidden"].note == "not counted: PyFunc"
    assert "note: hidden: not counted: PyFunc" in repr(cost)
    loop = recipes.cost(model_of(keras.layers.SimpleRNN(4, name="rnn"), shape=(5, 3)), optimizer=None)
    assert (rows(loop)["rnn"].note, loop.multiply_adds) == ("one turn of its loop is counted", 3 * 4 + 4 * 4)


def test_all_turns_of_a_loop_are_counted_where_the_graph_tells_how_many():
    image = keras.Input((20, 24, 8))
    kernel = 36 * 9 * 8 * 16  # brought into the other basis, once for a batch of 3
    for rows_at_once, rows_of_tiles in ((None, 5), (1, 5), (2, 6)):
        how = {"rows": rows_at_once, "images": 1, "products": "compiled"}
        counted = keras.Model(image, layers.WinogradConv2D(16, 3, padding="same", **how)(image))
        cost = recipes.cost(counted, batch_size=3, optimizer=None)
        assert cost.multiply_adds == 36 * rows_of_tiles * 6 * 8 * 16 + kernel // 3 and not cost.layers[-1].note


def test_what_is_frozen_keeps_nothing_and_has_no_gradients():
    def network(is_frozen):
        parts = [keras.layers.Conv2D(8, 3, trainable=not is_frozen) for _ in range(3)]
        return model_of(*parts, keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax"), shape=(32, 32, 3))

    whole, head = (recipes.cost(network(is_frozen), batch_size=16) for is_frozen in (False, True))
    assert head.trainable_parameters == 8 * 26 * 26 * 2 + 2 < whole.trainable_parameters
    assert head.kept_bytes < whole.kept_bytes / 2
    assert head.training_bytes < whole.training_bytes
    assert head.multiply_adds == whole.multiply_adds


def test_a_network_that_is_frozen_whole_takes_what_inference_takes():
    model = tiny()
    model.trainable = False
    cost = recipes.cost(model, batch_size=2)
    assert (cost.trainable_parameters, cost.gradient_bytes, cost.optimizer_bytes) == (0, 0, 0)
    assert cost.training_bytes == pytest.approx(cost.inference_bytes, abs=256)


def test_embeddings_and_half_precision_and_several_inputs():
    words, image = keras.Input((5,), dtype="int32", name="words"), keras.Input((8, 8, 3), name="image")
    features = keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16", name="half")(image)
    meaning = keras.layers.Flatten()(keras.layers.Embedding(10, 4, name="meaning")(words))
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(features), meaning])
    cost = recipes.cost(keras.Model({"words": words, "image": image}, keras.layers.Dense(2)(joined)), batch_size=2)
    assert (cost.image_size, cost.input_bytes) == (None, 2 * 4 * (5 + 8 * 8 * 3))
    assert rows(cost)["half"].activation_bytes == 2 * 2 * 6 * 6 * 4  # two bytes a number
    assert rows(cost)["meaning"].parameters == 40
    assert cost.training_bytes > cost.inference_bytes


def test_skip_connections_live_on():
    image = keras.Input((32, 32, 4))
    middle = keras.layers.Conv2D(4, 3, padding="same", name="first")(image)
    last = keras.layers.Conv2D(4, 3, padding="same", name="second")(middle)
    plain = recipes.cost(keras.Model(image, keras.layers.Conv2D(4, 1)(last)), optimizer=None)
    joined = recipes.cost(keras.Model(image, keras.layers.Conv2D(4, 1)(last) + middle), optimizer=None)
    assert joined.inference_bytes - plain.inference_bytes == 4 * 32 * 32 * 4


def test_another_size_is_counted_on_a_copy():
    model = tiny()
    cost = recipes.cost(model, (16, 12), optimizer=None)
    assert rows(cost)["conv"].multiply_adds == 14 * 10 * 4 * 27
    assert rows(cost)["dense"].parameters == 14 * 10 * 4 * 5 + 5
    assert model.count_params() == 837
    free = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3)])
    assert recipes.cost(free, 8, optimizer=None).multiply_adds == 3888


def test_the_model_stays_as_it_is():
    last = keras.layers.Conv2D(2, 3, kernel_regularizer="l2", activity_regularizer="l1")
    model = model_of(keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), last)
    before, state = model.get_weights(), [variable.numpy() for variable in model.variables]
    recipes.cost(model)
    assert all("call" not in vars(layer) for layer in model.layers)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for old, variable in zip(state, model.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())


def test_results_are_taken():
    result = recipes.Result(tiny(), tuple("abcde"), (8, 8), 3, "crop", report=None)
    assert recipes.cost(result, optimizer=None).parameters == 837


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"model": "vgg_16"}, ValueError, "vgg16"),
        ({"model": 3}, TypeError, "Received int"),
        ({"model": keras.Sequential([keras.layers.Dense(2)])}, ValueError, "no.* yet"),
        ({"model": model_of(keras.layers.Conv2D(2, 3), shape=(None, None, 3))}, ValueError, "image_size must be given"),
        ({"model": model_of(keras.layers.Dense(2), shape=(3,)), "image_size": 8}, ValueError, "image_size=8"),
        ({"model": "vgg16", "image_size": 16}, ValueError, "at least 32"),
        ({"model": tiny(), "image_size": 2}, ValueError, r"\(2, 2\)"),
        ({"model": tiny(), "image_size": "big"}, TypeError, "'big'"),
        ({"model": tiny(), "batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"model": tiny(), "optimizer": "adamm"}, ValueError, "adam"),
        ({"model": tiny(), "is_timed": 1}, TypeError, "is_timed"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, kind, words):
    with pytest.raises(kind, match=f"^cost: .*{words}"):
        recipes.cost(**arguments)


def test_json_and_back(tmp_path):
    cost = recipes.cost(tiny())
    cost.save(tmp_path / "cost.json")
    assert recipes.Cost.load(tmp_path / "cost.json") == cost
    assert json.loads((tmp_path / "cost.json").read_text())["multiply_adds"] == cost.multiply_adds


def test_the_table_is_as_wide_as_a_terminal_and_shows_the_costliest():
    parts = [keras.layers.Conv2D(2, 3, padding="same", name=f"a_layer_with_a_rather_long_name_{n}") for n in range(20)]
    cost = recipes.cost(model_of(*parts, keras.layers.Conv2D(64, 3, name="largest")), batch_size=1000)
    text = repr(cost)
    assert max(map(len, text.splitlines())) <= 100
    assert "(the 15 of 21 layers with most multiply-adds; all are in .layers)" in text
    line = next(line for line in text.splitlines() if line.startswith("largest"))
    assert "41.5 k" in line
    for words in ("batch of 1,000", "inference", "training", "adamw", f"{cost.parameters:,} parameters"):
        assert words in text


def test_the_plot_has_a_bar_for_each_of_the_costliest(tmp_path):
    cost = recipes.cost(tiny())
    figure = recipes.plot_cost(cost)
    assert [len(axes.patches) for axes in figure.axes] == [4, 4, 4]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [3888, 0, 0, 720]
    figure.savefig(tmp_path / "cost.png")
    assert [len(axes.patches) for axes in recipes.plot_cost(cost, layers=2).axes] == [2, 2, 2]
    with pytest.raises(ValueError, match="layers must be at least 1"):
        recipes.plot_cost(cost, layers=0)


def test_time_is_measured_beside():
    cost = recipes.cost(tiny(), batch_size=4, optimizer=None, is_timed=True)
    assert cost.milliseconds > 0
    assert all(row.milliseconds > 0 for row in cost.layers)
    assert "time " in repr(cost)
    assert len(recipes.plot_cost(cost).axes) == 4


def test_optimizers_keep_what_their_papers_say():
    slots = {name: optimizer_needs(name)[0] for name in ("adamw", "adam", "sgd", "rmsprop", "lion")}
    assert slots == {"adamw": 2, "adam": 2, "sgd": 1, "rmsprop": 1, "lion": 1}
    assert optimizer_needs(keras.optimizers.SGD(0.1))[0] == 0


def test_the_allocator_cuts_and_joins_pieces():
    allocator, million = Allocator(), 2**20
    first = allocator.take(million - 100)  # rounded up to a piece of 1 MiB of the first region of 2 MiB
    assert (first.size, allocator.in_use) == (million, million)
    second = allocator.take(million)
    allocator.give_back(first)
    allocator.give_back(second)  # joined: 2 MiB again
    whole = allocator.take(million + 1000)
    assert (whole.size, allocator.in_use) == (2 * million, 2 * million)  # less than twice as large: nothing is cut off
    assert allocator.take(1000).size == 1000
    assert allocator.take(5 * million).size == 8 * million  # a region that holds it, and 8 < 2 × 5
    assert allocator.peak == 10 * million + 1000


# Name, side, all parameters or those that train, multiply-adds: as the papers say, here exactly.
PUBLISHED = (
    ("mobilenet_025", 224, 475_544, "41 M"),
    ("mobilenet", 128, 4_253_864, "186 M"),
    ("cifar_resnet20", 32, 269_722, "40.6 M"),
)
MORE_PUBLISHED = (
    ("vgg16", 224, 138_357_544, "15.470 G"),  # 15.347 in convolutions, 0.124 in the rest
    ("vgg19", 224, 143_667_240, "19.632 G"),  # 19.508
    ("resnet50", 224, 25_636_712, "3.858 G"),
    ("resnet101", 224, 44_707_176, "7.570 G"),
    ("resnet152", 224, 60_419_944, "11.282 G"),
    ("resnet50_v2", 224, 25_613_800, "3.482 G"),
    ("inception_v3", 299, 23_851_784, "5.713 G"),
    ("densenet121", 224, 8_062_504, "2.834 G"),
    ("densenet169", 224, 14_307_880, "3.360 G"),
    ("densenet201", 224, 20_242_984, "4.291 G"),
    ("googlenet", 224, 6_998_552, "1.583 G"),
    ("mobilenet", 224, 4_253_864, "568.7 M"),
    ("mobilenet", 192, 4_253_864, "418 M"),
    ("mobilenet", 160, 4_253_864, "0.29 G"),  # the paper cuts 290.7 M off to 290
    ("mobilenet_075", 224, 2_601_976, "325 M"),
    ("mobilenet_050", 224, 1_342_536, "149 M"),
    ("mobilenet_full", 224, 29_294_088, "4867.3 M"),
    ("cifar_resnet32", 32, 464_154, "68.9 M"),
    ("cifar_resnet44", 32, 658_586, "97.2 M"),
    ("cifar_resnet56", 32, 853_018, "125.5 M"),
    ("cifar_resnet110", 32, 1_727_962, "252.9 M"),
    ("cifar_densenet40", 32, 1_019_722, "0.265 G"),
    ("cifar_densenet_bc100", 32, 769_162, "0.288 G"),
)


def as_published(count, figure):
    """A count with as many digits as the published figure."""
    number, unit = figure.split()
    digits = len(number.partition(".")[2])
    return f"{count / {'M': 1e6, 'G': 1e9}[unit]:.{digits}f} {unit}"


@pytest.mark.parametrize(
    ("name", "side", "parameters", "products"),
    [*PUBLISHED, *(pytest.param(*row, marks=pytest.mark.slow) for row in MORE_PUBLISHED)],
)
def test_published_counts(name, side, parameters, products):
    cost = recipes.cost(name, side, optimizer=None)
    assert parameters in (cost.parameters, cost.trainable_parameters)
    assert as_published(cost.multiply_adds, products) == products


VGG = {
    # Convolutions of each block, 1×1 where it says so; parameters, multiply-adds of the convolutions (table 2, columns)
    "A": (("3", "3", "33", "33", "33"), 132_863_336, "7.485 G"),
    "B": (("33", "33", "33", "33", "33"), 133_047_848, "11.185 G"),
    "C": (("33", "33", "331", "331", "331"), 133_638_952, "11.647 G"),
    "D": (("33", "33", "333", "333", "333"), 138_357_544, "15.347 G"),
    "E": (("33", "33", "3333", "3333", "3333"), 143_667_240, "19.508 G"),
}


@pytest.mark.slow
@pytest.mark.parametrize("column", VGG)
def test_published_counts_of_vgg(column):
    blocks, parameters, products = VGG[column]
    parts = []
    for kernels, filters in zip(blocks, (64, 128, 256, 512, 512), strict=True):
        parts += [keras.layers.Conv2D(filters, int(kernel), padding="same") for kernel in kernels]
        parts.append(keras.layers.MaxPooling2D(2))
    parts += [keras.layers.Flatten(), *map(keras.layers.Dense, (4096, 4096, 1000))]
    cost = recipes.cost(model_of(*parts, shape=(224, 224, 3)), optimizer=None)
    convolutions = sum(row.multiply_adds for row in cost.layers if row.kind == "Conv2D")
    assert (cost.parameters, as_published(convolutions, products)) == (parameters, products)


@pytest.mark.slow
def test_memory_is_within_a_fifth_of_what_tensorflow_takes():
    """In processes of their own, so that nothing else is in memory; the benchmark has more networks."""
    command = [sys.executable, ROOT / "benchmarks" / "cost_memory.py", "--networks", "small_resnet", "--batches", "8"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if "stats not available" in done.stderr:
        pytest.skip("TensorFlow's allocator does not count here: it takes oneDNN or a GPU")
    rows = json.loads(done.stdout)["cases"]
    assert len(rows) == 2
    assert all(0.8 <= row["ratio"] <= 1.2 for row in rows), rows


def test_the_command_prints_the_table(capsys):
    from recipes.cli import main

    assert main(["cost", "--model", "highway10", "--image-size", "28", "--optimizer", "none"]) == 0
    assert "163,100 multiply-adds" in capsys.readouterr().out
