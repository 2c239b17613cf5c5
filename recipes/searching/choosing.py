"""Who chooses the trials: a grid that is counted through, or one of KerasTuner's oracles."""

import contextlib
import dataclasses
import math
import tempfile
import warnings

import keras_tuner
import numpy as np

from recipes.checks import complaint
from recipes.searching.spaces import grid, is_finite

METHODS = ("grid", "random", "hyperband", "bayesian")
_TRIALS = 20
_FACTOR = 3  # of hyperband: a third of the trials goes on, for three times as long
_SPARE = 1.5  # combinations that random draws need, for each that is drawn, not to hit the same ones too often
_NO_LIMIT = 10**9


@dataclasses.dataclass(frozen=True)
class Leg:
    """Training that was chosen: a trial from its start, or from where it paused.

    Args:
        trial: number of the trial, from 0.
        values: KerasTuner's values of its hyperparameters, by name.
        epochs: after which it pauses, counted from its start; None for all.
        key: of KerasTuner's own.
    """

    trial: int
    values: dict
    epochs: int | None = None
    key: str | None = None


def make_chooser(method, hp, objective, trials, epochs, workers, seed, where, before=()):
    """A chooser: `propose()` gives the next Leg, or None where there is none at this time; `report(leg, score)` tells
    it how good one was, in the order in which they were proposed, None for a failure; `may_go_on(trial)` is whether a
    trial that has paused may be proposed again; `most_open` is how many legs may be proposed before the first of them
    is reported; `total` is how many there will be at most.

    The same reports bring the same proposals, whatever comes in between: a search that was killed chooses again as
    before.

    Args:
        method: one of METHODS.
        hp: KerasTuner's HyperParameters.
        objective: KerasTuner's Objective.
        trials: most trials, or None.
        epochs: of a whole run, for hyperband.
        workers: trials at a time.
        seed: whole number.
        where: for errors.
        before: values of the trials that were chosen before the search was stopped. They stand, even where an oracle
            would choose others by now, since failures were run anew, or another machine rounds otherwise.
    """
    combinations = grid(hp, where) if method == "grid" or is_finite(hp) else None
    if method == "grid":
        _check_trials(trials, len(combinations), where)
        return _Grid(combinations)
    common = {"objective": objective, "hyperparameters": hp, "seed": seed + 1}  # KerasTuner takes 0 for no seed
    common |= {"allow_new_entries": False, "tune_new_entries": True, "max_consecutive_failed_trials": _NO_LIMIT}
    oracles = keras_tuner.oracles
    if method == "hyperband":
        if trials is not None:
            rule, mend = "hyperband decides on the number of trials by the epochs", "Leave trials out."
            raise ValueError(complaint(where, rule, f"trials={trials}", mend))
        legs, drawn = _legs_of_hyperband(epochs)
        _check_room(combinations, math.ceil(drawn * _SPARE), f"hyperband over {epochs} epochs", where)
        oracle = oracles.HyperbandOracle(max_epochs=epochs, factor=_FACTOR, **common)
        return _Oracle(oracle, math.inf, legs, before)
    trials = trials or (_TRIALS if combinations is None else max(1, min(_TRIALS, int(len(combinations) / _SPARE))))
    _check_room(combinations, min(math.ceil(trials * _SPARE), trials + 20), f"{method} with trials={trials}", where)
    if method == "random":
        return _Oracle(oracles.RandomSearchOracle(max_trials=trials, **common), math.inf, trials, before)
    return _Oracle(oracles.BayesianOptimizationOracle(max_trials=trials, **common), workers, trials, before)


class _Grid:
    """Every combination, one after the other."""

    def __init__(self, combinations):
        self.most_open, self.total = math.inf, len(combinations)
        self._left = list(enumerate(combinations))[::-1]

    def propose(self):
        """The next Leg, or None at the end."""
        return Leg(*self._left.pop()) if self._left else None

    def report(self, leg, score):
        """Nothing follows from a score."""

    def may_go_on(self, trial):
        """No trial pauses."""
        return False


class _Oracle:
    """KerasTuner's oracle, asked for one trial at a time."""

    def __init__(self, oracle, most_open, total, before):
        self.most_open, self.total = most_open, total
        self._oracle, self._numbers, self._before = oracle, {}, before
        self._brackets, self._rungs, self._scores = {}, {}, {}
        # The oracle writes files of its own as it goes, which nobody reads.
        self._folder = tempfile.TemporaryDirectory(prefix="recipes-search-")
        with _quiet():
            keras_tuner.engine.base_tuner.BaseTuner(oracle, directory=self._folder.name, project_name="oracle")
        oracle.verbose = 0

    def propose(self):
        """The next Leg; None while the oracle waits for reports, and at its end."""
        with _quiet():
            trial = self._oracle.create_trial(f"leg {len(self._numbers)}")
        if trial.status != "RUNNING":
            return None
        values = {name: _plain(value) for name, value in trial.hyperparameters.values.items()}
        own = {name: values.pop(name) for name in list(values) if name.startswith("tuner/")}
        before = own.get("tuner/trial_id")
        number = self._numbers[before] if before is not None else len(set(self._numbers.values()))
        self._numbers[trial.trial_id] = number
        self._brackets.setdefault(number, own.get("tuner/bracket"))
        self._rungs[number] = own.get("tuner/round")
        if number < len(self._before):
            values = dict(self._before[number])
            trial.hyperparameters.values = values | own
        epochs = own.get("tuner/epochs")
        is_whole = epochs is None or epochs == self._oracle.max_epochs
        return Leg(number, values, None if is_whole else epochs, trial.trial_id)

    def report(self, leg, score):
        """Tell the oracle the score of a leg, None for a failure."""
        trial = self._oracle.get_trial(leg.key)
        self._scores[leg.trial, self._rungs[leg.trial]] = score
        with _quiet():
            if score is None:
                trial.status = "FAILED"
            else:
                self._oracle.update_trial(leg.key, {self._oracle.objective.name: score})
                trial.status = "COMPLETED"
            self._oracle.end_trial(trial)

    def may_go_on(self, trial):
        """Whether a trial that has paused may be proposed again: while few of its rung are better."""
        bracket, rung = self._brackets[trial], self._rungs[trial]
        score = self._scores.get((trial, rung))
        if bracket is None or rung == bracket or (trial, rung) not in self._scores:
            return False
        sign = 1 if self._oracle.objective.direction == "max" else -1
        better = [
            other
            for (number, at), other in self._scores.items()
            if at == rung and self._brackets[number] == bracket and other is not None and sign * other > sign * score
        ]
        return len(better) < rung_size(self._oracle.max_epochs, bracket, rung + 1)


def _plain(value):
    """A number of NumPy's as one of Python's, which a file can say."""
    return value.item() if isinstance(value, np.generic) else value


@contextlib.contextmanager
def _quiet():
    """Within, KerasTuner's use of names that Python is about to drop brings no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def rung_size(epochs, bracket, rung):
    """Trials in a rung of hyperband (Li et al. 2018, as KerasTuner counts them), of a search over so many epochs."""
    end = math.ceil(1 + math.log(epochs, _FACTOR)) / (bracket + 1)
    return math.ceil(end * _FACTOR ** (bracket - rung))


def _legs_of_hyperband(epochs):
    """(legs, trials) of hyperband over so many epochs."""
    brackets = range(int(math.log(epochs, _FACTOR) + 1e-9) + 1)
    sizes = [[rung_size(epochs, bracket, rung) for rung in range(bracket + 1)] for bracket in brackets]
    return sum(map(sum, sizes)), sum(rungs[0] for rungs in sizes)


def _check_trials(trials, combinations, where):
    if trials is not None and trials < combinations:
        mend = 'Leave trials out, make the space smaller, or pass method="random".'
        raise ValueError(complaint(where, f"a grid visits all {combinations} combinations", f"trials={trials}", mend))


def _check_room(combinations, needed, what, where):
    if combinations is not None and len(combinations) < needed:
        received = f"{len(combinations)} for {what}"
        mend = 'Pass method="grid", fewer trials or epochs, or ranges without steps.'
        raise ValueError(complaint(where, f"the space must have {needed} combinations", received, mend))
