"""prelu: Keras' PReLU, set as in the paper."""

import keras

from layers._arguments import check_number


def prelu(initial_slope=0.25, shared_axes=(1, 2), **kwargs):
    """A `keras.layers.PReLU` as its authors use it: one slope per channel, which starts at 0.25.

    Keras' own starts at 0 and has a slope per pixel and channel, which fixes the image size. The slopes are not
    regularized; an optimizer that decays all weights by itself must be told so:
    `optimizer.exclude_from_weight_decay(var_names=["alpha"])`.

    Args:
        initial_slope: slope for negative inputs before training, finite.
        shared_axes: axes along which the slope is the same, 1 the first after the batch: `(1, 2)` for images, `None`
            for vectors, `(1, 2, 3)` for a single slope per layer, the paper's "channel-shared".
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Returns:
        A `keras.layers.PReLU`.

    Raises:
        TypeError, ValueError: `initial_slope` is not a finite number.

    Reference:
        He et al. 2015, "Delving deep into rectifiers", section 2.1.

    Example:
        >>> import keras, layers
        >>> keras.Sequential([keras.Input((8, 8, 3)), layers.prelu()]).count_params()
        3
    """
    check_number("prelu", "initial_slope", initial_slope)
    return keras.layers.PReLU(
        alpha_initializer=keras.initializers.Constant(initial_slope), shared_axes=shared_axes, **kwargs
    )
