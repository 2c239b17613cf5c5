"""Augmentation anew in every epoch, beside a number of views of each image that run through the frozen part once.

    KERAS_HOME=keras_home python benchmarks/views.py --data hymenoptera_data/

`--data` has folders train and val with a folder per class. Fine-tunes `mobilenet_v2_035`, 10 epochs of the head and 5
of the top blocks, with the augmentation `"photo"`, from an empty cache but for the decoded files; the kinds alternate.
Expect fifteen minutes for five seeds on 2 cores.
"""

import argparse
import os
import statistics
import tempfile
import time

from machine import print_json

KINDS = {"live": None, "1 view": 1, "4 views": 4, "8 views": 8}


def measured(data, views, seed):
    """Validation accuracy and seconds of one run."""
    import recipes

    plan = [recipes.Stage("head", 10, 1e-3), recipes.Stage("top blocks", 5, 1e-3, top=0.1)]
    start = time.perf_counter()
    result = recipes.finetune(
        "mobilenet_v2_035", data, plan=plan, augmentation="photo", views=views, seed=seed, verbose=False
    )
    return {"accuracy": result.report.scores["accuracy"], "seconds": time.perf_counter() - start}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with train and val folders")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        import recipes

        data = recipes.load_data(asked.data, image_size=224)
        measured(data, None, seed=0)  # the first run in a process pays for what all later ones find warm
        for seed in range(asked.seeds):
            rows += [{"kind": kind, "seed": seed, **measured(data, views, seed)} for kind, views in KINDS.items()]
    summary = {
        kind: {
            name: round(statistics.mean(row[name] for row in rows if row["kind"] == kind), 3)
            for name in ("accuracy", "seconds")
        }
        for kind in KINDS
    }
    print_json({"means": summary, "runs": rows})


if __name__ == "__main__":
    main()
