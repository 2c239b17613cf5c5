"""Trials on this machine: each in a process of its own, so many at a time, the GPUs shared out."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from recipes.checks import complaint
from recipes.memory import keep_memory
from recipes.searching.nursery import EXPLORED, OUTCOME
from recipes.searching.trials import Outcome

_GRACE = 10  # seconds from the request to stop to the end by force
_STILLBORN = 5  # nurseries that may die, one after the other, before they are ready
_PAUSE = 0.05  # seconds between two looks at processes of their own


class LocalEngine:
    """Runs jobs that lie in folders.

    Args:
        workers: jobs at a time.
        gpus: number of GPUs, of which each job gets one.
        time_limit: seconds after which a job is ended, or None.
        forks: whether new processes are forked, ready with all imports, which Linux can; else each starts afresh.
    """

    def __init__(self, workers, gpus=0, time_limit=None, forks=sys.platform == "linux"):
        self.capacity = workers
        named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        self._gpus = named[:gpus] if len(named) >= gpus else [str(number) for number in range(gpus)]
        self._time_limit = time_limit
        self._start = _Nursery(is_ahead=not gpus and workers < (os.cpu_count() or 1)) if forks else _Fresh()
        self._folders, self._since, self._slots, self._late = {}, {}, {}, set()

    def start(self, number, folder):
        """Begin the job in a folder under a number of the caller's."""
        (folder / OUTCOME).unlink(missing_ok=True)
        slot = min(set(range(self.capacity)) - set(self._slots.values()), default=0)
        environment = {"CUDA_VISIBLE_DEVICES": self._gpus[slot % len(self._gpus)]} if self._gpus else {}
        self._folders[number], self._since[number], self._slots[number] = folder, time.monotonic(), slot
        self._start.start(number, folder, environment)

    def poll(self, seconds):
        """`[(number, Outcome)]` of the jobs that ended within so many seconds."""
        if not self._start.is_ready:  # its process is still importing: the time of no job has begun
            self._since = dict.fromkeys(self._since, time.monotonic())
        if self._time_limit is not None:
            for number, since in self._since.items():
                if time.monotonic() - since > self._time_limit and number not in self._late:
                    self._late.add(number)
                    self._start.signal(number, signal.SIGKILL)
        return [(number, self._outcome(number, status)) for number, status in self._start.ended(seconds)]

    def explore(self, number, folder):
        """KerasTuner's HyperParameters, as JSON, that the job found which explores a function of the user's.

        Raises:
            RuntimeError: the function fails.
        """
        run_alone(self, number, folder)
        return json.loads((folder / EXPLORED).read_text(encoding="utf-8"))

    def _outcome(self, number, status):
        folder, seconds = self._folders.pop(number), time.monotonic() - self._since.pop(number)
        del self._slots[number]
        is_late = number in self._late
        self._late.discard(number)
        with contextlib.suppress(FileNotFoundError):
            told = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
            return Outcome(**told)
        if is_late:
            reason = f"it took longer than the time limit of {self._time_limit:g} s"
            return Outcome("failed", reason=reason, seconds=seconds)
        return Outcome("failed", reason=_why(status, folder), may_pass=True, is_full=_is_full(folder), seconds=seconds)

    def close(self):
        """End all jobs: ask them, so that they write a checkpoint, and after some seconds make them."""
        for number in list(self._folders):
            self._start.signal(number, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        while self._folders and time.monotonic() < deadline:
            self.poll(0.1)
        self._start.close()


class _Nursery:
    """Children of one process that has imported everything; see `recipes.searching.nursery`."""

    def __init__(self, is_ahead):
        # For that there must be a core to spare; and on a GPU a process that waits would take up memory.
        self._options = ["ahead"] if is_ahead else []
        self._process, self._running, self._stillborn = None, set(), 0
        self._open()

    def _open(self):
        self._socket, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "recipes.searching.nursery", str(theirs.fileno()), *self._options]
            # Of a session of its own: Ctrl-C in the terminal is for the driver, which asks the trials in its way.
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._buffer, self.is_ready = b"", False

    def start(self, number, folder, environment):
        self._running.add(number)
        self._send({"start": number, "folder": str(folder), "environment": environment})

    def signal(self, number, by):
        self._send({"signal": number, "by": int(by)})

    def _send(self, message):
        with contextlib.suppress(OSError):  # it has died: the next look finds that
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def ended(self, seconds):
        """`[(number, exit status)]`."""
        ready, _, _ = select.select([self._socket], [], [], seconds)
        if not ready:
            return []
        try:
            received = self._socket.recv(2**16)
        except OSError:
            received = b""
        if not received:
            return self._reopen()
        *lines, self._buffer = (self._buffer + received).split(b"\n")
        self.is_ready |= bool(lines)
        ended = [(told["ended"], told["status"]) for told in map(json.loads, lines) if "ended" in told]
        self._running -= {number for number, _ in ended}
        return ended

    def _reopen(self):
        """The nursery is dead, and its children with it: there is a new one, and they count as killed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self.close()
        self._stillborn = 0 if self.is_ready else self._stillborn + 1
        if self._process.returncode > 0 or self._stillborn > _STILLBORN:
            rule = "the process that trials are forked from must start"
            mend = "See what python -m recipes.searching.nursery . says."
            received = f"exit code {self._process.returncode}"
            raise RuntimeError(complaint("search", rule, received, mend))
        lost, self._running = sorted(self._running), set()
        self._open()
        return [(number, -signal.SIGKILL) for number in lost]

    def close(self):
        """End it, and with it whatever children it still has."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


class _Fresh:
    """Processes that start from nothing."""

    is_ready = True  # what they import is part of their job

    def __init__(self):
        self._processes = {}

    def start(self, number, folder, environment):
        command = [sys.executable, "-m", "recipes.searching.nursery", str(folder)]
        self._processes[number] = subprocess.Popen(
            command,
            env={**_environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def signal(self, number, by):
        self._processes[number].send_signal(by)

    def ended(self, seconds):
        """`[(number, exit status)]`."""
        deadline = time.monotonic() + seconds
        while True:
            ended = [(number, process.poll()) for number, process in self._processes.items()]
            ended = [(number, status) for number, status in ended if status is not None]
            if ended or time.monotonic() > deadline:
                break
            time.sleep(_PAUSE)
        for number, _ in ended:
            del self._processes[number]
        return ended

    def close(self):
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._processes.clear()


def _environment():
    """The environment for processes that must find the modules that this one finds."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    keep_memory(environment)
    return environment


def run_alone(engine, number, folder):
    """What came of the job, in a folder, that explores a function of the user's, when no other runs.

    Raises:
        RuntimeError: the function fails.
    """
    engine.start(number, folder)
    ended = []
    while not ended:
        ended = engine.poll(1.0)
    outcome = ended[0][1]
    if isinstance(outcome, Outcome) and outcome.status == "failed":
        rule, mend = "build(hp) must run", "Call build(keras_tuner.HyperParameters()) to see where it fails."
        raise RuntimeError(complaint("search", rule, outcome.reason, mend))
    return outcome


def _why(status, folder):
    """Words for the end of a process that left no outcome."""
    if status == -signal.SIGKILL:
        return "it was killed (SIGKILL), as the system does when memory runs out"
    if status < 0:
        return f"it crashed ({signal.Signals(-status).name}); see {folder / 'log.txt'}"
    return f"its process ended with code {status}; see {folder / 'log.txt'}"


def _is_full(folder):
    """Whether a process may have left no outcome because the disk is full."""
    try:
        probe = Path(folder) / ".probe"
        probe.write_bytes(bytes(2**16))
        probe.unlink()
    except OSError:
        return True
    return False
