"""Convolution by the fast Fourier transform over overlapping tiles: its cost hardly grows with the kernel."""

import itertools
import math

import keras
import numpy as np

ops = keras.ops


# Operations on a number of an image on its way into its spectrum and back, as against one on the kernel's spectrum;
# and images that share the reading of that. Of benchmarks/fft_conv.py; only the order of magnitude counts.
_PER_PIXEL, _IMAGES = 150, 4


def best_size(kernel_size, sides, channels, filters):
    """Side of the tiles that is expected to take the least work, a product of 2s, 3s and 5s.

    Args:
        kernel_size: `(height, width)` of the kernel.
        sides: height and width of the outputs.
        channels, filters: of the kernel.
    """
    largest = max(kernel_size)

    def work(size):
        tiles = math.prod(-(-side // (size - taps + 1)) for side, taps in zip(sides, kernel_size, strict=True))
        by_pixel = _PER_PIXEL * tiles * (channels + filters)
        return size**2 * (by_pixel + 1.5 * channels * filters * (1 + tiles / _IMAGES))

    return min(_smooth_numbers(largest + 1, 2 * (max(sides) + largest)), key=work)


def _smooth_numbers(least, limit):
    """The products of 2s, 3s and 5s from `least` on and below `limit`."""
    powers = [[base**power for power in range(int(math.log(limit, base)) + 1)] for base in (2, 3, 5)]
    return sorted(number for parts in itertools.product(*powers) if least <= (number := math.prod(parts)) < limit)


def transform_kernel(kernel, size):
    """`(height, width, channels, filters)` → `(3, size // 2 + 1, size, channels, filters)`.

    The three are what a complex product takes that is made of three real ones (Gauss): real part, imaginary part less
    real part, and both together, of the conjugate spectrum.
    """
    height, width, _, _ = kernel.shape
    padded = ops.pad(ops.transpose(kernel, (2, 3, 0, 1)), ((0, 0), (0, 0), (0, size - height), (0, size - width)))
    real, negative = (ops.transpose(part, (2, 3, 0, 1)) for part in _spectrum(padded))
    imaginary = -negative
    return ops.stack([real, imaginary - real, imaginary + real])


def plain_kernel(kernel, kernel_size):
    """The inverse of `transform_kernel`, as a NumPy array; `kernel_size` is (height, width)."""
    real, less, more = keras.ops.convert_to_numpy(kernel).astype("float64")
    spectrum = np.transpose(real - 0.5j * (less + more), (2, 3, 1, 0))
    size = spectrum.shape[-2]
    padded = np.fft.irfft2(spectrum, (size, size))
    return np.transpose(padded[..., : kernel_size[0], : kernel_size[1]], (2, 3, 0, 1)).astype("float32")


def convolve_transformed(images, kernel, kernel_size, *, size, padding):
    """Convolution by a kernel that is transformed already.

    Args:
        images: `(batch, height, width, channels)`; height and width are known.
        kernel: as `transform_kernel` makes it.
        kernel_size: `(height, width)` of the kernel.
        size: side of the tiles of pixels.
        padding: `"same"` or `"valid"`.

    Returns:
        `(batch, new height, new width, filters)`.
    """
    sides = images.shape[1:3]
    same = padding == "same"
    borders = [(taps - 1) // 2 if same else 0 for taps in kernel_size]
    new = [side if same else side - taps + 1 for side, taps in zip(sides, kernel_size, strict=True)]
    steps = [size - taps + 1 for taps in kernel_size]
    counts = [-(-side // step) for side, step in zip(new, steps, strict=True)]
    ends = [
        step * (count - 1) + size - side - border
        for step, count, side, border in zip(steps, counts, sides, borders, strict=True)
    ]
    # A kernel of which little is used at the end may leave pixels that no output needs.
    images = images[:, : sides[0] + min(ends[0], 0), : sides[1] + min(ends[1], 0)]
    around = ((0, 0), *((border, max(end, 0)) for border, end in zip(borders, ends, strict=True)), (0, 0))
    tiles = _tiles(ops.pad(images, around), size, steps, counts)
    products = _filtered(tiles, kernel)[..., : steps[0], : steps[1]]
    return _joined(products, counts, steps)[:, : new[0], : new[1]]


def _tiles(images, size, steps, counts):
    """`(tiles of all images, channels, size, size)`."""
    channels = images.shape[-1]
    for axis, step, count in zip((1, 3), steps, counts, strict=True):
        places = step * np.arange(count)[:, None] + np.arange(size)
        images = ops.take(images, places, axis=axis) if count > 1 else ops.expand_dims(images, axis)
    return ops.reshape(ops.transpose(images, (0, 1, 3, 5, 2, 4)), (-1, channels, size, size))


def _joined(tiles, counts, steps):
    """`(tiles, filters, height, width)` side by side: `(batch, height, width, filters)`."""
    grid = ops.reshape(tiles, (-1, *counts, *tiles.shape[1:]))
    return ops.reshape(
        ops.transpose(grid, (0, 1, 4, 2, 5, 3)), (-1, counts[0] * steps[0], counts[1] * steps[1], tiles.shape[1])
    )


def _filtered(tiles, kernel):
    """`(tiles, channels, size, size)` → `(tiles, filters, size, size)`."""
    size = tiles.shape[-1]
    real, imaginary = (ops.transpose(part, (2, 3, 0, 1)) for part in _spectrum(tiles))
    shared, second, third = ops.unstack(ops.matmul(ops.stack([real + imaginary, real, imaginary]), kernel), 3)
    spectrum = [ops.transpose(part, (2, 3, 0, 1)) for part in (shared - third, shared + second)]
    return _image(spectrum, size)


def _spectrum(images):
    """`(…, height, width)` → real and imaginary part, `(…, width // 2 + 1, height)`."""
    real, imaginary = ops.rfft(images)
    return ops.fft((ops.swapaxes(real, -1, -2), ops.swapaxes(imaginary, -1, -2)))


def _image(spectrum, size):
    """The inverse of `_spectrum` for a square."""
    real, imaginary = spectrum
    real, negative = ops.fft((real, -imaginary))  # the inverse, but for sign and scale
    return ops.irfft((ops.swapaxes(real, -1, -2) / size, -ops.swapaxes(negative, -1, -2) / size), size)
