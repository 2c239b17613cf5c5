"""EXIF orientation, read from the bytes of JPEG, PNG and WebP files in TensorFlow operations."""

import tensorflow as tf

_ORIENTATION_TAG = 0x0112
_LAST_MARKERS = (0xDA, 0xD9)  # JPEG: the image data, or the end of the file


def exif_orientation(encoded):
    """The EXIF orientation of an encoded image.

    Args:
        encoded: scalar string tensor, the bytes of the file.

    Returns:
        int32 scalar, 1–8; 1 (upright) where the file says nothing or nonsense.
    """
    content = tf.io.decode_raw(encoded, tf.uint8)
    head = tf.strings.substr(encoded, 0, 4)
    start = tf.case(
        [
            (tf.equal(tf.strings.substr(encoded, 0, 2), b"\xff\xd8"), lambda: _find_in_jpeg(encoded, content)),
            (tf.equal(head, b"\x89PNG"), lambda: _find_in_png(encoded, content)),
            (tf.equal(head, b"RIFF"), lambda: _find_in_webp(encoded, content)),
        ],
        default=lambda: -1,
        exclusive=True,
    )
    return tf.cond(start >= 0, lambda: _read_orientation(content, start), lambda: 1)


def _find_in_jpeg(encoded, content):
    """Walk the segments up to the image data; where the TIFF header of the EXIF segment starts, or -1."""

    def look(position, _):
        marker = _number(content, position + 1, 1, big_endian=True)
        length = _number(content, position + 2, 2, big_endian=True)
        is_exif = tf.logical_and(tf.equal(marker, 0xE1), _says(encoded, position + 4, b"Exif\0\0"))
        ended = tf.reduce_any(tf.equal(marker, _LAST_MARKERS)) | (_number(content, position, 1, True) != 0xFF)
        # A run of 0xFF before a marker is padding: go on by one byte.
        following = tf.where(tf.equal(marker, 0xFF), position + 1, position + 2 + length)
        following = tf.where(ended, tf.size(content), following)
        return following, tf.where(is_exif, position + 10, -1)

    return _walk(look, 2, content)


def _find_in_png(encoded, content):
    """Walk the chunks up to the image data; where the content of the eXIf chunk starts, or -1."""

    def look(position, _):
        length = _number(content, position, 4, big_endian=True)
        ended = _says(encoded, position + 4, b"IDAT") | (length < 0)
        following = tf.where(ended, tf.size(content), position + 12 + length)
        return following, tf.where(_says(encoded, position + 4, b"eXIf"), position + 8, -1)

    return _walk(look, 8, content)


def _find_in_webp(encoded, content):
    """Walk the RIFF chunks; where the content of the EXIF chunk starts, or -1."""

    def look(position, _):
        length = _number(content, position + 4, 4, big_endian=False)
        following = tf.where(length < 0, tf.size(content), position + 8 + length + length % 2)
        # Some programs put JPEG's "Exif" before the TIFF header here too.
        start = position + 8 + tf.where(_says(encoded, position + 8, b"Exif\0\0"), 6, 0)
        return following, tf.where(_says(encoded, position, b"EXIF"), start, -1)

    return _walk(look, 12, content)


def _walk(look, first, content):
    """Call `look(position, found)` from part to part of a file until something is found or the file ends."""
    last = tf.size(content) - 8
    position = tf.where(last > first, first, tf.size(content))
    # A part's length may overflow the position: a negative position ends the walk too.
    _, found = tf.while_loop(
        lambda position, found: (found < 0) & (position >= first) & (position < last), look, (position, tf.constant(-1))
    )
    return found


def _read_orientation(content, start):
    """The orientation entry of the first directory of the TIFF structure at `start`; 1 where there is none."""
    big_endian = tf.equal(_number(content, start, 1, True), 0x4D)
    directory = start + _number(content, start + 4, 4, big_endian)
    entries = tf.minimum(_number(content, directory, 2, big_endian), 1024)
    places = directory + 2 + 12 * tf.range(entries)
    tags = _number(content, places, 2, big_endian)
    values = tf.boolean_mask(_number(content, places + 8, 2, big_endian), tf.equal(tags, _ORIENTATION_TAG))
    values = tf.boolean_mask(values, (values >= 1) & (values <= 8))
    return tf.concat([values, [1]], 0)[0]


def _number(content, places, size, big_endian):
    """Whole numbers of `size` bytes at `places`; bytes beyond the end of the file read as those at its end."""
    shifts = 8 * tf.range(size)
    shifts = tf.where(big_endian, shifts[::-1], shifts)
    last = tf.maximum(tf.size(content) - 1, 0)
    indices = tf.clip_by_value(tf.expand_dims(places, -1) + tf.range(size), 0, last)
    return tf.reduce_sum(tf.bitwise.left_shift(tf.cast(tf.gather(content, indices), tf.int32), shifts), -1)


def _says(encoded, position, word):
    """Whether the bytes at `position` are `word`; False beyond the end of the file."""
    inside = (position >= 0) & (position + len(word) <= tf.strings.length(encoded))
    return inside & tf.equal(
        tf.strings.substr(encoded, tf.where(inside, position, 0), tf.where(inside, len(word), 0)), word
    )
