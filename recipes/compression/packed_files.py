"""The bytes of a packed file: a header, and the arrays of a network as `codings` codes them.

Magic, version, digest of all that follows · coder and sizes of the header · the header, JSON: the layers as Keras
describes them, a row per array, what makes a classifier of it · the streams of the arrays, one after the other · other
files of the model.
"""

import dataclasses
import hashlib
import json
import struct

import keras
import ml_dtypes
import numpy as np

from recipes.checks import complaint
from recipes.compression.archives import Parts, put_together, take_apart
from recipes.compression.codings import decode, describe, encode, stream_sizes
from recipes.compression.streams import squeeze, unsqueeze
from recipes.values import Report, Result

_MAGIC = b"\x93KERASPK"
_VERSION = 1
_FRONT = struct.Struct("<8sH16s")  # magic, version, digest of all that follows
_HEAD = struct.Struct("<cII")  # coder of the header, its bytes in the file, its bytes as JSON
_DAMAGED, _AGAIN = "the file is damaged", "Fetch or write it again."
_KEPT = ("scores", "split", "class_names", "per_class", "settings", "versions")  # of a report


@dataclasses.dataclass(frozen=True)
class PackedTensor:
    """One array in a packed file.

    Args:
        name: of the layer and the weight.
        shape: of the array.
        dtype: its name.
        coding: how it is written, in words.
        bytes: that it takes.
        bits: per number; 0 for an array without any.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    coding: str
    bytes: int
    bits: float


def packed_content(model, latent=False):
    """The bytes of a packed file, and what they hold.

    Args:
        model: Result or keras.Model.
        latent: as in `recipes.pack`.

    Returns:
        `(bytes, PackedTensors, how many of the bytes are not arrays)`.
    """
    result = model if isinstance(model, Result) else None
    parts = take_apart(model if result is None else result.model, latent)
    coded = {name: encode(value) for name, value in parts.arrays.items()}
    assets = [(name, len(value), *squeeze(value)) for name, value in parts.assets.items()]
    arrays = parts.arrays.items()
    header = {
        "config": parts.config,
        "keras": keras.__version__,
        "tensors": [[name, list(value.shape), value.dtype.name, coded[name].form] for name, value in arrays],
        "assets": [[name, size, coder, len(content)] for name, size, coder, content in assets],
        "classifier": None if result is None else _description(result),
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    coder, head = squeeze(text)
    streams = [stream for one in coded.values() for stream in one.streams]
    body = [_HEAD.pack(coder.encode(), len(head), len(text)), head, *streams, *(content for *_, content in assets)]
    rest = b"".join(body)
    content = _FRONT.pack(_MAGIC, _VERSION, _digest(rest)) + rest
    rows = tuple(_row(parts.names[name], value, coded[name]) for name, value in arrays)
    return content, rows, len(content) - sum(row.bytes for row in rows)


def unpacked(content, where):
    """What `packed_content` packed: a Result or a keras.Model."""
    header, body = _opened_file(memoryview(content), where)
    try:
        arrays, place = {}, 0
        for name, shape, dtype, form in header["tensors"]:
            sizes = stream_sizes(form)
            streams = iter(_cut(body[place:], sizes))
            arrays[name] = decode(form, streams, tuple(shape), dtype_of(dtype), where)
            place += sum(sizes)
        assets = {}
        for name, size, coder, length in header["assets"]:
            assets[name] = unsqueeze(coder, body[place : place + length], size, where)
            place += length
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError) as error:
        raise ValueError(complaint(where, _DAMAGED, f"{type(error).__name__}: {error}", _AGAIN)) from error
    model = put_together(Parts(header["config"], arrays, {}, assets), where)
    return model if header["classifier"] is None else _result(model, header["classifier"])


def _description(result):
    """What makes a classifier of a network, as JSON holds it."""
    form = {field: getattr(result, field) for field in ("class_names", "image_size", "channels", "resize")}
    report = None if result.report is None else dataclasses.asdict(result.report)
    return form | {"report": report and {field: report[field] for field in _KEPT}}


def _result(model, form):
    report = form["report"]
    if report is not None:
        report["class_names"] = tuple(report["class_names"])
        report = Report(**report, confusion=(), confused=(), rows=())
    names, size = tuple(form["class_names"]), tuple(form["image_size"])
    return Result(model, names, size, form["channels"], form["resize"], report)


def _row(name, value, coded):
    size = sum(map(len, coded.streams))
    bits = 8 * size / value.size if value.size else 0.0
    return PackedTensor(name, tuple(value.shape), value.dtype.name, describe(coded.form), size, bits)


def dtype_of(name):
    """The NumPy dtype of that name, those of machine learning included."""
    return np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else np.dtype(name)


def _digest(content):
    return hashlib.blake2b(content, digest_size=16).digest()


def _opened_file(content, where):
    """(header, bytes of the streams) of a file that is whole."""
    if len(content) < _FRONT.size or bytes(content[:8]) != _MAGIC:
        rule, mend = "the file must be one that recipes.pack wrote", "For a folder or a .keras file, call recipes.load."
        raise ValueError(complaint(where, rule, f"a file that begins with {bytes(content[:8])!r}", mend))
    _, version, digest = _FRONT.unpack_from(content)
    if version > _VERSION:
        rule, mend = f"files are read up to version {_VERSION}", "Update keras-recipes."
        raise ValueError(complaint(where, rule, f"version {version}", mend))
    rest = content[_FRONT.size :]
    if _digest(rest) != digest:
        raise ValueError(complaint(where, _DAMAGED, f"{len(content):,} bytes whose digest is another", _AGAIN))
    coder, length, size = _HEAD.unpack_from(rest)
    text = unsqueeze(coder.decode("latin-1"), rest[_HEAD.size : _HEAD.size + length], size, where)
    return json.loads(text), rest[_HEAD.size + length :]


def _cut(content, sizes):
    start = 0
    for size in sizes:
        yield content[start : start + size]
        start += size
