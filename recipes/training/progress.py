"""What a run shows while it works, and how long its parts take."""

import contextlib
import gc
import sys
import time

import keras

_OBJECTS = 50_000  # that are made between two of its visits


@contextlib.contextmanager
def collector_spared():
    """Within, the garbage collector comes more rarely: while a network is built and traced, it would go through all
    objects of TensorFlow and Keras again and again.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(_OBJECTS, before[0]), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Clock:
    """Wall seconds by part of a run: `lap(name)` books the time since the last lap."""

    def __init__(self):
        self.laps = {}
        self._last = time.monotonic()

    def lap(self, name):
        now = time.monotonic()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now


def say(verbose, line):
    """One line between the progress bars."""
    if verbose:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


class EpochLine:
    """A bar that fills in the course of an epoch, on a terminal and in notebooks; one line at its end in a log.

    Args:
        standing: Standing at the start.
        steps: in an epoch.
        epochs: in the stage, at most.
        verbose: whether to show anything.
    """

    def __init__(self, standing, steps, epochs, verbose):
        self._title = f"Epoch {standing.epoch + 1}/{epochs}"
        self._verbose, self._bar, self._start = verbose, None, time.monotonic()
        if verbose and (sys.stdout.isatty() or "ipykernel" in sys.modules):
            say(verbose, self._title)
            self._bar = keras.utils.Progbar(steps, stateful_metrics=["accuracy", "loss"])

    def show(self, standing):
        """Bring the bar up to a step."""
        if self._bar is not None:
            self._bar.update(standing.step, list(standing.running().items()), finalize=False)

    def end(self, standing):
        """Show the scores of the epoch that has ended."""
        scores = [(name, values[-1]) for name, values in standing.history.items()]
        if self._bar is not None:
            self._bar.update(self._bar.target, scores, finalize=True)
            return
        listed = ", ".join(f"{name} {value:.4g}" for name, value in scores)
        say(self._verbose, f"{self._title}: {listed} ({time.monotonic() - self._start:.1f} s)")
