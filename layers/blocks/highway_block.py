"""HighwayBlock: a learned gate between a transformation and the unchanged input."""

import keras

from layers._arguments import check_number, check_whole, complaint


@keras.saving.register_keras_serializable("keras_recipes")
class HighwayBlock(keras.layers.Layer):
    """A highway layer: y = H(x)·T(x) + x·(1 − T(x)).

    H is a dense layer, or a convolution, with an activation; T is another with a sigmoid, the transform gate. At a very
    negative `transform_bias` the block is the identity, which is what lets stacks of a hundred train.

    Args:
        units: channels in and out, which the sum forces to be equal; None takes the input's.
        kernel_size: odd side of the convolutions; None for the dense form, over the last axis.
        activation: of H.
        transform_bias: start of the gate's bias; −1 to −4 in the paper, the deeper the lower.
        kernel_initializer: start of both kernels.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, …, channels)`, with `kernel_size` `(batch, height, width, channels)`.

    Output shape:
        The input's.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.
        ValueError: on the first call, where the input does not have `units` channels.

    Reference:
        Srivastava et al. 2015, "Highway networks", equation 3, and section 2.1 for the bias.

    Example:
        >>> import keras, layers
        >>> block = layers.HighwayBlock(50)
        >>> tuple(block(keras.ops.ones((1, 50))).shape)
        (1, 50)
        >>> block.count_params()
        5100
    """

    def __init__(
        self,
        units=None,
        *,
        kernel_size=None,
        activation="relu",
        transform_bias=-2.0,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if units is not None:
            check_whole("HighwayBlock", "units", units)
        if kernel_size is not None:
            check_whole("HighwayBlock", "kernel_size", kernel_size, odd=True)
        check_number("HighwayBlock", "transform_bias", transform_bias)
        self.units = units
        self.kernel_size = kernel_size
        self.activation = keras.activations.get(activation)
        self.transform_bias = transform_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def _make(self, name, units, activation, bias):
        arguments = {
            "activation": activation,
            "bias_initializer": keras.initializers.Constant(bias),
            "kernel_initializer": self.kernel_initializer.clone(),  # one that is shared would draw alike
            "dtype": self.dtype_policy,
            "name": name,
        }
        if self.kernel_size is None:
            return keras.layers.Dense(units, **arguments)
        return keras.layers.Conv2D(units, self.kernel_size, padding="same", **arguments)

    def build(self, input_shape):
        channels = input_shape[-1]
        if self.units not in (None, channels):
            rule = f"units must equal the input's {channels} channels, to be summed with them"
            mend = f"Pass units={channels}, or change the channels with a layer before."
            raise ValueError(complaint("HighwayBlock", rule, f"units={self.units}", mend))
        self.transformation = self._make("transformation", channels, self.activation, 0.0)
        self.gate = self._make("gate", channels, "sigmoid", self.transform_bias)
        self.transformation.build(input_shape)
        self.gate.build(input_shape)
        self.built = True

    def call(self, inputs):
        gate = self.gate(inputs)
        return self.transformation(inputs) * gate + inputs * (1 - gate)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "kernel_size": self.kernel_size,
            "activation": keras.activations.serialize(self.activation),
            "transform_bias": self.transform_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
