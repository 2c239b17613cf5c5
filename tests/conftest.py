"""What the tests share: small image folders, a tiny base, one trained classifier."""

import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="recipes_tests_")  # the user's own stays as it is
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # values are compared, so that all machines compute alike
if "PYTEST_XDIST_WORKER" in os.environ:  # one for each core: threads beside would only wait for each other
    for library in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(library, "1")

import keras
import numpy as np
import pytest
from cases import random_images, tiny_base, write_photos

import recipes


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of 3 classes with 20 small JPEGs each, which differ in colour."""
    return write_photos(tmp_path_factory.mktemp("photos"), {"blue": 20, "green": 20, "red": 20})


@pytest.fixture(scope="session")
def photo_data(photos):
    """The Data of `photos` at 16 pixels."""
    return recipes.load_data(photos, image_size=16, valid=0.25, test=0.25)


@pytest.fixture(scope="session")
def classifier(photo_data):
    """A Result of two stages on `photo_data`; tests must not change it."""
    return recipes.finetune(tiny_base(), photo_data, epochs=(20, 1), learning_rate=0.1, batch_size=8, verbose=False)


@pytest.fixture(scope="session")
def data():
    """80 images of noise in 3 classes that differ in brightness, split into all three parts."""
    labels = np.arange(80) % 3
    images = random_images(np.random.default_rng(0), 80) // 3 + (labels * 60).astype(np.uint8)[:, None, None, None]
    return recipes.load_data((images, labels), valid=0.25, test=0.2)


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def settings_stay():
    """No test may leave Keras or TensorFlow with other settings than it found."""
    before = keras.config.dtype_policy().name, keras.config.floatx(), keras.config.image_data_format()
    yield
    assert (keras.config.dtype_policy().name, keras.config.floatx(), keras.config.image_data_format()) == before
