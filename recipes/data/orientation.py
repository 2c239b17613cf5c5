"""EXIF orientation, read from the bytes of JPEG, PNG and WebP files in TensorFlow operations.

All three are chains of parts. One walk goes through all of them, by tables that say what a part looks like: fewer
operations, which are traced before the first image is decoded.
"""

import numpy as np
import tensorflow as tf

_ORIENTATION_TAG = 0x0112
_WINDOW = 14  # bytes at the beginning of a part that tell all that counts
_MOST_ENTRIES = 1024
_NEVER = 256  # no byte


def _pattern(*pieces):
    """What the window must hold: (place, bytes) each; -1 where anything will do."""
    pattern = np.full(_WINDOW, -1, np.int32)
    for place, word in pieces:
        pattern[place : place + len(word)] = list(word)
    return pattern


_NO_PART = _pattern((0, [_NEVER]))
_ANY_PART = _pattern()
# By kind of file: JPEG, PNG, WebP, any other. JPEG's walk ends where the image data begin, as PNG's does; in a JPEG a
# run of 0xFF before a marker is padding, over which the walk goes byte by byte.
_FOUND = _pattern((1, b"\xe1"), (4, b"Exif\0\0")), _pattern((4, b"eXIf")), _pattern((0, b"EXIF")), _NO_PART
_LAST = _pattern((1, b"\xda")), _pattern((4, b"IDAT")), _NO_PART, _NO_PART
_LAST_TOO = _pattern((1, b"\xd9")), _NO_PART, _NO_PART, _NO_PART
_PADDING = _pattern((0, b"\xff\xff")), _NO_PART, _NO_PART, _NO_PART
_PART = _pattern((0, b"\xff")), _ANY_PART, _ANY_PART, _NO_PART
_PATTERNS = np.stack([_FOUND, _LAST, _LAST_TOO, _PADDING, _PART], 1)
# The weights of the window's bytes in the length of a part; the bytes that the length does not count.
_BYTES = [1 << 24, 1 << 16, 1 << 8, 1]
_LENGTH = np.zeros((4, _WINDOW), np.int32)
_LENGTH[0, 2:4], _LENGTH[1, :4], _LENGTH[2, 4:8] = _BYTES[2:], _BYTES, _BYTES[::-1]
_UNCOUNTED = np.array([2, 12, 8, 0], np.int32)
_IS_FILLED_UP = np.array([0, 0, 1, 0], np.int32)  # whether parts of odd length are followed by a byte of nothing
_FIRST = np.array([2, 8, 12, 0], np.int32)  # where the first part begins
_CONTENT = np.array([10, 8, 8, 0], np.int32)  # where the EXIF part has its TIFF structure
_MAGIC = b"\xff\xd8", b"\x89PNG", b"RIFF"


def exif_orientation(encoded):
    """The EXIF orientation of an encoded image.

    Args:
        encoded: scalar string tensor, the bytes of the file.

    Returns:
        int32 scalar, 1–8; 1 (upright) where the file says nothing or nonsense.
    """
    # So that a window fits at the very end.
    content = tf.io.decode_raw(tf.strings.join([encoded, bytes(_WINDOW)]), tf.uint8)
    start = _find(content, _kind(encoded))
    return tf.cond(start >= 0, lambda: _read_orientation(content, start), lambda: 1)


def _kind(encoded):
    """Row of the tables."""
    begins = [tf.equal(tf.strings.substr(encoded, 0, len(magic)), magic) for magic in _MAGIC]
    return tf.argmax(tf.stack([*begins, True]), output_type=tf.int32)


def _find(content, kind):
    """Walk from part to part; where the TIFF structure of the EXIF part starts, or -1."""
    patterns, weights = tf.gather(_PATTERNS, kind), tf.gather(_LENGTH, kind)
    uncounted, is_filled_up, first, offset = tf.unstack(
        tf.gather(np.stack([_UNCOUNTED, _IS_FILLED_UP, _FIRST, _CONTENT], 1), kind), 4
    )
    end = tf.size(content) - _WINDOW - 8

    def look(position, _):
        window = tf.cast(tf.slice(content, [position], [_WINDOW]), tf.int32)
        fits = tf.reduce_all((patterns == window) | (patterns < 0), -1)
        is_found, is_last, is_last_too, is_padding, is_part = tf.unstack(fits, 5)
        length = tf.reduce_sum(window * weights)
        following = position + uncounted + length + is_filled_up * (length % 2)
        following = tf.where(is_padding, position + 1, following)
        is_over = is_last | is_last_too | ~is_part | (length < 0)
        return tf.where(is_over, end, following), tf.where(is_found, position + offset, -1)

    # A part's length may overflow the position: a negative position ends the walk too.
    _, found = tf.while_loop(
        lambda position, found: (found < 0) & (position >= first) & (position < end), look, (first, tf.constant(-1))
    )
    return found


def _read_orientation(content, start):
    """The orientation entry of the first directory of the TIFF structure at `start`; 1 where there is none."""
    # Some programs put JPEG's "Exif" before it in other files too.
    start += 6 * tf.cast(tf.reduce_all(tf.slice(content, [start], [6]) == list(b"Exif\0\0")), tf.int32)
    weights = tf.where(tf.equal(content[start], 0x4D), _BYTES, _BYTES[::-1])
    pair = tf.where(tf.equal(content[start], 0x4D), _BYTES[2:], _BYTES[2:][::-1])

    def bytes_at(places):
        return tf.cast(tf.gather(content, tf.clip_by_value(places, 0, tf.size(content) - 1)), tf.int32)

    directory = start + tf.reduce_sum(bytes_at(start + tf.range(4, 8)) * weights)
    count = tf.minimum(tf.reduce_sum(bytes_at(directory + tf.range(2)) * pair), _MOST_ENTRIES)
    entries = tf.reshape(bytes_at(directory + 2 + tf.range(12 * count)), (-1, 12))
    tags, values = tf.reduce_sum(entries[:, :2] * pair, 1), tf.reduce_sum(entries[:, 8:10] * pair, 1)
    is_told = (tags == _ORIENTATION_TAG) & (values >= 1) & (values <= 8)
    return tf.concat([tf.boolean_mask(values, is_told), [1]], 0)[0]
