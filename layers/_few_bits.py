"""Weights of two or three values: how they come from real ones, and where their gradients go."""

import keras

from layers._arguments import check_number, check_whole, complaint

METHODS = ("twn", "ttq")
DEFAULT_THRESHOLDS = {"twn": 0.7, "ttq": 0.05}


@keras.saving.register_keras_serializable("keras_recipes")
class WithinOne(keras.constraints.Constraint):
    """Clips weights to -1 … 1 after each update: beyond, they would no longer change the sign they stand for."""

    def __call__(self, weights):
        return keras.ops.clip(weights, -1.0, 1.0)


def straight_through(values, weights):
    """`values` going forward, and `weights` going backward, as if nothing had been rounded.

    The difference added is exactly zero, so that the values stay exactly what they are.
    """
    return keras.ops.stop_gradient(values) + (weights - keras.ops.stop_gradient(weights))


def per_filter(function, kernel):
    """A mean or sum over all axes but the last, kept as axes of size 1."""
    return function(kernel, axis=tuple(range(len(kernel.shape) - 1)), keepdims=True)


def binary_signs(kernel, uniform=None):
    """-1 and 1 by sign; with `uniform` draws in 0–1, 1 with the probability (weight + 1) / 2 cut to 0–1."""
    is_positive = kernel >= 0 if uniform is None else uniform < keras.ops.clip((kernel + 1) / 2, 0, 1)
    return 2 * keras.ops.cast(is_positive, kernel.dtype) - 1


def binary_scale(kernel, is_scaled):
    """Mean magnitude of each filter, which brings the signs nearest to the kernel; 1 where it is not asked for."""
    if not is_scaled:
        return keras.ops.ones((1,) * len(kernel.shape), kernel.dtype)
    return per_filter(keras.ops.mean, keras.ops.abs(kernel))


def binary_kernel(kernel, is_scaled, uniform=None):
    """signs × scale. The gradient passes the sign as if it were the identity, and the scale by the chain rule."""
    signs = straight_through(binary_signs(kernel, uniform), kernel)
    return signs * binary_scale(kernel, is_scaled) if is_scaled else signs


def ternary_limit(kernel, method, threshold):
    """The magnitude above which a weight is not zero: TWN's per filter, TTQ's for the whole layer."""
    magnitude = keras.ops.abs(kernel)
    if method == "twn":
        return threshold * per_filter(keras.ops.mean, magnitude)
    return threshold * keras.ops.max(magnitude)


def ternary_masks(kernel, limit):
    """(positive, negative): ones where the kernel lies above the limit, and below its negative."""
    return keras.ops.cast(kernel > limit, kernel.dtype), keras.ops.cast(kernel < -limit, kernel.dtype)


def ternary_scale(kernel, limit):
    """Mean magnitude of each filter's weights above the limit; 0 for a filter without any."""
    positive, negative = ternary_masks(kernel, limit)
    used = positive + negative
    return per_filter(keras.ops.sum, keras.ops.abs(kernel) * used) / keras.ops.maximum(
        per_filter(keras.ops.sum, used), 1
    )


def twn_kernel(kernel, threshold):
    """-scale, 0 and scale; the gradient reaches the kernel unchanged."""
    limit = ternary_limit(kernel, "twn", threshold)
    positive, negative = ternary_masks(kernel, limit)
    return straight_through((positive - negative) * ternary_scale(kernel, limit), kernel)


def ttq_kernel(kernel, positive_scale, negative_scale, threshold):
    """-negative scale, 0 and positive scale.

    Each scale gets the sum of its weights' gradients, and each weight its own times the scale, or times 1 where zero.
    """
    positive, negative = ternary_masks(kernel, ternary_limit(kernel, "ttq", threshold))
    values = positive * positive_scale - negative * negative_scale
    slope = keras.ops.stop_gradient(positive * positive_scale + negative * negative_scale + (1 - positive - negative))
    passed = slope * kernel
    return values + (passed - keras.ops.stop_gradient(passed))


def check_seed(where, seed):
    """Raise unless `seed` is None or a whole number of at least 0."""
    if seed is not None:
        check_whole(where, "seed", seed, least=0)


def check_threshold(where, method, threshold):
    """Raise unless `threshold` is None or a share that can leave weights other than zero."""
    if threshold is not None:
        check_number(where, "threshold", threshold, least=0, most=0.99 if method == "ttq" else 10)


def channels_of(where, input_shape, rank=None):
    """Size of the last axis, which must be known; with `rank`, the number of axes must be that."""
    if rank is not None and len(input_shape) != rank:
        rule, mend = f"inputs must have {rank} axes (batch, height, width, channels)", "Reshape them."
        raise ValueError(complaint(where, rule, f"input_shape={tuple(input_shape)}", mend))
    if input_shape[-1] is None:
        rule, mend = "the last axis of the inputs must be known", "Give keras.Input its size."
        raise ValueError(complaint(where, rule, f"input_shape={tuple(input_shape)}", mend))
    return input_shape[-1]


def convolved_shape(where, input_shape, filters, kernel_size, strides, padding):
    """Shape of what a convolution gives, sides that are unknown staying so."""
    batch, *sides, _ = input_shape
    reach = kernel_size if padding == "valid" else (1, 1)
    new = [
        None if side is None else (side - span) // stride + 1
        for side, span, stride in zip(sides, reach, strides, strict=True)
    ]
    if any(side is not None and side < 1 for side in new):
        rule = f"height and width must be at least the kernel's {kernel_size} with padding='valid'"
        mend = "Pass larger images, or padding='same'."
        raise ValueError(complaint(where, rule, f"input_shape={tuple(input_shape)}", mend))
    return (batch, *new, filters)


def add_ternary_scales(layer, kernel, threshold):
    """TTQ's two scales as weights of `layer`, which start where the kernel's own magnitudes put them."""

    def start(shape, dtype=None):
        magnitude = keras.ops.abs(keras.ops.convert_to_tensor(kernel))
        used = keras.ops.cast(magnitude > ternary_limit(magnitude, "ttq", threshold), magnitude.dtype)
        mean = keras.ops.sum(magnitude * used) / keras.ops.maximum(keras.ops.sum(used), 1)
        return keras.ops.cast(mean, dtype or magnitude.dtype)

    return tuple(
        layer.add_weight(shape=(), initializer=start, name=name, autocast=False)
        for name in ("positive_scale", "negative_scale")
    )


def ternary_parts(layer):
    """(positive mask, negative mask, positive scale, negative scale) of a ternary layer."""
    kernel = keras.ops.convert_to_tensor(layer.kernel)
    limit = ternary_limit(kernel, layer.method, layer.limit_share)
    masks = ternary_masks(kernel, limit)
    if layer.method == "ttq":
        return *masks, layer.positive_scale, layer.negative_scale
    scale = ternary_scale(kernel, limit)
    return *masks, scale, scale
