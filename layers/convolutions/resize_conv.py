"""ResizeConv: enlarge, then convolve, and no checkerboard appears."""

import fractions
import numbers

import keras
import numpy as np

from layers._arguments import check_choice, check_number, check_whole, complaint, pair
from layers._chain import build_chain, call_chain


@keras.saving.register_keras_serializable("keras_recipes")
class ResizeConv(keras.layers.Layer):
    """An image enlarged by a factor and then convolved, in place of a transposed convolution.

    Nearest or bilinear resize → convolution → activation. A transposed convolution gives neighbouring output pixels
    different numbers of inputs and different weights, which shows as a checkerboard; here all outputs are made alike.

    Args:
        filters: channels of the output, 1 or more.
        kernel_size: height and width of the kernel, a whole number or a pair.
        factor: how many times higher and wider the output is, a number in 0.01–100 or a pair; 1.5 works too. It is
            taken as the nearest fraction with a denominator of at most 100, so that pixels fall where they should.
        interpolation: `"nearest"` or `"bilinear"`; pixels are squares with their values at the centres.
        activation: what is applied at the end.
        use_bias: whether the convolution adds a bias.
        kernel_initializer: start of the kernel.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, new height, new width, filters)`: each side of the input times its factor, rounded down.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range, or nothing of the image would be
            left.

    Reference:
        Odena et al. 2016, "Deconvolution and checkerboard artifacts". The border is padded with zeros, as everywhere in
        Keras; the article pads with reflections.

    Example:
        >>> import keras, layers
        >>> layers.ResizeConv(16, factor=2)(keras.ops.ones((1, 14, 14, 32))).shape
        TensorShape([1, 28, 28, 16])
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        *,
        factor=2,
        interpolation="nearest",
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        where = "ResizeConv"
        check_whole(where, "filters", filters)
        pair(where, "kernel_size", kernel_size)
        self._factors = _factors(where, factor)
        check_choice(where, "interpolation", interpolation, ("nearest", "bilinear"))
        self.filters = filters
        self.kernel_size = kernel_size
        self.factor = factor
        self.interpolation = interpolation
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.convolution = keras.layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            activation=self.activation,
            use_bias=use_bias,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name="convolution",
        )

    def build(self, input_shape):
        build_chain([self.convolution], self._resized_shape(input_shape))
        self.built = True

    def call(self, inputs):
        return call_chain([self.convolution], _resize(inputs, self._factors, self.interpolation))

    def compute_output_shape(self, input_shape):
        return self.convolution.compute_output_shape(self._resized_shape(input_shape))

    def _resized_shape(self, input_shape):
        """(batch, new height, new width, channels), sides that are unknown staying so."""
        batch, *sides, channels = input_shape
        new = [
            None if side is None else side * factor.numerator // factor.denominator
            for side, factor in zip(sides, self._factors, strict=True)
        ]
        if 0 in new:
            rule = "factor must leave at least one pixel of each side"
            received = f"factor={self.factor} for input_shape={tuple(input_shape)}"
            raise ValueError(complaint("ResizeConv", rule, received, "Pass a larger factor."))
        return (batch, *new, channels)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "factor": self.factor,
            "interpolation": self.interpolation,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def collapse_resize_conv(layer):
    """One transposed convolution that computes what a trained ResizeConv computes, borders included, for serving.

    Nearest resize by s and a k×k convolution are a transposed convolution of stride s and size s + k - 1, whose kernel
    is the sum of the s×s shifts of the flipped one. By 2 with 3×3: 4 instead of 9 multiplications per output pixel.

    Args:
        layer: built ResizeConv with whole factors, nearest interpolation and a kernel of odd sides.

    Returns:
        A built `keras.layers.Conv2DTranspose` with `padding="same"`, equal up to rounding.

    Raises:
        TypeError: `layer` is no ResizeConv.
        ValueError: it is not built, is bilinear (which a transposed convolution cannot do at the border), or has a
            kernel of even side or a factor that is not whole.

    Reference:
        The identity is the sub-pixel view of Shi et al. 2016, "Is the deconvolution layer the same as a convolutional
        layer?".

    Example:
        >>> import keras, layers
        >>> layer = layers.ResizeConv(8)
        >>> layer.build((None, 16, 16, 4))
        >>> layers.collapse_resize_conv(layer).kernel_size
        (4, 4)
    """
    where = "collapse_resize_conv"
    if not isinstance(layer, ResizeConv):
        rule = "layer must be a ResizeConv"
        raise TypeError(complaint(where, rule, type(layer).__name__, "Pass a layer of that class."))
    if not layer.built:
        raise ValueError(complaint(where, "layer must be built", "a layer without weights", "Build it first."))
    if layer.interpolation != "nearest":
        received = f"interpolation={layer.interpolation!r}"
        raise ValueError(complaint(where, "layer must resize by nearest", received, "Serve it as it is."))
    factors = layer._factors
    if any(factor.denominator != 1 for factor in factors):
        received = f"factor={layer.factor}"
        raise ValueError(complaint(where, "factor must be whole", received, "Serve the layer as it is."))
    sides = pair(where, "kernel_size", layer.kernel_size)
    for side in sides:
        check_whole(where, "kernel_size", side, odd=True)
    steps = tuple(int(factor) for factor in factors)
    kernel = keras.ops.convert_to_numpy(layer.convolution.kernel).astype(np.float64)
    vertical, horizontal = (_shifts(side, step) for side, step in zip(sides, steps, strict=True))
    collapsed = np.einsum("mh,hwio,nw->mnoi", vertical, kernel, horizontal)
    transposed = keras.layers.Conv2DTranspose(
        layer.filters,
        collapsed.shape[:2],
        strides=steps,
        padding="same",
        activation=layer.activation,
        use_bias=layer.use_bias,
        dtype=layer.dtype_policy,
        name=f"{layer.name}_collapsed",
    )
    transposed.build((None, None, None, kernel.shape[2]))
    bias = [keras.ops.convert_to_numpy(layer.convolution.bias)] if layer.use_bias else []
    transposed.set_weights([collapsed, *bias])
    return transposed


def _factors(where, factor):
    """(height, width) as fractions, from a number or a pair of them."""
    values = factor if isinstance(factor, (tuple, list)) else (factor, factor)
    if len(values) != 2:
        rule, mend = "factor must be a number or a pair (height, width)", "Pass factor=2 or factor=(2, 3), say."
        raise TypeError(complaint(where, rule, f"factor={factor!r}", mend))
    for value in values:
        check_number(where, "factor", value, least=0.01, most=100)
    return tuple(
        fractions.Fraction(int(value))
        if isinstance(value, numbers.Integral)
        else fractions.Fraction(float(value)).limit_denominator(100)
        for value in values
    )


def _resize(images, factors, interpolation):
    """Enlarge height and width.

    Keras' own bilinear resize is several times faster, but its backends place pixels differently where a factor is not
    whole, and in TensorFlow it does not take sides that are unknown when the graph is made.
    """
    sides = keras.ops.shape(images)[1:3]
    is_known = all(isinstance(side, int) for side in sides)
    if interpolation == "bilinear" and is_known and all(factor.denominator == 1 for factor in factors):
        size = tuple(side * int(factor) for side, factor in zip(sides, factors, strict=True))
        resized = keras.ops.image.resize(images, size, interpolation="bilinear", data_format="channels_last")
        return keras.ops.cast(resized, images.dtype)
    along = _nearest if interpolation == "nearest" else _bilinear
    for axis, factor in zip((1, 2), factors, strict=True):
        images = images if factor == 1 else along(images, axis, factor)
    return images


def _shifts(side, step):
    """Which taps of a kernel fall on one input pixel, `(step + side - 1, side)` of zeros and ones."""
    place, tap = np.indices((step + side - 1, side))
    offset = place + tap - (side - 1)
    return ((offset >= 0) & (offset < step)).astype(np.float64)


def _new_places(inputs, axis, factor):
    """The side, and for each new pixel its centre in units of 1 / (2 × numerator) pixels: whole, thus exact."""
    side = keras.ops.shape(inputs)[axis]
    places = keras.ops.arange(side * factor.numerator // factor.denominator, dtype="int32")
    return side, (2 * places + 1) * factor.denominator


def _nearest(inputs, axis, factor):
    """Each new pixel from the old one in which its centre lies."""
    if factor.denominator == 1:
        return keras.ops.repeat(inputs, factor.numerator, axis=axis)
    _, centres = _new_places(inputs, axis, factor)
    return keras.ops.take(inputs, centres // (2 * factor.numerator), axis=axis)


def _bilinear(inputs, axis, factor):
    """Each new pixel from the two old ones between whose centres it lies; beyond the outermost, a copy."""
    unit = 2 * factor.numerator
    side, centres = _new_places(inputs, axis, factor)
    places = keras.ops.clip(centres - factor.numerator, 0, (side - 1) * unit)
    low = places // unit
    high = keras.ops.minimum(low + 1, side - 1)
    share = keras.ops.cast(places - low * unit, "float32") / unit
    share = keras.ops.cast(keras.ops.reshape(share, (-1, 1, 1) if axis == 1 else (-1, 1)), inputs.dtype)
    return keras.ops.take(inputs, low, axis=axis) * (1 - share) + keras.ops.take(inputs, high, axis=axis) * share
