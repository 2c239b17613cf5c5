"""A search on a real Ray cluster of three nodes on the loopback address, one of which is killed in the middle.

    python tests/ray_cluster.py PHOTOS BASE OUT

Prints, in its last line, what was searched, and the living nodes before and after.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

# Nodes would else announce themselves under the address of the machine, which a closed network does not let through.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import ray
from ray.cluster_utils import Cluster

import recipes

SPACE = {"learning_rate": [0.1, 0.03, 0.01], "dropout": [0.0, 0.2]}
SETTINGS = {"plan": "all", "epochs": 40, "batch_size": 8, "patience": None, "checkpoint_seconds": 1.0}


def alive():
    """Number of the cluster's living nodes."""
    return sum(node["Alive"] for node in ray.nodes())


def main(photos, base, out):
    """Search, and kill a node when its first trial has begun to train."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    before = alive()

    def kill():
        while len(list(Path(out).glob("trials/*/run/checkpoints"))) < 3:
            time.sleep(0.1)
        cluster.remove_node(nodes[0], allow_graceful=False)

    thread = threading.Thread(target=kill)
    thread.start()
    data = {"source": photos, "valid": 0.25, "test": 0.25}
    options = {"space": SPACE, "settings": SETTINGS, "method": "grid", "workers": "ray", "verbose": False}
    recipes.search(data, base, out=out, **options)
    thread.join()
    told = {"nodes": [before, alive()], "space": SPACE, "settings": SETTINGS}
    ray.shutdown()
    cluster.shutdown()
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
