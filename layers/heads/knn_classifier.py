"""KNNClassifier: probabilities by the votes of the nearest stored examples."""

import keras
import numpy as np
from keras import ops

from layers._arguments import check_choice, check_number, check_whole, complaint
from layers.heads._search import find_nearest
from layers.heads._store import ExampleStore
from layers.heads._weighting import WEIGHTINGS, vote_weights

METRICS = ("euclidean", "cosine")


@keras.saving.register_keras_serializable("keras_recipes")
class KNNClassifier(keras.layers.Layer):
    """A head that classifies features by the k nearest of its stored examples.

    probability of a class = summed weight of the neighbours of that class / summed weight of all k. The search is exact
    and compares blocks of the store, so that memory stays within queries × block. Ties are broken by index among the
    k + max(k, 16) best candidates.

    Nothing is trained: `fit` stores examples, `add` adds to them, new classes too. They are saved and exported with the
    model. Up to `capacity` examples, functions compiled before see the change at once; beyond it the weights are
    replaced, and on TensorFlow a function compiled before answers NaN until `model.make_predict_function(force=True)`
    or `model.compile(...)`.

    Args:
        k: number of neighbours, 1 or more.
        weighting: `"distance"` 1/d, `"uniform"` 1, `"power"` 1/d^power, or `"softmax"` exp(−d²/temperature). With
            `"distance"` and `"power"` an example at distance zero decides alone.
        power: exponent of `"power"`, above 0.
        temperature: divisor of `"softmax"`, above 0, in units of the squared distance.
        metric: `"euclidean"`, or `"cosine"`: d = 1 − cosine.
        threshold: distance, above 0, beyond which the nearest example says nothing: the answer is then "unknown", a
            last column that is 1 there and else 0. None for no such column.
        num_classes: number of classes, labels 0 to num_classes − 1; None for as many as the stored labels need.
        capacity: examples for which room is made from the start; None for as many as come.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them. Distances are computed in float32 whatever
            the dtype, which holds for the probabilities.

    Input shape:
        `(batch, features)`.

    Output shape:
        `(batch, classes)`, one more column with `threshold`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range, k is larger than the store, or
            features are not finite.

    Reference:
        Cover and Hart 1967, "Nearest neighbor pattern classification"; Dudani 1976, "The distance-weighted
        k-nearest-neighbor rule" (weights that fall with distance); Goldberger et al. 2004, "Neighbourhood components
        analysis" (softmax).

    Example:
        >>> import keras, layers
        >>> head = layers.KNNClassifier(k=1)
        >>> head.fit([[0.0, 0.0], [3.0, 4.0]], [0, 1])
        >>> head.add([[9.0, 9.0]], [2])
        >>> [round(float(value)) for value in head(keras.ops.ones((1, 2)))[0]]
        [1, 0, 0]
    """

    def __init__(
        self,
        k=5,
        *,
        weighting="distance",
        power=2.0,
        temperature=1.0,
        metric="euclidean",
        threshold=None,
        num_classes=None,
        capacity=None,
        **kwargs,
    ):
        # Half precision would lose the digits in which neighbours differ, before the search begins.
        super().__init__(autocast=False, **kwargs)
        where = "KNNClassifier"
        check_whole(where, "k", k)
        check_choice(where, "weighting", weighting, WEIGHTINGS)
        check_number(where, "power", power, 0, above=True)
        check_number(where, "temperature", temperature, 0, above=True)
        check_choice(where, "metric", metric, METRICS)
        if threshold is not None:
            check_number(where, "threshold", threshold, 0, above=True)
        if num_classes is not None:
            check_whole(where, "num_classes", num_classes)
        if capacity is not None:
            check_whole(where, "capacity", capacity, k)
        self.k = k
        self.weighting = weighting
        self.power = power
        self.temperature = temperature
        self.metric = metric
        self.threshold = threshold
        self.num_classes = num_classes
        self.capacity = capacity
        self.store = ExampleStore(dtype="float32", name="store")

    def build(self, input_shape):
        shape = tuple(input_shape)
        self._check_width(shape)
        if not self.store.built:
            self.store.allocate(self.capacity or 0, shape[1])
        self.built = True

    def call(self, inputs):
        store = self.store
        self._check_width(tuple(inputs.shape))
        self._check_count(store.examples)
        queries = self._prepare(ops.cast(inputs, "float32"))
        center, features = ops.convert_to_tensor(store.center), ops.convert_to_tensor(store.features)
        indices, squares = find_nearest(queries, features, center, ops.cast(store.size, "int32"), self.k)
        if self.metric == "cosine":
            squares = ops.square(0.5 * squares)  # 1 − cosine is half the square of the chord
        weights = vote_weights(self.weighting, squares, self.power, self.temperature)
        votes = ops.one_hot(ops.take(ops.cast(store.labels, "int32"), ops.maximum(indices, 0)), store.classes)
        scores = ops.sum(weights[:, :, None] * ops.cast(votes, "float32"), axis=1)
        scores = scores / ops.sum(weights, axis=1, keepdims=True)
        if self.threshold is not None:
            scores = self._with_unknown(scores, squares[:, :1])
        return ops.cast(scores, self.compute_dtype)

    def _with_unknown(self, scores, nearest):
        """`scores` with a last column that takes all where even the nearest example is too far."""
        unknown = ops.cast(nearest > self.threshold**2, "float32")
        unknown = ops.where(nearest < float("inf"), unknown, float("nan"))  # nothing was comparable
        return ops.concatenate([scores * (1.0 - unknown), unknown], axis=1)

    def fit(self, features, labels):
        """Store these examples instead of any before.

        Args:
            features: `(examples, features)`, finite numbers.
            labels: whole numbers from 0, one an example.
        """
        features, labels = self._checked(features, labels)
        self._check_count(len(features))
        if not self.built:
            self.build((None, features.shape[1]))
        self._hold(features, labels, self.num_classes or int(labels.max()) + 1)

    def add(self, features, labels):
        """Store these examples beside those before; their labels may be new.

        Args:
            features: `(examples, features)`, finite numbers.
            labels: whole numbers from 0, one an example.
        """
        if not self.store.examples:
            self.fit(features, labels)
            return
        features, labels = self._checked(features, labels)
        before = self.store.held()
        classes = max(self.store.classes, int(labels.max()) + 1)
        self._hold(np.concatenate([before[0], features]), np.concatenate([before[1], labels]), classes)

    def _hold(self, features, labels, classes):
        self.store.hold(features, labels, classes, self.capacity or 0)

    def _prepare(self, features):
        """Features as they are compared: of unit length for the cosine."""
        return ops.normalize(features, axis=-1, order=2) if self.metric == "cosine" else features

    def _checked(self, features, labels):
        """Both as NumPy arrays that may be stored."""
        features = np.asarray(ops.convert_to_numpy(features), "float32")
        labels = np.asarray(ops.convert_to_numpy(labels))
        self._check_width(features.shape, "features")
        wrong = np.argwhere(~np.isfinite(features))
        if len(wrong):
            value = features[tuple(wrong[0])]
            received = f"features[{wrong[0][0]}, {wrong[0][1]}]={value}"
            self._refuse("features must be finite", received, "Leave out that row, or replace the value.")
        if labels.shape != (len(features),):
            received = f"labels of shape {labels.shape} for {len(features)} rows"
            self._refuse("labels must be one whole number a row of features", received, "Pass as many of each.")
        if not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
            received = f"labels of dtype {labels.dtype} from {labels.min(initial=0)}"
            self._refuse("labels must be whole numbers from 0", received, "Pass the class indices.")
        if not len(features):
            self._refuse("features must have one row or more", "features of 0 rows", "Pass the examples to store.")
        if self.num_classes is not None and labels.max() >= self.num_classes:
            mend = f"Pass labels below {self.num_classes}, or num_classes={labels.max() + 1} when making the layer."
            self._refuse("labels must be below num_classes", f"label {labels.max()}", mend)
        if self.metric == "cosine":
            lengths = np.linalg.norm(features, axis=1, keepdims=True)
            if not lengths.all():
                received = f"features[{int(np.argmin(lengths))}] of zeros"
                self._refuse('features must have a direction for metric="cosine"', received, "Leave out that row.")
            features = ops.convert_to_numpy(self._prepare(ops.convert_to_tensor(features)))
        return features, labels.astype("int32")

    def _check_width(self, shape, name="inputs"):
        known = self.store.features.shape[1] if self.store.built else None
        if len(shape) != 2 or shape[1] is None or (known is not None and shape[1] != known):
            rule = f"{name} must be of shape (batch, {known or 'features'})"
            self._refuse(rule, f"{name} of shape {shape}", "Flatten or pool them, and keep to one number of features.")

    def _check_count(self, count):
        if count < self.k:
            mend = f"Give fit or add {self.k} examples or more, or a smaller k."
            self._refuse("k must be at most the number of stored examples", f"k={self.k} with {count} examples", mend)

    def _refuse(self, rule, received, mend):
        raise ValueError(complaint("KNNClassifier", rule, received, mend))

    def compute_output_shape(self, input_shape):
        self._check_width(tuple(input_shape))
        classes = self.store.classes or self.num_classes
        if not classes:
            self._refuse("the number of classes is not known", "num_classes=None and no examples", "Call fit first.")
        return input_shape[0], classes + (self.threshold is not None)

    def get_build_config(self):
        store = self.store
        if not store.built:
            return None
        rows, width = store.features.shape
        return {"input_shape": (None, width), "rows": rows, "examples": store.examples, "classes": store.classes}

    def build_from_config(self, config):
        self.store.allocate(config["rows"], config["input_shape"][1])
        self.store.examples, self.store.classes = config["examples"], config["classes"]
        self.build(config["input_shape"])

    def get_config(self):
        return {
            **super().get_config(),
            "k": self.k,
            "weighting": self.weighting,
            "power": self.power,
            "temperature": self.temperature,
            "metric": self.metric,
            "threshold": self.threshold,
            "num_classes": self.num_classes,
            "capacity": self.capacity,
        }
