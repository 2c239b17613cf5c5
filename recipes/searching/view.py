"""What a search shows while it runs."""

import sys
import time

from recipes.reporting.tables import WIDTH, cut
from recipes.searching.driving import ranking
from recipes.training.progress import say

_LINE = 1.0  # seconds between two changes of the line at the bottom
_FIELDS = 60  # columns for the settings of a trial


class View:
    """Lines for the trials that end, and on a terminal a line below them for how the search stands.

    Args:
        objective: name of the score that decides.
        sign: 1 where more is better, -1 where less is.
        settings_of: function from the number of a trial to words for its settings.
        verbose: whether to show anything.
    """

    def __init__(self, objective, sign, settings_of, verbose):
        self._objective, self._sign, self._settings_of, self._verbose = objective, sign, settings_of, verbose
        self._is_live = verbose and sys.stdout.isatty()
        self._shown, self._drawn, self._start, self._done_before = "", 0.0, time.monotonic(), None

    def say(self, line):
        """A line that stays."""
        self._wipe()
        say(self._verbose, line)

    def end_trial(self, leg, outcome):
        """Say how a trial, or a leg of it, ended."""
        score = outcome.scores.get(self._objective)
        came = outcome.reason if score is None else f"{self._objective} {score:.4f}"
        rung = f" after {outcome.epochs} epochs" if outcome.status == "paused" else ""
        settings = cut(self._settings_of(leg.trial), _FIELDS)
        self.say(f"Trial {leg.trial}{rung}: {came} ({outcome.seconds:.1f} s) {settings}")

    def update(self, records, total, running):
        """Draw the line at the bottom anew: trials done and running, the best so far, the time that is left."""
        if not self._is_live or time.monotonic() - self._drawn < _LINE:
            return
        self._drawn = time.monotonic()
        seconds = self._left(records, total)
        line = cut(standing_line(records, total, running, self._objective, self._sign, seconds), WIDTH)
        self._wipe()
        sys.stdout.write(line)
        sys.stdout.flush()
        self._shown = line

    def close(self):
        """Take the line at the bottom away."""
        self._wipe()

    def _left(self, records, total):
        """Seconds that are left, by the pace of the legs that ended since the start; None while there is no pace."""
        done = sum(leg["outcome"] is not None for trial in records["trials"] for leg in trial["legs"])
        if self._done_before is None:
            self._done_before = done
        ended = done - self._done_before
        return (time.monotonic() - self._start) / ended * (total - done) if ended else None

    def _wipe(self):
        if self._shown:
            sys.stdout.write("\r" + " " * len(self._shown) + "\r")
            self._shown = ""


def standing_line(records, total, running, objective, sign, seconds):
    """How a search stands, in one line."""
    outcomes = records.last_outcomes()
    done = sum(leg["outcome"] is not None for trial in records["trials"] for leg in trial["legs"])
    failed = sum(outcome.status == "failed" for outcome in outcomes.values())
    parts = [f"{done} of {total} done", f"{running} running"] + [f"{failed} failed"] * bool(failed)
    best = ranking(outcomes, objective, sign)
    if best:
        parts.append(f"best {objective} {outcomes[best[0]].scores[objective]:.4f} (trial {best[0]})")
    if seconds is not None:
        minutes, rest = divmod(round(seconds), 60)
        parts.append(f"about {minutes} min {rest:02d} s left" if minutes else f"about {rest} s left")
    return " · ".join(parts)
