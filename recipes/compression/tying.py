"""Kernels of few values, read out of codebooks while they train, so that what shares a value goes on sharing it."""

import keras
import numpy as np

from recipes.bases.flattening import flat_copy
from recipes.bases.rewiring import Wiring
from recipes.compression.codebooks import codebook, nearest_codes
from recipes.compression.kernels import find_kernels


def shared(model, bits, *, keep=()):
    """A model whose kernels hold few distinct values.

    Zeros stay zeros, and zero is one of the values where there are any. Biases and normalisation stay as they are.

    Args:
        model: flat functional model; it stays as it is.
        bits: each kernel gets at most 2**bits values; or `{"conv", "dense", "depthwise" or regular expression: bits}`,
            of which the first that fits a kernel holds; others stay.
        keep: kernels that stay, as in `find_kernels`.

    Returns:
        (keras.Model, `{layer: why it was left alone}`).
    """
    copy = flat_copy(model, "share_weights")
    kernels, notes = find_kernels(copy, keep)
    for kernel in kernels:
        asked = bits_of(kernel, bits)
        if asked is None:
            notes[kernel.name] = "no name in bits is its own"
            continue
        kernel.variable.assign(quantized(kernel.values, 2**asked))
    return copy, notes


def bits_of(kernel, bits):
    """The bits that are asked for a kernel; None where none are."""
    if not isinstance(bits, dict):
        return bits
    return next((number for name, number in bits.items() if kernel.is_named(name) or name == kernel.kind), None)


def quantized(values, count):
    """An array with at most `count` distinct values in the place of those nearest to them; 0 stays 0."""
    flat = values.astype("float64").reshape(-1)
    used = flat != 0
    count -= not used.all()
    if not used.any() or not count:
        return np.zeros_like(values)
    book = codebook(flat[used], count)
    flat = np.where(used, book[nearest_codes(flat, book)], 0)
    return flat.astype(values.dtype).reshape(values.shape)


def tied(model, kernels, averaged=False):
    """A model that reads kernels of few values out of codebooks, which are what trains; it shares all other layers.

    Args:
        model: flat functional model.
        kernels: names of its kernels that are to be tied.
        averaged: whether the gradient of a value is the mean of those of its weights, rather than their sum.

    Returns:
        keras.Model; `untied` gives a plain one back.
    """
    books, layers = {}, {}
    for kernel in find_kernels(model)[0]:
        if kernel.name in kernels:
            layers[kernel.layer.name] = kernel.layer
            books.setdefault(kernel.layer.name, []).append(_Book(kernel, averaged))
    replaced = {name: TiedLayer(layers[name], rows) for name, rows in books.items()}
    return Wiring(model).rewired(replaced=replaced) if replaced else model


def untied(model):
    """The model that was tied, its kernels as the codebooks are now."""
    replaced = {layer.name: layer.written() for layer in model.layers if isinstance(layer, TiedLayer)}
    return Wiring(model).rewired(replaced=replaced) if replaced else model


class _Book:
    """The distinct values of a Kernel, and which of them each weight has."""

    def __init__(self, kernel, averaged):
        values, codes = np.unique(kernel.values, return_inverse=True)
        self.attribute, self.values = kernel.attribute, values
        counts = np.bincount(codes.reshape(-1), minlength=len(values)).astype(values.dtype)
        factors = 1 / counts if averaged else np.ones_like(counts)
        self._factors = keras.ops.convert_to_tensor(np.where(values == 0, 0, factors))
        codes = codes.reshape(kernel.variable.shape)
        self._codes = keras.ops.convert_to_tensor(codes.astype("uint8" if len(values) <= 256 else "int32"))

    def read(self, values):
        """The kernel; the gradient of a value is the sum of those of its weights times a factor, 0 for a value of 0."""
        values = keras.ops.convert_to_tensor(values)
        fixed = keras.ops.stop_gradient(values)
        return keras.ops.take(fixed + (values - fixed) * self._factors, keras.ops.cast(self._codes, "int32"))


class _Hidden:
    """What Keras is not to track: neither trained nor saved."""

    def __init__(self, content):
        self.content = content


class TiedLayer(keras.layers.Layer):
    """Does what a layer does, with kernels that are read out of codebooks.

    By the chain rule the gradient of a value is the sum of the gradients of all weights that have it (Han, Mao and
    Dally 2016, section 3.3). It is taken before the optimizer sees it, so that Adam's steps, too, are those of the
    values: the mean of its steps of single weights would be another direction. A value of 0 stays 0.

    Args:
        layer: built Keras layer; it is not changed until `written`.
        books: list of _Book, of its kernels.
    """

    def __init__(self, layer, books):
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self._hidden = _Hidden((layer, books))

    def build(self, input_shape):
        layer, books = self._hidden.content
        kernels = [getattr(layer, book.attribute) for book in books]
        self._values = [self._weight(f"{book.attribute}_values", book.values) for book in books]
        others = [variable for variable in layer.weights if not any(variable is kernel for kernel in kernels)]
        self._others = [self._weight(other.name, other) for other in others]  # biases, whatever froze the layer before
        self._inner = _Hidden((kernels, others))
        self.built = True

    def _weight(self, name, value):
        def start(shape, dtype=None):
            return keras.ops.cast(keras.ops.convert_to_tensor(value), dtype)

        shape = tuple(value.shape)
        return self.add_weight(shape=shape, initializer=start, name=name, autocast=False)

    def _now(self):
        """`(variable of the layer, its value)` for each weight of the layer."""
        _, books = self._hidden.content
        kernels, others = self._inner.content
        read = [book.read(values) for book, values in zip(books, self._values, strict=True)]
        own = [keras.ops.convert_to_tensor(other) for other in self._others]
        return list(zip([*kernels, *others], [*read, *own], strict=True))

    def call(self, inputs):
        layer, _ = self._hidden.content
        values = {id(variable): value for variable, value in self._now()}
        states = [
            [values.get(id(variable), variable) for variable in group]
            for group in (layer.trainable_variables, layer.non_trainable_variables)
        ]
        return layer.stateless_call(*states, inputs)[0]

    def compute_output_shape(self, input_shape):
        return self._hidden.content[0].compute_output_shape(input_shape)

    def written(self):
        """The layer, with what has been trained here in its weights."""
        for variable, value in self._now():
            variable.assign(value)
        return self._hidden.content[0]

    def get_config(self):
        return {"name": self.name}
