"""TernaryDense: a dense layer with weights of three values."""

import keras

from layers._arguments import check_choice, check_whole
from layers._few_bits import (
    DEFAULT_THRESHOLDS,
    METHODS,
    add_ternary_scales,
    channels_of,
    check_threshold,
    ttq_kernel,
    twn_kernel,
)


@keras.saving.register_keras_serializable("keras_recipes")
class TernaryDense(keras.layers.Layer):
    """A dense layer whose weights are three values: negative, zero and positive.

    Real weights → threshold → -scale, 0 or scale → product with the inputs → (bias) → activation. The real weights are
    what is trained: the gradient passes the rounding, as if it were not there (TWN) or times the scale (TTQ).
    `packed_weights` stores two bits per weight.

    Args:
        units: size of the output, 1 or more.
        method: `"twn"`: each unit's weights are -scale, 0 and scale, where scale is the mean magnitude of those that
            are not zero; or `"ttq"`: the layer has a positive and a negative scale, both trained.
        threshold: magnitude above which a weight is not zero, as a share of the unit's mean magnitude (TWN; None for
            0.7) or of the layer's largest (TTQ; None for 0.05).
        activation: what is applied at the end.
        use_bias: whether a bias, which stays real, is added.
        kernel_initializer: start of the real weights.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, ..., features)`.

    Output shape:
        `(batch, ..., units)`: the input's with the last axis replaced.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        Li and Liu 2016, "Ternary weight networks" (threshold and scale here per unit); Zhu et al. 2017, "Trained
        ternary quantization". TTQ starts from a trained network; here both scales start as the mean magnitude of the
        real weights that are not zero, so that training can also start from scratch.

    Example:
        >>> import keras, layers
        >>> layers.TernaryDense(10)(keras.ops.ones((1, 64))).shape
        TensorShape([1, 10])
    """

    def __init__(
        self,
        units,
        *,
        method="twn",
        threshold=None,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        where = "TernaryDense"
        check_whole(where, "units", units)
        check_choice(where, "method", method, METHODS)
        check_threshold(where, method, threshold)
        self.units = units
        self.method = method
        self.threshold = threshold
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.limit_share = DEFAULT_THRESHOLDS[method] if threshold is None else threshold

    def build(self, input_shape):
        channels = channels_of("TernaryDense", input_shape)
        self.kernel = self.add_weight(
            shape=(channels, self.units),
            initializer=self.kernel_initializer,
            autocast=False,  # rounded as it is, and cast afterwards
            name="kernel",
        )
        if self.method == "ttq":
            self.positive_scale, self.negative_scale = add_ternary_scales(self, self.kernel, self.limit_share)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.built = True

    def effective_kernel(self):
        """The weights that the inputs meet, of three values per filter (TWN) or layer (TTQ)."""
        kernel = keras.ops.convert_to_tensor(self.kernel)
        if self.method == "twn":
            return twn_kernel(kernel, self.limit_share)
        return ttq_kernel(kernel, self.positive_scale, self.negative_scale, self.limit_share)

    def call(self, inputs):
        kernel = keras.ops.cast(self.effective_kernel(), self.compute_dtype)
        outputs = keras.ops.matmul(inputs, kernel)
        return self.activation(outputs if self.bias is None else outputs + self.bias)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "method": self.method,
            "threshold": self.threshold,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
