"""BinaryConv: a convolution with weights of one bit."""

import keras

from layers._arguments import check_choice, check_whole, pair
from layers._few_bits import (
    WithinOne,
    binary_kernel,
    channels_of,
    check_seed,
    convolved_shape,
)


@keras.saving.register_keras_serializable("keras_recipes")
class BinaryConv(keras.layers.Layer):
    """A convolution whose weights are two values, a sign each.

    Real weights → signs (× scale per filter) → convolution → (bias) → activation. The real weights are what is trained:
    the gradient passes the rounding unchanged; where they are not scaled, or are rounded by chance, they are clipped to
    -1 … 1 after each update. `packed_weights` stores a bit per weight.

    Args:
        filters: channels of the output, 1 or more.
        kernel_size: height and width of the kernel, a whole number or a pair.
        scaled: whether each filter's signs are multiplied by the mean magnitude of its weights (XNOR-Net); otherwise
            the weights are -1 and 1 (BinaryConnect).
        rounding: `"deterministic"`, by sign, or `"stochastic"`: in training, 1 with probability (weight + 1) / 2. At
            inference it is always by sign.
        seed: start of the random draws, 0 or more; None for another one each time.
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
        Courbariaux et al. 2015, "BinaryConnect"; Rastegari et al. 2016, "XNOR-Net" (`scaled`, its binary-weight
        networks). BinaryConnect tests stochastically trained networks with their real weights, this layer with the
        signs. XNOR-Net's gradient of the scale treats each weight alone; here it is the chain rule's.

    Example:
        >>> import keras, layers
        >>> layers.BinaryConv(8, 3)(keras.ops.ones((1, 28, 28, 16))).shape
        TensorShape([1, 28, 28, 8])
    """

    def __init__(
        self,
        filters,
        kernel_size,
        *,
        scaled=False,
        rounding="deterministic",
        seed=None,
        strides=1,
        padding="same",
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        where = "BinaryConv"
        check_whole(where, "filters", filters)
        pair(where, "kernel_size", kernel_size)
        check_choice(where, "rounding", rounding, ("deterministic", "stochastic"))
        check_seed(where, seed)
        pair(where, "strides", strides)
        check_choice(where, "padding", padding, ("same", "valid"))
        self.filters = filters
        self.kernel_size = kernel_size
        self.scaled = scaled
        self.rounding = rounding
        self.seed = seed
        self.strides = strides
        self.padding = padding
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        channels = channels_of("BinaryConv", input_shape, rank=4)
        self.compute_output_shape(input_shape)  # raises where the image is too small
        self.kernel = self.add_weight(
            shape=(*pair("BinaryConv", "kernel_size", self.kernel_size), channels, self.filters),
            initializer=self.kernel_initializer,
            constraint=None if self.scaled and self.rounding == "deterministic" else WithinOne(),
            autocast=False,  # rounded as it is, and cast afterwards
            name="kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")
        self.built = True

    def effective_kernel(self, training=False):
        """The weights that the inputs meet, drawn anew at each call where training rounds at random."""
        kernel = keras.ops.convert_to_tensor(self.kernel)
        uniform = None
        if training and self.rounding == "stochastic":
            uniform = keras.random.uniform(kernel.shape, dtype="float32", seed=self.seed_generator)
        return binary_kernel(kernel, self.scaled, uniform)

    def call(self, inputs, training=False):
        kernel = keras.ops.cast(self.effective_kernel(training), self.compute_dtype)
        strides = pair("BinaryConv", "strides", self.strides)
        outputs = keras.ops.conv(inputs, kernel, strides, self.padding, data_format="channels_last")
        return self.activation(outputs if self.bias is None else outputs + self.bias)

    def compute_output_shape(self, input_shape):
        kernel_size, strides = (pair("BinaryConv", name, getattr(self, name)) for name in ("kernel_size", "strides"))
        return convolved_shape("BinaryConv", input_shape, self.filters, kernel_size, strides, self.padding)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "scaled": self.scaled,
            "rounding": self.rounding,
            "seed": self.seed,
            "strides": self.strides,
            "padding": self.padding,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
