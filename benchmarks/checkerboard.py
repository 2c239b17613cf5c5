"""How uneven upsampling layers are: overlap of the kernels, and the response to a constant image, side by side.

    python benchmarks/checkerboard.py

Overlap: how many kernel taps reach each output pixel of a transposed convolution. Its CoV (standard deviation over
mean) is 0 where the stride divides the kernel. Response: what layers with random weights make of a constant image, away
from the border; there the CoV of a transposed convolution is large in either case, and that of ResizeConv is rounding.
"""

import keras
import numpy as np

import layers

SIZES = ((3, 2), (5, 2), (4, 3), (5, 3), (5, 4), (7, 4), (2, 2), (4, 2), (6, 2), (3, 3), (6, 3), (8, 4))


def overlap(kernel_size, stride):
    """Unevenness of the number of taps per output pixel of a transposed convolution.

    Returns:
        `{"pattern", "CoV 1-D", "CoV 2-D", "energy", "max/min"}`; energy is that of the pattern's spectrum off its mean
        over that of its mean.
    """
    pattern = np.bincount(np.arange(kernel_size) % stride, minlength=stride)
    plane = np.outer(pattern, pattern)
    power = np.abs(np.fft.fft2(plane)) ** 2
    return {
        "pattern": ",".join(str(count) for count in pattern),
        "CoV 1-D": float(pattern.std() / pattern.mean()),
        "CoV 2-D": float(plane.std() / plane.mean()),
        "energy": float((power.sum() - power[0, 0]) / power[0, 0]),
        "max/min": float(plane.max() / plane.min()),
    }


def response(layer, stride, channels=16):
    """Unevenness of what `layer`, which enlarges by `stride`, makes of a constant image, borders left out.

    Each channel of the image has a value of its own.

    Returns:
        Standard deviation over the pixels over the root mean square of the channels' means.
    """
    values = np.random.default_rng(0).normal(size=channels).astype("float32")
    image = np.broadcast_to(values, (1, 16, 16, channels))
    outputs = keras.ops.convert_to_numpy(layer(image)).astype(np.float64)
    window = outputs[:, 4 * stride : -4 * stride, 4 * stride : -4 * stride]
    return float(np.sqrt(window.var(axis=(0, 1, 2)).mean() / (window.mean(axis=(0, 1, 2)) ** 2).mean()))


def checkerboard_table(sizes=SIZES, filters=64, seed=0):
    """A row per (kernel size, stride): overlap, and response beside that of ResizeConv with the same factor."""
    rows = []
    for number, (kernel_size, stride) in enumerate(sizes):
        keras.utils.set_random_seed(seed + number)
        rows.append(
            {
                "kernel, stride": f"{kernel_size}, {stride}",
                **overlap(kernel_size, stride),
                "Conv2DTranspose": response(
                    keras.layers.Conv2DTranspose(filters, kernel_size, strides=stride, padding="same"), stride
                ),
                **{
                    f"ResizeConv {interpolation}": response(
                        layers.ResizeConv(filters, factor=stride, interpolation=interpolation), stride
                    )
                    for interpolation in ("nearest", "bilinear")
                },
            }
        )
    return rows


def main():
    from machine import print_json

    rows = checkerboard_table()
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(f"{value:.4g}" if isinstance(value, float) else value for value in row.values()))
    print_json({"rows": rows})


if __name__ == "__main__":
    main()
