"""Memory that TensorFlow keeps on a CPU, in processes that are this package's own."""

import gc
import os

import pytest
from fresh_python import run_python

from recipes.cli import main
from recipes.memory import keep_memory, no_collections
from recipes.searching import local

SCRIPT = """
import os, resource
from recipes.memory import keep_memory
keep_memory(os.environ)
import tensorflow as tf
tensor, faults = tf.zeros((32, 2**20)), []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensor = tensor + 1.0
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults) / (4 * 2**25 / resource.getpagesize()))
"""


def test_a_large_tensor_takes_the_memory_of_the_last_one():
    share = float(run_python(SCRIPT, without=["TF_CPU"]))
    assert share < 0.1  # of the pages of a tensor; by itself TensorFlow takes all of them anew


ENDING = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count() > 0, "at the end"))
if sys.argv[1:]:
    from recipes.memory import end_quickly
    end_quickly()
print(gc.get_freeze_count() > 0, end=" ")
"""


def test_a_process_ends_without_a_search_and_what_was_to_be_done_at_the_end_is_done():
    # Without the line by which `run_python` does the same.
    assert run_python(ENDING, "quickly", is_quick=False) == "False True at the end\n"
    assert run_python(ENDING, is_quick=False) == "False False at the end\n"


IMPORTS = """
import builtins, gc, recipes.cli
plain, states = builtins.__import__, []
def watched(name, *arguments, **options):
    if name.startswith("tensorflow."):
        states.append(gc.isenabled())
    return plain(name, *arguments, **options)
builtins.__import__ = watched
recipes.cli.main(["cost", "--model", "small_resnet", "--image_size", "8"])
print("STATES", any(states[:20]), gc.isenabled())  # later ones are brought in as they are used
"""


@pytest.mark.parametrize("level", ["", "3"])
def test_a_command_imports_tensorflow_without_the_collector(level):
    """Whether it sees to TensorFlow's messages itself, or the user has."""
    setting = {"TF_CPP_MIN_LOG_LEVEL": level} if level else {}
    without = [] if level else ["TF_CPP_MIN_LOG_LEVEL"]
    said = run_python(IMPORTS, without=without, is_quick=False, **setting)
    assert "STATES False True" in said


def test_the_collector_is_as_it_was_after_imports():
    with no_collections():
        assert not gc.isenabled()
        with no_collections():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_the_user_has_set_stays():
    kept, own = {}, {"TF_CPU_ALLOCATOR_USE_BFC": "false", "TF_CPU_BFC_MEM_LIMIT_IN_MB": "512"}
    keep_memory(kept)
    assert kept["TF_CPU_ALLOCATOR_USE_BFC"] == "true" and int(kept["TF_CPU_BFC_MEM_LIMIT_IN_MB"]) > 100
    before = dict(own)
    keep_memory(own)
    assert own == before


def test_commands_and_trials_keep_it_and_servers_and_notebooks_do_not(monkeypatch, tmp_path):
    for name in ("TF_CPU_ALLOCATOR_USE_BFC", "TF_CPU_BFC_MEM_LIMIT_IN_MB"):
        monkeypatch.setenv(name, "")  # so that it is as before in the end
        monkeypatch.delenv(name)
    assert local._environment()["TF_CPU_ALLOCATOR_USE_BFC"] == "true"
    assert main(["serve", "--models", str(tmp_path / "missing")]) != 0
    assert "TF_CPU_ALLOCATOR_USE_BFC" not in os.environ
    assert main(["evaluate", "--model", str(tmp_path / "missing"), "--data", "digits"]) != 0
    assert os.environ["TF_CPU_ALLOCATOR_USE_BFC"] == "true"
