"""What a run shows while it works, and how long its parts take."""

import sys
import time


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


def fit_verbosity(verbose):
    """Keras' `verbose`: its bar on a terminal and in notebooks, one line an epoch in a log."""
    if not verbose:
        return 0
    return 1 if sys.stdout.isatty() or "ipykernel" in sys.modules else 2
