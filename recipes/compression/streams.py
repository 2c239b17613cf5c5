"""Bytes in fewer bytes: stored, by Huffman's code, or by LZMA, whichever comes out smallest."""

import lzma
import zlib

from recipes.checks import complaint

_SAMPLE = 2**20  # bytes by which the coder is chosen of what is much longer
_WORTH = 1.03  # by which LZMA must then be smaller: it takes a second a megabyte
_STORED, _HUFFMAN, _LZMA, _LZMA_PLAIN = "rhlp"


def squeeze(content):
    """`(coder, bytes)`: `content` by the coder that makes it smallest; `"r"` where none makes it smaller."""
    content = bytes(content)
    coders = _CODERS
    if len(content) > 2 * _SAMPLE:
        start = (len(content) - _SAMPLE) // 2
        coders = (_smallest(content[start : start + _SAMPLE], _CODERS, _WORTH)[0],)
    name, coded = _smallest(content, coders)
    return (name, coded) if len(coded) < len(content) else (_STORED, content)


def unsqueeze(coder, coded, size, where):
    """What `squeeze` was given, of `size` bytes; ValueError where it is something else."""
    try:
        content = _decoded(coder, coded, size)
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        content, reason = b"", str(error)
    else:
        reason = f"{len(content)} bytes for {size}"
    if len(content) != size:
        mend = "Fetch or write the file again."
        raise ValueError(complaint(where, "the file is damaged", f"a part that does not decode ({reason})", mend))
    return content


def _smallest(content, coders, worth=1.0):
    """The smallest, where what a slow coder makes counts `worth` times."""
    coded = [(name, _encoded(name, content)) for name in coders]
    return min(coded, key=lambda pair: len(pair[1]) * (worth if pair[0] in _FILTERS else 1))


def _encoded(coder, content):
    if coder == _STORED:
        return content
    if coder == _HUFFMAN:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
        return deflate.compress(content) + deflate.flush()
    return lzma.compress(content, lzma.FORMAT_RAW, filters=[_FILTERS[coder]])


def _decoded(coder, coded, size):
    """At most one byte more than `size`, whatever the file says."""
    if coder == _STORED:
        return bytes(coded)
    if coder == _HUFFMAN:
        return zlib.decompressobj(-15).decompress(bytes(coded), size + 1)
    if coder in _FILTERS:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[_FILTERS[coder]]).decompress(bytes(coded), size + 1)
    return b""


# With and without the byte before as the context of a byte.
_BASE = {"id": lzma.FILTER_LZMA1, "preset": 6, "dict_size": 2**20, "lp": 0, "pb": 0}
_FILTERS = {_LZMA: {**_BASE, "lc": 3}, _LZMA_PLAIN: {**_BASE, "lc": 0}}
_CODERS = (_STORED, _HUFFMAN, _LZMA, _LZMA_PLAIN)
