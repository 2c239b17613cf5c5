"""Code in a Python of its own, which knows nothing of what the test has built."""

import os
import subprocess
import sys
import textwrap

import keras

# As in `recipes.memory`: half of the time of a short process is TensorFlow's start and end, and Python's search for
# cycles among what TensorFlow imports is a third of that.
QUICKLY = "import atexit, gc; gc.disable(); atexit.register(gc.freeze)\n"


def run_python(code, *arguments, without=(), is_quick=True, **environment):
    """What `code` prints; it fails with what it said as an error unless it ends well.

    Args:
        code: a program; it finds `arguments` in `sys.argv[1:]`.
        *arguments: words for it.
        without: beginnings of names; such variables of the environment are left out.
        is_quick: whether start and end are hurried; where they are not, the process is as a user's.
        **environment: variables besides.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(tuple(without))}
    program = (QUICKLY if is_quick else "") + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**kept, "KERAS_BACKEND": keras.backend.backend(), **environment},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
