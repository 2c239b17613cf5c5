"""A process that has imported everything and does nothing but fork: each trial begins where imports are over.

TensorFlow's threads do not survive a fork, so this process never computes; only its children do.
"""

import contextlib
import ctypes
import dataclasses
import gc
import json
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path

from recipes.files import write_json

JOB, OUTCOME, EXPLORED = "job.pkl", "outcome.json", "explored.json"
_PR_SET_PDEATHSIG = 1
_LOOK = 0.005  # seconds between two looks at the children


class Nursery:
    """Starts and ends children as the other side of a socket asks, in lines of JSON.

    Asked: `{"start": number, "folder": path, "environment": {name: value}}`, `{"signal": number, "by": signal}`.
    Told: `{"ready": true}`, `{"ended": number, "status": status}`.

    Args:
        connection: the socket.
        is_ahead: whether the process of the next trial is forked, and warmed up, before the trial is known.
    """

    def __init__(self, connection, is_ahead):
        self._connection, self._is_ahead = connection, is_ahead
        self._children, self._next = {}, None

    def serve(self):
        """Serve until the other side is gone; then end all children."""
        self._tell({"ready": True})
        buffer = b""
        while True:
            if self._is_ahead and self._next is None:
                with contextlib.suppress(OSError):
                    self._next = self._fork()
            ready, _, _ = select.select([self._connection], [], [], _LOOK if self._children else None)
            if ready:
                received = self._connection.recv(2**16)
                if not received:
                    break
                *lines, buffer = (buffer + received).split(b"\n")
                for message in map(json.loads, lines):
                    if "start" in message:
                        self._start(message)
                    else:
                        self._signal(message["signal"], message["by"])
            self._reap()
        for pid in (*self._children, *([self._next[0]] if self._next else [])):
            os.kill(pid, signal.SIGKILL)

    def _start(self, message):
        try:
            pid, pipe = self._next or self._fork()
        except OSError:  # no memory for another process, say
            self._tell({"ended": message["start"], "status": 71})
            return
        self._next = None
        try:
            os.write(pipe, json.dumps(message).encode())
        except BrokenPipeError:  # it was killed while it waited
            os.waitpid(pid, 0)
            self._start(message)
            return
        finally:
            os.close(pipe)
        self._children[pid] = message["start"]

    def _signal(self, asked, by):
        for pid, number in self._children.items():
            if number == asked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, by)

    def _reap(self):
        for pid, number in list(self._children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._children[pid]
                self._tell({"ended": number, "status": os.waitstatus_to_exitcode(status)})

    def _tell(self, message):
        with contextlib.suppress(OSError):  # the next look finds that nobody is there
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def _fork(self):
        """(pid, pipe) of a child that waits for its message at the other end of the pipe."""
        theirs, ours = os.pipe()
        pid = os.fork()
        if pid:
            os.close(theirs)
            return pid, ours
        gc.enable()
        self._connection.close()
        os.close(ours)
        _die_with_parent()
        if self._is_ahead:
            _warm_up()
        message = b"".join(iter(lambda: os.read(theirs, 2**16), b""))
        if not message:
            os._exit(0)
        message = json.loads(message)
        os.environ.update(message["environment"])
        _be_a_trial(Path(message["folder"]))
        return None


def _warm_up():
    with contextlib.suppress(Exception):
        from recipes.searching.trials import warm_up

        warm_up()


def _be_a_trial(folder):
    """Run the job that lies in a folder in this process, which ends with it."""
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        _log_to(folder)
        write_json(folder / OUTCOME, run_job(folder))
        code = 0
    except BaseException as error:
        traceback.print_exc()
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # nothing of the parent's is to be run at the end of its child


def run_job(folder):
    """Outcome, as a dictionary, of the job that lies in a folder."""
    from recipes.searching import trials
    from recipes.searching.sharing import open_shared

    kind, common, job, data = pickle.loads((folder / JOB).read_bytes())
    common = pickle.loads(Path(common).read_bytes())
    start = time.monotonic()
    if kind == "explore":
        try:
            write_json(folder / EXPLORED, trials.explored(common))
            return dataclasses.asdict(trials.Outcome("done"))
        except Exception as error:
            traceback.print_exc()
            return dataclasses.asdict(trials.failure(error))
    outcome = trials.run_trial(common, job, open_shared(data))
    measured = {"seconds": time.monotonic() - start, "peak_bytes": peak_bytes()}
    return dataclasses.asdict(dataclasses.replace(outcome, **measured))


def peak_bytes():
    """Most memory that this process has held, what it shares with others included."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _end_with(parent):
    """End this process when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _die_with_parent():
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _log_to(folder):
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def main():
    """Import all that trials need, then serve on the socket that was handed down; or run the job in a folder."""
    if not sys.argv[1].isdecimal():
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        _be_a_trial(Path(sys.argv[1]))
    connection = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver
    gc.disable()  # it finds nothing while modules are imported, and this process does nothing else
    import recipes.searching.trials  # noqa: F401

    gc.freeze()  # so that the children's collectors leave the pages alone that they share with this process
    Nursery(connection, is_ahead=sys.argv[2:] == ["ahead"]).serve()


if __name__ == "__main__":
    main()
