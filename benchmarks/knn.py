"""What exact nearest neighbours cost in KNNClassifier, beside faiss and scikit-learn on the same cores.

    pip install faiss-cpu
    python benchmarks/knn.py
    KERAS_BACKEND=torch python benchmarks/knn.py --rounds 5

A store of 100,000 × 128, 1,000 queries, k = 10; the ways alternate in one run after a warm-up, medians with the
quartiles, and the fastest, since the threads of faiss wait actively for each other and suffer most from other load on
the machine: pin the run to one core (`taskset -c 0`) where it is not idle. `search` is the compiled search alone, as
faiss's; `predict` the whole head with votes and probabilities, through `Model.predict` in one batch. Memory is the
growth of the process's peak over our first search, its compilation included. Without faiss the rest is measured.
"""

import argparse
import os
import resource
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from machine import print_json
from sklearn.neighbors import NearestNeighbors

import layers
from layers.heads._search import find_nearest


def compiled_search(features, k):
    """A function of queries, compiled by the backend at hand."""
    store = keras.ops.convert_to_tensor(features)
    center = keras.ops.convert_to_tensor(features.mean(axis=0))
    size = keras.ops.convert_to_tensor(len(features))

    def search(queries):
        return find_nearest(queries, store, center, size, k)

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        search = tf.function(search)
    elif backend == "jax":
        import jax

        search = jax.jit(search)
    return lambda queries: [keras.ops.convert_to_numpy(part) for part in search(keras.ops.convert_to_tensor(queries))]


def faiss_search(features, k, threads):
    """faiss's exact search, or None where it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatL2(features.shape[1])
    index.add(features)
    return lambda queries: index.search(queries, k)[::-1]


def sklearn_search(features, k, threads):
    """scikit-learn's exact search."""
    fitted = NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=threads).fit(features)
    return lambda queries: fitted.kneighbors(queries)[::-1]


def peak_mib():
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(seconds):
    """Seconds of each way as a multiple of those of faiss."""
    if "faiss" not in seconds:
        return "faiss is not installed"
    return {name: round(value / seconds["faiss"], 2) for name, value in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    random = np.random.default_rng(0)
    features = random.normal(size=(asked.rows, asked.width)).astype("float32")
    queries = random.normal(size=(asked.queries, asked.width)).astype("float32")
    head = layers.KNNClassifier(asked.k)
    head.fit(features, random.integers(0, 10, asked.rows))
    model = keras.Sequential([keras.Input((asked.width,)), head])
    ways = {"search": compiled_search(features, asked.k)}
    before = peak_mib()
    ways["search"](queries)
    grown = peak_mib() - before
    ways["predict"] = lambda queries: model.predict(queries, batch_size=len(queries), verbose=0)
    ways["faiss"] = faiss_search(features, asked.k, threads)
    ways["scikit-learn"] = sklearn_search(features, asked.k, threads)
    ways = {name: way for name, way in ways.items() if way}
    found = {name: np.asarray(way(queries)[0]) for name, way in ways.items()}  # also the warm-up
    equal = {
        name: float((found["search"] == found[name]).mean()) for name in ("faiss", "scikit-learn") if name in found
    }
    seconds = {name: [] for name in ways}
    for _ in range(asked.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way(queries)
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    fastest = {name: min(values) for name, values in seconds.items()}
    print_json(
        {
            "backend": keras.backend.backend(),
            "threads": threads,
            **vars(asked),
            "milliseconds": {
                name: [round(1000 * value, 1) for value in statistics.quantiles(values, n=4)]
                for name, values in seconds.items()
            },
            "fastest_milliseconds": {name: round(1000 * value, 1) for name, value in fastest.items()},
            "times_faiss": compare(medians),
            "fastest_times_faiss": compare(fastest),
            "load_average": os.getloadavg(),
            "equal_indices": equal,
            "mib_of_the_store": round(features.nbytes / 2**20, 1),
            "mib_grown_by_the_first_search": round(grown, 1),
        }
    )


if __name__ == "__main__":
    main()
