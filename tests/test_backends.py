"""The layer laws on the other backends of Keras, each in a process of its own."""

import importlib.util
import os
import re
import subprocess
import sys

import keras
import pytest

OTHERS = [name for name in ("tensorflow", "jax", "torch") if name != keras.backend.backend()]
FILES = ("test_layers.py",)


@pytest.mark.parametrize("backend", OTHERS)
def test_layer_laws_hold_on_the_other_backends(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    folder = os.path.dirname(__file__)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *(os.path.join(folder, name) for name in FILES),
        ],
        capture_output=True,
        text=True,
        # JAX compiles each operation by itself: what it would gain by optimizing takes longer than the tests.
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 100
