"""How memory is held in processes that are this package's own."""

import atexit
import contextlib
import gc
import os


def keep_memory(environment):
    """Let TensorFlow on a CPU keep the memory of tensors for the next ones, unless the environment says otherwise.

    By itself it does so only on processors where it turns oneDNN on. Elsewhere each large tensor is fresh memory, page
    by page cleared by the kernel, which may take longer than what is computed: `benchmarks/kept_memory.py`. What is
    kept goes back when the process ends, so it is not for processes of the user's, nor for a server.

    Args:
        environment: mapping of names to values, changed in place; TensorFlow reads it when it first makes a tensor.
    """
    environment.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
    if hasattr(os, "sysconf"):  # else its own limit holds, 64 GiB
        megabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
        environment.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(megabytes))


@contextlib.contextmanager
def no_collections():
    """Python's garbage collector stands still: while modules are imported it searches a lot and finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def end_quickly():
    """When this process ends, let the kernel take all of its memory at once (`benchmarks/start.py`).

    By itself Python first searches the millions of objects that TensorFlow has made for cycles, to free them one by
    one. What was registered to be done at the end is done all the same.
    """
    atexit.unregister(gc.freeze)  # once is enough
    atexit.register(gc.freeze)
