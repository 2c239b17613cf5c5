"""FakeQuantizedKernel: a convolution or dense layer whose kernel is rounded to what bytes can hold."""

import keras
from keras import ops

from layers._arguments import check_number, check_whole, complaint
from layers._few_bits import straight_through

# The axes of a kernel that share a scale: all but those that count channels of the output.
_SHARING = {
    keras.layers.Conv2D: (0, 1, 2),
    keras.layers.Conv2DTranspose: (0, 1, 3),
    keras.layers.DepthwiseConv2D: (0, 1),
    keras.layers.Dense: (0,),
}
_LEAST = 1e-20  # a scale for channels of nothing but zeros
_OTHER = "channels_first"


@keras.saving.register_keras_serializable("keras_recipes")
class FakeQuantizedKernel(keras.layers.Layer):
    """A layer of Keras whose kernel is rounded, one scale per channel of the output, as LiteRT's int8 files hold it.

    scale = largest magnitude of the channel's weights / 127 → weights / scale, rounded, × scale → the layer. The layer
    keeps its real weights, which are what is trained: the gradient passes the rounding as if it were not there.
    `plain_layer` gives a layer that holds the rounded weights.

    Args:
        layer: `Conv2D`, `Conv2DTranspose`, `DepthwiseConv2D` or `Dense` of Keras, channels last.
        per_channel: whether each channel of the output has a scale of its own, rather than all of them one.
        bits: per weight, 2–16; LiteRT knows 8.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        That of the layer.

    Output shape:
        That of the layer.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only
        inference"; per channel and symmetric as in Krishnamoorthi 2018, "Quantizing deep convolutional networks for
        efficient inference".

    Example:
        >>> import keras, layers
        >>> layer = layers.FakeQuantizedKernel(keras.layers.Dense(4))
        >>> layer(keras.ops.ones((1, 8))).shape
        TensorShape([1, 4])
    """

    def __init__(self, layer, *, per_channel=True, bits=8, **kwargs):
        super().__init__(autocast=False, **kwargs)  # the kernel is rounded as it is, and cast afterwards
        where = "FakeQuantizedKernel"
        if not is_quantizable(layer):
            rule = "layer must be a Conv2D, Conv2DTranspose, DepthwiseConv2D or Dense of Keras, channels last"
            mend = "Pass layer=keras.layers.Conv2D(8, 3), say."
            raise TypeError(complaint(where, rule, f"layer={layer!r}", mend))
        check_whole(where, "bits", bits, least=2)
        check_number(where, "bits", bits, most=16)
        self.layer = layer
        self.per_channel = per_channel
        self.bits = bits

    def build(self, input_shape):
        if not self.layer.built:
            self.layer.build(input_shape)
        self._shape = tuple(input_shape)
        self.built = True

    def effective_kernel(self):
        """The weights that the inputs meet, float32."""
        kernel, scales = ops.cast(self.layer.kernel, "float32"), self.scales()
        return straight_through(ops.round(kernel / scales) * scales, kernel)

    def scales(self):
        """What an integer of each channel stands for, in the shape of the kernel with axes of size 1."""
        kernel = ops.cast(self.layer.kernel, "float32")
        axes = _SHARING[type(self.layer)] if self.per_channel else None
        largest = ops.max(ops.abs(kernel), axis=axes, keepdims=True)
        return ops.maximum(largest / (2 ** (self.bits - 1) - 1), _LEAST)

    def plain_layer(self):
        """A layer as the inner one, of the name of this one, which holds the rounded weights."""
        plain = type(self.layer).from_config(self.layer.get_config() | {"name": self.name})
        plain.build(self._shape)
        plain.set_weights([self.effective_kernel(), *self.layer.get_weights()[1:]])
        return plain

    def call(self, inputs):
        inputs = ops.cast(inputs, self.compute_dtype)
        outputs = _apply(self.layer, inputs, ops.cast(self.effective_kernel(), self.compute_dtype))
        if self.layer.bias is not None:
            outputs = outputs + ops.cast(self.layer.bias, self.compute_dtype)
        return self.layer.activation(outputs)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.layer)
        layer.pop("build_config", None)  # the same before and after
        return {**super().get_config(), "layer": layer, "per_channel": self.per_channel, "bits": self.bits}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"])})


def is_quantizable(layer):
    """Whether `FakeQuantizedKernel` takes a layer: of Keras itself, its kernel as it is, channels last."""
    has_own_kernel = not getattr(layer, "lora_enabled", False) and not getattr(layer, "quantization_mode", None)
    return type(layer) in _SHARING and has_own_kernel and getattr(layer, "data_format", "channels_last") != _OTHER


def _apply(layer, inputs, kernel):
    """The product of a layer with another kernel than its own."""
    if isinstance(layer, keras.layers.Dense):
        return ops.matmul(inputs, kernel)
    form = {"strides": layer.strides, "padding": layer.padding, "dilation_rate": layer.dilation_rate}
    if isinstance(layer, keras.layers.Conv2DTranspose):
        padding = layer.output_padding if layer.output_padding is None else list(layer.output_padding)
        return ops.conv_transpose(inputs, kernel, output_padding=padding, data_format="channels_last", **form)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return ops.depthwise_conv(inputs, kernel, data_format="channels_last", **form)
    return layer.convolution_op(inputs, kernel)
