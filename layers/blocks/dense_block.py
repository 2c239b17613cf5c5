"""DenseBlock: each layer sees the feature maps of all before it."""

import keras

from layers._arguments import check_number, check_whole
from layers._chain import call_chain


@keras.saving.register_keras_serializable("keras_recipes")
class DenseBlock(keras.layers.Layer):
    """A chain of layers in which each adds `growth_rate` channels to all that came before.

    Each layer: BatchNormalization → ReLU → 3×3 convolution without bias, over the input and all earlier layers' outputs
    side by side. With a bottleneck, BatchNormalization → ReLU → 1×1 convolution to `bottleneck` × `growth_rate`
    channels comes first. The output is the input and all layers' outputs, side by side.

    Args:
        depth: number of layers, 1 or more.
        growth_rate: channels that each layer adds, 1 or more.
        bottleneck: width of the 1×1 convolutions in growth rates, 4 in the paper's DenseNet-B; None for none.
        dropout: share of each convolution's outputs that is dropped in training, 0–0.99; 0.2 in the paper where
            images are not augmented.
        remat: whether training computes concatenation, normalization and ReLU again in the backward pass instead of
            keeping them: memory then grows with the depth, not with its square. Same weights and same results.
        kernel_initializer: start of all kernels.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, channels + depth × growth_rate)`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        Huang et al. 2017, "Densely connected convolutional networks", section 3; Pleiss et al. 2017, "Memory-efficient
        implementation of DenseNets" (remat, which here leaves the moments of each feature map, computed once, outside
        of what is computed again, so that moving statistics are updated once).

    Example:
        >>> import keras, layers
        >>> block = layers.DenseBlock(6, 12, bottleneck=4, remat=True)
        >>> tuple(block(keras.ops.ones((1, 32, 32, 24))).shape)
        (1, 32, 32, 96)
    """

    def __init__(
        self,
        depth,
        growth_rate,
        *,
        bottleneck=None,
        dropout=0.0,
        remat=False,
        kernel_initializer="he_normal",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_whole("DenseBlock", "depth", depth)
        check_whole("DenseBlock", "growth_rate", growth_rate)
        if bottleneck is not None:
            check_whole("DenseBlock", "bottleneck", bottleneck)
        check_number("DenseBlock", "dropout", dropout, least=0, most=0.99)
        self.depth = depth
        self.growth_rate = growth_rate
        self.bottleneck = bottleneck
        self.dropout = dropout
        self.remat = remat
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.units = [self._make_layer(f"layer{number}") for number in range(depth)]

    def _make_layer(self, name):
        """The one or two units of a layer."""
        wide = [self._make_unit(f"{name}_bottleneck", self.bottleneck * self.growth_rate, 1)] if self.bottleneck else []
        return [*wide, self._make_unit(name, self.growth_rate, 3)]

    def _make_unit(self, name, filters, kernel_size):
        """Normalization, convolution and, where asked for, dropout."""
        convolution = keras.layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            use_bias=False,
            kernel_initializer=self.kernel_initializer.clone(),  # one that is shared would draw alike
            dtype=self.dtype_policy,
            name=f"{name}_convolution",
        )
        normalization = keras.layers.BatchNormalization(dtype=self.dtype_policy, name=f"{name}_normalization")
        dropping = [keras.layers.Dropout(self.dropout, dtype=self.dtype_policy, name=f"{name}_dropout")]
        return [normalization, convolution, *(dropping if self.dropout else [])]

    def build(self, input_shape):
        for number, units in enumerate(self.units):
            shape = (*input_shape[:-1], input_shape[-1] + number * self.growth_rate)
            for normalization, convolution, *_ in units:
                normalization.build(shape)
                convolution.build(shape)
                shape = convolution.compute_output_shape(shape)
        self.built = True

    def call(self, inputs, training=None):
        if self.remat and training:
            return self._call_leanly(inputs)
        outputs = inputs
        for units in self.units:
            new = outputs
            for normalization, *rest in units:
                new = call_chain(rest, keras.ops.relu(normalization(new)))
            outputs = keras.ops.concatenate([outputs, new], axis=-1)
        return outputs

    def _call_leanly(self, inputs):
        """As in training, keeping each feature map and each convolution's output once."""
        pieces, moments = [inputs], [_moments(inputs)]
        for units in self.units:
            new = _recomputed(units[0], pieces, moments)
            for unit in units[1:]:
                new = _recomputed(unit, [new], [_moments(new)])
            pieces.append(new)
            moments.append(_moments(new))
        return keras.ops.concatenate(pieces, axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + self.depth * self.growth_rate)

    def get_config(self):
        return {
            **super().get_config(),
            "depth": self.depth,
            "growth_rate": self.growth_rate,
            "bottleneck": self.bottleneck,
            "dropout": self.dropout,
            "remat": self.remat,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _moments(images):
    """Mean and variance of each channel, in the precision in which BatchNormalization takes them."""
    precise = keras.backend.result_type(images.dtype, "float32")
    return keras.ops.moments(keras.ops.cast(images, precise), axes=(0, 1, 2))


def _tensor(weight):
    """The value itself, since TensorFlow's eager mode loses the gradient of a variable handed to `remat`.

    `convert_to_tensor` will not do: it hands a Keras variable through as it is.
    """
    return keras.ops.reshape(weight, weight.shape)


def _recomputed(unit, pieces, moments):
    """What the unit makes of the pieces side by side, whose moments are known."""
    normalization, convolution, *dropping = unit
    if normalization.trainable:
        mean, variance = (keras.ops.concatenate(parts) for parts in zip(*moments, strict=True))
        for moving, batch in ((normalization.moving_mean, mean), (normalization.moving_variance, variance)):
            moving.assign(moving * normalization.momentum + batch * (1 - normalization.momentum))
    else:  # frozen: as at inference
        mean, variance = normalization.moving_mean, normalization.moving_variance

    def compose(mean, variance, gamma, beta, kernel, *pieces):
        values = keras.ops.cast(keras.ops.concatenate(pieces, axis=-1), mean.dtype)
        values = keras.ops.batch_normalization(
            values, mean, variance, axis=-1, offset=beta, scale=gamma, epsilon=normalization.epsilon
        )
        values = keras.ops.relu(keras.ops.cast(values, kernel.dtype))
        return keras.ops.conv(values, kernel, padding="same")

    weights = (mean, variance, normalization.gamma, normalization.beta, convolution.kernel)
    return call_chain(dropping, keras.remat(compose)(*map(_tensor, weights), *pieces))
