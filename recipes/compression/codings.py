"""A tensor in as few bytes as its values need, and back to the same bits.

A tensor is coded in each way that may suit it, and the smallest is kept. What counts is the pattern of bits: -0.0 is
not 0.0, and every NaN is itself. Streams of bytes go through `streams.squeeze`.
"""

import dataclasses
import math

import numpy as np

from recipes.checks import complaint
from recipes.compression.streams import squeeze, unsqueeze

RAW, CODEBOOK, SPARSE, FILTERS = "raw", "codebook", "sparse", "filters"
_MOST_CODES = 2**16
_LOOK = 2**17  # numbers in which too many distinct ones are noticed without sorting them all
_FAR = 255  # a gap in a byte: so many zeros and no value yet
_FEW = 4  # values per filter
_LEAST_ZEROS = 0.2  # fraction from which on gaps can pay


@dataclasses.dataclass(frozen=True, eq=False)
class Coded:
    """A coded tensor.

    Args:
        form: how, in words and whole numbers that JSON holds; `decode` understands them.
        streams: bytes, one after the other.
    """

    form: list
    streams: tuple[bytes, ...]

    @property
    def size(self):
        """Bytes of the streams, and about as many as the form takes in a header."""
        return sum(map(len, self.streams)) + 3 * len(self.streams)


def encode(array):
    """Code an array of numbers of 1, 2, 4 or 8 bytes.

    Args:
        array: NumPy array of any shape, zeros in its shape included.

    Returns:
        Coded; `decode` brings the array back, given its shape and dtype.
    """
    array = np.asarray(array)
    bits = np.ascontiguousarray(array).reshape(-1).view(_unsigned(array.dtype))
    options = [_raw(bits)]
    flat = _distinct(bits)
    if bits.size > 1 and flat is not None:
        options.append(_codebook(bits, *flat))
    zeros = bits.size - np.count_nonzero(bits)
    if zeros and zeros >= _LEAST_ZEROS * bits.size:
        options.append(_sparse(bits, 0))
        if array.ndim > 1:
            turned = np.ascontiguousarray(bits.reshape(-1, array.shape[-1]).T).reshape(-1)
            options.append(_sparse(turned, array.shape[-1]))
    if array.ndim > 1 and flat is not None and len(flat[0]) <= _FEW * array.shape[-1]:
        options += _filters(bits.reshape(-1, array.shape[-1]))
    return min(options, key=lambda option: option.size)


def decode(form, streams, shape, dtype, where):
    """The array that `encode` was given.

    Args:
        form: of the Coded.
        streams: iterator over its streams, of which as many are taken as there are.
        shape: of the array.
        dtype: of the array.
        where: for errors.
    """
    bits = _decoded(form, streams, math.prod(shape), _unsigned(dtype), where)
    return bits.view(dtype).reshape(shape)


def describe(form):
    """A form in a few words: `sparse, codebook of 31`."""
    if form[0] == CODEBOOK:
        return f"codebook of {form[1]}"
    if form[0] == FILTERS:
        return f"{form[2]} values a filter"
    if form[0] == SPARSE:
        return f"sparse, {describe(form[3])}" if form[1] else "zeros"
    return "raw"


def stream_sizes(form):
    """The bytes of each stream of a form, in their order."""
    kind, *rest = form
    if kind == SPARSE:
        return [size for *_, size in rest[3]] + stream_sizes(rest[2])
    inner = [] if kind == RAW else stream_sizes(rest[-2])
    return inner + [size for *_, size in rest[-1]]


def _unsigned(dtype):
    return np.dtype(f"u{np.dtype(dtype).itemsize}")


def _distinct(bits):
    """`(values, places)` of the distinct numbers; None where there are too many for a codebook."""
    step = max(bits.size // _LOOK, 1)
    if len(np.unique(bits[::step])) > min(_MOST_CODES, bits.size // 2 + 1):
        return None
    values, places = np.unique(bits, return_inverse=True)
    return (values, places.reshape(-1)) if len(values) <= _MOST_CODES else None


def _packed(streams):
    """`([[coder, size, coded size] …], coded streams)`."""
    coded = [squeeze(stream) for stream in streams]
    sizes = [[name, len(stream), len(part)] for (name, part), stream in zip(coded, streams, strict=True)]
    return sizes, tuple(part for _, part in coded)


def _raw(bits):
    """Byte by byte of the numbers: the first bytes of all, then the second, and so on."""
    planes = bits.view(np.uint8).reshape(-1, bits.itemsize).T
    sizes, streams = _packed([plane.tobytes() for plane in planes])
    return Coded([RAW, sizes], streams)


def _codebook(bits, values, places):
    """The distinct numbers, and for each number which it is."""
    book = _raw(values)
    sizes, streams = _indices(places, len(values))
    return Coded([CODEBOOK, len(values), book.form, sizes], book.streams + streams)


def _indices(places, count):
    """Places below `count`, a byte or two each, or in the bits that they need, whichever is smaller."""
    planes = [places >> shift & 255 for shift in ((0, 8) if count > 256 else (0,))]
    wide = _packed([plane.astype(np.uint8).tobytes() for plane in planes])
    width = max(int(count - 1).bit_length(), 1)
    if width > 4:
        return wide
    narrow = _packed([np.packbits(_as_bits(places, width)).tobytes()])
    return min(wide, narrow, key=lambda pair: sum(map(len, pair[1])))


def _as_bits(places, width):
    return (places[:, None] >> np.arange(width - 1, -1, -1)) & 1 == 1


def _sparse(bits, turned):
    """The distances from one number that is not 0 to the next, and those numbers, coded by themselves."""
    where = np.flatnonzero(bits)
    gaps = np.diff(where, prepend=-1) - 1
    far = gaps // _FAR
    ends = np.cumsum(far + 1) - 1
    steps = np.full(int(ends[-1]) + 1 if len(ends) else 0, _FAR, np.uint8)
    steps[ends] = gaps % _FAR
    sizes, streams = _packed([steps.tobytes()])
    inner = encode(bits[where])
    return Coded([SPARSE, len(where), turned, inner.form, sizes], streams + inner.streams)


def _filters(bits):
    """For each filter its few values, and for each weight which it is: nothing where a filter has more than four."""
    ordered = np.sort(bits, axis=0)
    is_new = np.ones(ordered.shape, bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    count = int(is_new.sum(axis=0).max()) if bits.size else _FEW + 1
    if not 2 <= count <= _FEW or len(bits) <= count:
        return []
    places = np.zeros(bits.shape, np.int64)
    book = np.zeros((bits.shape[1], count), bits.dtype)
    for number in range(bits.shape[1]):
        values = ordered[is_new[:, number], number]
        book[number, : len(values)] = values
        book[number, len(values) :] = values[-1]
        places[:, number] = np.searchsorted(values, bits[:, number])
    inner = _raw(book.reshape(-1))
    sizes, streams = _indices(places.reshape(-1), count)
    return [Coded([FILTERS, bits.shape[1], count, inner.form, sizes], inner.streams + streams)]


def _decoded(form, streams, size, dtype, where):
    """The numbers of a form, as whole numbers of the bits they have."""
    kind, *rest = form
    if kind == RAW:
        planes = _unpacked(rest[0], streams, size, where)
        return np.ascontiguousarray(np.array(planes, np.uint8).reshape(len(planes), size).T).reshape(-1).view(dtype)
    if kind == CODEBOOK:
        count, book, sizes = rest
        values = _decoded(book, streams, count, dtype, where)
        return values[_places(sizes, streams, size, count, where)]
    if kind == FILTERS:
        filters, count, book, sizes = rest
        values = _decoded(book, streams, filters * count, dtype, where).reshape(filters, count)
        places = _places(sizes, streams, size, count, where).reshape(-1, filters)
        return values[np.arange(filters), places].reshape(-1)
    if kind == SPARSE:
        return _filled(rest, streams, size, dtype, where)
    rule, mend = "the file holds a coding that is not known", "Update keras-recipes."
    raise ValueError(complaint(where, rule, repr(kind), mend))


def _filled(rest, streams, size, dtype, where):
    count, turned, inner, sizes = rest
    steps = np.frombuffer(unsqueeze(sizes[0][0], next(streams), sizes[0][1], where), np.uint8)
    ends = np.flatnonzero(steps != _FAR)
    places = (np.cumsum(steps, dtype=np.int64) + np.arange(len(steps)))[ends] - ends + np.arange(len(ends))
    values = _decoded(inner, streams, count, dtype, where)
    if len(ends) != count or (count and places[-1] >= size):
        _complain(where, f"{len(ends)} distances for {count} numbers")
    numbers = np.zeros(size, dtype)
    numbers[places] = values
    return np.ascontiguousarray(numbers.reshape(turned, -1).T).reshape(-1) if turned else numbers


def _places(sizes, streams, size, count, where):
    planes = [np.frombuffer(unsqueeze(coder, next(streams), length, where), np.uint8) for coder, length, _ in sizes]
    width = max(int(count - 1).bit_length(), 1)
    if width <= 4 and len(planes[0]) != size:
        bits = np.unpackbits(planes[0], count=size * width).reshape(size, width)
        places = bits @ (1 << np.arange(width - 1, -1, -1))
    else:
        places = sum(plane.astype(np.int64) << 8 * number for number, plane in enumerate(planes))
    if len(places) != size or (size and places.max() >= count):
        _complain(where, f"{len(places)} indices for {size} numbers")
    return places


def _unpacked(sizes, streams, size, where):
    planes = []
    for coder, length, _ in sizes:
        if length != size:
            _complain(where, f"{length} bytes for {size}")
        planes.append(np.frombuffer(unsqueeze(coder, next(streams), length, where), np.uint8))
    return planes


def _complain(where, received):
    mend = "Fetch or write the file again."
    raise ValueError(complaint(where, "the file is damaged", received, mend))
