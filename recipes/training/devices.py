"""Where a run computes: TensorFlow places the work; several GPUs of one host train in step."""

import contextlib
import functools

import keras
import tensorflow as tf

from recipes.checks import complaint

PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")


def placement():
    """The strategy to train under: the caller's own, MirroredStrategy over several GPUs, or TensorFlow's default."""
    current = tf.distribute.get_strategy()
    if isinstance(current, tf.distribute.MultiWorkerMirroredStrategy):
        mend = "Train on one machine; Keras' fit does not work under this strategy."
        raise ValueError(complaint("finetune", "one machine trains", "MultiWorkerMirroredStrategy", mend))
    gpus = grow_memory()
    if tf.distribute.has_strategy() or len(gpus) < 2:
        return current
    return _mirrored()


def grow_memory():
    """Take up the memory of GPUs as it is needed, where they are not yet in use; the GPUs."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Once a device is in use its memory is as the user has set it.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    return gpus


@functools.cache
def _mirrored():
    """One strategy for the whole process: a second one numbers its exchanges anew, and TensorFlow mixes the two up."""
    return tf.distribute.MirroredStrategy()


@contextlib.contextmanager
def dtype_policy(precision):
    """Keras' dtype policy within; as before afterwards. `"auto"` is mixed_float16 on GPUs with tensor cores."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_fastest() if precision == "auto" else precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _fastest():
    """float32 on GPUs older than compute capability 7.0, and on a CPU, where mixed precision gains something for some
    networks only, on processors that have AMX (`benchmarks/precision.py`)."""
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus]
    return "mixed_float16" if gpus and min(capabilities) >= (7, 0) else "float32"


def is_deterministic():
    """Whether the same run gives the same bits again: so on a CPU, whose kernels add in one order."""
    return not tf.config.list_logical_devices("GPU")
