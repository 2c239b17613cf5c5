"""TernaryConv: a convolution with weights of three values."""

import keras

from layers._arguments import check_choice, check_whole, pair
from layers._few_bits import (
    DEFAULT_THRESHOLDS,
    METHODS,
    add_ternary_scales,
    channels_of,
    check_threshold,
    convolved_shape,
    ttq_kernel,
    twn_kernel,
)


@keras.saving.register_keras_serializable("keras_recipes")
class TernaryConv(keras.layers.Layer):
    """A convolution whose weights are three values: negative, zero and positive.

    Real weights → threshold → -scale, 0 or scale → convolution → (bias) → activation. The real weights are what is
    trained: the gradient passes the rounding, as if it were not there (TWN) or times the scale (TTQ). `packed_weights`
    stores two bits per weight.

    Args:
        filters: channels of the output, 1 or more.
        kernel_size: height and width of the kernel, a whole number or a pair.
        method: `"twn"`: each filter's weights are -scale, 0 and scale, where scale is the mean magnitude of those that
            are not zero; or `"ttq"`: the layer has a positive and a negative scale, both trained.
        threshold: magnitude above which a weight is not zero, as a share of the filter's mean magnitude (TWN; None for
            0.7) or of the layer's largest (TTQ; None for 0.05).
        strides: step in pixels along height and width, a whole number or a pair.
        padding: `"same"` or `"valid"`.
        activation: what is applied at the end.
        use_bias: whether a bias, which stays real, is added.
        kernel_initializer: start of the real weights.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, new height, new width, filters)`. With `"same"` padding each side is the input's, divided by its stride
        and rounded up; with `"valid"`, less the kernel's side - 1 first.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        Li and Liu 2016, "Ternary weight networks" (threshold and scale here per filter); Zhu et al. 2017, "Trained
        ternary quantization". TTQ starts from a trained network; here both scales start as the mean magnitude of the
        real weights that are not zero, so that training can also start from scratch.

    Example:
        >>> import keras, layers
        >>> layers.TernaryConv(8, 3)(keras.ops.ones((1, 28, 28, 16))).shape
        TensorShape([1, 28, 28, 8])
    """

    def __init__(
        self,
        filters,
        kernel_size,
        *,
        method="twn",
        threshold=None,
        strides=1,
        padding="same",
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        where = "TernaryConv"
        check_whole(where, "filters", filters)
        pair(where, "kernel_size", kernel_size)
        check_choice(where, "method", method, METHODS)
        check_threshold(where, method, threshold)
        pair(where, "strides", strides)
        check_choice(where, "padding", padding, ("same", "valid"))
        self.filters = filters
        self.kernel_size = kernel_size
        self.method = method
        self.threshold = threshold
        self.strides = strides
        self.padding = padding
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.limit_share = DEFAULT_THRESHOLDS[method] if threshold is None else threshold

    def build(self, input_shape):
        channels = channels_of("TernaryConv", input_shape, rank=4)
        self.compute_output_shape(input_shape)  # raises where the image is too small
        self.kernel = self.add_weight(
            shape=(*pair("TernaryConv", "kernel_size", self.kernel_size), channels, self.filters),
            initializer=self.kernel_initializer,
            autocast=False,  # rounded as it is, and cast afterwards
            name="kernel",
        )
        if self.method == "ttq":
            self.positive_scale, self.negative_scale = add_ternary_scales(self, self.kernel, self.limit_share)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")
        self.built = True

    def effective_kernel(self):
        """The weights that the inputs meet, of three values per filter (TWN) or layer (TTQ)."""
        kernel = keras.ops.convert_to_tensor(self.kernel)
        if self.method == "twn":
            return twn_kernel(kernel, self.limit_share)
        return ttq_kernel(kernel, self.positive_scale, self.negative_scale, self.limit_share)

    def call(self, inputs):
        kernel = keras.ops.cast(self.effective_kernel(), self.compute_dtype)
        strides = pair("TernaryConv", "strides", self.strides)
        outputs = keras.ops.conv(inputs, kernel, strides, self.padding, data_format="channels_last")
        return self.activation(outputs if self.bias is None else outputs + self.bias)

    def compute_output_shape(self, input_shape):
        kernel_size, strides = (pair("TernaryConv", name, getattr(self, name)) for name in ("kernel_size", "strides"))
        return convolved_shape("TernaryConv", input_shape, self.filters, kernel_size, strides, self.padding)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "method": self.method,
            "threshold": self.threshold,
            "strides": self.strides,
            "padding": self.padding,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
