"""DepthwiseSeparableConv: the block that MobileNet is made of."""

import keras

from layers._arguments import check_choice, check_number, check_whole, complaint, pair
from layers._chain import build_chain, call_chain, chain_shape


@keras.saving.register_keras_serializable("keras_recipes")
class DepthwiseSeparableConv(keras.layers.Layer):
    """A convolution in two: each channel by itself along the image, then across the channels at each pixel.

    Depthwise k×k convolution → BatchNormalization → activation → 1×1 convolution → BatchNormalization → activation, no
    biases in the convolutions. It costs 1 / filters + 1 / k² of the weights and multiplications of a full convolution.

    Args:
        filters: channels of the output before `width` is applied, 1 or more.
        kernel_size: height and width of the depthwise kernel, a whole number or a pair.
        width: factor above 0 for `filters`; the product is rounded down and must come to 1 or more. MobileNet's width
            multiplier: given alike to all blocks of a network, it thins them all.
        strides: step in pixels of the depthwise convolution, a whole number.
        padding: `"same"` or `"valid"`.
        activation: what follows each normalization.
        kernel_initializer: start of both kernels.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, new height, new width, filters × width)`. With `"same"` padding each side is the input's, divided by
        its stride and rounded up; with `"valid"`, less the kernel's side - 1 first.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range, or `filters` × `width` below 1.

    Reference:
        Howard et al. 2017, "MobileNets", section 3.1 and figure 3. The paper says ReLU; ReLU6, the default here, is
        what its authors' code and Keras' MobileNet use.

    Example:
        >>> import keras, layers
        >>> layers.DepthwiseSeparableConv(64, strides=2)(keras.ops.ones((1, 28, 28, 32))).shape
        TensorShape([1, 14, 14, 64])
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        *,
        width=1.0,
        strides=1,
        padding="same",
        activation="relu6",
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        where = "DepthwiseSeparableConv"
        check_whole(where, "filters", filters)
        pair(where, "kernel_size", kernel_size)
        check_number(where, "width", width, least=0, above=True)
        if int(filters * width) < 1:
            mend = f"Pass width={1 / filters:.4g} or more, or more filters."
            rule = "width must leave at least one of the filters"
            raise ValueError(complaint(where, rule, f"width={width} and filters={filters}", mend))
        check_whole(where, "strides", strides)
        check_choice(where, "padding", padding, ("same", "valid"))
        self.filters = filters
        self.kernel_size = kernel_size
        self.width = width
        self.strides = strides
        self.padding = padding
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        depthwise = keras.layers.DepthwiseConv2D(
            kernel_size,
            strides=strides,
            padding=padding,
            use_bias=False,
            depthwise_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name="depthwise",
        )
        pointwise = keras.layers.Conv2D(
            int(filters * width),
            1,
            use_bias=False,
            kernel_initializer=self.kernel_initializer.clone(),  # one that is shared would draw alike
            dtype=self.dtype_policy,
            name="pointwise",
        )
        self.chain = [*self._followed(depthwise), *self._followed(pointwise)]

    def _followed(self, convolution):
        """The convolution with its normalization and activation."""
        name = convolution.name
        return (
            convolution,
            keras.layers.BatchNormalization(dtype=self.dtype_policy, name=f"{name}_normalization"),
            keras.layers.Activation(self.activation, dtype=self.dtype_policy, name=f"{name}_activation"),
        )

    def build(self, input_shape):
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
            "width": self.width,
            "strides": self.strides,
            "padding": self.padding,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
