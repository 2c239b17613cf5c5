"""Whether images reach the first weights on a scale that these can learn from."""

import keras
import numpy as np

from recipes.advising.advice import MISTAKE, advice
from recipes.advising.measuring import NORMALIZATIONS

# Layers that hold constants of the images and no weights that learn.
IMAGE_LEVEL = (keras.layers.Rescaling, keras.layers.Normalization)
COUNT = 32  # images that are looked at, at most
ANY_SIDE = 32  # pixels, where a network takes any size
MOST_CHANNELS = 4
# Values are fit to learn from when their deviation is near 1, or when their mean is near 0 as those of VGG's and
# ResNet's images, which are centred and not scaled.
LARGEST_DEVIATION = 10
CENTRED = 0.5  # of a deviation
LEAST_DEVIATION = 0.01


def inputs_not_normalized(graph):
    """Images of 0–255 that reach a layer with weights neither centred nor scaled, or scaled away to nearly nothing.

    What lies between the input and the first weights is run on noise of 0–255, and that decides: photos that are dark
    or bright by nature are off the mean of others. Where there is data, its numbers are told. An input that a
    normalization layer takes first is left to it.
    """
    if not _takes_images(graph):
        return None
    noise = _first_weights(graph, _noise(graph.inputs[0]))
    found = {step: numbers for step, numbers in noise.items() if not is_normalized(*numbers)}
    if not found:
        return None
    photos = _photos(graph)
    shown = found if photos is None else _first_weights(graph, photos)
    mean, deviation = shown[next(iter(found))]
    looked = "noise of 0–255" if photos is None else f"{len(photos)} images of the data"
    is_large = next(iter(found.values()))[1] > LARGEST_DEVIATION
    mend = "keras.layers.Rescaling(1 / 127.5, offset=-1) behind the input"
    mend += ", or, for a network of keras.applications, what its preprocess_input does: recipes.finetune puts it in"
    return advice(
        graph,
        "inputs_not_normalized",
        MISTAKE,
        found,
        what=f"On {looked}, the first weights take in values of mean {mean:.3g} and deviation {deviation:.3g}"
        + ("." if is_large else ": the images are scaled down more than once."),
        reason="Models take RGB 0–255 here and hold their preprocessing. Inputs with a mean far from 0 push all "
        "weights of a unit the same way, and a scale far from 1 makes the first steps too large or too small: LeCun et "
        "al. 1998, sections 4.3 and 4.6.",
        mend=mend if is_large else "Scale once: in the model, and nowhere else.",
    )


def _takes_images(graph):
    """Whether the network takes images and nothing else. Maps of many channels may be on any scale."""
    shape = graph.inputs[0].shape
    return len(graph.inputs) == 1 and len(shape) == 4 and (shape[-1] or 0) <= MOST_CHANNELS


def _photos(graph):
    """Training images of the data; None where there are none that the network takes."""
    if graph.data is None or not len(graph.data.train):
        return None
    images = graph.data.train.images(0, COUNT)
    expected = graph.inputs[0].shape[1:]
    fits = all(side in (None, given) for side, given in zip(expected, images.shape[1:], strict=True))
    return images if fits else None


def _noise(tensor):
    """Images of every brightness."""
    height, width, channels = tensor.shape[1:]
    shape = height or ANY_SIDE, width or ANY_SIDE, channels or 3
    return np.random.default_rng(0).integers(0, 256, (2, *shape)).astype("float32")


def is_normalized(mean, deviation):
    """Whether values of this mean and deviation are fit to learn from."""
    if deviation < LEAST_DEVIATION:
        return False
    return deviation <= LARGEST_DEVIATION or abs(mean) <= CENTRED * deviation


def _first_weights(graph, images):
    """`{step: (mean, deviation) of what it takes in}` for each step with weights that images reach before any other."""
    values, reached = {id(graph.inputs[0]): keras.ops.convert_to_tensor(images, graph.inputs[0].dtype)}, {}
    for step in graph.steps:
        if not all(id(tensor) in values for tensor in step.inputs) or isinstance(step.operation, NORMALIZATIONS):
            continue
        if getattr(step.operation, "weights", None) and not isinstance(step.operation, IMAGE_LEVEL):
            taken = keras.ops.convert_to_numpy(values[id(step.inputs[0])]).astype("float64")
            reached[step] = taken.mean(), taken.std()
            continue
        outputs = keras.tree.flatten(_compute(step, values))
        values.update((id(tensor), value) for tensor, value in zip(step.outputs, outputs, strict=True))
    return reached


def _compute(step, values):
    """What a step gives, outside training: layers that vary images leave them as they are."""
    args, kwargs = keras.tree.map_structure(
        lambda part: values[id(part)] if isinstance(part, keras.KerasTensor) else part, step.arguments
    )
    return step.operation(*args, **kwargs)
