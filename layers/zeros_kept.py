"""ZerosKept: a constraint under which what was pruned stays pruned."""

import base64
import zlib

import keras
import numpy as np

from layers._arguments import complaint

# Zeros that lie anywhere want Huffman's code alone; rows and columns of them, repetitions.
_STRATEGIES = (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY)


@keras.saving.register_keras_serializable("keras_recipes")
class ZerosKept(keras.constraints.Constraint):
    """Sets some weights to zero after each update, whatever the optimizer made of them.

    Its mask is part of its config, one bit a weight and compressed, so a layer that has it as its `kernel_constraint`
    keeps it in every saved file, and trains on with any optimizer.

    Args:
        mask: array in the shape of the weights, or what turns into one: 0 or False where the weight is to be zero.

    Raises:
        TypeError, ValueError: the mask is no array, or holds other numbers than 0 and 1; when first used, the weights
            are of another shape.

    Reference:
        Han et al. 2015, "Learning both weights and connections for efficient neural networks".

    Example:
        >>> import keras, layers
        >>> keep = layers.ZerosKept([[True, False], [False, True]])
        >>> keras.ops.convert_to_numpy(keep(keras.ops.ones((2, 2)))).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(self, mask):
        self.mask = _checked(mask)
        self._packed = None
        # Made here, for a function that is compiled takes it in by reference, and does not hold a copy of it.
        self._is_kept = keras.ops.convert_to_tensor(self.mask)

    def __call__(self, weights):
        weights = keras.ops.convert_to_tensor(weights)
        if tuple(weights.shape) != self.mask.shape:
            rule = f"the weights must have the shape of the mask, {self.mask.shape}"
            mend = "A layer of another size needs a mask of its own: set its kernel_constraint to None first."
            raise ValueError(complaint("ZerosKept", rule, f"weights of {tuple(weights.shape)}", mend))
        # A product would leave NaN where a weight is infinite, and -0.
        return keras.ops.where(self._is_kept, weights, keras.ops.zeros_like(weights))

    def get_config(self):
        if self._packed is None:
            content = np.packbits(self.mask).tobytes()
            packed = min((_deflated(content, strategy) for strategy in _STRATEGIES), key=len)
            self._packed = base64.b64encode(packed).decode("ascii")
        return {"mask": self._packed, "shape": list(self.mask.shape)}

    @classmethod
    def from_config(cls, config):
        shape = tuple(config["shape"])
        size = int(np.prod(shape))
        packed = zlib.decompressobj().decompress(base64.b64decode(config["mask"]), size // 8 + 1)
        return cls(np.unpackbits(np.frombuffer(packed, np.uint8), count=size).reshape(shape))


def _deflated(content, strategy):
    deflate = zlib.compressobj(9, strategy=strategy)
    return deflate.compress(content) + deflate.flush()


def _checked(mask):
    """The mask as booleans."""
    values = np.asarray(mask)
    if values.dtype.kind not in "biuf":
        rule, mend = "mask must be an array of 0 and 1", "Pass kernel != 0, say."
        raise TypeError(complaint("ZerosKept", rule, f"{type(mask).__name__} of {values.dtype}", mend))
    if values.dtype != bool and not np.isin(values, (0, 1)).all():
        rule, mend = "mask must hold nothing but 0 and 1", "Pass kernel != 0, say."
        raise ValueError(complaint("ZerosKept", rule, f"numbers from {values.min()} to {values.max()}", mend))
    return values.astype(bool)
