"""What a learning-rate range test found, and the rule that reads a rate off it."""

import dataclasses
import math

import numpy as np

from recipes.files import write_json

_WIDTH = 0.2  # decades: deviation of the kernel that smooths the losses
_FIRST = 8  # steps at rates that move nothing: their mean is the loss at start
_AWAY = 3  # steps in a row, so that one odd batch does not count
_LEAST_FALL = 0.05  # of the loss at start; less is chance
_SHOWN = 12  # lines of the table


@dataclasses.dataclass(frozen=True, repr=False)
class RateSweep:
    """What a learning-rate range test found. Prints as a table; `save` brings it to JSON.

    Args:
        suggestion: learning rate; None where the loss neither falls nor rises, so that nothing can be said.
        reason: how it came about, a sentence.
        steepest: rate at which the loss falls fastest.
        best: rate at which the loss is least.
        diverged: rate above `best` at which the loss has risen clearly: by half of what it fell, and by a tenth of the
            loss at start; or the rate at which it had run away. None where it does neither.
        rates: of the steps that all runs took, rising.
        losses: smoothed, one per rate: the mean loss of a batch (nats, penalties included) before the step.
        raw: the median over the runs, one per rate, as measured.
        stage: name of the stage that was tried.
        runs: how many, each in another order of the images.
        seconds: of wall time, the frozen part included where it was not known yet.
    """

    suggestion: float | None
    reason: str
    steepest: float
    best: float
    diverged: float | None
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    raw: tuple[float, ...]
    stage: str
    runs: int
    seconds: float

    @property
    def line(self):
        """The outcome in one line."""
        found = f"rate {self.suggestion:.2g}" if self.suggestion else "no rate"
        return f"Stage {self.stage!r}: {found} found in {self.seconds:.1f} s. {self.reason}"

    def __repr__(self):
        places = np.unique(np.linspace(0, len(self.rates) - 1, _SHOWN).round().astype(int))
        rows = [f"{self.rates[place]:>9.2g}  {self.losses[place]:>7.4f}" for place in places]
        runs = "1 run" if self.runs == 1 else f"{self.runs} runs"
        return "\n".join([self.line, f"({runs} of {len(self.rates)} steps)", "", "     rate     loss", *rows])

    def save(self, path):
        """Write this to `path` as JSON (through a temporary name)."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def of(cls, rates, runs, stage, seconds):
        """The RateSweep of the losses of some runs, lists that may end early where the loss had run away.

        1. The median over the runs at each rate; what is above twice the loss at start counts as that.
        2. Smooth it in the logarithm of the rate, by a Gaussian kernel of 0.2 decades.
        3. Suggest a tenth of the rate at which the loss has risen again by half of what it fell (and by a tenth of the
           loss at start), or at which it had run away; where it rises at no rate, the rate at which it falls fastest.
        """
        count, steps = len(rates), min(map(len, runs))
        rates = np.asarray(rates[:steps], float)
        raw = np.median([run[:steps] for run in runs], 0)
        start = raw[:_FIRST].mean()
        losses = _smoothed(np.log10(rates), np.minimum(np.nan_to_num(raw, nan=np.inf), 2 * start))
        best = int(losses.argmin())
        fall = start - losses[best]
        steepest = int(np.gradient(losses, np.log10(rates))[: best + 1].argmin())
        limit = losses[best] + max(fall / 2, 2 * _LEAST_FALL * start)
        risen = np.flatnonzero(losses[best:] > limit)
        diverged = _crossing(rates, losses, best + risen[0], limit) if len(risen) else None
        if diverged is None and steps < count:
            diverged = float(rates[-1])
        suggestion, reason = _suggested(float(rates[steepest]), diverged, fall / start)
        told = (tuple(map(float, values)) for values in (rates, losses, raw))
        return cls(
            suggestion, reason, float(rates[steepest]), float(rates[best]), diverged, *told, stage, len(runs), seconds
        )


def _crossing(rates, losses, place, limit):
    """The rate at which the loss goes through a limit, on a line between two steps: it depends on the losses smoothly,
    so that what differs by rounding finds the same rate up to rounding.
    """
    share = (limit - losses[place - 1]) / (losses[place] - losses[place - 1])
    return float(rates[place - 1] * (rates[place] / rates[place - 1]) ** share)


def is_away(losses):
    """Whether a loss has run away: it is no number; three in a row are above twice the first and four times the least;
    or, having fallen by a fifth, it is back where it came from.
    """
    if not math.isfinite(losses[-1]):
        return True
    if len(losses) > _AWAY and min(losses[-_AWAY:]) > max(2 * losses[0], 4 * min(losses)):
        return True
    if len(losses) < _FIRST:
        return False
    middles = np.median(np.lib.stride_tricks.sliding_window_view(losses, _FIRST), 1)
    return bool(middles.min() < 0.8 * middles[0] <= 0.8 * middles[-1])


def _suggested(steepest, diverged, fall):
    """(rate or None, a sentence on how it came about)."""
    if diverged is not None:
        return diverged / 10, f"A tenth of the rate at which the loss rises again ({diverged:.2g})."
    if fall < _LEAST_FALL:
        return None, "The loss neither falls nor rises at any rate."
    return steepest, "There the loss falls fastest, and it rises at no rate."


def _smoothed(places, values):
    """Weighted means of the values about each place, a Gaussian kernel's."""
    weights = np.exp(-(((places[:, None] - places) / _WIDTH) ** 2) / 2)
    return weights @ values / weights.sum(1)
