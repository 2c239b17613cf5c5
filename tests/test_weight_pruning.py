"""Pruning of single weights: which are chosen, that they stay zero, how they are shared out among the layers."""

import json

import keras
import numpy as np
import pytest
from cases import tiny_base
from fresh_python import run_python

import layers
import recipes
from recipes.compression.kernels import find_kernels
from recipes.compression.masking import gradual, pruned, smallest, unmasked
from recipes.compression.sensitivities import Sensitivity
from recipes.training.optimizers import make_optimizer


def small_model():
    """A plain, a depthwise, a separable and a transposed convolution, normalisation, two dense layers."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.DepthwiseConv2D(3, name="depth")(x)
    x = keras.layers.SeparableConv2D(5, 3, name="separable")(x)
    x = keras.layers.Conv2DTranspose(4, 2, name="transposed")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dense(10, activation="relu", name="hidden")(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", name="last")(x), name="small")


def kernels(model):
    return {kernel.name: kernel.values for kernel in find_kernels(model)[0]}


def zeros(model):
    return {name: int((values == 0).sum()) for name, values in kernels(model).items()}


def test_the_smallest_are_chosen_and_of_equal_ones_the_first(random):
    values = random.normal(size=(13, 7))
    chosen = smallest(np.abs(values), 40)
    order = np.argsort(np.abs(values).ravel())
    np.testing.assert_array_equal(np.sort(np.flatnonzero(chosen)), np.sort(order[:40]))
    np.testing.assert_array_equal(smallest(np.array([1, 0, 1, 0, 1, 1]), 4), [1, 1, 1, 1, 0, 0])
    assert not smallest(np.ones(3), 0).any()


def test_each_kernel_is_as_sparse_as_asked_and_the_model_stays():
    model = small_model()
    before = [weight.numpy() for weight in model.weights]
    new, notes = pruned(model, 0.7)
    after = zeros(new)
    assert after["depth"] == after["separable/depthwise_kernel"] == 0
    for name, values in kernels(new).items():
        if name not in ("depth", "separable/depthwise_kernel"):
            assert after[name] == round(0.7 * values.size), name
            old = kernels(model)[name]
            np.testing.assert_array_equal(values[values != 0], old[values != 0])
            assert np.abs(old[values == 0]).max() <= np.abs(old[values != 0]).min()
    assert notes == {"depth": "keep says so", "separable/depthwise_kernel": "keep says so"}
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert all(kernel.mask is None for kernel in find_kernels(model)[0])


@pytest.mark.parametrize("scope", ["global", "deviation"])
def test_over_all_layers_exactly_as_many_are_zero(scope):
    model = small_model()
    model.get_layer("hidden").kernel.assign(model.get_layer("hidden").kernel * 1e-3)
    new, _ = pruned(model, 0.61, scope=scope, keep=())
    sizes = sum(values.size for values in kernels(model).values())
    assert sum(zeros(new).values()) == round(0.61 * sizes)
    share = zeros(new)["hidden"] / kernels(model)["hidden"].size
    # By magnitude the layer that was made small goes first; relative to its own deviation it is like the others.
    assert share == 1 if scope == "global" else 0.5 < share < 0.7


def test_names_say_what_is_pruned_and_how_far():
    new, _ = pruned(small_model(), {"hidden|last": 0.9, "conv": 0.25}, keep=("last",))
    asked = {"hidden": round(0.9 * kernels(new)["hidden"].size), "conv": round(0.25 * 162)}
    assert zeros(new) == dict.fromkeys(zeros(new), 0) | asked
    kept, notes = pruned(small_model(), 0.5, keep=("first", "dense", "trans.*"))
    assert zeros(kept)["conv"] == zeros(kept)["hidden"] == zeros(kept)["transposed"] == 0
    assert zeros(kept)["depth"] == 27
    assert set(notes) == {"conv", "hidden", "last", "transposed"}


def test_what_is_pruned_is_never_taken_back():
    once, _ = pruned(small_model(), 0.8)
    again, _ = pruned(once, 0.3)
    assert zeros(again) == zeros(once)
    more, _ = pruned(once, 0.9)
    for name, values in kernels(more).items():
        assert not values[kernels(once)[name] == 0].any()
    found, _ = pruned(unmasked(once), 0.0)
    for one, other in zip(find_kernels(found)[0], find_kernels(once)[0], strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "average": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2),
    "layerwise": lambda: make_optimizer("adamw", 0.01, 0.1, {"hidden": 0.1, "last": 0.1}),
}


def train(model, optimizer, steps=4, seed=0):
    """Some steps along gradients that are noise."""
    random = np.random.default_rng(seed)
    variables = model.trainable_variables
    for _ in range(steps):
        noise = [random.normal(size=variable.shape).astype("float32") for variable in variables]
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in noise], variables)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_zeros_stay_zero_whatever_trains(make):
    model, _ = pruned(small_model(), 0.8)
    before, masks = kernels(model), {name: values != 0 for name, values in kernels(model).items()}
    train(model, make())
    for name, values in kernels(model).items():
        assert not values[~masks[name]].any(), name
        assert not np.signbit(values[~masks[name]]).any(), "-0.0 is another pattern of bits"
        assert (values != before[name])[masks[name]].all(), name


FRESH = """
import sys
import keras
import layers
model = keras.saving.load_model(sys.argv[1])
optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.1)
for _ in range(3):
    noise = [keras.random.normal(variable.shape) for variable in model.trainable_variables]
    optimizer.apply(noise, model.trainable_variables)
model.save(sys.argv[1])
"""


def test_zeros_stay_zero_after_saving_in_a_fresh_process(tmp_path):
    model, _ = pruned(small_model(), 0.8)
    path = tmp_path / "model.keras"
    model.save(path)
    run_python(FRESH, path)
    again = keras.saving.load_model(path)
    assert zeros(again) == zeros(model)
    for one, other in zip(find_kernels(again)[0], find_kernels(model)[0], strict=True):
        assert (one.mask is None) == (other.mask is None)
        assert one.mask is None or np.array_equal(one.mask, other.mask)
        assert not np.array_equal(one.values, other.values)  # it did train


def test_without_masks_the_model_is_plain_keras():
    model, _ = pruned(small_model(), 0.8)
    plain = unmasked(model)
    assert "ZerosKept" in model.to_json()
    assert "ZerosKept" not in plain.to_json()
    for one, other in zip(plain.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    train(plain, keras.optimizers.Adam(0.01))
    assert sum(zeros(plain).values()) < sum(zeros(model).values()) / 2


def test_a_mask_takes_a_bit_a_weight_at_most():
    mask = np.random.default_rng(0).random((300, 100)) < 0.08
    config = layers.ZerosKept(mask).get_config()
    again = layers.ZerosKept.from_config(json.loads(json.dumps(config)))
    np.testing.assert_array_equal(again.mask, mask)
    assert again.get_config() == config
    # 0.402 bits of entropy, a tenth for Huffman's code, a third for base64; and the numbers of the shape.
    assert len(json.dumps(config)) < 0.402 * 1.1 * mask.size / 8 * 4 / 3 + 100
    empty = layers.ZerosKept(np.zeros((0, 4), bool))
    assert layers.ZerosKept.from_config(empty.get_config()).mask.shape == (0, 4)


def test_a_mask_keeps_what_is_infinite_and_nothing_else():
    keep = layers.ZerosKept([1, 0, 1, 0])
    values = keras.ops.convert_to_numpy(keep(np.array([np.inf, np.inf, -1, -1], "float32")))
    np.testing.assert_array_equal(values, [np.inf, 0, -1, 0])
    with pytest.raises(ValueError, match=r"ZerosKept: the weights must have the shape of the mask, \(4,\)"):
        keep(np.ones(5))
    with pytest.raises(ValueError, match="ZerosKept: mask must hold nothing but 0 and 1"):
        layers.ZerosKept([0.5])
    with pytest.raises(TypeError, match="ZerosKept: mask must be an array"):
        layers.ZerosKept("kernel")


def test_layers_that_are_not_known_are_named_and_stay():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, kernel_constraint="max_norm", name="own")(image)
    x = layers.BinaryConv(4, 3, name="binary")(x)
    x = keras.layers.PReLU(name="slopes")(x)
    model = keras.Model(image, keras.layers.Dense(3, name="dense")(keras.layers.Flatten()(x)))
    new, notes = pruned(model, 0.5)
    assert set(notes) == {"own", "binary"}
    assert "MaxNorm" in notes["own"]
    assert "BinaryConv" in notes["binary"]
    assert zeros(new) == {"dense": round(0.5 * kernels(model)["dense"].size)}


def test_the_course_is_that_of_zhu_and_gupta():
    np.testing.assert_allclose(gradual(0.8, 4), [0.8 * (1 - (1 - t / 4) ** 3) for t in (1, 2, 3, 4)])
    assert gradual({"a": 0.5}, 2) == [{"a": 0.5 * 0.875}, {"a": 0.5}]


CURVES = Sensitivity(
    accuracy=0.9,
    sparsities=(0.5, 0.9),
    curves={"hard": (0.7, 0.1), "easy": (0.9, 0.8)},
    sizes={"hard": 100, "easy": 1000},
    chance=0.1,
)


def test_sensitivity_allots_what_costs_all_alike():
    for sparsity in (0.0, 0.1, 0.45, 0.6, 0.83, 0.95, 0.999):
        allotted = CURVES.allot(sparsity)
        assert sum(allotted.values()) == round(1100 * sparsity), sparsity
    # At 0.1 lost, "easy" has 0.9 of its weights zero, and "hard" half of the way to 0.2 lost: 0.25.
    assert CURVES.allot((900 + 25) / 1100) == {"hard": 25, "easy": 900}
    # Nothing is lost up to half of "easy": below that, "hard" stays whole.
    assert CURVES.allot(300 / 1100) == {"hard": 0, "easy": 300}
    assert CURVES.allot(0.5, {"easy": 10}) == {"easy": 5}
    assert "hard" in repr(CURVES)


def test_sensitivity_measures_each_layer_by_itself(classifier):
    before = classifier.model.get_weights()
    measured = recipes.sensitivity(classifier, sparsities=(0.5, 1.0), verbose=False)
    for one, other in zip(classifier.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(measured.curves) == ["conv0", "conv1", "conv2", "conv3", "probabilities"]
    valid = classifier.data.valid
    for name in ("conv2", "probabilities"):
        model = keras.models.clone_model(classifier.model)
        model.set_weights(before)
        kernel = model.get_layer(name).kernel
        values = kernel.numpy()
        for sparsity, accuracy in zip((0.5, 1.0), measured.curves[name], strict=True):
            kernel.assign(np.where(smallest(np.abs(values), round(values.size * sparsity)), 0, values))
            told = model.predict(valid.images().astype("float32"), verbose=0).argmax(-1)
            assert accuracy == pytest.approx(np.mean(told == valid.labels))
    # Without the last kernel its biases choose one class for all.
    shares = np.bincount(valid.labels, minlength=3) / len(valid)
    assert min(abs(shares - measured.curves["probabilities"][1])) < 1e-9


def test_prune_weights_reaches_the_sparsity_and_shows_what_it_saved(classifier):
    quick = recipes.Recovery(epochs=1, learning_rate=1e-3, batch_size=16)
    options = {"scope": "sensitivity", "steps": 2, "max_drop": None, "recovery": quick}
    small = recipes.prune_weights(classifier, sparsity=0.75, verbose=False, **options)
    found = find_kernels(small.model)[0]
    size = sum(kernel.size for kernel in found)
    assert sum(int((kernel.values == 0).sum()) for kernel in found) == pytest.approx(0.75 * size, abs=len(found))
    assert all(kernel.mask is not None for kernel in found if (kernel.values == 0).any())
    first, *others = small.rungs
    assert [rung.name for rung in others] == ["weights, 65.6% zero", "weights, 75.0% zero"]
    assert first.parameters == others[-1].parameters
    assert first.nonzero - others[-1].nonzero == pytest.approx(0.75 * size, rel=0.05)
    assert others[-1].stored_bytes < first.stored_bytes
    assert small.form == "packed"


def test_prune_weights_stops_where_too_much_is_lost(classifier):
    still = recipes.Recovery(epochs=0)
    with pytest.warns(UserWarning, match="prune_weights: the model stays as it came"):
        small = recipes.prune_weights(classifier, sparsity=0.99, steps=1, max_drop=0.0, recovery=still, verbose=False)
    assert [rung.is_kept for rung in small.rungs] == [True, False]
    np.testing.assert_array_equal(small.model.get_weights()[0], classifier.model.get_weights()[0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sparsity": 1.2}, "prune_weights: sparsity must be at least 0 and at most 1. Received 1.2"),
        ({"sparsity": 1}, "prune_weights: sparsity must leave some weights. Received 1."),
        ({"sparsity": {"conv1": -0.1}}, "prune_weights: sparsity must be at least 0"),
        ({"sparsity": {"convolution1": 0.5}}, "a name in sparsity is that of no layer with a kernel. Received convol"),
        ({"sparsity": {"conv(": 0.5}}, "sparsity must hold regular expressions"),
        ({"sparsity": {"conv1": 0.5}, "scope": "global"}, "scope is for one sparsity of all layers"),
        ({"scope": "layers"}, "scope is not known. Received 'layers'. Did you mean 'layer'?"),
        ({"keep": "first"}, "keep must be a tuple of names of layers. Received 'first'"),
        ({"keep": ("relu0",)}, "a name in keep is that of no layer with a kernel. Received relu0"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"form": "zip"}, "form is not known"),
    ],
)
def test_bad_arguments_of_prune_weights(classifier, arguments, said):
    with pytest.raises((TypeError, ValueError)) as caught:
        recipes.prune_weights(classifier, **arguments)
    assert said in str(caught.value)


def test_bad_arguments_of_sensitivity(classifier):
    with pytest.raises(ValueError, match="sensitivity: sparsities must rise"):
        recipes.sensitivity(classifier, sparsities=(0.9, 0.5))
    with pytest.raises(ValueError, match="sensitivity: sparsities must be above 0 and at most 1"):
        recipes.sensitivity(classifier, sparsities=(0.5, 1.5))
    with pytest.raises(ValueError, match="sensitivity: data must be given"):
        recipes.sensitivity(tiny_classifier())


def tiny_classifier():
    base = tiny_base()
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    return keras.Model(base.input, keras.layers.Dense(3, activation="softmax")(pooled))


def test_a_factor_for_each_channel_is_no_kernel():
    """LayerScale of ConvNeXt: a zero there would take all of a channel."""
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(4, 1, name="conv")(image)
    scale = keras.layers.EinsumDense("abcd,d->abcd", output_shape=(4, 4, 4), name="scale")
    kernels, notes = find_kernels(keras.Model(image, scale(x)))
    assert [kernel.name for kernel in kernels] == ["conv"]
    assert "a factor for each channel" in notes["scale"]
