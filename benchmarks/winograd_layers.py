"""Every convolution of VGG-E at 224 pixels: each algorithm beside TensorFlow's direct convolution, batch 1 and 8.

    python benchmarks/winograd_layers.py

Convolution, bias and ReLU as a layer of a served network computes them; the ways alternate in one run, medians of the
ratios. Winograd's kernels are transformed beforehand, as `recipes.accelerate` does. `limit` is how much faster the
fastest would be if bringing pixels into another basis and back cost nothing: its matrix products alone, by the same
library. Beside it stands what Lavin and Gray gained over cuDNN with F(2×2, 3×3) on a GPU (their table 5, by batch size,
from memory). Expect ten minutes on 2 cores.
"""

import argparse
import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from machine import print_json

from recipes.acceleration.candidates import candidates, for_serving
from recipes.timing import alternating

# (side, channels, filters, how many of them)
LAYERS = (
    (224, 3, 64, 1),
    (224, 64, 64, 1),
    (112, 64, 128, 1),
    (112, 128, 128, 1),
    (56, 128, 256, 1),
    (56, 256, 256, 3),
    (28, 256, 512, 1),
    (28, 512, 512, 3),
    (14, 512, 512, 4),
)
LAVIN_AND_GRAY = {1: 2.26, 2: 2.06, 4: 5.91, 8: 7.28, 16: 3.09, 32: 1.79, 64: 1.48}


def compiled(layer, images):
    signature = [tf.TensorSpec((None, *images.shape[1:]), images.dtype)]
    call = tf.function(layer, input_signature=signature, autograph=False)
    return lambda: call(images)


def products(side, channels, filters, batch, tile):
    """The matrix products of a tile size alone."""
    tiles = batch * (-(-side // tile)) ** 2
    pixels = tf.random.normal(((tile + 2) ** 2, tiles, channels))
    kernel = tf.random.normal(((tile + 2) ** 2, channels, filters))
    call = tf.function(tf.matmul, autograph=False)
    return lambda: call(pixels, kernel)


def measure(side, channels, filters, batch, rounds):
    plain = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", bias_initializer="normal")
    shape = (batch, side, side, channels)
    plain.build(shape)
    images = tf.random.normal(shape)
    runs = {"direct": compiled(plain, images)}
    for name, option in candidates(plain, shape).items():
        runs[name] = compiled(for_serving(plain, *option, shape), images)
    for tile in (2, 3, 4) if channels > 3 else ():
        runs[f"products {tile}"] = products(side, channels, filters, batch, tile)
    seconds = alternating(runs, rounds=rounds)
    ratios = {
        name: statistics.median(one / other for one, other in zip(seconds["direct"], taken, strict=True))
        for name, taken in seconds.items()
    }
    best = max((name for name in ratios if not name.startswith("products")), key=ratios.get)
    work = 2 * 9 * batch * side**2 * channels * filters
    row = {
        "layer": f"{side}x{side} {channels}->{filters}",
        "batch": batch,
        "direct_ms": round(1e3 * statistics.median(seconds["direct"]), 2),
        "direct_gflops": round(work / statistics.median(seconds["direct"]) / 1e9),
        "fastest": best,
        "ratio": round(ratios[best], 2),
        "ratios": {name: round(ratio, 2) for name, ratio in ratios.items()},
    }
    if best.startswith("winograd"):
        row["limit"] = round(ratios[f"products {best.split()[1]}"], 2)
    return row, statistics.median(seconds["direct"]), statistics.median(seconds[best])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    rows, totals = [], {}
    for batch in arguments.batches:
        direct = fastest = 0.0
        for side, channels, filters, count in LAYERS:
            row, slow, fast = measure(side, channels, filters, batch, arguments.rounds)
            rows.append({**row, "times": count})
            direct, fastest = direct + count * slow, fastest + count * fast
        totals[batch] = {
            "direct_ms": round(1e3 * direct, 1),
            "fastest_ms": round(1e3 * fastest, 1),
            "ratio": round(direct / fastest, 2),
            "lavin_and_gray_over_cudnn": LAVIN_AND_GRAY.get(batch),
        }
    print_json({"layers": rows, "all_convolutions": totals})


if __name__ == "__main__":
    main()
