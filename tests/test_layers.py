"""Laws that every layer obeys, on whichever backend Keras runs: one row in `cases.LAYERS`, and they apply."""

import inspect
import json
import re

import keras
import numpy as np
import pytest
from cases import LAYERS
from fresh_python import run_python

import layers

BY_NAME = {case.name: case for case in LAYERS}
SAVED = "models.json"


def images_for(case, batch=4, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, *case.shape)).astype("float32")


def functional(case, shape=None):
    image = keras.Input(shape or case.shape)
    return keras.Model(image, case.make()(image))


def randomize(model, seed=1):
    """Give every weight a value of its own, also those that start as zeros or ones."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if keras.backend.is_float_dtype(weight.dtype):
            value = keras.ops.convert_to_numpy(weight)
            weight.assign(value + 0.1 * np.abs(random.normal(size=value.shape)).astype(value.dtype))
    return model


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def answers(model, images):
    """As `predict` gives them, without compiling anything, which would take most of the time of a test."""
    if keras.backend.backend() == "jax":  # compiles each operation by itself, where it may not compile all at once
        return model.predict(images, verbose=0)
    return numpy(model(images, training=False))


all_layers = pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)


@all_layers
def test_declared_symbolic_and_eager_shapes_agree(case):
    layer, images = case.make(), images_for(case)
    eager = tuple(layer(images).shape)
    assert tuple(layer.compute_output_shape(images.shape)) == eager
    assert functional(case).output_shape == (None, *eager[1:])


@all_layers
def test_unknown_batch_and_size(case):
    if not case.any_size:
        with pytest.raises(ValueError, match=type(case.make()).__name__):
            functional(case, (None, None, case.shape[-1]))
        return
    model = randomize(functional(case, (None, None, case.shape[-1])))
    for size in (case.shape, (case.shape[0] + 3, case.shape[1] + 2, case.shape[2])):
        known = keras.Input(size)
        layer = case.make()
        fixed = keras.Model(known, layer(known))
        fixed.set_weights(model.get_weights())
        images = np.random.default_rng(0).normal(size=(2, *size)).astype("float32")
        np.testing.assert_allclose(answers(model, images), answers(fixed, images), atol=1e-5)


@all_layers
def test_config_round_trip_before_and_after_build(case):
    layer = case.make()
    before = layer.get_config()
    layer(images_for(case))
    assert layer.get_config() == before
    assert type(layer).from_config(before).get_config() == before
    plain = json.loads(json.dumps(before))
    assert json.loads(json.dumps(type(layer).from_config(plain).get_config())) == plain
    accepted = {name for name in inspect.signature(type(layer).__init__).parameters if name not in ("self", "kwargs")}
    assert accepted <= set(before)


@all_layers
def test_equals_the_reference(case):
    if case.reference is None:
        pytest.skip("its values are compared in a test of its own")
    model, images = randomize(functional(case)), images_for(case)
    expected = case.reference(model.layers[-1], images)
    np.testing.assert_allclose(answers(model, images), expected, atol=case.tolerance * np.abs(expected).max(), rtol=0)


@all_layers
def test_one_step_moves_every_trainable_weight(case):
    model = functional(case)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = [numpy(weight) for weight in model.trainable_weights]
    images = images_for(case, 8)
    targets = np.random.default_rng(2).normal(size=(8, *model.output_shape[1:])).astype("float32")
    model.train_on_batch(images, targets)
    for weight, old in zip(model.trainable_weights, before, strict=True):
        new = numpy(weight)
        assert np.isfinite(new).all(), weight.path
        assert not np.array_equal(new, old), weight.path


@all_layers
def test_each_image_is_independent_of_its_batch_at_inference(case):
    model, images = randomize(functional(case)), images_for(case, 5)
    together = answers(model, images)
    alone = np.concatenate([answers(model, images[index : index + 1]) for index in range(5)])
    # Libraries may choose another algorithm for another batch size.
    np.testing.assert_allclose(together, alone, atol=1e-5 * np.abs(together).max())


@all_layers
def test_compiled_equals_eager(case):
    model, images = randomize(functional(case)), images_for(case)
    eager = answers(model, images)
    np.testing.assert_allclose(model.predict(images, verbose=0), eager, atol=1e-5 * np.abs(eager).max())


@pytest.mark.parametrize(
    "case", [case for case in LAYERS if layers.is_unfoldable(case.make())], ids=lambda case: case.name
)
def test_unfolded_into_plain_keras_layers_of_the_same_weights(case):
    model, images = randomize(functional(case)), images_for(case)
    flat = layers.unfold(model.layers[-1])
    assert {type(layer).__name__ for layer in flat.layers if layer.weights} <= set(dir(keras.layers))
    assert {id(weight) for weight in flat.weights} == {id(weight) for weight in model.weights}
    expected = answers(model, images)
    np.testing.assert_allclose(answers(flat, images), expected, atol=1e-5 * np.abs(expected).max())


def test_unfold_says_what_it_cannot_take():
    with pytest.raises(TypeError, match=r"unfold: layer must be one of DenseBlock, .* Received <BinaryConv"):
        layers.unfold(layers.BinaryConv(4, 3), (None, 8, 8, 3))
    with pytest.raises(TypeError, match="without remat"):
        layers.unfold(layers.DenseBlock(2, 3, remat=True), (None, 8, 8, 3))
    with pytest.raises(ValueError, match=r"unfold: input_shape must be given .* Pass input_shape="):
        layers.unfold(layers.FireBlock(2, 3))


@all_layers
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(case, policy):
    full = randomize(functional(case))
    keras.config.set_dtype_policy(policy)
    try:
        mixed = functional(case)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(full.get_weights())
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in mixed.trainable_weights} <= {"float32"}
    images = images_for(case)
    outputs, expected = numpy(mixed(images)).astype("float32"), numpy(full(images))
    # bfloat16 keeps 8 bits of the mantissa; a few of them are lost in sums.
    np.testing.assert_allclose(outputs, expected, atol=0.06 * np.abs(expected).max())


@all_layers
def test_docstring_describes_exactly_the_arguments(case):
    cls = type(case.make())
    section = re.search(r"^Args:\n(.*?)(?=^\w|\Z)", inspect.getdoc(cls), re.MULTILINE | re.DOTALL)
    described = re.findall(r"^    \*{0,2}(\w+):", section.group(1), re.MULTILINE)
    assert described == [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    for heading in ("Input shape:", "Output shape:", "Raises:", "Reference:", "Example:"):
        assert heading in cls.__doc__, heading


class Holder(keras.layers.Layer):
    """A layer of other layers, with an attribute of its own that Keras uses too."""

    def __init__(self):
        super().__init__()
        self.layers = 2
        self.norm = keras.layers.Normalization(name="norm")
        self.parts = [keras.layers.Dense(4, name="first"), {"second": keras.layers.Dense(2, name="hidden")}]


def test_inner_layers_are_found_wherever_a_layer_has_them():
    holder = Holder()
    names = [part.name for part in layers.inner_layers(holder)]
    assert names[0] == holder.name and set(names[1:]) == {"norm", "first", "hidden"}
    model = keras.Sequential([keras.Input((4,)), holder.parts[0], holder.parts[0]], name="outer")
    assert [part.name for part in layers.inner_layers(keras.layers.TimeDistributed(model, name="timed"))] == [
        *("timed", "outer", "first")
    ]


BAD = [(case, arguments, said) for case in LAYERS for arguments, said in case.bad]


@pytest.mark.parametrize(("case", "arguments", "said"), BAD, ids=[f"{case.name} {said}" for case, _, said in BAD])
def test_bad_arguments_name_themselves_and_their_value(case, arguments, said):
    cls = type(case.make())
    with pytest.raises((TypeError, ValueError)) as caught:
        cls(**arguments)
    assert str(caught.value).startswith(f"{cls.__name__}: ")
    assert said in str(caught.value)


def test_every_layer_is_exported_and_has_a_row():
    classes = [name for name in layers.__all__ if inspect.isclass(getattr(layers, name))]
    public = {name for name in classes if issubclass(getattr(layers, name), keras.layers.Layer)}
    assert {type(case.make()).__name__ for case in LAYERS} == public
    assert len(BY_NAME) == len(LAYERS)


RELOAD = """
import sys, pathlib
import numpy as np, keras, layers
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    model = keras.saving.load_model(folder / "model.keras")
    outputs = model(np.load(folder / "images.npy"), training=False)
    np.save(folder / "again.npy", keras.ops.convert_to_numpy(outputs))
"""


def test_saved_and_reloaded_in_a_fresh_process(tmp_path):
    """All layers in one process, since starting one takes seconds."""
    for number, case in enumerate(LAYERS):
        folder = tmp_path / f"{number:03d}"
        folder.mkdir()
        model, images = randomize(functional(case)), images_for(case)
        model.save(folder / "model.keras")
        np.save(folder / "images.npy", images)
        np.save(folder / "outputs.npy", answers(model, images))
    run_python(RELOAD, tmp_path, is_quick=False)
    for number, case in enumerate(LAYERS):
        folder = tmp_path / f"{number:03d}"
        np.testing.assert_array_equal(np.load(folder / "again.npy"), np.load(folder / "outputs.npy"), case.name)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a SavedModel needs the TensorFlow backend")
def test_exported_to_a_saved_model(tmp_path):
    """All layers in one file, each an endpoint, for images of any size where it takes these."""
    import tensorflow as tf

    archive, models = keras.export.ExportArchive(), {}
    for number, case in enumerate(LAYERS):
        shape = (None, None, case.shape[-1]) if case.any_size else case.shape
        models[f"layer_{number}"] = model = randomize(functional(case, shape))
        archive.track(model)
        archive.add_endpoint(
            f"layer_{number}", model.__call__, [keras.InputSpec(dtype="float32", shape=(None, *shape))]
        )
    archive.write_out(str(tmp_path / "served"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    for case, (name, model) in zip(LAYERS, models.items(), strict=True):
        images = images_for(case)
        given, expected = getattr(served, name)(images), answers(model, images)
        # Where sides are unknown, exact algorithms convolve directly, which rounds otherwise.
        atol = case.tolerance * max(1, np.abs(expected).max())
        np.testing.assert_allclose(given, expected, atol=atol, err_msg=case.name)
