"""TransitionBlock: what stands between two dense blocks."""

import keras

from layers._arguments import check_number, complaint
from layers._chain import build_chain, call_chain


@keras.saving.register_keras_serializable("keras_recipes")
class TransitionBlock(keras.layers.Layer):
    """Fewer channels and half the size between dense blocks.

    BatchNormalization → ReLU → 1×1 convolution without bias → 2×2 average pooling.

    Args:
        compression: channels out over channels in, above 0 and at most 1, rounded down; 0.5 in DenseNet-BC, 1 in plain
            DenseNet.
        kernel_initializer: start of the kernel.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)`, both sides at least 2.

    Output shape:
        `(batch, height / 2, width / 2, compression × channels)`, each rounded down.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.
        ValueError: on the first call, where no channel would remain.

    Reference:
        Huang et al. 2017, "Densely connected convolutional networks", section 3, "Pooling layers" and "Compression".

    Example:
        >>> import keras, layers
        >>> tuple(layers.TransitionBlock(0.5)(keras.ops.ones((1, 32, 32, 216))).shape)
        (1, 16, 16, 108)
    """

    def __init__(self, compression=0.5, *, kernel_initializer="he_normal", **kwargs):
        super().__init__(**kwargs)
        check_number("TransitionBlock", "compression", compression, least=0, most=1, above=True)
        self.compression = compression
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.chain = []

    def build(self, input_shape):
        self.chain = [
            keras.layers.BatchNormalization(dtype=self.dtype_policy, name="normalization"),
            keras.layers.ReLU(dtype=self.dtype_policy, name="relu"),
            keras.layers.Conv2D(
                self._filters(input_shape),
                1,
                use_bias=False,
                kernel_initializer=self.kernel_initializer.clone(),
                dtype=self.dtype_policy,
                name="convolution",
            ),
            keras.layers.AveragePooling2D(2, dtype=self.dtype_policy, name="pool"),
        ]
        build_chain(self.chain, input_shape)
        self.built = True

    def _filters(self, input_shape):
        """Channels of the output."""
        filters = int(self.compression * input_shape[-1])
        if filters < 1:
            rule = f"compression must leave a channel of the input's {input_shape[-1]}"
            mend = f"Pass compression={1 / input_shape[-1]:.3g} or more."
            raise ValueError(complaint("TransitionBlock", rule, f"compression={self.compression}", mend))
        return filters

    def call(self, inputs):
        return call_chain(self.chain, inputs)

    def compute_output_shape(self, input_shape):
        halves = [side if side is None else side // 2 for side in input_shape[1:3]]
        return (input_shape[0], *halves, self._filters(input_shape))

    def get_config(self):
        return {
            **super().get_config(),
            "compression": self.compression,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
