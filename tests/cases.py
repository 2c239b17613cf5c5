"""Small material for the tests: images that can be told apart, and a base that trains in a second."""

import keras
import numpy as np
from cases_augmentation import AUGMENTATION
from cases_blocks import BLOCKS
from cases_convolutions import CONVOLUTIONS
from cases_few_bits import FEW_BITS
from cases_heads import HEADS
from cases_quantization import QUANTIZATION
from PIL import Image

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200), "grey": (120, 120, 120)}


def write_photos(folder, counts, size=(24, 20), seed=0):
    """A subfolder per class with `counts[name]` JPEGs of noise about the class's colour; the folder."""
    random = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            noise = random.normal(0, 25, (*size, 3)) + COLOURS.get(name, (90, 90, 90))
            picture = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
            picture.save(folder / name / f"{name}_{number}.jpg", quality=95)
    return folder


def tiny_base(size=16, channels=3):
    """A convolutional base with four blocks, BatchNormalization among them, and its own preprocessing."""
    keras.utils.set_random_seed(7)
    image = keras.Input((size, size, channels))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    for number, filters in enumerate((4, 8, 8, 8)):
        x = keras.layers.Conv2D(
            filters, 3, strides=2 if number else 1, padding="same", kernel_initializer="he_normal", name=f"conv{number}"
        )(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
    return keras.Model(image, x, name="tiny")


def random_images(random, count=12, size=16, channels=3):
    """uint8 noise `(count, size, size, channels)`."""
    return random.integers(0, 256, (count, size, size, channels), np.uint8)


# Every layer has its row in one of these; the laws of test_layers.py apply to all.
LAYERS = (*AUGMENTATION, *BLOCKS, *CONVOLUTIONS, *FEW_BITS, *HEADS, *QUANTIZATION)
