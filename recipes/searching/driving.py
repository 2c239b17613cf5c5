"""The course of a search: legs are proposed, run and reported, and every event is on disk before the next."""

import collections
import dataclasses
import shutil
import time

from recipes.checks import complaint
from recipes.searching.records import Records
from recipes.searching.trials import RUN

_LOOK = 0.25  # seconds between two looks at what runs
_HOPELESS = 5  # failures by the same mistake, and nothing else, after which a search ends


@dataclasses.dataclass
class Drive:
    """Runs a search from where its records say to its end.

    The chooser is asked and told in an order that does not depend on how fast which trial is: a leg is reported when
    all that were proposed before it are, and what follows from a report is proposed before the next. So a search that
    was killed, whenever, chooses as an undisturbed one.

    Args:
        chooser: from `make_chooser`.
        records: Records.
        engine: with `capacity`, `start(number, folder)`, `poll(seconds)`.
        write_job: function of (leg, folder) that puts a job where the engine finds it.
        folder_of: function from the number of a trial to its folder.
        objective: name of the score that decides.
        sign: 1 where more is better, -1 where less is.
        retries: how often a trial is run again that was killed, crashed, or ran out of memory.
        keep: how many of the best trials keep what they trained.
        view: View.
        where: for errors.
    """

    chooser: object
    records: Records
    engine: object
    write_job: object
    folder_of: object
    objective: str
    sign: int
    retries: int
    keep: int
    view: object
    where: str

    def run(self):
        """Run all that is left.

        Raises:
            OSError: the disk is full; the search goes on where there is room again.
            RuntimeError: no trial succeeds.
        """
        self._open, self._waiting, self._running = collections.deque(), collections.deque(), {}
        self._since = time.monotonic()
        while True:
            self._advance()
            self._start()
            if not self._open:
                return
            for key, outcome in self.engine.poll(_LOOK):
                self._take(key, outcome)
            self.view.update(self.records, self.chooser.total, len(self._running))

    def _advance(self):
        """Propose what may be proposed, and after each report what follows from it, before the next."""
        is_new = False
        while True:
            while len(self._open) < self.chooser.most_open and (leg := self.chooser.propose()) is not None:
                record = self.records.open_leg(leg)
                self._open.append((leg, record))
                if record["outcome"] is None:
                    self._waiting.append((leg, record))
            if not self._open or self._open[0][1]["outcome"] is None:
                break
            leg, record = self._open.popleft()
            self.chooser.report(leg, record["outcome"]["scores"].get(self.objective))
            is_new = True
        if is_new:
            self._drop()

    def _start(self):
        while self._waiting and len(self._running) < self.engine.capacity:
            leg, record = self._waiting.popleft()
            folder = self.folder_of(leg.trial)
            folder.mkdir(parents=True, exist_ok=True)
            self.write_job(leg, folder)
            record["attempts"] += 1
            self._book_time()
            self._running[leg.trial] = leg, record
            self.engine.start(leg.trial, folder)

    def _take(self, key, outcome):
        """Take in how a leg ended; one that may go well another time is run again."""
        leg, record = self._running.pop(key)
        record["seconds"] += outcome.seconds
        if outcome.is_full:
            record["attempts"] -= 1
            self._book_time()
            rule = "the disk must have room for the trials"
            mend = "Make room; the same call goes on from here, and nothing is lost."
            raise OSError(complaint(self.where, rule, f"{outcome.reason} (trial {leg.trial})", mend))
        if outcome.status == "failed" and outcome.may_pass and record["crashes"] < self.retries:
            record["crashes"] += 1
            self._book_time()
            self.view.say(f"Trial {leg.trial}: {outcome.reason}. It is run again.")
            self._waiting.appendleft((leg, record))
            return
        outcome = dataclasses.replace(outcome, attempts=record["attempts"], seconds=record["seconds"])
        self._book_time(save=False)
        self.records.end_leg(record, outcome)
        self.view.end_trial(leg, outcome)
        self._drop()
        self._check_hope()

    def _drop(self):
        """Remove what trials trained that are neither among the best nor may go on."""
        outcomes = self.records.last_outcomes()
        kept = set(ranking(outcomes, self.objective, self.sign)[: self.keep])
        busy = {leg.trial for leg, record in self._open if (record["outcome"] or {}).get("status") in (None, "paused")}
        for number, outcome in outcomes.items():
            is_paused = outcome.status == "paused" and self.chooser.may_go_on(number)
            if number not in kept and number not in busy and not is_paused:
                shutil.rmtree(self.folder_of(number) / RUN, ignore_errors=True)

    def _book_time(self, save=True):
        now = time.monotonic()
        self.records.add_seconds(now - self._since)
        self._since = now
        if save:
            self.records.save()

    def _check_hope(self):
        """Raise where one mistake fails every trial."""
        outcomes = self.records.last_outcomes().values()
        is_one = len({outcome.reason for outcome in outcomes}) == 1
        if len(outcomes) >= _HOPELESS and is_one and all(outcome.is_wrong for outcome in outcomes):
            said = complain_of_failures(outcomes, self.where)
            raise RuntimeError(said)


def ranking(outcomes, objective, sign):
    """Numbers of the trials that have a score, the best first; those that are done before those that paused, and of
    equals the first.
    """
    scored = [number for number, outcome in outcomes.items() if objective in outcome.scores]
    return sorted(
        scored,
        key=lambda number: (
            outcomes[number].status != "done",
            -sign * outcomes[number].scores[objective],
            number,
        ),
    )


def complain_of_failures(outcomes, where):
    """The error of a search in which every trial failed."""
    outcomes = list(outcomes)
    reasons = collections.Counter(outcome.reason for outcome in outcomes)
    reason, count = reasons.most_common(1)[0]
    mend = "Mend that, or the space, and call again: failed trials are then run anew."
    return complaint(where, "at least one trial must succeed", f"{len(outcomes)} failures, {count} by: {reason}", mend)
