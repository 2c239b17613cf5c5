"""BinaryDense: a dense layer with weights of one bit."""

import keras

from layers._arguments import check_choice, check_whole
from layers._few_bits import (
    WithinOne,
    binary_kernel,
    channels_of,
    check_seed,
)


@keras.saving.register_keras_serializable("keras_recipes")
class BinaryDense(keras.layers.Layer):
    """A dense layer whose weights are two values, a sign each.

    Real weights → signs (× scale per unit) → product with the inputs → (bias) → activation. The real weights are what
    is trained: the gradient passes the rounding unchanged; where they are not scaled, or are rounded by chance, they
    are clipped to -1 … 1 after each update. `packed_weights` stores a bit per weight.

    Args:
        units: size of the output, 1 or more.
        scaled: whether each unit's signs are multiplied by the mean magnitude of its weights (XNOR-Net); otherwise
            the weights are -1 and 1 (BinaryConnect).
        rounding: `"deterministic"`, by sign, or `"stochastic"`: in training, 1 with probability (weight + 1) / 2. At
            inference it is always by sign.
        seed: start of the random draws, 0 or more; None for another one each time.
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
        Courbariaux et al. 2015, "BinaryConnect"; Rastegari et al. 2016, "XNOR-Net" (`scaled`, its binary-weight
        networks). BinaryConnect tests stochastically trained networks with their real weights, this layer with the
        signs. XNOR-Net's gradient of the scale treats each weight alone; here it is the chain rule's.

    Example:
        >>> import keras, layers
        >>> layers.BinaryDense(10)(keras.ops.ones((1, 64))).shape
        TensorShape([1, 10])
    """

    def __init__(
        self,
        units,
        *,
        scaled=False,
        rounding="deterministic",
        seed=None,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        where = "BinaryDense"
        check_whole(where, "units", units)
        check_choice(where, "rounding", rounding, ("deterministic", "stochastic"))
        check_seed(where, seed)
        self.units = units
        self.scaled = scaled
        self.rounding = rounding
        self.seed = seed
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        channels = channels_of("BinaryDense", input_shape)
        self.kernel = self.add_weight(
            shape=(channels, self.units),
            initializer=self.kernel_initializer,
            constraint=None if self.scaled and self.rounding == "deterministic" else WithinOne(),
            autocast=False,  # rounded as it is, and cast afterwards
            name="kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
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
        outputs = keras.ops.matmul(inputs, kernel)
        return self.activation(outputs if self.bias is None else outputs + self.bias)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "scaled": self.scaled,
            "rounding": self.rounding,
            "seed": self.seed,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
