"""Callbacks of a stage: measure, keep the best weights, stop when nothing improves, at a NaN, at Ctrl-C."""

import signal
import threading

import keras
import numpy as np

from recipes.checks import complaint
from recipes.data.batches import predict_split


class Validate(keras.callbacks.Callback):
    """Measures the model after each epoch: `val_accuracy` and `val_loss` in the logs of the callbacks after it.

    As `validation_data` would, without penalties on weights, and by a function that also serves after training.

    Args:
        source: Split, or rows that stand for its images.
        batch_size: images per step.
        loss: function of integer labels and probabilities, one number each.
        run: from `compiled`, or None.
        callbacks: told of the end of each batch.
    """

    def __init__(self, source, batch_size, loss, run=None, callbacks=()):
        super().__init__()
        self.source, self.batch_size, self.loss, self.run = source, batch_size, loss, run
        self.callbacks = tuple(callbacks)

    def on_epoch_end(self, epoch, logs=None):
        probabilities = predict_split(self.model, self.source, self.batch_size, self.run, self.callbacks)
        labels = self.source.labels
        logs["val_accuracy"] = float(np.mean(probabilities.argmax(-1) == labels))
        logs["val_loss"] = float(keras.ops.mean(self.loss(labels, probabilities)))


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights with the best validation score and brings them back when training ends.

    Better is a higher validation accuracy, or an equal one with a lower validation loss.

    Args:
        patience: epochs without improvement after which training stops; None never stops.
        best: the score to beat, `(accuracy, -loss)`, when the weights that the model comes with have one.
    """

    def __init__(self, patience=None, best=None):
        super().__init__()
        self.patience = patience
        self.best = best
        self.weights = None
        self.waited = 0

    def on_train_begin(self, logs=None):
        if self.best is not None:
            self.weights = self.model.get_weights()

    def on_epoch_end(self, epoch, logs=None):
        score = (logs["val_accuracy"], -logs["val_loss"])
        if self.best is None or score > self.best:
            self.best, self.waited, self.weights = score, 0, self.model.get_weights()
            return
        self.waited += 1
        if self.patience is not None and self.waited >= self.patience:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.weights is not None:
            self.model.set_weights(self.weights)


class StopOnNaN(keras.callbacks.Callback):
    """Raises FloatingPointError as soon as the loss is not finite.

    Args:
        where: for the error.
        stage: name of the stage, for the error.
    """

    def __init__(self, where, stage):
        super().__init__()
        self.where, self.stage, self.epoch = where, stage, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not np.isfinite(logs["loss"]):
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            received = (
                f"{logs['loss']} in stage {self.stage!r}, epoch {self.epoch + 1}, step {batch + 1} (rate {rate:g})"
            )
            mend = f"Lower the learning rate (learning_rate={rate / 10:g}, say) or set precision='float32'."
            raise FloatingPointError(complaint(self.where, "the loss must stay finite", received, mend))


class StopOnInterrupt(keras.callbacks.Callback):
    """Within `with`, Ctrl-C ends training between two batches; a second one ends it where it stands.

    An exception that Python raises wherever it happens to be is lost when that is a finalizer, and training goes on.
    """

    def __init__(self):
        super().__init__()
        self._before = None
        self._asked = False

    def __enter__(self):
        # Whoever has set a handler of their own, or trains in a thread, where there are no signals, has their way.
        is_ours = threading.current_thread() is threading.main_thread()
        if is_ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, kind, *_):
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if kind is None:
            self._stop_if_asked()

    def _ask(self, number, frame):
        if self._asked:
            signal.default_int_handler(number, frame)
        self._asked = True

    def _stop_if_asked(self):
        if self._asked:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        self._stop_if_asked()

    def on_predict_batch_end(self, batch, logs=None):
        self._stop_if_asked()
