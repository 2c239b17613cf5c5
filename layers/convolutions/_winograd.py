"""Convolution by Winograd's minimal filtering: 3×3 kernels, stride 1, one dense product per place in a tile.

A tile of m×m outputs is made from (m+2)×(m+2) pixels: both they and the kernel are brought into another basis, where
the convolution is a product per place; products over channels are matrix products over all tiles.
"""

import functools

import keras
import numpy as np

from layers._compiling import compiled
from layers.convolutions._tile_transforms import combine, tile_transforms

ops = keras.ops

# How the products over channels are computed. Which is fastest depends on the processor, its cores and the sizes: with
# oneDNN the backend's batched product, without it XLA's or, where channels are many, a product of its own per place.
PRODUCTS = ("batched", "single", "compiled")


def transform_kernel(kernel, tile):
    """`(3, 3, channels, filters)` → `((tile + 2)², channels, filters)`, in the type of the kernel."""
    return _in_basis(kernel, _kernel_weights(tile), (-1,))


def plain_kernel(kernel, tile):
    """The inverse of `transform_kernel`, as a NumPy array, rounded once."""
    flat = keras.ops.convert_to_numpy(kernel).astype("float64").reshape((tile + 2) ** 2, -1)
    product = np.linalg.pinv(_kernel_weights(tile)) @ flat
    return product.reshape(3, 3, *kernel.shape[1:]).astype("float32")


def convolve(images, kernel, bias, *, is_transformed, border, **how):
    """Convolution with gradients that are made as fast as the outputs.

    The gradient by the pixels is a convolution by the turned kernel; that by the kernel is a sum over tiles of products
    in the other basis, brought back.

    Args:
        images, border, **how: as `_convolved` takes them.
        kernel: `(3, 3, channels, filters)`; transformed, `((tile + 2)², channels, filters)`.
        bias: `(filters,)`; None for none.
        is_transformed: whether it is.

    Returns:
        `(batch, new height, new width, filters)`.
    """
    tile, relu = how["tile"], how["relu"]

    @ops.custom_gradient
    def run(images, kernel, bias):
        # TensorFlow may watch what happens in here; it cannot go back through a loop that XLA compiled, and need not.
        still, fixed, offset = (ops.stop_gradient(tensor) for tensor in (images, kernel, bias))
        places = fixed if is_transformed else transform_kernel(fixed, tile)
        outputs = _convolved(still, places, offset, border=border, **how)

        def gradients(*upstream_alone, upstream=None):
            upstream = upstream_alone[0] if upstream is None else upstream
            if relu:
                upstream = ops.where(outputs > 0, upstream, ops.zeros_like(upstream))
            plain = _in_basis(kernel, np.linalg.pinv(_kernel_weights(tile)), (3, 3)) if is_transformed else kernel
            turned = ops.transpose(ops.flip(plain, axis=(0, 1)), (0, 1, 3, 2))
            back = {**how, "relu": False, "border": 2 - border}
            by_images = convolve(upstream, turned, None, is_transformed=False, **back)
            by_kernel = _by_places(images, upstream, tile, border)
            if not is_transformed:
                by_kernel = _in_basis(by_kernel, _kernel_weights(tile).T, (3, 3))
            return by_images, by_kernel, ops.sum(upstream, axis=(0, 1, 2))

        return outputs, gradients

    bias = ops.zeros((kernel.shape[-1],), images.dtype) if bias is None else bias
    # TensorFlow would take variables apart from the gradients of other arguments: reshaping reads them.
    return run(ops.convert_to_tensor(images), *(ops.reshape(weight, weight.shape) for weight in (kernel, bias)))


def _kernel_weights(tile):
    """`((tile + 2)², 9)`: each place of a transformed kernel, as a sum of the weights of a kernel as it is."""
    _, matrix, _ = tile_transforms(tile)
    return np.einsum("ai,bj->abij", matrix, matrix).reshape(-1, 9)


def _in_basis(kernel, weights, places):
    """`weights`, `(new, old)`, times a kernel of `old` places and `(channels, filters)`; `places` of the new one."""
    flat = ops.reshape(kernel, (weights.shape[1], -1))
    product = ops.matmul(ops.convert_to_tensor(weights, dtype=kernel.dtype), flat)
    return ops.reshape(product, (*places, *kernel.shape[-2:]))


def _convolved(images, kernel, bias, *, tile, border, relu, rows, at_once, products):
    """Convolution by a transformed kernel.

    Args:
        images: `(batch, height, width, channels)`, float32; height and width are known.
        kernel: `((tile + 2)², channels, filters)`.
        bias: `(filters,)`, added at the end.
        tile: outputs of a tile, in each direction.
        border: pixels of zeros around the images: 1 keeps their size, 0 is `padding="valid"`.
        relu: whether negative outputs become 0.
        rows: rows of tiles made at once, None for all: with few, what is in between stays in the processor's cache.
        at_once: images at once, None for all. XLA compiles for fixed shapes: with a number here one compilation serves
            every size of batch, and what is left over is made by itself, image by image.
        products: how the products over channels are computed, one of `PRODUCTS`.

    Returns:
        `(batch, new height, new width, filters)`.
    """
    make = _compiled_strips if products == "compiled" else functools.partial(_strips, is_single=products == "single")
    how = {"tile": tile, "border": border, "relu": relu, "rows": rows}

    def whole(part):
        return make(part, kernel, bias, **how)

    return whole(images) if at_once is None else _in_groups(whole, images, at_once)


def _strips(images, kernel, bias, *, tile, border, relu, rows, is_single=False, is_looped=False):
    """Outputs of whole images, one strip of rows of tiles after the other; in a loop, XLA compiles one for all."""
    new_height, new_width = (side - 2 + 2 * border for side in images.shape[1:3])
    down, across = -(-new_height // tile), -(-new_width // tile)
    rows = min(rows or down, down)
    count, step = -(-down // rows), tile * rows
    padded = _padded(images, border, step * count + 2, tile * across + 2)
    how = {"is_single": is_single, "tile": tile, "rows": rows, "across": across, "width": new_width, "relu": relu}
    if count == 1:
        outputs = _block(padded, kernel, bias, **how)
    elif is_looped:
        size = (ops.shape(images)[0], step + 2, *padded.shape[2:])
        starts = ops.arange(0, step * count, step, dtype="int32")
        strips = ops.map(lambda start: _block(ops.slice(padded, (0, start, 0, 0), size), kernel, bias, **how), starts)
        outputs = ops.reshape(ops.moveaxis(strips, 0, 1), (-1, step * count, *strips.shape[3:]))
    else:
        starts = range(0, step * count, step)
        strips = [_block(padded[:, start : start + step + 2], kernel, bias, **how) for start in starts]
        outputs = ops.concatenate(strips, axis=1)
    return outputs if step * count == new_height else outputs[:, :new_height]


@compiled
def _compiled_strips(images, kernel, bias, **how):
    return _strips(images, kernel, bias, is_looped=True, **how)


def _padded(images, border, height, width):
    """`images` with `border` rows and columns of zeros before them, and as many behind as the sides ask for."""
    behind = [side - old - border for side, old in zip((height, width), images.shape[1:3], strict=True)]
    return ops.pad(images, ((0, 0), (border, behind[0]), (border, behind[1]), (0, 0)))


def _by_places(images, upstream, tile, border):
    """Gradient by a transformed kernel, `((tile + 2)², channels, filters)`."""
    rows, across = (-(-side // tile) for side in upstream.shape[1:3])
    padded = _padded(images, border, tile * rows + 2, tile * across + 2)
    pixels = _transform_input(padded, tile=tile, rows=rows, across=across)
    upstream = _transform_upstream(_padded(upstream, 0, tile * rows, tile * across), tile=tile)
    return ops.matmul(ops.transpose(pixels, (0, 2, 1)), upstream)


@compiled
def _transform_upstream(upstream, *, tile):
    """`(batch, tile · rows, tile · across, filters)` → `((tile + 2)², tiles, filters)`: the output's, turned."""
    _, _, matrix = tile_transforms(tile)
    columns = [upstream[:, :, place::tile] for place in range(tile)]
    along_rows = ops.stack([combine(weights, columns) for weights in matrix.T])
    bands = [along_rows[:, :, place::tile] for place in range(tile)]
    places = ops.stack([combine(weights, bands) for weights in matrix.T])
    return ops.reshape(places, ((tile + 2) ** 2, -1, upstream.shape[-1]))


def _in_groups(function, images, size):
    """`function` of `size` images at a time; of those left over one at a time."""
    batch = images.shape[0]
    if batch == size:
        return function(images)
    if batch is not None and batch < size:
        return function(images) if batch <= 1 else _in_groups(function, images, 1)
    if batch is None:
        batch = ops.shape(images)[0]
    count = batch // size
    grouped = ops.reshape(images[: count * size], (count, size, *images.shape[1:]))
    outputs = ops.map(function, grouped)
    outputs = ops.reshape(outputs, (count * size, *outputs.shape[2:]))
    if size == 1 or (isinstance(batch, int) and batch % size == 0):
        return outputs
    return ops.concatenate([outputs, _in_groups(function, images[count * size :], 1)])


def _block(images, kernel, bias, *, is_single, tile, rows, across, width, relu):
    """Outputs `(batch, tile · rows, width, filters)` of a padded strip."""
    pixels = _transform_input(images, tile=tile, rows=rows, across=across)
    products = _by_place(pixels, kernel) if is_single else ops.matmul(pixels, kernel)
    return _transform_output(products, bias, tile=tile, rows=rows, across=across, width=width, relu=relu)


def _by_place(pixels, kernel):
    """The batched product, one place of the tiles after the other: TensorFlow runs several of them at once."""
    places = range(kernel.shape[0])
    return ops.stack([ops.matmul(pixels[place], kernel[place]) for place in places])


@compiled
def _transform_input(images, *, tile, rows, across):
    """`(batch, tile · rows + 2, tile · across + 2, channels)` → `((tile + 2)², tiles, channels)`.

    First along the rows of the images, then along their columns: what is stacked is written down in between, so that
    XLA makes it once and compiles one small kernel for each place in a row or column instead of each place in a tile.
    """
    matrix, _, _ = tile_transforms(tile)
    columns = [images[:, :, place : place + tile * (across - 1) + 1 : tile] for place in range(tile + 2)]
    along_rows = ops.stack([combine(weights, columns) for weights in matrix])
    bands = [along_rows[:, :, place : place + tile * (rows - 1) + 1 : tile] for place in range(tile + 2)]
    places = ops.stack([combine(weights, bands) for weights in matrix])
    return ops.reshape(places, ((tile + 2) ** 2, -1, images.shape[-1]))


@compiled
def _transform_output(products, bias, *, tile, rows, across, width, relu):
    """`((tile + 2)², tiles, filters)` → `(batch, tile · rows, width, filters)`, with bias and ReLU."""
    _, _, matrix = tile_transforms(tile)
    side, filters = tile + 2, products.shape[-1]
    places = ops.reshape(products, (side, side, -1, rows, across, filters))
    lines = ops.stack([combine(weights, [places[place] for place in range(side)]) for weights in matrix], axis=3)
    pixels = ops.stack([combine(weights, [lines[place] for place in range(side)]) for weights in matrix], axis=4)
    outputs = ops.reshape(pixels, (-1, tile * rows, tile * across, filters))[:, :, :width] + bias
    return ops.relu(outputs) if relu else outputs
