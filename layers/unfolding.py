"""A block as the graph of the plain Keras layers it is made of."""

import keras

from layers._arguments import complaint
from layers.blocks.dense_block import DenseBlock
from layers.blocks.fire_block import FireBlock
from layers.blocks.highway_block import HighwayBlock
from layers.blocks.inception_block import InceptionBlock
from layers.blocks.residual_bottleneck import ResidualBottleneck
from layers.blocks.transition_block import TransitionBlock
from layers.convolutions.depthwise_separable_conv import DepthwiseSeparableConv
from layers.convolutions.separable_factor_conv import SeparableFactorConv
from layers.convolutions.stacked_conv import StackedConv

# Layers that only wire other layers: what their `call` does to a symbolic tensor is a graph of Keras' own.
COMPOSITES = (
    DenseBlock,
    DepthwiseSeparableConv,
    FireBlock,
    HighwayBlock,
    InceptionBlock,
    ResidualBottleneck,
    SeparableFactorConv,
    StackedConv,
    TransitionBlock,
)


def is_unfoldable(layer):
    """Whether `unfold` takes `layer`: a block or convolution of this package that is made of Keras layers alone.

    A `DenseBlock` with `remat=True` is not: the graph would lose what makes it lean.
    """
    return isinstance(layer, COMPOSITES) and not getattr(layer, "remat", False)


def unfold(layer, input_shape=None):
    """The functional model of the Keras layers that a block is made of, sharing its weights.

    For whoever walks through a network's convolutions, to prune, replace or draw them, or wants to save it so that
    Keras loads it without this package.

    Args:
        layer: a layer that `is_unfoldable` says yes to. It is built if it is not yet.
        input_shape: `(batch, …)` that it is called on, None for unknown sides; None for the shape of its first call in
            a functional model.

    Returns:
        `keras.Model` of the layer's name.

    Raises:
        TypeError: `layer` is not made of Keras layers alone.
        ValueError: `input_shape` is missing, and the layer stands in no functional model.

    Example:
        >>> import layers
        >>> model = layers.unfold(layers.FireBlock(16, 64), (None, 54, 54, 96))
        >>> [part.name for part in model.layers if part.weights]
        ['squeeze', 'expand_1x1', 'expand_3x3']
    """
    if not is_unfoldable(layer):
        rule = f"layer must be one of {', '.join(kind.__name__ for kind in COMPOSITES)}, without remat"
        raise TypeError(complaint("unfold", rule, repr(layer), "Use the layer as it is."))
    if input_shape is None:
        try:
            input_shape = layer.input.shape
        except (AttributeError, ValueError) as error:
            rule = "input_shape must be given for a layer that stands in no functional model"
            mend = "Pass input_shape=(None, 32, 32, 16), say."
            raise ValueError(complaint("unfold", rule, "none", mend)) from error
    if not layer.built:
        layer.build(input_shape)
    inputs = keras.Input(batch_shape=input_shape, dtype=layer.compute_dtype)
    return keras.Model(inputs, layer.call(inputs), name=layer.name)
