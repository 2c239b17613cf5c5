"""A network with its convolutions computed by another algorithm."""

import keras

from layers._arguments import complaint
from layers.convolutions._exact import arguments_of_conv2d
from layers.heads.knn_classifier import KNNClassifier
from layers.inner_layers import inner_layers


def exchange_convolutions(model, kind, **arguments):
    """The same network with the same weights, its `Conv2D` layers of another class.

    For a saved network: load it, then exchange. Keras names the parts of `.keras` and `.weights.h5` files by classes:
    those of one do not load into the other by themselves. A file of `model.save("….h5")`, which names layers,
    does, by `load_weights`. Convolutions that the class cannot compute stay as they are.

    Args:
        model: functional or sequential model, built.
        kind: `keras.layers.Conv2D`, or a class of this package with its arguments: `WinogradConv2D`, `FFTConv2D`,
            `PatchConv2D`.
        **arguments: of `kind`, beside those of a Conv2D, such as `tile=2`.

    Returns:
        keras.Model, which shares nothing with `model`.

    Raises:
        TypeError: `model` is no model, or `kind` no class of convolutions.
        ValueError: an argument is out of the range of `kind`.

    Example:
        >>> import keras, layers
        >>> image = keras.Input((16, 16, 3))
        >>> model = keras.Model(image, keras.layers.Conv2D(8, 3)(image))
        >>> type(layers.exchange_convolutions(model, layers.WinogradConv2D, tile=2).layers[-1]).__name__
        'WinogradConv2D'
    """
    where = "exchange_convolutions"
    if not isinstance(model, keras.Model):
        rule, mend = "model must be a keras.Model", "Pass what keras.Model or keras.saving.load_model gave."
        raise TypeError(complaint(where, rule, repr(model), mend))
    if not (isinstance(kind, type) and issubclass(kind, keras.layers.Conv2D)):
        mend = "Pass keras.layers.Conv2D or layers.WinogradConv2D, say."
        raise TypeError(complaint(where, "kind must be a class of convolutions", repr(kind), mend))
    kind(1, 3, **arguments)  # what is wrong with the arguments is wrong for every layer

    other = keras.models.clone_model(
        model, clone_function=lambda layer: _exchanged(layer, kind, arguments), recursive=True
    )
    other.set_weights(model.get_weights())
    for layer in inner_layers(other):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with a copy of its weights
    return other


def _exchanged(layer, kind, arguments):
    if isinstance(layer, keras.layers.Conv2D) and not getattr(layer, "is_transformed", False):
        try:
            return kind.from_config(arguments_of_conv2d(layer) | arguments)
        except TypeError as error:  # by which Keras passes on what the constructor says
            if not isinstance(error.__context__, ValueError):
                raise
    new = type(layer).from_config(layer.get_config())
    if isinstance(layer, KNNClassifier) and layer.built:  # with room for the examples that are to come
        new.build_from_config(layer.get_build_config())
    return new
