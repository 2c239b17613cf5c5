"""A classifier from a base: one flat graph from images of 0–255 to class probabilities."""

import dataclasses
import itertools

import keras

from recipes.bases.blocks import NORMALIZATIONS, Block, graph_blocks, named_blocks
from recipes.bases.channels import check_channels, transfer, widen_preprocessing
from recipes.bases.cutting import block_outputs
from recipes.bases.flattening import Flattening
from recipes.bases.heads import EMBEDDING, add_head, check_head, head_names, without_classifier
from recipes.bases.naming import named_layers
from recipes.bases.preprocessing import preprocessing_model
from recipes.bases.seeding import globals_kept, seed_config
from recipes.bases.sources import check_size, find_source, source_model
from recipes.checks import check_choice, check_whole, complaint, image_size_pair

# Deviation of ImageNet's pixels in steps of 0–255.
PIXEL_DEVIATION = 58
# Layers that bring images to the scale of the network.
IMAGE_LEVEL = (keras.layers.Rescaling, keras.layers.Normalization)


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A classifier ready to train.

    Args:
        model: functional model without nested models: `(batch, height, width, channels)` 0–255 in, probabilities out.
        blocks: parts of the base from input to output; every layer of the base that has weights is in one of them.
        head: names of the layers on top of the base, from input to output.
        pretrained: whether the base starts from trained weights. Its BatchNormalization then wants to stay frozen.
        name: of the base.
    """

    model: keras.Model
    blocks: tuple[Block, ...] = dataclasses.field(repr=False)
    head: tuple[str, ...]
    pretrained: bool
    name: str


def build_network(
    base,
    *,
    weights="pretrained",
    image_size,
    channels=3,
    class_count,
    head="linear",
    dropout=0.0,
    features=None,
    embedding=None,
    seed=0,
    where="finetune",
):
    """Build a classifier of `class_count` classes on `base`.

    1. Build the base, with its weights, or take the user's model.
    2. Unfold a copy of it behind the preprocessing it expects: one flat graph of public Keras layers.
    3. Copy the weights; widen the first convolution where images have more than three channels.
    4. Find the blocks; leave out those after `features`.
    5. Put the head on top: average over all pixels → Dense per hidden width → dropout → softmax, or an embedding.

    Everything random comes from `seed`. Weights are read from disk or, the first time, fetched from Keras' server.

    Args:
        base: a name of `list_bases` or its row, a `keras.Model`, or the path of a `.keras` file, which is loaded in
            safe mode. A model is taken to accept RGB 0–255 and to hold its preprocessing. It stays as it is: the
            network is a copy. A softmax or sigmoid Dense at its end is left out.
        weights: `"pretrained"` or their name, such as `"imagenet"`; None for random weights; or the path of a `.keras`,
            `.weights.h5` or `.h5` file of the base. When `base` is a model, `"pretrained"` means the weights it has.
        image_size: height and width of the images in pixels: a whole number or `(height, width)`.
        channels: of the images, 3 by default. One is repeated for a base that takes three. More than three widen the
            first convolution. Two are refused: no rule for them keeps what the weights know.
        class_count: 2 or more.
        head: `"linear"`, or a tuple of widths of hidden layers.
        dropout: fraction of the features dropped before the last layer, 0–1.
        features: name of the block at whose end the head stands; None for the last one.
        embedding: width of a linear layer that stands in the place of the softmax; None for the softmax.
        seed: of all initial weights and of dropout.
        where: the verb named in errors.

    Returns:
        A `Network`.

    Raises:
        ValueError, TypeError: for arguments out of range, or a base that cannot be copied.
        FileNotFoundError: for the path of no file.
        ConnectionError: when ImageNet weights are not on disk and cannot be fetched, after ten seconds at most.
    """
    source = find_source(base, where)
    image_size = image_size_pair(where, image_size)
    check_whole(where, "class_count", class_count, least=2)
    check_whole(where, "channels", channels)
    check_head(where, head, dropout)
    check_size(where, source, image_size)
    base_channels = 3 if source.row else source.model.input_shape[-1]
    check_channels(where, channels, base_channels)
    with globals_kept():
        original, pretrained = source_model(where, source, weights, image_size)
        image = keras.Input((*image_size, channels), dtype="float32", name="image")
        tensor, taken = _preprocessed(source, image, base_channels)
        plain = source.row is not None and not pretrained and _is_plain(original)
        unfolding = Flattening(where, _editing(seed, plain), taken)
        outputs = unfolding.unfold(original, tensor)
        _copy_weights(where, unfolding.copies.values(), pretrained)
        if len(outputs.shape) == 2:
            outputs = without_classifier(keras.Model(image, outputs))
        blocks = _blocks(source, keras.Model(image, outputs), taken)
        if features is not None:
            blocks, outputs = _up_to(features, blocks, keras.Model(image, outputs), taken, where)
        told = add_head(outputs, class_count, head, dropout, seed, embedding)
    model = keras.Model(image, told, name=source.name)
    names = head_names(head, dropout, len(outputs.shape) == 4, embedding)
    return Network(model, blocks, names, pretrained, source.name)


def network_for(data, base, **options):
    """The Network of `build_network` for the images and classes of a Data."""
    form = {"image_size": data.image_size, "channels": data.channels, "class_count": len(data.class_names)}
    return build_network(base, **form, **options)


def _preprocessed(source, image, base_channels):
    """The tensor to call the base on, and the names that no layer of the base may get."""
    *image_size, channels = image.shape[1:]
    kind = source.row.preprocessing if source.row else "inside"
    reserved = {"image", EMBEDDING, *head_names(head=(1,) * 9, dropout=0.5, pooled=True)}
    unfolding = Flattening("preprocessing", lambda *_: None, reserved)
    inner_channels = max(channels, base_channels or channels)
    tensor = unfolding.unfold(preprocessing_model(kind, *image_size, channels, inner_channels), image)
    return tensor, set(unfolding.taken)


def _copy_weights(where, copies, pretrained):
    """Give the new layers the weights of the old; without pretrained weights, those that describe the images alone."""
    for old, new in copies:
        if isinstance(new, keras.layers.Layer) and new.weights and (pretrained or isinstance(new, IMAGE_LEVEL)):
            transfer(where, old, new)


def _up_to(name, blocks, base, taken, where):
    """(the blocks up to the one called `name`, what comes out of it)."""
    names = [block.name for block in blocks]
    check_choice(where, "features", name, names)
    place = names.index(name)
    if place == len(blocks) - 1:
        return blocks, base.output
    outputs = block_outputs(base, blocks)[place]
    if len(outputs.shape) not in (2, 4):
        rule = "features must name a block that gives a map or a vector"
        received = f"{name!r}, which gives the shape {outputs.shape[1:]}"
        raise ValueError(complaint(where, rule, received, "Name another, or leave features out."))
    left = {layer.name: None for layer in keras.Model(base.input, outputs).layers if layer.name not in taken}
    parts = []
    for block in blocks[:place]:
        parts.append(Block(block.name, tuple(layer for layer in block.layers if layer in left)))
        left = {layer: None for layer in left if layer not in block.layers}
    return (*parts, Block(name, tuple(left))), outputs


def _blocks(source, base, taken):
    layers = [layer.name for layer in base.layers if layer.name not in taken]
    return named_blocks(layers, source.row.blocks) if source.row else graph_blocks(base, set(layers))


def _editing(seed, plain):
    """The changes that each layer's config gets on its way into the network."""
    scales = itertools.chain([2 / PIXEL_DEVIATION**2], itertools.repeat(2))

    def edit(operation, config, tensor):
        if isinstance(operation, IMAGE_LEVEL):
            config["dtype"] = "float32"
            widen_preprocessing(operation, config, tensor.shape[-1])
        elif "dtype" in config and operation.dtype_policy.name == "float32":
            config["dtype"] = keras.config.dtype_policy().name  # a user's model follows the precision of the run
        if "trainable" in config:
            config["trainable"] = True
        if plain and _is_glorot_before_relu(operation):
            # Glorot's deviation halves the signal's power in each ReLU: after 13 layers of VGG nothing is left of it.
            # He's keeps it, at 1 when the first layer takes in the scale of VGG's pixels, which are not normalized.
            start = keras.initializers.VarianceScaling(scale=next(scales), mode="fan_in")
            config["kernel_initializer"] = keras.saving.serialize_keras_object(start)
        seed_config(config, seed, config["name"])

    return edit


def _is_plain(model):
    return not any(isinstance(layer, NORMALIZATIONS) for layer in named_layers(model).values())


def _is_glorot_before_relu(operation):
    is_glorot = isinstance(getattr(operation, "kernel_initializer", None), keras.initializers.GlorotUniform)
    return is_glorot and operation.activation is keras.activations.relu
