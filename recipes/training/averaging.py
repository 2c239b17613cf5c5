"""Moving averages of the weights, and BatchNormalization that fits them."""

import contextlib

import keras
import tensorflow as tf

from recipes.data.batches import form, ordered_rows, replicas_of, traced
from recipes.training.statistics import normalizations, settle
from recipes.values import Split


class Averages:
    """The moving averages that an optimizer keeps of what it trains, where it does.

    BatchNormalization that trains remembers the weights as they came, not their average: it is given the statistics of
    the training images, batch by batch in training mode, under the averaged weights (as Izmailov et al. 2018 do for
    averaged weights). Several devices in step keep what they remember.

    Args:
        prepared: Prepared.
        optimizer: LayerwiseOptimizer, or a LossScaleOptimizer around it; built.
        batch_size: images that go through the model together.
        between: called after each batch.
        positions: of the training images that BatchNormalization sees.
    """

    def __init__(self, prepared, optimizer, batch_size, between, positions):
        model = prepared.model
        self._prepared, self._optimizer, self._batch_size = prepared, optimizer, batch_size
        self._between, self._positions = between, positions
        self._is_kept = optimizer.inner_optimizer.use_ema
        is_alone = replicas_of(model) == 1
        self._normalizations = [layer for layer in normalizations(model) if layer.trainable and is_alone]
        weights = {id(weight) for weight in model.weights}
        self._states = [variable for variable in model.variables if id(variable) not in weights]
        self._look = None

    @contextlib.contextmanager
    def shown(self):
        """Within, the weights of the model are their averages."""
        if not self._is_kept:
            yield
            return
        with kept([*self._prepared.model.trainable_variables, *self._statistics()]):
            self.bring()
            yield

    def bring(self):
        """Let the weights of the model be their averages."""
        if not self._is_kept:
            return
        self._optimizer.finalize_variable_values(self._prepared.model.trainable_variables)
        if self._normalizations:
            with kept(self._states):  # what is dropped here must not change what is dropped in training
                self._settle()

    def _statistics(self):
        return [weight for layer in self._normalizations for weight in (layer.moving_mean, layer.moving_variance)]

    def _settle(self):
        if self._look is None:
            shape, dtype = form(self._prepared.train)
            spec = tf.TensorSpec((None, *shape), dtype)
            self._look = traced(lambda rows: self._prepared.run(rows, True), [spec])
        settle(self._look, self._batches(), self._normalizations)

    def _batches(self):
        source = self._prepared.train
        rows, places = (source.store, source.rows) if isinstance(source, Split) else source.view(0)
        for _, batch in ordered_rows(rows, places, self._positions, self._batch_size):
            yield batch
            self._between()


@contextlib.contextmanager
def kept(variables):
    """Afterwards the variables have the values that they had, bit by bit."""
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
