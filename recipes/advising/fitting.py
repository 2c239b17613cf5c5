"""Whether a network and the images it is meant for go together."""

from recipes.advising.advice import CHOICE, MISTAKE, advice
from recipes.advising.measuring import activation_of

# Images of less than this fraction of the side that the published weights were trained at look unlike those.
LEAST_SIDE = 0.5


def data_does_not_fit(graph):
    """Images of another size or with other channels than the network takes, or another number of classes than it
    gives.
    """
    if graph.data is None:
        return None
    found = [*_differences(graph)]
    if not found:
        return None
    return advice(
        graph,
        "data_does_not_fit",
        MISTAKE,
        [],
        what="; ".join(words for words, _ in found) + ".",
        reason="Training stops at the first batch, or trains outputs that stand for nothing.",
        mend="\n".join(mend for _, mend in found),
    )


def images_smaller_than_trained(graph):
    """Images whose shorter side is less than half of the side that the weights of a base were trained at."""
    if graph.data is None or graph.trained_side is None:
        return None
    side = min(graph.data.image_size)
    if side >= LEAST_SIDE * graph.trained_side:
        return None
    return advice(
        graph,
        "images_smaller_than_trained",
        CHOICE,
        [],
        what=f"Images of {side} pixels for weights that were trained on {graph.trained_side}.",
        reason="Weights know things at the size at which they saw them: Touvron et al. 2019. On a map that is small "
        "from the start, the last layers see the image's border more than the image.",
        mend=f"recipes.load_data(…, image_size={graph.trained_side}); for images that are small themselves, "
        'base="small_resnet"',
    )


def _differences(graph):
    data, shape = graph.data, graph.inputs[0].shape
    height, width = data.image_size
    if len(shape) == 4 and (shape[1] not in (None, height) or shape[2] not in (None, width)):
        yield (
            f"images of {height}×{width} for a network that takes {shape[1]}×{shape[2]}",
            f"recipes.load_data(…, image_size={tuple(shape[1:3])})",
        )
    if len(shape) == 4 and shape[3] not in (None, data.channels):
        yield (
            f"{data.channels} channels for a network that takes {shape[3]}",
            "recipes.finetune repeats a single channel; or build the network for the channels of the images",
        )
    classes, probabilities = len(data.class_names), graph.outputs[0]
    # One probability is enough for two classes.
    if _is_classifying(graph) and probabilities.shape[1] not in (None, classes, 1 if classes == 2 else None):
        yield (
            f"{probabilities.shape[1]} outputs for {classes} classes",
            f"keras.layers.Dense({classes}, …) at the end",
        )


def _is_classifying(graph):
    maker = graph.maker(graph.outputs[0])
    is_vector = len(graph.outputs) == 1 and len(graph.outputs[0].shape) == 2
    return is_vector and maker is not None and activation_of(maker) in ("softmax", "sigmoid")
