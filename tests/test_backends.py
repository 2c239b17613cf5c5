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
# What a backend computes: the rest is of Python, or of the same operations once more in another form.
QUICK = ("equals_the_reference", "one_step")
# JAX compiles each operation by itself, which takes a minute for a training step of every layer.
QUICK_ON_JAX = ("equals_the_reference",)


@pytest.mark.parametrize("is_quick", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["quick", "all"])
@pytest.mark.parametrize("backend", OTHERS)
def test_layer_laws_hold_on_the_other_backends(backend, is_quick):
    laws, least = (), 101
    if is_quick:
        laws, least = (QUICK_ON_JAX, 50) if backend == "jax" else (QUICK, 101)
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
            "-k",
            " or ".join(laws),
            *(os.path.join(folder, name) for name in FILES),
        ],
        capture_output=True,
        text=True,
        # What JAX would gain by optimizing takes longer than the tests.
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) >= least
