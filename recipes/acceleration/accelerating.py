"""recipes.accelerate: the same network, each layer by the algorithm that is fastest on this machine."""

import contextlib
import dataclasses
import functools
import statistics
import warnings

import keras
import numpy as np
import tensorflow as tf

import layers
from recipes.acceleration.by_image import by_image, first_part
from recipes.acceleration.candidates import for_serving
from recipes.acceleration.choosing import HOPELESS, fastest
from recipes.acceleration.samples import sample_photos
from recipes.acceleration.timings import Timings
from recipes.bases.flattening import flat_copy
from recipes.bases.plain import in_plain_layers
from recipes.bases.precisions import in_float32, is_mixed
from recipes.bases.rewiring import Wiring
from recipes.bases.simplifying import is_relu, simplified
from recipes.checks import check_whole, complaint, image_size_pair
from recipes.data.batches import traced
from recipes.timing import alternating
from recipes.values import Result

TOLERANCE = 1e-4  # of the largest output
_EXACT = ("winograd 2", "fft", "transposed")  # round like Keras' own
_COMPARED = 8  # photos


def accelerate(model, *, batch_size: int = 1, image_size: int | tuple[int, int] | None = None, verbose: bool = True):
    """The same network, faster on this machine: weights, inputs and outputs as they were, up to rounding.

    1. Unfold nested models and blocks, and fold each BatchNormalization into the convolution before it; collapse
       ResizeConv layers; put ReLU behind max-pooling.
    2. Time each convolution on the device it will run on: direct, by Winograd's minimal filtering, by the fast Fourier
       transform; and each large dense layer: as it is, and with its kernel transposed. What was timed once on this kind
       of machine is looked up.
    3. Put the fastest in its place, its kernel transformed once and for all, a ReLU that follows fused into it. On
       a CPU, send the first layers, where maps of a whole batch are large, one image at a time if that is faster.
    4. Compare the outputs with those of `model` on photographs, in float32 throughout, and the time of both on a batch:
       what is not within 1e-4 of the largest output goes back to exact algorithms, and what is not faster goes back
       altogether.

    A model in mixed precision, as GPUs train, stays so where that is fastest, and else computes in float32.

    The first call compiles and times up to seven algorithms per distinct convolution of 3×3, some seconds each, and up
    to five whole networks on the batch. Transformed kernels are four times as large.
    A dense layer from a transposed kernel compiles once for each number of images that comes, in less than a second.
    On GPUs, whose libraries have these algorithms, layers mostly stay as they are.

    Args:
        model: keras.Model, functional or sequential with one input and one output; or a Result, whose model it is.
        batch_size: images at a time that it is to be fast for; it takes any number.
        image_size: pixels, one number or (height, width), where the model takes images of any size; the new one takes
            this one.
        verbose: whether to show how far the timing is.

    Returns:
        keras.Model to serve, not to be trained, or a Result with it. It saves, loads and exports as every model does.

    Raises:
        TypeError, ValueError: model is of another kind, or the size of its images is neither known nor given.

    Example:
        >>> import keras, recipes
        >>> image = keras.Input((16, 16, 3))
        >>> network = keras.Model(image, keras.layers.Conv2D(8, 3)(image))
        >>> recipes.accelerate(network, verbose=False).output_shape
        (None, 14, 14, 8)

    Source:
        Lavin and Gray 2016, "Fast algorithms for convolutional neural networks".
    """
    if isinstance(model, Result):
        size = image_size or model.image_size
        faster = accelerate(model.model, batch_size=batch_size, image_size=size, verbose=verbose)
        return dataclasses.replace(model, model=faster)
    check_whole("accelerate", "batch_size", batch_size)
    _check_model(model)
    size = _known_size(model, image_size)
    flat = flat_copy(in_plain_layers(model, "accelerate"), "accelerate", size)
    exact = in_float32(flat, "accelerate") if is_mixed(flat) else flat  # in which the outputs are compared
    simple = simplified(exact)
    images = sample_photos(max(batch_size, _COMPARED), size, model.input_shape[-1])
    expected = _outputs(exact, images, batch_size)
    timings = Timings()
    alone = first_part(simple, batch_size)
    shapes = {
        layer.name: (1 if layer.name in alone else batch_size, *layer.input.shape[1:]) for layer in _timed_layers(exact)
    }
    shown = keras.utils.Progbar(len(shapes), unit_name="layer") if verbose and shapes else None
    faster = _with_fastest(simple, shapes, timings, alone, shown=shown)
    if faster is not simple and not _agree(faster, images, expected, batch_size):
        faster = _with_fastest(simple, shapes, timings, alone, _EXACT)
    whole = [faster] if faster is simple else [faster, simple]
    options = [option for model in whole for option in _with_by_image(model, batch_size)]
    options = [option for option in options if _agree(option, images, expected, batch_size)]
    if not options:
        warnings.warn(
            "accelerate: rounding alone moves the outputs of this model by more than 1e-4 of the largest, so it stays "
            "as it is.",
            stacklevel=2,
        )
    elif exact is not flat:
        options.append(simplified(flat))
    unchanged = flat if None in model.input_shape[1:3] else model
    return _quickest([*options, unchanged], images[:batch_size])


def _check_model(model):
    if not isinstance(model, keras.Model):
        rule, mend = "model must be a keras.Model or a Result", "Pass what keras.Model or recipes.finetune gave."
        raise TypeError(complaint("accelerate", rule, f"a {type(model).__name__}", mend))
    is_graph = model.built if isinstance(model, keras.Sequential) else "output_layers" in model.get_config()
    is_one = is_graph and model.inputs and len(model.inputs) == len(model.outputs) == 1
    if not is_one or len(model.input_shape) != 4:
        rule = "model must be functional or sequential, from one batch of images to one output"
        mend = "Build it with keras.Model(image, output), or keras.Sequential with an Input."
        raise TypeError(complaint("accelerate", rule, f"{model.name!r} of class {type(model).__name__}", mend))


def _known_size(model, image_size):
    """(height, width) that the new model takes."""
    own = tuple(model.input_shape[1:3])
    if image_size is None:
        if None in own:
            rule = "image_size must be given for a model that takes images of any size"
            raise ValueError(complaint("accelerate", rule, f"a model of {own}", "Pass image_size=224, say."))
        return own
    size = image_size_pair("accelerate", image_size)
    if any(side not in (None, other) for side, other in zip(own, size, strict=True)):
        rule = f"image_size must be that of the model, {own[0]}×{own[1]}"
        raise ValueError(complaint("accelerate", rule, f"image_size={image_size}", "Leave it out."))
    return size


def _timed_layers(flat):
    """Convolutions and dense layers that are called once, so that their kernel may be kept for one size of images."""
    kinds, calls = (keras.layers.Conv2D, keras.layers.Dense), Wiring(flat).calls
    return [layer for layer in flat.layers if isinstance(layer, kinds) and calls[layer.name] == 1]


def _with_fastest(model, shapes, timings, alone, names=None, shown=None):
    """The model with the fastest algorithm for each layer; itself where that is Keras' own everywhere.

    Those named in `alone` take one image at a time, however many come.
    """
    wiring = Wiring(model)
    replaced, fused = {}, set()
    for name, layer in wiring.operations.items():
        if name not in shapes:
            continue
        following = wiring.next_alone(name)
        is_fused = layer.activation is keras.activations.linear and following is not None and is_relu(following)
        choice = fastest(layer, shapes[name], timings, names=names)
        if shown is not None:
            shown.add(1)
        if choice is not None:
            change = {"activation": "relu"} if is_fused else {}
            if name in alone and choice[0] is layers.WinogradConv2D:
                change["images"] = 1
            replaced[name] = for_serving(layer, *choice, shapes[name], **change)
            fused |= {following.name} if is_fused else set()
    return wiring.rewired(replaced=replaced, passed=fused) if replaced else model


@contextlib.contextmanager
def _full_precision():
    """float32 as it is within, not TensorFloat-32, in which GPUs convolve and which rounds to 1e-3; as before after."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _with_by_image(model, batch_size):
    """The model, and before it the one whose first part goes image by image, where there is such a part."""
    split = by_image(model, batch_size)
    return [model] if split is model else [split, model]


def _agree(model, images, expected, batch_size):
    try:
        outputs = _outputs(model, images, batch_size)
    except (tf.errors.OpError, ValueError):  # layers that put several images into one, or one into several
        return False
    is_same = outputs.shape == expected.shape
    return is_same and np.abs(outputs - expected).max() <= TOLERANCE * np.abs(expected).max()


def _outputs(model, images, batch_size):
    run = _in_graph(model)
    starts = range(0, len(images), batch_size)
    with _full_precision():
        return np.concatenate([run(tf.constant(images[start : start + batch_size])).numpy() for start in starts])


def _in_graph(model):
    """A function of images of a graph that does not know how many there are, as those who serve have it."""

    def run(images):
        return model(tf.cast(images, model.inputs[0].dtype), training=False)

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
    return traced(run, signature)


def _quickest(models, images):
    """The fastest of the models on a batch."""
    images, runs = tf.constant(images), {}
    for place, model in enumerate(models):
        runs[place] = functools.partial(_in_graph(model), images)
    seconds = alternating(runs, rounds=5, hopeless=HOPELESS)
    return models[min(seconds, key=lambda place: statistics.median(seconds[place]))]
