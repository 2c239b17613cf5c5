"""Trials as tasks on a Ray cluster: Ray places them on nodes and GPUs, and runs those of a lost node elsewhere."""

import contextlib
import dataclasses
import os
import pickle
import signal
import tempfile
import time
import uuid
from pathlib import Path

from recipes.checks import complaint
from recipes.searching.local import run_alone
from recipes.searching.nursery import JOB, peak_bytes
from recipes.searching.sharing import for_trial, read_shared
from recipes.searching.trials import RUN, Outcome, explored, failure, run_trial

_MARK = ".cluster"  # a file by which a node knows the folder of the search
_INSTALL = 'pip install ray, or in a checkout pip install ".[cluster]", on every node'
_AGAIN = 3.0  # seconds after which a trial that is over time is told so once more


class RayEngine:
    """Runs jobs that lie in folders as tasks, each in a process of its own.

    The images go through Ray's store, one copy for a node. Where a node sees the folder of the search, a trial works in
    it, and a task that is run again goes on from its last checkpoint; elsewhere it works in a folder of the node's,
    and what it leaves comes back with its outcome.

    Args:
        folder: of the search.
        time_limit: seconds after which a trial is ended as a failure, or None.
        where: for errors.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: the cluster cannot be reached.
    """

    def __init__(self, folder, time_limit, where):
        try:
            import ray
        except ImportError as error:
            rule = 'workers="ray" needs Ray'
            raise ImportError(complaint(where, rule, "none installed", f"Run {_INSTALL}.")) from error
        self._ray, self._folder, self._time_limit = ray, folder, time_limit
        self._is_mine = not ray.is_initialized()
        if self._is_mine:
            _connect(ray, where)
        self._mark = uuid.uuid4().hex
        (folder / _MARK).write_text(self._mark, encoding="utf-8")
        self._stored, self._tasks, self._folders, self._since = {}, {}, {}, {}

    @property
    def capacity(self):
        """Trials that the cluster takes at a time, as it is now."""
        held = self._ray.cluster_resources()
        return max(1, int(held.get("GPU", 0) or held.get("CPU", 1)))

    def start(self, number, folder):
        """Begin the job in a folder under a number of the caller's."""
        kind, common, job, data = pickle.loads((folder / JOB).read_bytes())
        place = str(self._folder), self._mark
        images = (None, None) if data is None else self._images(data)
        task = self._ray.remote(max_calls=1)(_run).options(  # a process for each task
            max_retries=0,  # the search runs again what was lost, as often as it is asked to
            num_cpus=1,
            num_gpus=1 if self._ray.cluster_resources().get("GPU") else 0,
            name=f"trial {number}",
        )
        left = {} if job is None else _files(folder / RUN)
        limit = self._time_limit
        self._tasks[task.remote(kind, self._once(common), job, *images, place, left, limit)] = number
        self._folders[number], self._since[number] = folder, time.monotonic()

    def _once(self, path):
        """A file's bytes in Ray's store, put there once."""
        if path not in self._stored:
            self._stored[path] = self._ray.put(Path(path).read_bytes())
        return self._stored[path]

    def _images(self, path):
        """(Data without images, its images) in Ray's store."""
        if path not in self._stored:
            data, store = read_shared(path)
            self._stored[path] = self._ray.put(data), self._ray.put(store)
        return self._stored[path]

    def poll(self, seconds):
        """`[(number, Outcome)]` of the jobs that ended within so many seconds."""
        if not self._tasks:
            return []
        ready, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=seconds)
        ended = [(self._tasks.pop(task), self._outcome(task)) for task in ready]
        return [(number, self._booked(number, outcome)) for number, outcome in ended]

    def _outcome(self, task):
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            words = " ".join(str(error).split())[:300]
            return Outcome("failed", reason=f"its task was lost: {words}", may_pass=True)

    def _booked(self, number, told):
        """An Outcome, with the files that came with it in the folder of its trial."""
        folder, since = self._folders.pop(number), self._since.pop(number)
        if not isinstance(told, tuple):
            if isinstance(told, Outcome) and not told.seconds:
                return dataclasses.replace(told, seconds=time.monotonic() - since)
            return told
        outcome, files = told
        _put(files, folder / RUN)
        return outcome

    def explore(self, number, folder):
        """KerasTuner's HyperParameters, as JSON, that the job found which explores a function of the user's.

        Raises:
            RuntimeError: the function fails.
        """
        return run_alone(self, number, folder)

    def close(self):
        """End all tasks, and leave the cluster where it was joined here."""
        for task in self._tasks:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(task, force=True)
        self._tasks.clear()
        (self._folder / _MARK).unlink(missing_ok=True)
        if self._is_mine and self._ray.is_initialized():
            self._ray.shutdown()


def _connect(ray, where):
    """Join the cluster that RAY_ADDRESS names or that this machine is a node of; else begin one here."""
    options = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
    try:
        try:
            ray.init(address="auto", **{name: options[name] for name in ("log_to_driver", "logging_level")})
        except ConnectionError:
            if "RAY_ADDRESS" in os.environ:
                raise
            ray.init(**options)
    except (ConnectionError, RuntimeError) as error:
        mend = "Start it with ray start --head, or set RAY_ADDRESS."
        raise ConnectionError(complaint(where, "the Ray cluster must be there", str(error), mend)) from error


def _run(kind, common, job, data, store, place, left, limit):
    """A task: `(Outcome, {name: bytes} of what its run left)`; the files where the folder of the search is not here.

    There it goes on from what an earlier task left, as `left` has it.
    """
    try:
        common = pickle.loads(common)
        if kind == "explore":
            return explored(common)
    except Exception as error:
        return failure(error)
    folder, mark = place
    if _is_here(folder, mark):
        return _timed(common, job, data, store, limit), {}
    with tempfile.TemporaryDirectory(prefix="recipes-trial-") as home:
        shared = Path(tempfile.gettempdir()) / f"recipes-search-{mark}"
        shared.mkdir(exist_ok=True)
        _put(left, Path(home) / RUN)
        outcome = _timed(common, dataclasses.replace(job, folder=home, shared=str(shared)), data, store, limit)
        return outcome, _files(Path(home) / RUN)


def _files(folder):
    """`{name: bytes}` of all files in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _put(files, folder):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(content)
        temporary.replace(path)


def _timed(common, job, data, store, limit):
    start = time.monotonic()
    late = None

    def end(*_):
        nonlocal late
        late = f"it took longer than the time limit of {limit:g} s"
        raise TimeoutError(late)

    signal.signal(signal.SIGALRM, end)
    # Again and again: what is called back from C may swallow the error.
    signal.setitimer(signal.ITIMER_REAL, limit or 0, _AGAIN if limit else 0)
    try:
        outcome = run_trial(common, job, for_trial(data, store))
    except TimeoutError as error:  # while another one was being told
        outcome = failure(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if late and outcome.status == "failed":  # some extensions turn an error that comes in the middle into their own
        outcome = failure(TimeoutError(late))
    return dataclasses.replace(outcome, seconds=time.monotonic() - start, peak_bytes=peak_bytes())


def _is_here(folder, mark):
    """Whether this node sees the folder of the search."""
    with contextlib.suppress(OSError):
        return (Path(folder) / _MARK).read_text(encoding="utf-8") == mark
    return False
