"""The folder of a run: which settings it was made with, and whether it is complete."""

import contextlib
import json
from pathlib import Path

from recipes.checks import complaint
from recipes.saving import CLASSIFIER, load, save, writable_folder
from recipes.values import write_json

SETTINGS = "settings.json"


@contextlib.contextmanager
def run_folder(out, where):
    """The folder of a run, made when absent and taken away again when the run ends without writing; None for None."""
    if out is None:
        yield None
        return
    made = not Path(out).expanduser().exists()
    folder = writable_folder(out, where)
    if any(folder.iterdir()) and not (folder / SETTINGS).exists():
        rule, received = "out must be a new folder, an empty one or that of a run", repr(str(folder))
        raise FileExistsError(complaint(where, rule, received, "Choose another folder."))
    try:
        yield folder
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()


def finished_run(folder, settings, where):
    """The Result of the finished run in a folder, or None where there is none yet.

    Args:
        folder: from `run_folder`.
        settings: JSON-able dictionary of all that decides the outcome, the fingerprint of the data included.
        where: for errors.

    Raises:
        FileExistsError: the folder holds a run with other settings.
    """
    if folder is None or not (folder / CLASSIFIER).exists():
        return None
    before, settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8")), json.loads(json.dumps(settings))
    # The same images may be named in another way: their fingerprint decides.
    keys = sorted({*before, *settings} - {"data"})
    changed = [
        f"{key} was {before.get(key)!r} and is {settings.get(key)!r}"
        for key in keys
        if before.get(key) != settings.get(key)
    ]
    if changed:
        received, mend = f"{str(folder)!r}, in which {'; '.join(changed)}", "Pass its settings, or another out folder."
        raise FileExistsError(complaint(where, "out holds a run with other settings", received, mend))
    return load(folder)


def finish_run(folder, result):
    """Write everything of a finished run to its folder; `classifier.json`, written last, marks it complete."""
    write_json(folder / SETTINGS, result.report.settings)
    save(result, folder)
