"""The last of the layers that stand in another's place, fitted to what that one answered to images."""

import math

import keras
import numpy as np

FITTED = 256  # images that are enough
_ROWS = 8192  # pixels of all images together that a layer is fitted to
_BATCH = 32
_RIDGE = 1e-3  # of the mean square of what the layer is given, by which leaving its weights is paid for


def reconstruct(whole, chains, images):
    """Fit the last layer of each chain to the answers of the layer that was there before, in place.

    By least squares on random pixels (Zhang et al. 2015, "Accelerating very deep convolutional networks"). Each chain
    is given what the whole network gives it: fitted to what earlier chains leave of that, as in the paper, later layers
    would answer ever nearer to the mean where much is taken away.

    Args:
        whole: flat functional model that has those layers.
        chains: `{layer: its new layers}`.
        images: `(images, height, width, channels)`, RGB 0–255.
    """
    for name, chain in chains.items():
        layer, last = whole.get_layer(name), chain[-1]
        given, wanted = [], []
        for inputs, places in _inputs(whole, layer, images):
            inner = inputs
            for earlier in chain[:-1]:
                inner = earlier(inner)
            given.append(_seen(last, inner, places))
            wanted.append(_answers(layer, _seen(layer, inputs, places)))
        _fit(last, np.concatenate(given), np.concatenate(wanted))


def _inputs(model, layer, images):
    """For each batch, the inputs of a layer, and random pixels of its output, as indices along its sides."""
    until = keras.Model(model.inputs[0], layer.input)
    sides = layer.output.shape[1:-1]
    random = np.random.default_rng(0)
    count = min(math.prod(sides), max(1, _ROWS // len(images)))
    for start in range(0, len(images), _BATCH):
        inputs = until(images[start : start + _BATCH], training=False)
        chosen = np.stack([random.permutation(math.prod(sides))[:count] for _ in inputs])
        yield inputs, np.unravel_index(chosen, sides) if sides else ()


def _seen(layer, inputs, places):
    """What the kernel of a layer is multiplied with at `(images, places)` of its output, a row each."""
    inputs = keras.ops.convert_to_numpy(inputs)
    image = np.arange(len(inputs))[:, None]
    if isinstance(layer, keras.layers.Dense):
        return inputs[(image, *places) if places else slice(None)].reshape(-1, inputs.shape[-1])
    steps = list(zip(layer.kernel_size, layer.strides, layer.dilation_rate, strict=True))
    if layer.padding == "same":
        sides = zip(inputs.shape[1:-1], layer.output.shape[1:-1], steps, strict=True)
        missing = [
            max((after - 1) * step + (size - 1) * rate + 1 - before, 0) for before, after, (size, step, rate) in sides
        ]
        inputs = np.pad(inputs, [(0, 0), *((lack // 2, lack - lack // 2) for lack in missing), (0, 0)])
    (height, down, lower), (width, right, wider) = steps
    seen = [
        inputs[image, places[0] * down + row * lower, places[1] * right + column * wider]
        for row in range(height)
        for column in range(width)
    ]
    return np.concatenate(seen, axis=-1).reshape(-1, height * width * inputs.shape[-1])


def _answers(layer, rows):
    """Of a layer before its activation."""
    answers = rows.astype(np.float64) @ _matrix(layer)
    return answers if layer.bias is None else answers + keras.ops.convert_to_numpy(layer.bias)


def _matrix(layer):
    kernel = keras.ops.convert_to_numpy(layer.kernel).astype(np.float64)
    return kernel.reshape(-1, kernel.shape[-1])


def _fit(layer, given, wanted):
    """Change the weights of a layer so that it answers `wanted` to `given`, as nearly as a line can."""
    missing = wanted - _answers(layer, given)
    mean_given = mean_missing = 0.0
    if layer.bias is not None:
        mean_given, mean_missing = given.mean(axis=0), missing.mean(axis=0)
    centred = given.astype(np.float64) - mean_given
    square = centred.T @ centred
    ridge = _RIDGE * np.trace(square) / len(square) or 1.0
    change = np.linalg.solve(square + ridge * np.eye(len(square)), centred.T @ (missing - mean_missing))
    kernel = (_matrix(layer) + change).reshape(layer.kernel.shape)
    bias = [] if layer.bias is None else [layer.bias + mean_missing - mean_given @ change]
    layer.set_weights([kernel, *bias])
