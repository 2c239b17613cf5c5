"""packed_weights: the weights of binary and ternary layers in the bits they need."""

import dataclasses

import keras
import numpy as np

from layers._arguments import complaint
from layers._few_bits import binary_scale, binary_signs, ternary_parts
from layers.convolutions.binary_conv import BinaryConv
from layers.convolutions.binary_dense import BinaryDense
from layers.convolutions.ternary_conv import TernaryConv
from layers.convolutions.ternary_dense import TernaryDense


@dataclasses.dataclass(frozen=True)
class PackedWeights:
    """A kernel as signs and scales.

    Args:
        data: signs in C order, `bits` of them a weight, the first in the highest bits, the last byte filled with zeros.
            Of one bit: 1 for positive. Of two: 0 for zero, 1 for positive, 2 for negative.
        scales: float32 `(1 or 2, 1 or filters)`: what a positive sign means, and in a second row, where there is one,
            what a negative one means (its magnitude).
        shape: of the kernel.
        bits: per weight, 1 or 2.
    """

    data: bytes
    scales: np.ndarray
    shape: tuple
    bits: int

    @property
    def nbytes(self):
        """Size of signs and scales together, in bytes."""
        return len(self.data) + self.scales.nbytes


def packed_weights(layer):
    """Pack the kernel of a binary or ternary layer: 1 or 2 bits a weight, and its scales.

    No runtime of today multiplies by such bits directly: what is saved is space on disk and on the way.

    Args:
        layer: built BinaryConv, BinaryDense, TernaryConv or TernaryDense. Its bias is not packed.

    Returns:
        PackedWeights with `data`, `scales`, `shape`, `bits` and `nbytes`; `unpack_weights` reads it back.

    Raises:
        TypeError: `layer` is none of these.
        ValueError: it is not built.

    Example:
        >>> import layers
        >>> layer = layers.BinaryConv(64, 3)
        >>> layer.build((None, 8, 8, 64))
        >>> layers.packed_weights(layer).nbytes
        4612
    """
    where = "packed_weights"
    if not isinstance(layer, (BinaryConv, BinaryDense, TernaryConv, TernaryDense)):
        rule = "layer must be a BinaryConv, BinaryDense, TernaryConv or TernaryDense"
        raise TypeError(complaint(where, rule, type(layer).__name__, "Pass a layer of these classes."))
    if not layer.built:
        raise ValueError(complaint(where, "layer must be built", "a layer without weights", "Build it first."))
    shape = tuple(layer.kernel.shape)
    if isinstance(layer, (BinaryConv, BinaryDense)):
        kernel = keras.ops.convert_to_tensor(layer.kernel)
        data = np.packbits(_array(binary_signs(kernel)).ravel() > 0)
        scales = _array(binary_scale(kernel, layer.scaled)).reshape(1, -1)
        return PackedWeights(data.tobytes(), scales.astype("float32"), shape, 1)
    positive, negative, *scales = (_array(part) for part in ternary_parts(layer))
    data = np.packbits(np.stack([negative.ravel() > 0, positive.ravel() > 0], axis=-1))
    rows = scales if layer.method == "ttq" else scales[:1]
    return PackedWeights(data.tobytes(), np.stack([row.ravel() for row in rows]).astype("float32"), shape, 2)


def unpack_weights(packed):
    """Read a PackedWeights back.

    Args:
        packed: what `packed_weights` gave.

    Returns:
        float32 array of the kernel's shape, equal to the layer's effective kernel at inference.

    Example:
        >>> import layers
        >>> layer = layers.TernaryDense(5)
        >>> layer.build((None, 7))
        >>> layers.unpack_weights(layers.packed_weights(layer)).shape
        (7, 5)
    """
    count = int(np.prod(packed.shape))
    bits = np.unpackbits(np.frombuffer(packed.data, np.uint8), count=count * packed.bits)
    bits = bits.reshape(*packed.shape, packed.bits).astype(bool)
    is_positive = bits[..., -1]
    is_negative = bits[..., 0] if packed.bits == 2 else ~is_positive
    return np.where(is_positive, packed.scales[0], np.where(is_negative, -packed.scales[-1], np.float32(0)))


def _array(tensor):
    return keras.ops.convert_to_numpy(tensor)
