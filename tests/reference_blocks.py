"""Blocks computed in plain NumPy, at inference."""

import numpy as np
from reference import convolve, normalize, relu, weights_of


def _convolved(weights, name, images, strides=1):
    return convolve(images, weights[f"{name}/kernel"], weights.get(f"{name}/bias", 0.0), (strides, strides))


def _normalized(weights, name, images):
    gamma, beta, mean, variance = (
        weights[f"{name}_normalization/{part}".lstrip("_")]
        for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return normalize(images, gamma, beta, mean, variance)


def _windows(images, size=3):
    """Every pixel's neighbourhood, NaN beyond the border: `(size², batch, height, width, channels)`."""
    reach = size // 2
    padded = np.pad(images.astype(np.float64), [(0, 0), (reach, reach), (reach, reach), (0, 0)], constant_values=np.nan)
    height, width = images.shape[1:3]
    return np.stack(
        [padded[:, row : row + height, column : column + width] for row in range(size) for column in range(size)]
    )


def inception_block(block, images):
    weights, outputs = weights_of(block), []

    def step(name, values):
        values = _convolved(weights, name, values)
        return relu(_normalized(weights, name, values) if block.normalization else values)

    for index in range(len(block.kernel_sizes)):
        values = images
        for part in ("reduction", "convolution", "horizontal", "vertical"):
            if f"branch{index}_{part}/kernel" in weights:
                values = step(f"branch{index}_{part}", values)
        outputs.append(values)
    if block.pool:
        pooled = {"max": np.nanmax, "average": np.nanmean}[block.pool](_windows(images), axis=0)
        outputs.append(step("pool_projection", pooled) if block.pool_projection else pooled)
    return np.concatenate(outputs, axis=-1)


def fire_block(block, images):
    weights = weights_of(block)
    squeezed = relu(_convolved(weights, "squeeze", images))
    return np.concatenate([relu(_convolved(weights, f"expand_{size}", squeezed)) for size in ("1x1", "3x3")], axis=-1)


def highway_block(block, images):
    weights = weights_of(block)

    def transform(name):
        if block.kernel_size:
            return _convolved(weights, name, images)
        return images @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    gate = 1 / (1 + np.exp(-transform("gate")))
    return relu(transform("transformation")) * gate + images * (1 - gate)


def transition_block(block, images):
    weights = weights_of(block)
    values = _convolved(weights, "convolution", relu(_normalized(weights, "", images)))
    height, width = (side // 2 * 2 for side in values.shape[1:3])
    return sum(values[:, row:height:2, column:width:2] for row in (0, 1) for column in (0, 1)) / 4


def dense_block(block, images):
    weights, outputs = weights_of(block), images
    for number in range(block.depth):
        new = outputs
        for name in (f"layer{number}_bottleneck", f"layer{number}"):
            if f"{name}_convolution/kernel" in weights:
                new = _convolved(weights, f"{name}_convolution", relu(_normalized(weights, name, new)))
        outputs = np.concatenate([outputs, new], axis=-1)
    return outputs


def residual_bottleneck(block, images):
    """From the paper's figures, not from the layer's chain."""
    weights = weights_of(block)
    names = ("first", "second", "third") if block.bottleneck else ("first", "second")
    strided = "second" if block.bottleneck and block.version != "v1" else "first"
    activated = relu(_normalized(weights, "first", images)) if block.version == "v2" else images
    values = activated
    for name in names:
        if block.version == "v2" and name != "first":
            values = relu(_normalized(weights, name, values))
        values = _convolved(weights, name, values, block.strides if name == strided else 1)
        if block.version != "v2":
            values = _normalized(weights, name, values)
            values = values if name == names[-1] else relu(values)
    if "shortcut/kernel" in weights:
        shortcut = _convolved(weights, "shortcut", activated, block.strides)
        shortcut = shortcut if block.version == "v2" else _normalized(weights, "shortcut", shortcut)
    else:
        shortcut = np.zeros(values.shape)
        shortcut[..., : images.shape[-1]] = images[:, :: block.strides, :: block.strides]
    return values + shortcut if block.version == "v2" else relu(values + shortcut)
