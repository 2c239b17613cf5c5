"""Windows of images, resampled to a new size; each image of a batch has its own window."""

from keras import ops


def resample_windows(images, top, left, height, width, size):
    """Cut a window out of each image and resize it.

    Bilinear, and where a window shrinks each output pixel averages over all pixels it covers, so that nothing
    aliases. Height and width are one matrix product each, since the weights of a row are those of the whole row.

    Args:
        images: `(batch, height, width, channels)`, float32.
        top: `(batch,)`, upper edges of the windows in pixels, 0 for the image's own edge; need not be whole.
        left: `(batch,)`, left edges.
        height: `(batch,)`, heights of the windows in pixels.
        width: `(batch,)`, widths.
        size: (height, width) of what is given.
    """
    rows = _weights(top, height, size[0], ops.shape(images)[1])
    columns = _weights(left, width, size[1], ops.shape(images)[2])
    images = ops.einsum("bih,bhwc->biwc", rows, images)
    return ops.einsum("bjw,biwc->bijc", columns, images)


def resample(images, size):
    """Whole images resized, as `resample_windows` does it, with the same weights for all of them."""
    (height, width), (tall, wide) = size, ops.shape(images)[1:3]
    edge, pixels = ops.zeros((1,)), ops.ones((1,))
    rows = _weights(edge, pixels * ops.cast(tall, "float32"), height, tall)[0]
    columns = _weights(edge, pixels * ops.cast(wide, "float32"), width, wide)[0]
    images = ops.einsum("ih,bhwc->biwc", rows, images)
    return ops.einsum("jw,biwc->bijc", columns, images)


def _weights(start, extent, count, pixels):
    """`(batch, count, pixels)`: how much each pixel of an axis counts for each that is made."""
    step = extent / count
    made = ops.arange(count, dtype="float32")
    centers = start[:, None] + (made[None, :] + 0.5) * step[:, None] - 0.5
    reach = ops.maximum(step, 1.0)[:, None, None]
    there = ops.cast(ops.arange(pixels), "float32")
    # A center beyond that of the outermost pixel takes that pixel.
    centers = ops.clip(centers, 0.0, ops.cast(pixels - 1, "float32"))
    weights = ops.maximum(1.0 - ops.abs(there[None, None, :] - centers[:, :, None]) / reach, 0.0)
    return weights / ops.sum(weights, axis=2, keepdims=True)
