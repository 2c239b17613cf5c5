"""recipes.pack and recipes.unpack: a network in a small file, and the same network back."""

import dataclasses
import math
import os
from pathlib import Path

import keras

from recipes.checks import complaint
from recipes.compression.packed_files import PackedTensor, dtype_of, packed_content, unpacked
from recipes.files import write_bytes
from recipes.reporting.packs import pack_table
from recipes.saving import load
from recipes.values import Result


@dataclasses.dataclass(frozen=True, repr=False)
class Packed:
    """What a packed file holds. Prints as a table.

    Args:
        path: of the file.
        tensors: every PackedTensor, in the order of the file.
        file_bytes: of the whole file.
        header_bytes: of what is not arrays: layers, class names, how arrays are coded.
        weight_bytes: that the arrays take in memory.
    """

    path: Path
    tensors: tuple[PackedTensor, ...]
    file_bytes: int
    header_bytes: int
    weight_bytes: int

    def __repr__(self):
        return pack_table(self)

    @property
    def ratio(self):
        """How many times smaller the file is than the arrays."""
        return self.weight_bytes / self.file_bytes


def pack(model, path, *, latent: bool = False):
    """Write a classifier, or any Keras model, to a small file, from which `recipes.unpack` reads the same weights.

    1. Take the model apart: layers, arrays, class names. The optimizer stays behind, and so do masks of pruning.
    2. Code each array in every way that may suit it, and keep the smallest: as it is; few distinct values as a codebook
       and indices; many zeros as distances between the other numbers; a few values per filter as signs and scales.
    3. Bring all of that to fewer bytes by Huffman's code, or by LZMA where that is smaller.
    4. Write the file under a temporary name, with a digest by which damage is found.

    What was pruned, shared or made binary comes out small; other networks lose a tenth or so. A Result is packed with
    its class names, how images are brought to size, and the scores of its report; the digests of the images it was
    trained on and the rows and curves of the report stay behind.

    Args:
        model: Result, folder of a saved one, or built Keras model. It stays as it is.
        path: of the file; an old one is replaced.
        latent: whether binary and ternary layers keep the real weights by which they train on. Otherwise only what they
            compute with is written, in 1 or 2 bits a weight; scales that are means then come back up to rounding.

    Returns:
        `Packed`: bytes and bits per weight of each array.

    Raises:
        TypeError, ValueError: model is of another kind, or not built.
        OSError: the file cannot be written.

    Example:
        >>> import keras, recipes
        >>> image = keras.Input((8, 8, 1))
        >>> dense = keras.layers.Dense(16, kernel_initializer="ones", name="dense")
        >>> packed = recipes.pack(keras.Model(image, dense(keras.layers.Flatten()(image))), "ones.packed")
        >>> packed.tensors[0].coding, packed.tensors[0].shape
        ('codebook of 1', (64, 16))

    Source:
        Han, Mao and Dally 2016, "Deep Compression" (relative indices, codebooks, Huffman's code).
    """
    path = Path(os.fspath(path)).expanduser()
    if not path.parent.is_dir():
        mend = "Make the folder first, or choose another one."
        raise FileNotFoundError(complaint("pack", "the folder of the file must exist", repr(str(path)), mend))
    content, tensors, header_bytes = packed_content(_opened(model), latent)
    write_bytes(path, content)
    weight_bytes = sum(math.prod(row.shape) * dtype_of(row.dtype).itemsize for row in tensors)
    return Packed(path, tensors, len(content), header_bytes, weight_bytes)


def unpack(path):
    """Read a file that `recipes.pack` wrote.

    The model is made in Keras' safe mode: a file that wants to run code of its own is refused.

    Args:
        path: of the file.

    Returns:
        `Result` where a classifier was packed, else a `keras.Model`, with the same weights, bit by bit. It is not
        compiled, and nothing would hold it to its zeros if it trained on.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: the file is of another kind or damaged, or holds layers that are not known.

    Example:
        >>> import keras, recipes
        >>> image = keras.Input((8, 8, 1))
        >>> packed = recipes.pack(keras.Model(image, keras.layers.Conv2D(4, 3)(image)), "network.packed")
        >>> recipes.unpack("network.packed").count_params()
        40
    """
    path = Path(os.fspath(path)).expanduser()
    if not path.is_file():
        rule, mend = "the file must exist", "Pass the path of a file that recipes.pack wrote."
        raise FileNotFoundError(complaint("unpack", rule, repr(str(path)), mend))
    return unpacked(path.read_bytes(), "unpack")


def _opened(model):
    """A Result or a built keras.Model."""
    if isinstance(model, (str, os.PathLike)):
        model = load(model)
    if isinstance(model, Result):
        return model
    if not isinstance(model, keras.Model):
        mend = "Pass a Result, a folder that recipes.save wrote, or a keras.Model."
        raise TypeError(complaint("pack", "model is of no known kind", type(model).__name__, mend))
    if not model.built:
        mend = "Call it on an image, or give it a keras.Input."
        raise ValueError(complaint("pack", "the model must be built", f"{model.name!r}, which has no weights", mend))
    return model
