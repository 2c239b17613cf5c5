"""The ranges of the tensors of a network, found by running images through it."""

import keras
import numpy as np

_TOGETHER = 8  # images
_SLACK = 1.01
_LEAST = 1e-6  # width of a range
# Where integer kernels know the range beforehand.
_FIXED = {"sigmoid": (0.0, 255 / 256), "softmax": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}


def find_ranges(wiring, places, images, slack=()):
    """`{place: (least, largest) that came}`, both widened to hold 0.

    Args:
        wiring: Wiring of a flat functional model.
        places: names of operations whose outputs are watched; None stands for the input of the model.
        images: uint8 or float32 `(images, height, width, channels)`.
        slack: places whose range is widened a little: pixels, scaled to -1 … 1, would all lie just between two values.
    """
    probe = _probe(wiring, places)
    ranges = np.zeros((len(places), 2))
    for start in range(0, len(images), _TOGETHER):
        part = np.asarray(images[start : start + _TOGETHER], wiring.model.input.dtype)
        ends = keras.ops.convert_to_numpy(probe.predict_on_batch(part)).astype(np.float64)
        ranges[:, 0] = np.minimum(ranges[:, 0], ends[:, 0])
        ranges[:, 1] = np.maximum(ranges[:, 1], ends[:, 1])
    for row, place in enumerate(places):
        ranges[row] *= _SLACK if place in slack else 1
    found = dict(zip(places, map(_widened, ranges), strict=True))
    fixed = {place: _FIXED[_kind(wiring, place)] for place in places if is_fixed(wiring, place)}
    return _joined(wiring, found | fixed)


def is_fixed(wiring, place):
    """Whether the range of a place does not depend on images."""
    return _kind(wiring, place) in _FIXED


def _probe(wiring, places):
    """A model of images to the ends of all ranges, `(places, 2)`."""
    seen = {place: [] for place in places}

    def watch(place):
        def see(tensor):
            seen[place].append(tensor)
            return tensor

        return see

    image = keras.Input(wiring.model.input_shape[1:], dtype=wiring.model.input.dtype)
    start = watch(None)(image) if None in seen else image
    wiring.follow(start, after={place: watch(place) for place in places if place is not None})
    ends = [keras.ops.stack([_least(tensors), -_least([-x for x in tensors])]) for tensors in seen.values()]
    return keras.Model(image, keras.ops.stack(ends))


def _least(tensors):
    return keras.ops.min(keras.ops.stack([keras.ops.min(keras.ops.cast(tensor, "float32")) for tensor in tensors]))


def _widened(ends):
    low, high = float(ends[0]), float(ends[1])
    return (low, high) if high - low > _LEAST else (low, low + _LEAST)


def _kind(wiring, place):
    activation = getattr(wiring.operations.get(place), "activation", None)
    is_layer = type(wiring.operations.get(place)) is keras.layers.Activation
    return activation.__name__ if is_layer else None


def _joined(wiring, ranges):
    """What is joined gets one range, so that joining rounds nothing."""
    for name, operation in wiring.operations.items():
        if isinstance(operation, keras.layers.Concatenate) and name in ranges:
            alone = [source for source in wiring.sources[name] if wiring.users.get(source) == [name]]
            ranges |= {source: ranges[name] for source in alone if source in ranges}
    return ranges
