"""SeparableFactorConv: a k×k convolution as k×1 and 1×k."""

import keras
import numpy as np

from layers._arguments import check_choice, check_whole, complaint, pair
from layers._chain import build_chain, call_chain, chain_shape

ORDERS = ("vertical_first", "horizontal_first")


@keras.saving.register_keras_serializable("keras_recipes")
class SeparableFactorConv(keras.layers.Layer):
    """A convolution factored along its height and width.

    k×1 convolution to `rank` channels → (normalization) → (activation) → 1×k convolution to `filters` channels →
    (normalization) → (activation). With `order="horizontal_first"`, 1×k comes first. A 7×7 kernel costs 14 instead of
    49 weights per pair of channels.

    Args:
        filters: channels of the output, 1 or more.
        kernel_size: height and width of the kernel that is factored, a whole number or a pair.
        rank: channels between the two convolutions; None for `filters`.
        order: `"vertical_first"` or `"horizontal_first"`.
        strides: step in pixels along height and width, a whole number or a pair.
        dilation_rate: distance between the pixels a kernel reads, a whole number or a pair.
        padding: `"same"` or `"valid"`.
        normalization: whether BatchNormalization follows each convolution.
        between_activation: what is applied between the two, such as `"relu"`; None keeps the factorization linear.
        activation: what is applied at the end.
        use_bias: whether a bias is added at the end, and between where an activation follows; never before a
            normalization, which would take it away again.
        kernel_initializer: start of both kernels.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, new height, new width, filters)`. With `"same"` padding each side is the input's, divided by its stride
        and rounded up; with `"valid"`, less the kernel's reach first.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        Szegedy et al. 2015, "Rethinking the Inception architecture", section 3.2; Jaderberg et al. 2014, "Speeding up
        convolutional neural networks with low rank expansions" (rank, and the factorization of `factor_convolution`).

    Example:
        >>> import keras, layers
        >>> layers.SeparableFactorConv(32, 7)(keras.ops.ones((1, 28, 28, 16))).shape
        TensorShape([1, 28, 28, 32])
    """

    def __init__(
        self,
        filters,
        kernel_size,
        *,
        rank=None,
        order="vertical_first",
        strides=1,
        dilation_rate=1,
        padding="same",
        normalization=False,
        between_activation=None,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        where = "SeparableFactorConv"
        check_whole(where, "filters", filters)
        pair(where, "kernel_size", kernel_size)
        if rank is not None:
            check_whole(where, "rank", rank)
        check_choice(where, "order", order, ORDERS)
        pair(where, "strides", strides)
        pair(where, "dilation_rate", dilation_rate)
        check_choice(where, "padding", padding, ("same", "valid"))
        self.filters = filters
        self.kernel_size = kernel_size
        self.rank = rank
        self.order = order
        self.strides = strides
        self.dilation_rate = dilation_rate
        self.padding = padding
        self.normalization = normalization
        self.between_activation = keras.activations.get(between_activation)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.first, self.second = self._make(0), self._make(1)

    def _make(self, position):
        """One of the two convolutions with what follows it, as a chain."""
        axis = position if self.order == "vertical_first" else 1 - position
        is_last = position == 1
        activation = self.activation if is_last else self.between_activation
        linear = not is_last and activation is keras.activations.linear
        name = ("vertical", "horizontal")[axis]
        chain = [
            keras.layers.Conv2D(
                self.filters if is_last else self.rank or self.filters,
                _along(axis, self.kernel_size, 1),
                strides=_along(axis, self.strides, 1),
                dilation_rate=_along(axis, self.dilation_rate, 1),
                padding=self.padding,
                use_bias=self.use_bias and not self.normalization and not linear,
                kernel_initializer=self.kernel_initializer.clone(),  # one that is shared would draw alike
                dtype=self.dtype_policy,
                name=name,
            )
        ]
        if self.normalization:
            chain.append(keras.layers.BatchNormalization(dtype=self.dtype_policy, name=f"{name}_normalization"))
        if activation is not keras.activations.linear:
            chain.append(keras.layers.Activation(activation, dtype=self.dtype_policy, name=f"{name}_activation"))
        return chain

    def build(self, input_shape):
        build_chain([*self.first, *self.second], input_shape)
        self.built = True

    def call(self, inputs):
        return call_chain([*self.first, *self.second], inputs)

    def compute_output_shape(self, input_shape):
        return chain_shape([*self.first, *self.second], input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "rank": self.rank,
            "order": self.order,
            "strides": self.strides,
            "dilation_rate": self.dilation_rate,
            "padding": self.padding,
            "normalization": self.normalization,
            "between_activation": keras.activations.serialize(self.between_activation),
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def factor_convolution(convolution, rank=None):
    """Factor a trained `Conv2D` into a SeparableFactorConv by singular values.

    The kernel, as a matrix of (height × input channels) by (width × filters), is cut to its `rank` largest singular
    values, which is the best such factorization in the sense of least squares (Jaderberg et al. 2014, scheme 2).

    Args:
        convolution: built `keras.layers.Conv2D`, without groups.
        rank: channels between; None for as many as make it exact.

    Returns:
        `(layer, error)`: a built SeparableFactorConv, and the root of the lost share of the squared kernel, 0–1.

    Raises:
        TypeError: `convolution` is no Conv2D.
        ValueError: it is not built, has groups, or `rank` is beyond what is exact.

    Example:
        >>> import keras, layers
        >>> convolution = keras.layers.Conv2D(8, 5)
        >>> convolution.build((None, 32, 32, 3))
        >>> layer, error = layers.factor_convolution(convolution)
        >>> error < 1e-6
        True
    """
    where = "factor_convolution"
    if not isinstance(convolution, keras.layers.Conv2D):
        rule, mend = "convolution must be a keras.layers.Conv2D", "Pass a layer of that class."
        raise TypeError(complaint(where, rule, type(convolution).__name__, mend))
    if not convolution.built or convolution.groups != 1:
        received = f"groups={convolution.groups}" if convolution.built else "a layer without weights"
        raise ValueError(complaint(where, "convolution must be built, without groups", received, "Build it first."))
    kernel = keras.ops.convert_to_numpy(convolution.kernel).astype(np.float64)
    height, width, channels, filters = kernel.shape
    exact = min(height * channels, width * filters)
    rank = exact if rank is None else rank
    check_whole(where, "rank", rank)
    if rank > exact:
        raise ValueError(
            complaint(where, f"rank must be at most {exact}", f"rank={rank}", f"Pass rank={exact} or less.")
        )
    matrix = kernel.transpose(0, 2, 1, 3).reshape(height * channels, width * filters)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    scale = np.sqrt(values[:rank])
    vertical = (left[:, :rank] * scale).reshape(height, 1, channels, rank)
    horizontal = (scale[:, None] * right[:rank]).reshape(rank, 1, width, filters).transpose(1, 2, 0, 3)
    layer = SeparableFactorConv(
        filters,
        (height, width),
        rank=rank,
        strides=convolution.strides,
        dilation_rate=convolution.dilation_rate,
        padding=convolution.padding,
        activation=convolution.activation,
        use_bias=convolution.use_bias,
        dtype=convolution.dtype_policy,
        name=f"{convolution.name}_factored",
    )
    layer.build((None, None, None, channels))
    bias = [keras.ops.convert_to_numpy(convolution.bias)] if convolution.use_bias else []
    layer.set_weights([vertical, horizontal, *bias])
    lost = np.sum(values[rank:] ** 2) / np.sum(values**2)
    return layer, float(np.sqrt(lost))


def _along(axis, value, otherwise):
    """`value` along one axis, 0 for height and 1 for width, and `otherwise` along the other."""
    values = (value, value) if not isinstance(value, (tuple, list)) else value
    return (values[0], otherwise) if axis == 0 else (otherwise, values[1])
