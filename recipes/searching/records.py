"""What a search notes down: every trial and what came of it, in one file that is whole at every moment."""

import contextlib
import dataclasses
import json
import os
import shutil

from recipes.checks import complaint
from recipes.files import write_json
from recipes.locks import lock
from recipes.saving import writable_folder
from recipes.searching.spaces import label
from recipes.searching.trials import Outcome
from recipes.training.runs import EARLIER

STATE, TABLE, PAGE = "search.json", "trials.csv", "search.html"
SHARED, TRIALS, BEST = "shared", "trials", "best"


def folder_of(folder, number):
    """The folder of a trial in that of its search."""
    return folder / TRIALS / f"{number:04d}"


@contextlib.contextmanager
def search_folder(out, where):
    """The folder of a search, held against other processes.

    Raises:
        BlockingIOError: another process holds it.
        FileExistsError: it holds something else.
        OSError: it cannot be written.
    """
    folder = writable_folder(out, where)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not lock(descriptor, "at once"):
            mend = "Wait for it, or choose another folder."
            raise BlockingIOError(complaint(where, "out is in use by another search", repr(str(folder)), mend))
        strange = [path for path in folder.iterdir() if not path.name.startswith((".", EARLIER))]
        if strange and not (folder / STATE).exists():
            rule, mend = "out must be a new folder, an empty one or that of a search", "Choose another folder."
            raise FileExistsError(complaint(where, rule, repr(str(folder)), mend))
        yield folder
    finally:
        os.close(descriptor)


class Records:
    """The state file of a search.

    Args:
        folder: of the search.
        told: JSON-able dictionary of all that decides its course.
        where: for errors.

    Raises:
        FileExistsError: the folder holds a search with other settings.
    """

    def __init__(self, folder, told, where):
        self._path, self._where = folder / STATE, where
        told = json.loads(json.dumps(told))
        self._state = {"search": told, "data": {}, "best": None, "seconds": 0.0, "trials": []}
        if self._path.exists():
            self._state |= json.loads(self._path.read_text(encoding="utf-8"))
            self._compare(told)
        else:
            self.save()

    def _compare(self, told):
        before = self._state["search"]
        changed = [
            f"{key} was {label(before.get(key))} and is {label(told.get(key))}"
            for key in sorted({*before, *told})
            if before.get(key) != told.get(key)
        ]
        if changed and self._is_worthless():
            shutil.rmtree(self._path.parent / TRIALS, ignore_errors=True)
            self._state |= {"search": told, "data": {}, "space": None, "best": None, "trials": []}
            self.save()
        elif changed:
            received = f"{str(self._path.parent)!r}, in which {'; '.join(changed)}"
            mend = 'Pass its settings, another out folder, or resume="restart", which keeps the old search aside.'
            raise FileExistsError(complaint(self._where, "out holds a search with other settings", received, mend))

    def _is_worthless(self):
        """Whether nothing has come of the search, so that it may begin anew with other settings."""
        legs = [leg for trial in self._state["trials"] for leg in trial["legs"]]
        return all(leg["outcome"] is not None and leg["outcome"]["status"] == "failed" for leg in legs)

    def save(self):
        """Write the state as it is; a failure leaves the file as it was."""
        write_json(self._path, self._state)

    def check_data(self, size, fingerprint):
        """Note down the images that trials of this size see; FileExistsError where they were others before."""
        before = self._state["data"].setdefault("×".join(map(str, size)), fingerprint)
        if before != fingerprint:
            received = f"images whose fingerprint was {before} and is {fingerprint}"
            mend = 'Bring them back, choose another out folder, or pass resume="restart".'
            raise FileExistsError(complaint(self._where, "the images must be those of the search", received, mend))

    def __getitem__(self, name):
        return self._state.get(name)

    def __setitem__(self, name, value):
        self._state[name] = value
        self.save()

    def add_seconds(self, seconds):
        """Book so many more seconds of wall time."""
        self._state["seconds"] += seconds

    def open_leg(self, leg):
        """The record of a leg, a dictionary, as it was noted down before, or a new one."""
        trials = self._state["trials"]
        if leg.trial == len(trials):
            trials.append({"number": leg.trial, "values": leg.values, "legs": []})
        trial = trials[leg.trial]
        found = next((one for one in trial["legs"] if one["epochs"] == leg.epochs), None)
        if found is None:
            found = {"epochs": leg.epochs, "attempts": 0, "crashes": 0, "seconds": 0.0, "outcome": None}
            trial["legs"].append(found)
        return found

    def forget_failures(self, only_if_all):
        """Let failed trials be run again; `only_if_all`: where none succeeded."""
        legs = [leg for trial in self._state["trials"] for leg in trial["legs"] if leg["outcome"] is not None]
        failed = [leg for leg in legs if leg["outcome"]["status"] == "failed"]
        if failed and not (only_if_all and len(failed) < len(legs)):
            for leg in failed:
                leg.update(attempts=0, crashes=0, seconds=0.0, outcome=None)
            self._state["best"] = None
            self.save()

    def end_leg(self, record, outcome):
        """Note down how a leg ended."""
        record["outcome"] = dataclasses.asdict(outcome)
        self.save()

    def last_outcomes(self):
        """`{number: Outcome}` of the latest leg of each trial that has one, with the seconds of all its legs."""
        found = {}
        for trial in self._state["trials"]:
            ended = [Outcome(**leg["outcome"]) for leg in trial["legs"] if leg["outcome"] is not None]
            if ended:
                seconds = sum(outcome.seconds for outcome in ended)
                peak = max(outcome.peak_bytes for outcome in ended)
                found[trial["number"]] = dataclasses.replace(ended[-1], seconds=seconds, peak_bytes=peak)
        return found
