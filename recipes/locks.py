"""Locks on files and folders that a process lets go of when it ends, however it ends."""

try:
    import fcntl
except ImportError:  # Windows has none: there, two runs at a time should have folders of their own
    fcntl = None


def lock(file, kind):
    """Hold a file or folder, open as `file` or as a descriptor, until it is closed.

    Args:
        file: what is open.
        kind: `"shared"` and `"exclusive"` wait; `"at once"`, which is exclusive, does not.

    Returns:
        False where someone else holds it and `kind` is `"at once"`, else True.
    """
    if fcntl is None:
        return True
    kinds = {"shared": fcntl.LOCK_SH, "exclusive": fcntl.LOCK_EX, "at once": fcntl.LOCK_EX | fcntl.LOCK_NB}
    try:
        fcntl.flock(file, kinds[kind])
    except BlockingIOError:
        return False
    return True
