"""Every initial weight from one seed, and no trace in the global generators."""

import contextlib
import random
import zlib

import keras
import numpy as np


def derived_seed(seed, *path):
    """A whole number of 31 bits that depends on `seed` and on every part of `path`."""
    return zlib.crc32("/".join(map(str, (seed, *path))).encode()) & 0x7FFFFFFF


def seed_config(config, seed, *path):
    """Set each `seed` within the config of a layer, in place: those of its initializers and of its dropout."""
    for key, value in config.items():
        if key == "seed":
            config[key] = derived_seed(seed, *path)
        elif isinstance(value, dict):
            seed_config(value, seed, *path, key)


@contextlib.contextmanager
def globals_kept():
    """Python's and NumPy's generators and Keras' image layout are afterwards as before; within, channels come last."""
    python_state = random.getstate()
    # The old global generator is the very thing that users' own layers may draw from.
    numpy_state = np.random.get_state()  # noqa: NPY002
    layout = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_image_data_format(layout)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
