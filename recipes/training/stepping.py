"""One step of training as compiled functions: of a batch at once, or part by part where memory is short."""

import keras
import numpy as np
import tensorflow as tf

from recipes.data.batches import replicas_of, traced

_LEAST_SCALE = 2.0**-20  # of a loss in half precision


def distribute(model, batches):
    """The batches as the devices take them that `model` trains on in step."""
    if replicas_of(model) == 1:
        return batches
    return model.distribute_strategy.experimental_distribute_dataset(batches)


class Stepper:
    """Trains a model on a batch, when called.

    Args:
        model: Keras model: its trainable variables, and the losses that its layers add.
        run: function of (rows, training) that computes what `model` does.
        optimizer: Keras optimizer, built.
        objective: of `recipes.training.objectives`: losses and hits from labels and what the model gives.
        batches: dataset of (rows, labels[, weights]), as `distribute` gives it.
        size: images that go through the model together; None for the whole batch. The gradients of the parts of a
            batch are brought together before the optimizer takes its step, which is therefore that of the whole; only
            BatchNormalization that trains goes by the parts.
    """

    def __init__(self, model, run, optimizer, objective, batches, size=None):
        self._model, self._run, self._optimizer, self._objective = model, run, optimizer, objective
        self._variables = model.trainable_variables
        self._replicas = replicas_of(model)
        self._strategy = model.distribute_strategy if tf.distribute.has_strategy() else None
        self._size = size
        if size is None:
            self._whole = self._compiled(self._step, [batches.element_spec])
            return
        self._sums = [tf.Variable(tf.zeros(variable.shape, variable.dtype)) for variable in self._variables]
        self._add = self._compiled(self._add_part, [*batches.element_spec, tf.TensorSpec((), tf.float32)])
        self._apply = self._compiled(self._apply_sums, [])

    def __call__(self, batch):
        """Train on a batch.

        Returns:
            float32 `(4,)`: the loss, summed over the images; how many of them were told right; how many there are; and
            a number that is finite just when the loss and all gradients are.
        """
        if self._size is None:
            return self._whole(batch)
        rows, labels = batch
        count, told = len(labels), 0
        for start in range(0, count, self._size):
            part = slice(start, start + self._size)
            told += self._add(rows[part], labels[part], len(labels[part]) / count)
        self._apply()
        return told

    def shortage(self, batch):
        """The error of the first part of a batch that goes through the model and back; None where memory suffices."""
        kept = [(variable, keras.ops.convert_to_numpy(variable).copy()) for variable in self._model.variables]
        try:
            rows, labels = batch
            self._add(rows[: self._size], labels[: self._size], 0.0)
        except tf.errors.ResourceExhaustedError as error:
            return error
        finally:
            for variable, value in kept:
                variable.assign(value)
        return None

    def _compiled(self, function, signature):
        # Not by XLA, as Keras' `fit` does on GPUs: an H200 compiled `small_resnet` for 9 to 20 s, and `resnet50` for
        # more than a minute, to save 0.1 to 0.3 s an epoch; on a CPU it ruins depthwise convolutions.
        if self._strategy is not None:
            return tf.function(function, signature, autograph=False)
        return traced(function, signature)

    def _step(self, batch):
        if self._strategy is None:
            sums = self._train(*batch)
        else:
            shares = self._strategy.run(self._train, batch)
            sums = self._strategy.reduce(tf.distribute.ReduceOp.SUM, shares, axis=None)
        return tf.concat([sums[:1] * sums[2], sums[1:]], 0)

    def _train(self, rows, labels, weights=None):
        gradients, sums = self._differentiate(rows, labels, weights)
        self._optimizer.apply(gradients, self._variables)
        return sums

    def _add_part(self, rows, labels, share):
        """Take in the gradients of a part that is this share of a batch."""
        gradients, sums = self._differentiate(rows, labels, None)
        for total, gradient in zip(self._sums, gradients, strict=True):
            if gradient is not None:
                total.assign_add(tf.cast(share, total.dtype) * tf.convert_to_tensor(gradient))
        return tf.concat([sums[:1] * sums[2], sums[1:]], 0)

    def _apply_sums(self):
        self._optimizer.apply([tf.convert_to_tensor(total) for total in self._sums], self._variables)
        for total in self._sums:
            total.assign(tf.zeros_like(total))

    def _differentiate(self, rows, labels, weights):
        """(gradients, [mean loss, images told right, images, health]) of this device's images."""
        with tf.GradientTape() as tape:
            outputs = self._run(rows, True)
            losses = self._objective(labels, outputs)
            weights = tf.ones_like(losses) if weights is None else tf.cast(weights, losses.dtype)
            penalties = sum(tf.reduce_sum(tf.cast(penalty, losses.dtype)) for penalty in self._model.losses)
            total = (tf.reduce_mean(losses * weights) + penalties) / self._replicas
            scaled = self._optimizer.scale_loss(total)
        gradients = tape.gradient(scaled, [variable.value for variable in self._variables])
        counted = tf.cast(weights > 0, tf.float32)
        hits = self._objective.hits(labels, outputs)
        told = [total, tf.reduce_sum(hits * counted), tf.reduce_sum(counted), total + self._health(gradients)]
        return gradients, tf.stack([tf.cast(number, tf.float32) for number in told])

    def _health(self, gradients):
        """A number that is finite just when all gradients are."""
        if isinstance(self._optimizer, keras.optimizers.LossScaleOptimizer):
            # Its gradients overflow now and then; it leaves the step out and scales by half. Down here, all of them do.
            scale = tf.convert_to_tensor(self._optimizer.dynamic_scale)
            return tf.where(scale < _LEAST_SCALE, np.nan, 0.0)
        return tf.add_n([tf.cast(tf.reduce_sum(part), tf.float32) for part in gradients if part is not None])
