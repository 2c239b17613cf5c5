"""Layers computed in plain NumPy, in float64, by loops that can be read against the paper."""

import numpy as np


def convolve(images, kernel, bias=0.0, strides=(1, 1), dilation=(1, 1), padding="same"):
    """`(batch, height, width, channels)` by `(height, width, channels, filters)`."""
    images, kernel = np.asarray(images, np.float64), np.asarray(kernel, np.float64)
    reach = [(size - 1) * step + 1 for size, step in zip(kernel.shape[:2], dilation, strict=True)]
    if padding == "same":
        before_after = []
        for side, span, stride in zip(images.shape[1:3], reach, strides, strict=True):
            total = max((-(-side // stride) - 1) * stride + span - side, 0)
            before_after.append((total // 2, total - total // 2))
        images = np.pad(images, [(0, 0), *before_after, (0, 0)])
    height, width = (
        (side - span) // stride + 1 for side, span, stride in zip(images.shape[1:3], reach, strides, strict=True)
    )
    output = np.zeros((len(images), height, width, kernel.shape[3]))
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            top, left = row * dilation[0], column * dilation[1]
            part = images[
                :, top : top + height * strides[0] : strides[0], left : left + width * strides[1] : strides[1]
            ]
            output += part[:, :height, :width] @ kernel[row, column]
    return output + np.asarray(bias)


def plain_conv(layer, images):
    """What a Conv2D computes, by whichever algorithm, and ReLU where the layer has it."""
    weights = weights_of(layer)
    name = layer.name
    values = convolve(
        images,
        weights[f"{name}/kernel"],
        weights.get(f"{name}/bias", 0.0),
        layer.strides,
        layer.dilation_rate,
        layer.padding,
    )
    return {"relu": relu, "linear": np.asarray, "tanh": np.tanh}[layer.activation.__name__](values)


def normalize(values, gamma, beta, mean, variance, epsilon=1e-3):
    """BatchNormalization as at inference."""
    return (values - mean) / np.sqrt(np.asarray(variance, np.float64) + epsilon) * gamma + beta


def relu(values):
    return np.maximum(values, 0)


def weights_of(layer):
    """{last parts of the path: array} of all weights of a layer, so that a reference need not know their order."""
    import keras

    return {
        "/".join(weight.path.split("/")[-2:]): keras.ops.convert_to_numpy(weight).astype(np.float64)
        for weight in layer.weights
    }


def normalized(weights, name, values):
    """BatchNormalization of the name, where there is one."""
    parts = [f"{name}_normalization/{part}" for part in ("gamma", "beta", "moving_mean", "moving_variance")]
    return normalize(values, *(weights[part] for part in parts)) if parts[0] in weights else values


def followed(weights, name, values, activation):
    """What comes after a convolution: normalization where there is one, then ReLU or nothing."""
    values = normalized(weights, name, values)
    return {"relu": relu, "linear": np.asarray}[activation.__name__](values)


def separable_factor_conv(layer, images):
    """SeparableFactorConv with ReLU or nothing between and after."""
    weights = weights_of(layer)
    strides = layer.strides if isinstance(layer.strides, tuple) else (layer.strides,) * 2
    parts = [("vertical", (strides[0], 1)), ("horizontal", (1, strides[1]))]
    parts = parts if layer.order == "vertical_first" else parts[::-1]
    for (name, steps), activation in zip(parts, (layer.between_activation, layer.activation), strict=True):
        images = convolve(images, weights[f"{name}/kernel"], weights.get(f"{name}/bias", 0.0), steps)
        images = followed(weights, name, images, activation)
    return images


def depthwise(images, kernel, strides=(1, 1), padding="same"):
    """Each channel with its own kernel, `(height, width, channels, 1)`."""
    each = [
        convolve(images[..., channel : channel + 1], kernel[:, :, channel : channel + 1], 0.0, strides, padding=padding)
        for channel in range(kernel.shape[2])
    ]
    return np.concatenate(each, axis=-1)


def stacked_conv(layer, images):
    """StackedConv with ReLU or nothing between and after."""
    weights, count = weights_of(layer), (layer.kernel_size - 1) // 2
    strides = layer.strides if isinstance(layer.strides, tuple) else (layer.strides,) * 2
    for number in range(1, count + 1):
        name, is_last = f"conv_{number}", number == count
        bias = weights.get(f"{name}/bias", 0.0)
        steps = strides if is_last else (1, 1)
        images = convolve(images, weights[f"{name}/kernel"], bias, steps, padding=layer.padding)
        images = followed(weights, name, images, layer.activation if is_last else layer.between_activation)
    return images


def depthwise_separable_conv(layer, images):
    """DepthwiseSeparableConv with ReLU6."""
    weights = weights_of(layer)

    images = depthwise(images, weights["depthwise/kernel"], (layer.strides,) * 2)
    images = np.clip(normalized(weights, "depthwise", images), 0, 6)
    return np.clip(normalized(weights, "pointwise", convolve(images, weights["pointwise/kernel"])), 0, 6)


def resize_axis(images, axis, factor, interpolation):
    """Each new pixel by its centre, in the coordinates of the old ones."""
    images = np.moveaxis(np.asarray(images, np.float64), axis, 0)
    side, new = len(images), []
    for place in range(int(side * factor + 1e-9)):
        centre = (place + 0.5) / factor
        if interpolation == "nearest":
            new.append(images[int(centre + 1e-9)])
            continue
        centre = min(max(centre - 0.5, 0), side - 1)
        low = int(centre + 1e-9)
        new.append(images[low] + (centre - low) * (images[min(low + 1, side - 1)] - images[low]))
    return np.moveaxis(np.stack(new), 0, axis)


def resize_conv(layer, images):
    factors = layer.factor if isinstance(layer.factor, tuple) else (layer.factor,) * 2
    for axis, factor in zip((1, 2), factors, strict=True):
        images = resize_axis(images, axis, factor, layer.interpolation)
    weights = weights_of(layer.convolution)
    return convolve(images, weights["convolution/kernel"], weights.get("convolution/bias", 0.0))


def few_bits(kernel_of):
    """Reference of a convolution or dense layer whose kernel `kernel_of(layer, real kernel, weights)` gives."""

    def compute(layer, images):
        weights = {name.split("/")[-1]: value for name, value in weights_of(layer).items()}
        kernel = kernel_of(layer, weights["kernel"], weights)
        if kernel.ndim == 2:
            return images @ kernel + weights.get("bias", 0.0)
        strides = layer.strides if isinstance(layer.strides, tuple) else (layer.strides,) * 2
        return convolve(images, kernel, weights.get("bias", 0.0), strides, padding=layer.padding)

    return compute


def binary_kernel(layer, kernel, weights):
    signs = np.where(kernel >= 0, 1.0, -1.0)
    if layer.scaled:
        for index in range(kernel.shape[-1]):
            signs[..., index] *= np.abs(kernel[..., index]).mean()
    return signs


def ternary_kernel(layer, kernel, weights):
    values = np.zeros_like(kernel)
    for index in range(kernel.shape[-1]):
        one = kernel[..., index]
        if layer.method == "ttq":
            limit = (layer.threshold or 0.05) * np.abs(kernel).max()
            positive, negative = weights["positive_scale"], weights["negative_scale"]
        else:
            limit = (layer.threshold or 0.7) * np.abs(one).mean()
            positive = negative = np.abs(one[np.abs(one) > limit]).mean()
        values[..., index] = np.where(one > limit, positive, np.where(one < -limit, -negative, 0.0))
    return values


binary = few_bits(binary_kernel)
ternary = few_bits(ternary_kernel)


def transposed_dense(layer, inputs):
    kernel, *bias = layer.get_weights()
    outputs = inputs @ kernel.T + sum(bias)
    return {"relu": lambda values: np.maximum(values, 0), "tanh": np.tanh}[layer.activation.__name__](outputs)
