"""StackedConv: an n×n convolution as a stack of 3×3."""

import keras

from layers._arguments import check_choice, check_whole, complaint, pair
from layers._chain import build_chain, call_chain, chain_shape


@keras.saving.register_keras_serializable("keras_recipes")
class StackedConv(keras.layers.Layer):
    """A large convolution as a stack of 3×3 convolutions that sees the same pixels.

    (n - 1) / 2 times: 3×3 convolution → (normalization) → activation. Each output depends on exactly n×n pixels, as
    with one n×n kernel: 5×5 becomes 2 convolutions with 18 instead of 25 weights per pair of channels, 7×7 becomes 3
    with 27 instead of 49.

    Args:
        filters: channels of the output, 1 or more.
        kernel_size: side n of the kernel that is replaced, odd, 3 or more.
        between_filters: channels between the convolutions; None for `filters`.
        strides: step in pixels along height and width, a whole number or a pair. Only the last convolution takes it:
            a stride on an earlier one would widen the n×n pixels that an output sees.
        padding: `"same"` or `"valid"`.
        normalization: whether BatchNormalization follows each convolution.
        between_activation: what is applied between the convolutions; None leaves a linear stack.
        activation: what is applied at the end.
        use_bias: whether a bias is added at the end, and between where an activation follows; never before a
            normalization, which would take it away again.
        kernel_initializer: start of all kernels.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, new height, new width, filters)`. With `"same"` padding each side is the input's, divided by its stride
        and rounded up; with `"valid"`, less n - 1 first, divided by its stride and rounded up.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        Simonyan and Zisserman 2014, "Very deep convolutional networks for large-scale image recognition", section 2.3;
        Szegedy et al. 2015, "Rethinking the Inception architecture", section 3.1, where an activation between is
        found better than a linear stack.

    Example:
        >>> import keras, layers
        >>> layers.StackedConv(32, 7)(keras.ops.ones((1, 28, 28, 16))).shape
        TensorShape([1, 28, 28, 32])
    """

    def __init__(
        self,
        filters,
        kernel_size,
        *,
        between_filters=None,
        strides=1,
        padding="same",
        normalization=False,
        between_activation="relu",
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        where = "StackedConv"
        check_whole(where, "filters", filters)
        check_whole(where, "kernel_size", kernel_size, least=3, odd=True)
        if between_filters is not None:
            check_whole(where, "between_filters", between_filters)
        pair(where, "strides", strides)
        check_choice(where, "padding", padding, ("same", "valid"))
        self.filters = filters
        self.kernel_size = kernel_size
        self.between_filters = between_filters
        self.strides = strides
        self.padding = padding
        self.normalization = normalization
        self.between_activation = keras.activations.get(between_activation)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        count = (kernel_size - 1) // 2
        self.chain = [layer for number in range(1, count + 1) for layer in self._make(number, number == count)]

    def _make(self, number, is_last):
        """One 3×3 convolution with what follows it, as a chain."""
        activation = self.activation if is_last else self.between_activation
        linear = activation is keras.activations.linear
        name = f"conv_{number}"
        chain = [
            keras.layers.Conv2D(
                self.filters if is_last else self.between_filters or self.filters,
                3,
                strides=self.strides if is_last else 1,
                padding=self.padding,
                use_bias=self.use_bias and not self.normalization and (is_last or not linear),
                kernel_initializer=self.kernel_initializer.clone(),  # one that is shared would draw alike
                dtype=self.dtype_policy,
                name=name,
            )
        ]
        if self.normalization:
            chain.append(keras.layers.BatchNormalization(dtype=self.dtype_policy, name=f"{name}_normalization"))
        if not linear:
            chain.append(keras.layers.Activation(activation, dtype=self.dtype_policy, name=f"{name}_activation"))
        return chain

    def build(self, input_shape):
        if self.padding == "valid" and any(side is not None and side < self.kernel_size for side in input_shape[1:3]):
            rule = f"height and width must be at least kernel_size={self.kernel_size} with padding='valid'"
            mend = "Pass larger images, or padding='same'."
            raise ValueError(complaint("StackedConv", rule, f"input_shape={tuple(input_shape)}", mend))
        build_chain(self.chain, input_shape)
        self.built = True

    def call(self, inputs):
        return call_chain(self.chain, inputs)

    def compute_output_shape(self, input_shape):
        return chain_shape(self.chain, input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "between_filters": self.between_filters,
            "strides": self.strides,
            "padding": self.padding,
            "normalization": self.normalization,
            "between_activation": keras.activations.serialize(self.between_activation),
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
