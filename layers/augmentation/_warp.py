"""Images read at other places; each image of a batch at its own."""

from keras import ops

FILL_MODES = ("reflect", "nearest", "constant")


def read_at(images, rows, columns, fill_mode):
    """Images as they are at places given in pixels, 0 for the center of the first, bilinear.

    Args:
        images: `(batch, height, width, channels)`, float32.
        rows: `(batch, new height, new width)`.
        columns: `(batch, new height, new width)`.
        fill_mode: what lies outside: `"reflect"` (edge pixel twice), `"nearest"`, or `"constant"` for 0.
    """
    batch, height, width, channels = ops.shape(images)
    tall, wide = ops.cast(height, "float32"), ops.cast(width, "float32")
    inside = ops.logical_and(_is_inside(rows, tall), _is_inside(columns, wide))
    rows, columns = _bring_inside(rows, tall, fill_mode), _bring_inside(columns, wide, fill_mode)
    top, left = ops.floor(rows), ops.floor(columns)
    below, beside = (rows - top)[..., None], (columns - left)[..., None]
    pixels = ops.reshape(images, (-1, channels))
    first = ops.reshape(ops.arange(batch, dtype="int32") * height * width, (-1, 1, 1))

    def pixel(down, right):
        row = ops.cast(ops.minimum(top + down, tall - 1), "int32")
        column = ops.cast(ops.minimum(left + right, wide - 1), "int32")
        return ops.take(pixels, first + row * width + column, axis=0)

    upper = pixel(0, 0) * (1 - beside) + pixel(0, 1) * beside
    lower = pixel(1, 0) * (1 - beside) + pixel(1, 1) * beside
    read = upper * (1 - below) + lower * below
    return ops.where(inside[..., None], read, 0.0) if fill_mode == "constant" else read


def _is_inside(places, count):
    """Whether a place lies in the area of the pixels, which reaches half a pixel beyond their centers."""
    return ops.logical_and(places >= -0.5, places <= count - 0.5)


def _bring_inside(places, count, fill_mode):
    if fill_mode == "reflect":
        folded = ops.mod(places + 0.5, 2 * count)
        places = ops.minimum(folded, 2 * count - folded) - 0.5
    return ops.clip(places, 0.0, count - 1)
