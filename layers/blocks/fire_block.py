"""FireBlock: few channels by 1×1, then many by 1×1 and 3×3."""

import keras

from layers._arguments import check_whole
from layers._chain import build_chain, call_chain


@keras.saving.register_keras_serializable("keras_recipes")
class FireBlock(keras.layers.Layer):
    """The fire module of SqueezeNet.

    1×1 convolution to `squeeze` channels → ReLU → 1×1 and 3×3 convolutions side by side → ReLU, concatenated in this
    order. The 3×3 kernels, which cost nine times as much, see only the few channels of the squeeze.

    Args:
        squeeze: channels between; fewer than the two expansions give together, or nothing is squeezed.
        expand_1x1: channels from the 1×1 convolution, 1 or more.
        expand_3x3: channels from the 3×3 convolution; None for as many as `expand_1x1`.
        kernel_initializer: start of all kernels.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, expand_1x1 + expand_3x3)`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", section 3.2.

    Example:
        >>> import keras, layers
        >>> block = layers.FireBlock(16, 64)
        >>> tuple(block(keras.ops.ones((1, 54, 54, 96))).shape)
        (1, 54, 54, 128)
        >>> block.count_params()
        11920
    """

    def __init__(self, squeeze, expand_1x1, *, expand_3x3=None, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        check_whole("FireBlock", "squeeze", squeeze)
        check_whole("FireBlock", "expand_1x1", expand_1x1)
        if expand_3x3 is not None:
            check_whole("FireBlock", "expand_3x3", expand_3x3)
        self.squeeze = squeeze
        self.expand_1x1 = expand_1x1
        self.expand_3x3 = expand_3x3
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.squeezing = [self._make("squeeze", squeeze, 1)]
        self.expanding = [
            self._make("expand_1x1", expand_1x1, 1),
            self._make("expand_3x3", expand_3x3 or expand_1x1, 3),
        ]

    def _make(self, name, filters, kernel_size):
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            activation="relu",
            kernel_initializer=self.kernel_initializer.clone(),  # one that is shared would draw alike
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, input_shape):
        squeezed = build_chain(self.squeezing, input_shape)
        for convolution in self.expanding:
            convolution.build(squeezed)
        self.built = True

    def call(self, inputs):
        squeezed = call_chain(self.squeezing, inputs)
        return keras.ops.concatenate([convolution(squeezed) for convolution in self.expanding], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.expand_1x1 + (self.expand_3x3 or self.expand_1x1))

    def get_config(self):
        return {
            **super().get_config(),
            "squeeze": self.squeeze,
            "expand_1x1": self.expand_1x1,
            "expand_3x3": self.expand_3x3,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
