"""Convolution by the fast Fourier transform against direct convolution, for kernels of 3×3 to 31×31.

    python benchmarks/fft_conv.py

Maps of 64×64 with 32 channels (batch 2) and of 56×56 with 64 (batch 8), `padding="same"`; spectra of the kernels made
beforehand, and in every call as training does. The ways alternate in one run; ratios above 1 are faster than direct
convolution. Expect three minutes on 2 cores.
"""

import argparse
import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from machine import print_json

import layers
from recipes.timing import alternating

MAPS = ((2, 64, 32), (8, 56, 64))  # batch, side, channels and filters
KERNELS = (3, 5, 7, 9, 11, 15, 21, 31)


def measure(batch, side, channels, kernel_size, rounds):
    images = tf.random.normal((batch, side, side, channels))
    plain = keras.layers.Conv2D(channels, kernel_size, padding="same")
    by_spectrum = layers.FFTConv2D(channels, kernel_size, padding="same")
    for layer in (plain, by_spectrum):
        layer.build(images.shape)
    by_spectrum.set_weights(plain.get_weights())
    ways = {"direct": plain, "fft": by_spectrum.transformed(images.shape), "fft, spectrum every time": by_spectrum}
    runs = {}
    for name, layer in ways.items():
        call = tf.function(layer, autograph=False)
        runs[name] = lambda call=call: call(images)
    seconds = alternating(runs, rounds=rounds)
    expected, outputs = (runs[name]().numpy() for name in ("direct", "fft"))
    return {
        "map": f"{batch}x{side}x{side}x{channels}",
        "kernel": kernel_size,
        "ms": {name: round(1e3 * statistics.median(taken), 2) for name, taken in seconds.items()},
        "ratios": {
            name: round(statistics.median(np.divide(seconds["direct"], taken)), 2) for name, taken in seconds.items()
        },
        "difference": float(np.abs(outputs - expected).max() / np.abs(expected).max()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    rows = [measure(*shape, kernel_size, arguments.rounds) for shape in MAPS for kernel_size in KERNELS]
    wins = {}
    for row in rows:
        if row["ratios"]["fft"] > 1:
            wins.setdefault(row["map"], row["kernel"])
    print_json({"rows": rows, "first_kernel_where_fft_wins": wins})


if __name__ == "__main__":
    main()
