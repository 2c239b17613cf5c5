"""The model that a cost is asked for, and the shapes of what it takes."""

import keras
import tensorflow as tf

from recipes.bases import build_network, find_base, list_bases
from recipes.checks import check_choice, complaint, image_size_pair
from recipes.values import Result

_LARGE = 200  # pixels: networks for images of that side tell ImageNet's 1000 classes apart, others CIFAR's ten


def open_model(model, image_size):
    """`(model, image size)`: a Keras model for images of that size, in pixels; None where it does not take images."""
    if isinstance(model, str):
        return _published(model, image_size)
    if isinstance(model, Result):
        model = model.model
    if not isinstance(model, keras.Model):
        mend = f"Pass a keras.Model, a Result, or a name such as {list_bases()[0]!r}."
        raise TypeError(complaint("cost", "model is of no known kind", type(model).__name__, mend))
    if not getattr(model, "inputs", None):
        rule, received = "model must be built, with known inputs", f"the model {model.name!r}, which has none yet"
        mend = "Build it with keras.Model(inputs, outputs), or keras.Sequential with a keras.Input."
        raise ValueError(complaint("cost", rule, received, mend))
    return _sized(model, image_size)


def input_specs(model, batch_size):
    """What `model` takes, a batch at a time, in the structure in which it takes it."""

    def spec(tensor):
        return tf.TensorSpec((batch_size, *tensor.shape[1:]), tensor.dtype)

    # A sequential model that was never called knows no `input`, only a list of them.
    structure = getattr(model, "input", None)
    return keras.tree.map_structure(spec, model.inputs[0] if structure is None else structure)


def _published(name, image_size):
    """The network as its authors counted it: with its classifier, of random weights."""
    check_choice("cost", "model", name, list_bases())
    row = find_base(name)
    size = (row.default_size,) * 2 if image_size is None else image_size_pair("cost", image_size)
    if min(size) < row.least_size:
        rule, mend = f"image_size must be at least {row.least_size} pixels for {name}", "Pass a larger one."
        raise ValueError(complaint("cost", rule, size, mend))
    function = getattr(row.constructor, "func", row.constructor)
    if function.__module__.startswith("keras."):
        return row.constructor(include_top=True, weights=None, input_shape=(*size, 3)), size
    classes = 1000 if row.default_size >= _LARGE else 10
    return build_network(row, weights=None, image_size=size, class_count=classes, where="cost").model, size


def _sized(model, image_size):
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    takes_images = len(shapes) == 1 and len(shapes[0]) == 3
    if not takes_images:
        if image_size is not None or any(None in shape for shape in shapes):
            rule = "image_size is for models with one input (height, width, channels); others must know their sizes"
            received = f"image_size={image_size} and a model with inputs of shapes {shapes}"
            raise ValueError(complaint("cost", rule, received, "Give keras.Input all sizes."))
        return model, None
    *own, channels = shapes[0]
    if image_size is None and None in own:
        rule, received = "image_size must be given for a model that takes images of any size", f"inputs of {shapes[0]}"
        raise ValueError(complaint("cost", rule, received, "Pass image_size=224, say."))
    size = tuple(own) if image_size is None else image_size_pair("cost", image_size)
    return (model if size == tuple(own) else _resized(model, size, channels)), size


def _resized(model, size, channels):
    """A copy for images of another size, whose weights follow where they depend on it."""
    try:
        image = keras.Input((*size, channels), dtype=model.inputs[0].dtype)
        new = keras.models.clone_model(model, input_tensors=image)
    except (NotImplementedError, TypeError, ValueError) as error:
        rule = "image_size must be one that the model can be built for"
        mend = f"Pass the size that it was built for, or None: {tuple(model.inputs[0].shape[1:3])}."
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(complaint("cost", rule, f"{size} ({first})", mend)) from error
    return new
