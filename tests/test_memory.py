"""Memory that TensorFlow keeps on a CPU, in processes that are this package's own."""

import os
import subprocess
import sys

from recipes.cli import main
from recipes.memory import keep_memory
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
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPU")}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.1  # of the pages of a tensor; by itself TensorFlow takes all of them anew


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
