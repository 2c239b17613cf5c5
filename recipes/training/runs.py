"""The folder of a run: who may use it, which settings it was made with, and whether it is complete."""

import contextlib
import json
import os
import re
from pathlib import Path

from recipes.checks import complaint
from recipes.files import write_json
from recipes.locks import lock
from recipes.saving import CLASSIFIER, load, save, writable_folder
from recipes.training.checkpoints import Checkpoints

SETTINGS = "settings.json"
_CHECKPOINTS, EARLIER = "checkpoints", "earlier-"
_LEFTOVER = re.compile(r"\.writable\.\d+|\.\d+\.model\.keras|\.\w+\.(json|html)\.\d+\.tmp")


@contextlib.contextmanager
def run_folder(out, where):
    """The folder of a run, held against other processes; None for None.

    It is made when absent, and taken away again when the run ends before there is anything to go on from.

    Raises:
        BlockingIOError: another process holds it.
        FileExistsError: it holds something else.
        OSError: it cannot be written.
    """
    if out is None:
        yield None
        return
    made = not Path(out).expanduser().exists()
    folder = writable_folder(out, where)
    with held(folder, where):
        _clear_leftovers(folder)
        strange = [path for path in folder.iterdir() if not path.name.startswith(EARLIER)]
        if strange and not (folder / SETTINGS).exists():
            rule, received = "out must be a new folder, an empty one or that of a run", repr(str(folder))
            raise FileExistsError(complaint(where, rule, received, "Choose another folder."))
        try:
            yield folder
        finally:
            if not (folder / CLASSIFIER).exists() and not (folder / _CHECKPOINTS).exists():
                (folder / SETTINGS).unlink(missing_ok=True)
            if made and not any(folder.iterdir()):
                folder.rmdir()


@contextlib.contextmanager
def held(folder, where):
    """Hold a folder against other processes; BlockingIOError where one has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not lock(descriptor, "at once"):
            mend = "Wait for it, or choose another folder."
            raise BlockingIOError(complaint(where, "out is in use by another process", repr(str(folder)), mend))
        yield
    finally:
        os.close(descriptor)


def begin_run(folder, settings, resume, where):
    """The Result of the finished run in a folder, or None where there is one to begin or to go on with.

    Args:
        folder: from `run_folder`.
        settings: JSON-able dictionary of all that decides the outcome, the fingerprint of the data included.
        resume: `"auto"`, or `"restart"`, which moves what is there to a folder within, `earlier-1` and so on.
        where: for errors.

    Raises:
        FileExistsError: the folder holds a run with other settings.
    """
    if folder is None:
        return None
    if resume == "restart":
        move_aside(folder)
    if not (folder / SETTINGS).exists():
        write_json(folder / SETTINGS, settings)
        return None
    _compare(folder, settings, where)
    if not (folder / CLASSIFIER).exists():
        return None
    checkpoints_of(folder).remove()
    return load(folder)


def finish_run(folder, result):
    """Write everything of a finished run to its folder; `classifier.json`, written last, marks it complete."""
    save(result, folder)
    checkpoints_of(folder).remove()


def checkpoints_of(folder):
    """Checkpoints of the run in a folder."""
    return Checkpoints(folder / _CHECKPOINTS)


def _compare(folder, settings, where):
    before, settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8")), json.loads(json.dumps(settings))
    # The same images may be named in another way: their fingerprint decides.
    keys = sorted({*before, *settings} - {"data"})
    changed = [
        f"{key} was {before.get(key)!r} and is {settings.get(key)!r}"
        for key in keys
        if before.get(key) != settings.get(key)
    ]
    if changed:
        received = f"{str(folder)!r}, in which {'; '.join(changed)}"
        mend = 'Pass its settings, another out folder, or resume="restart", which keeps the old run aside.'
        raise FileExistsError(complaint(where, "out holds a run with other settings", received, mend))


def move_aside(folder, last=SETTINGS):
    """Move what is in a folder to one within, `earlier-1` and so on; the file called `last`, without which the rest is
    nothing, at last.
    """
    inside = [path for path in folder.iterdir() if not path.name.startswith(EARLIER)]
    if not inside:
        return
    taken = [path.name.removeprefix(EARLIER) for path in folder.glob(f"{EARLIER}*")]
    aside = folder / f"{EARLIER}{1 + max((int(number) for number in taken if number.isdecimal()), default=0)}"
    aside.mkdir()
    # Without its settings the rest is no run: they go last, so that whoever is stopped in between can do it again.
    for path in sorted(inside, key=lambda path: path.name == last):
        path.rename(aside / path.name)


def _clear_leftovers(folder):
    """Remove what a process that was killed had under temporary names."""
    for path in folder.iterdir():
        if _LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)
