"""ExampleStore: features and labels as weights whose number may grow."""

import gc

import keras
import numpy as np

_OF_PYTHON = 10_000  # objects; from version 3.12 on it begins with some hundred that are kept from the collector


@keras.saving.register_keras_serializable("keras_recipes")
class ExampleStore(keras.layers.Layer):
    """Rows of features with their labels, which are saved and exported as weights.

    It has no call of its own, so that Keras never closes it to new weights: when the rows no longer fit, the
    weights are replaced by longer ones. A function that TensorFlow compiled before still reads the old ones, so these
    are filled with NaN, and what it answers is NaN instead of an answer from the past.

    Args:
        **kwargs: `name` and so on, as every Keras layer takes them.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.classes = 0
        self.examples = 0

    def allocate(self, rows, width):
        """Make room for `rows` rows of `width` features; what was stored is gone."""
        if getattr(self, "features", None) is not None:
            self.features.assign(np.full(self.features.shape, np.nan, "float32"))
            self._forget("features", "labels", "center", "size")
        # All anew and in one order, so that the weights of two stores can be exchanged.
        self.features = self._state("features", (rows, width), "float32")
        # "int" is int64 on TensorFlow, which keeps int32 on the host, where XLA on a GPU does not find it.
        self.labels = self._state("labels", (rows,), "int")
        self.center = self._state("center", (width,), "float32")
        self.size = self._state("size", (), "int")
        self.built = True

    def _forget(self, *names):
        """Delete weights. Keras looks for garbage among all objects at each, which took most of the time of growing."""
        is_free = gc.get_freeze_count() < _OF_PYTHON
        if is_free:
            gc.freeze()  # what is there counts as kept, so there is nothing to look at
        try:
            for name in names:
                delattr(self, name)
        finally:
            if is_free:
                gc.unfreeze()

    def _state(self, name, shape, dtype):
        return self.add_weight(
            name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False, autocast=False
        )

    @property
    def rows(self):
        """Rows there is room for."""
        return self.features.shape[0]

    def hold(self, features, labels, classes, capacity=0):
        """Replace what is stored; room is made where it lacks."""
        count, width = features.shape
        if count > self.rows:
            self.allocate(max(count, capacity), width)
        spare = self.rows - count
        self.features.assign(np.pad(features, ((0, spare), (0, 0))))
        self.labels.assign(np.pad(labels, (0, spare)))
        self.center.assign(features.mean(axis=0, dtype="float64").astype("float32"))
        self.size.assign(count)
        self.examples, self.classes = count, classes

    def held(self):
        """`(features, labels)` in use, as NumPy arrays."""
        count = int(keras.ops.convert_to_numpy(self.size))
        return tuple(keras.ops.convert_to_numpy(state)[:count] for state in (self.features, self.labels))

    def save_own_variables(self, store):
        if not self.built:
            return
        for name in ("features", "labels", "center", "size"):
            store[name] = keras.ops.convert_to_numpy(getattr(self, name))
        store["classes"] = np.array(self.classes, "int32")

    def load_own_variables(self, store):
        saved = {name: np.array(store[name]) for name in ("features", "labels", "center", "size", "classes")}
        if not self.built or tuple(self.features.shape) != saved["features"].shape:
            self.allocate(*saved["features"].shape)
        self.classes, self.examples = int(saved.pop("classes")), int(saved["size"])
        for name, value in saved.items():
            getattr(self, name).assign(value)
