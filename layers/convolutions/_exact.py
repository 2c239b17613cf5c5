"""What the layers share that compute a layer of Keras by another algorithm."""

import keras

from layers._arguments import check_choice, check_whole, complaint, pair


def check_sizes(where, filters, kernel_size, padding):
    """Raise unless these are what a convolution takes."""
    check_whole(where, "filters", filters)
    pair(where, "kernel_size", kernel_size)
    check_choice(where, "padding", padding, ("valid", "same"))


def check_applies(layer, *, strides=(1, 1), dilation_rate=(1, 1), because):
    """Raise ValueError unless `layer`, a Conv2D, has what the algorithm can do.

    Args:
        layer: whose arguments are looked at.
        strides, dilation_rate: those it may have; None for any.
        because: why there are no others, in the words of the error.
    """
    where, mend = type(layer).__name__, "Use keras.layers.Conv2D."
    for name, value, only in (
        ("strides", tuple(layer.strides), strides),
        ("dilation_rate", tuple(layer.dilation_rate), dilation_rate),
        ("groups", layer.groups, 1),
        ("data_format", layer.data_format, "channels_last"),
    ):
        if only is not None and value != only:
            rule = f"{name} must be {only!r}: {because}"
            raise ValueError(complaint(where, rule, f"{name}={value!r}", mend))


def check_transformed(layer, is_transformed):
    """Raise ValueError where `layer` is to hold its kernel transformed and computes in half precision."""
    if is_transformed and not is_float32(layer):
        received = f"dtype={layer.dtype_policy.name!r}"
        mend = "Pass dtype='float32', or is_transformed=False, which then convolves directly."
        raise ValueError(complaint(type(layer).__name__, "is_transformed needs single precision", received, mend))


def arguments_of_conv2d(layer):
    """Configuration of `layer`, as far as a `keras.layers.Conv2D` takes it."""
    names = keras.layers.Conv2D(1, 1).get_config()
    return {name: value for name, value in layer.get_config().items() if name in names}


def plain_conv2d(layer, kernel):
    """A built `keras.layers.Conv2D` with the arguments of `layer`, `kernel`, and copies of its bias."""
    arguments = arguments_of_conv2d(layer)
    if getattr(layer, "is_transformed", False):
        arguments["trainable"] = True
    other = keras.layers.Conv2D.from_config(arguments)
    other.build((None, None, None, kernel.shape[2]))
    other.set_weights([keras.ops.convert_to_numpy(value) for value in (kernel, layer.bias) if value is not None])
    return other


def check_built(layer):
    """Raise ValueError unless `layer` has weights."""
    if not layer.built:
        raise ValueError(complaint(type(layer).__name__, "the layer must be built", "no weights", "Build it first."))


def has_sides(inputs):
    """Whether height and width are known while the graph is made."""
    return None not in tuple(inputs.shape)[1:3]


def is_float32(layer):
    """Whether `layer` computes in single precision, as all of these algorithms must to keep theirs."""
    return keras.backend.standardize_dtype(layer.compute_dtype) == "float32"
