"""What a run notes down as it goes, so that it can go on from there after it was stopped."""

import collections
import dataclasses
import time
import warnings

import keras
import numpy as np

from recipes.training.checkpoints import Checkpoints
from recipes.training.standing import Standing

_SHARE = 0.02  # of the time, at most, goes into checkpoints


class Journal:
    """The place of a run in its plan, and the checkpoints that remember it.

    Args:
        checkpoints: Checkpoints, or None where nothing is noted down.
        variables: for each stage, the Keras variables that may have changed by its end, and for the end of the run
            those of all stages.
        steps: steps from one checkpoint to the next, or None.
        seconds: the same in seconds; longer where checkpoints would take more than a fiftieth of the time.
        snapshots: epochs of the stage whose weights are kept, the last ones.

    Attributes:
        stage: number of the stage that comes next, or is under way.
        curves: per-epoch lists of the stages before it.
        decided: dictionary of what the run has found out about its machine, JSON-able.
        is_kept: whether another process could go on.
        failure: the error of the last checkpoint that was to be written, or None.
    """

    def __init__(self, checkpoints, variables, steps=None, seconds=60.0, snapshots=0):
        self.stage, self.curves, self.decided = 0, {"stage": []}, {}
        self._checkpoints, self._variables = checkpoints, variables
        self._steps, self._seconds = steps, seconds
        self._since, self._start, self._spent, self._cost = 0, time.monotonic(), 0.0, 0.0
        self._last = self._start
        self._standing, self._optimizer, self._best = Standing(), None, None
        self._found, self._slowed = {}, 1.0
        self._snapshots = collections.deque(maxlen=snapshots)
        self.failure = None
        self.is_kept = isinstance(checkpoints, Checkpoints)

    def restore(self):
        """Bring the network to where the newest checkpoint left it; whether there is one."""
        found = self._checkpoints.load() if self._checkpoints is not None else None
        if found is None:
            return False
        self._take(*found)
        return True

    def _take(self, state, arrays):
        self._found = arrays
        self.stage, self.curves = state["stage"], state["curves"]
        self.decided.update(state["decided"])
        self._standing = Standing(**state["standing"])
        self._best = self._found["best"] or None
        self._snapshots.clear()
        count, kept = len(self._variables[self.stage]), self._found["snapshots"]
        self._snapshots.extend(kept[start : start + count] for start in range(0, len(kept), count or 1))
        _assign(self._variables[self.stage], self._found["network"])

    @property
    def standing(self):
        """Standing of the stage that comes next or was under way, a copy."""
        return Standing(**dataclasses.asdict(self._standing))

    def begin_stage(self, optimizer):
        """Note down this optimizer from now on; where the stage was under way, it is brought to where it was.

        Returns:
            What the rate that it then has is to be multiplied by.
        """
        self._optimizer = optimizer
        if self._found.get("optimizer"):
            _assign(optimizer.variables, self._found["optimizer"])
        elif self._standing.score is not None:
            self.keep_best()
        slowed, self._slowed, self._found = self._slowed, 1.0, {}
        return slowed

    def go_back(self, factor):
        """Bring the network to a checkpoint of this stage, to go on from there at `factor` of the rates; whether there
        is one. The one before the newest, where it can be: the newest may hold what made the numbers go wrong.
        """
        if self._checkpoints is None:
            return False
        for skipped in (1, 0):
            found = self._checkpoints.load(skipped)
            if found is not None and found[0]["stage"] == self.stage:
                self._take(*found)
                self._standing.rate_factor *= factor
                self._slowed = factor if self._found["optimizer"] else 1.0
                return True
        return False

    def is_due(self):
        """Whether, a step after the last time this was asked, a checkpoint should be written."""
        if self._checkpoints is None:
            return False
        self._since += 1
        if self._steps is not None:
            return self._since >= self._steps
        now = time.monotonic()
        return now - self._last >= self._seconds and self._spent + self._cost <= _SHARE * (now - self._start)

    def keep_best(self):
        """Take the weights that the network has as the best so far."""
        self._best = _values(self._variables[self.stage])

    def keep_snapshot(self):
        """Take the weights that the network has as those of the epoch that ends."""
        if self._snapshots.maxlen:
            self._snapshots.append(_values(self._variables[self.stage]))

    def assign_average(self):
        """Give the network the mean of the snapshots, where there are two or more; how many there are.

        What is no floating-point number is left as it is.
        """
        if len(self._snapshots) > 1:
            for variable, *values in zip(self._variables[self.stage], *self._snapshots, strict=True):
                if "float" in keras.backend.standardize_dtype(variable.dtype):
                    # In double precision, so that the mean of equal numbers is that number.
                    variable.assign(np.mean(np.array(values, np.float64), axis=0).astype(np.float32))
        return len(self._snapshots)

    def save(self, standing):
        """Write a checkpoint; where that fails, warn and let the run go on with the one before."""
        self._standing = Standing(**dataclasses.asdict(standing))
        if self._checkpoints is None:
            return
        start = time.monotonic()
        state = {
            "stage": self.stage,
            "standing": dataclasses.asdict(standing),
            "curves": self.curves,
            "decided": self.decided,
        }
        arrays = {
            "network": _values(self._variables[self.stage]),
            "optimizer": _values(self._optimizer.variables) if self._optimizer is not None else [],
            "best": self._best or [],
            "snapshots": [value for snapshot in self._snapshots for value in snapshot],
        }
        try:
            self._checkpoints.save(state, arrays)
            self.failure = None
        except OSError as error:
            self.failure = error
            reason = error.strerror or str(error)
            warnings.warn(f"No checkpoint could be written ({reason}). The run goes on.", stacklevel=2)
        self._since, self._last = 0, time.monotonic()
        self._cost = self._last - start
        self._spent += self._cost

    def end_stage(self, name, standing):
        """Bring the best weights back to the network, book the stage, called `name`, and turn to the next."""
        if self._best is not None:
            _assign(self._variables[self.stage], self._best)
        for key, values in standing.history.items():
            self.curves.setdefault(key, []).extend(values)
        self.curves["stage"].extend([name] * standing.epoch)
        self.stage += 1
        self._optimizer = self._best = None
        self._snapshots.clear()
        self.save(Standing(score=standing.score))


def _values(variables):
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
