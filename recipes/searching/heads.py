"""Trials that train a head on a frozen base: on the rows that the base gave for the images, and without the base."""

import dataclasses
import hashlib
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from recipes.bases import Network, add_head, folded, head_names, network_for
from recipes.bases.seeding import globals_kept
from recipes.checks import complaint
from recipes.data.batches import compiled, predict_split
from recipes.data.row_cache import RowCache
from recipes.files import write_json
from recipes.locks import lock
from recipes.reporting.scores import score
from recipes.training.devices import dtype_policy
from recipes.training.frozen_prefix import Caching, Features, FrozenParts, Prepared
from recipes.training.journal import Journal
from recipes.training.opening import images_together
from recipes.training.pausing import complete
from recipes.training.preparing import for_data
from recipes.training.progress import collector_spared
from recipes.training.runs import begin_run, checkpoints_of, run_folder
from recipes.training.stages import changing_variables, frozen_parts, train_stages


@dataclasses.dataclass(frozen=True)
class Rows:
    """What the frozen base gives for an image, as another process left it in the cache.

    Args:
        recipe: of the cache.
        shape: of a row.
        dtype: of its numbers, by name.
    """

    recipe: dict
    shape: tuple[int, ...]
    dtype: str

    tensor = None

    def runner(self, before, dtype):
        """A function that says that a row is no longer there."""

        def run(batch):
            rule, mend = "the outputs of a frozen base must be kept while a search goes on", "Call again."
            raise LookupError(complaint("search", rule, "a cache that lacks some", mend))

        return run

    def are_there(self, data):
        """Whether the cache has a row for every image of training and validation."""
        with RowCache("features", self.recipe, self.shape, np.dtype(tf.as_dtype(self.dtype).as_numpy_dtype)) as cache:
            rows = Features.digests_of(data.train, 0) + Features.digests_of(data.valid, 0)
            return not cache.missing(rows)


def trains_heads_alone(setup, arguments):
    """Whether a run trains nothing but a head, on a base that is known by its name, and on rows that can be kept."""
    stages = setup.stages_of(pretrained=arguments["weights"] is not None)
    is_frozen = not any(any(stage.ratios(3)) or stage.layer_decay for stage in stages)
    is_named = isinstance(arguments["base"], str)
    is_still = (
        arguments["head_start"] == "random"
        and setup.training.loss is None
        and setup.training.augment is None
        and setup.training.caching.mode is not False
    )
    is_alone = len(tf.config.list_physical_devices("GPU")) < 2 and not tf.distribute.has_strategy()
    return is_frozen and is_named and is_still and is_alone and not setup.training.is_parted


def rows_for(setup, arguments, data, folder):
    """The Rows that a run can train its head on; None where they cannot be kept, or not for all of the base.

    The first process to ask builds the base and runs it over the images, while the others wait; after that, nobody
    builds it again.

    Args:
        setup: Setup.
        arguments: all of `recipes.finetune`'s.
        data: Data.
        folder: that the trials share.
    """
    with dtype_policy(arguments["precision"]):
        path = Path(folder) / f"base-{_key(setup, arguments, data)}.json"
        with open(path.with_suffix(".lock"), "w", encoding="utf-8") as file:
            lock(file, "exclusive")
            rows = _read(path)
            if rows is None or (rows and not rows.are_there(data)):
                rows = _made(setup, arguments, data)
                write_json(path, dataclasses.asdict(rows) if rows else None)
    return rows or None


def train_head(setup, arguments, data, rows, folder):
    """Train a head on rows; always ends in a Pause. `recipes.finetune` goes on from its checkpoint, as from its own.

    Args:
        setup: Setup.
        arguments: all of `recipes.finetune`'s.
        data: Data.
        rows: Rows.
        folder: of the run.
    """
    training = for_data(setup.training, data, arguments["augmentation"])
    settings = {**setup.settings, "data_fingerprint": data.fingerprint}
    with run_folder(folder, training.where) as folder, collector_spared(), dtype_policy(arguments["precision"]):
        begin_run(folder, settings, "auto", training.where)
        network = _head(arguments, len(data.class_names), rows)
        stages = setup.stages_of(pretrained=arguments["weights"] is not None)
        seconds = arguments["checkpoint_seconds"]
        variables = changing_variables(network, stages, training)
        steps, kept = arguments["checkpoint_steps"], training.snapshots or 0
        journal = Journal(checkpoints_of(folder), variables, steps, seconds, kept)
        if not journal.restore():
            # As FrozenParts would have it, which takes over when the run is finished: every stage goes by the rows.
            journal.decided.update({str(number): True for number in range(len(stages))} | {FrozenParts.TEST_FITS: True})
        budget = arguments["memory_budget"]
        features = [Features(rows, part, Caching(), rows.recipe, budget=budget) for part in (data.train, data.valid)]
        parts = _Parts(network.model, *features)
        train_stages(network, data, stages, training, parts, journal, {})
        probabilities = parts.predict(images_together(training, journal))
        report = score(probabilities, data.valid.labels, data.valid.files, data.class_names, "valid")
        end = complete(journal, report.scores)
        raise end


class _Parts:
    """In place of FrozenParts: the rows of the cache, and a model that is all head."""

    def __init__(self, model, train, valid):
        self._model, self._train, self._valid = model, train, valid
        self._run = folded(model, is_trained=True)
        self._predict = compiled(self._run, valid)

    def prepare(self, number):
        """Prepared for a stage; all stages train on the same."""
        return Prepared(self._model, self._run, self._train, self._valid, self._predict)

    def predict(self, batch_size):
        """Probabilities of the validation images."""
        return predict_split(self._model, self._valid, batch_size, self._predict)


class _Numbers:
    """Rows that stand for nothing."""

    def __init__(self, rows):
        self._rows, self.shape, self.dtype = rows, rows.shape[1:], rows.dtype
        self.labels = np.arange(len(rows), dtype=np.int32) % 2

    def __len__(self):
        return len(self._rows)

    def take(self, epoch, picks):
        """The rows at some positions."""
        return self._rows[picks]

    def view(self, number):
        """(rows, the row of each position)."""
        return self._rows, np.arange(len(self))


def rehearse(setup, arguments):
    """Train a head on a few numbers: what TensorFlow and Keras do for the first time in a process takes them long."""
    numbers = _Numbers(np.zeros((8, 4), np.float32))
    with globals_kept():
        network = _head(arguments, 2, Rows({}, numbers.shape, "float32"))
        stages = setup.stages_of(pretrained=True)
        journal = Journal(None, changing_variables(network, stages, setup.training))
        parts = _Parts(network.model, numbers, numbers)
        train_stages(network, None, stages, setup.training, parts, journal, {})
    keras.utils.clear_session()


def _head(arguments, class_count, rows):
    features = keras.Input(rows.shape, dtype=rows.dtype, name="features")
    head, dropout = arguments["head"], arguments["dropout"]
    model = keras.Model(features, add_head(features, class_count, head, dropout, arguments["seed"]))
    return Network(model, (), head_names(head, dropout, pooled=False), True, "head")


def _key(setup, arguments, data):
    """A digest of all that decides what the base gives for an image."""
    names = ("base", "base_digest", "weights", "weights_digest", "features")
    told = {name: setup.settings.get(name) for name in names}
    told |= {"form": (data.image_size, data.channels, data.resize), "precision": keras.config.dtype_policy().name}
    if arguments["weights"] is None:
        told["seed"] = arguments["seed"]
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()


def _read(path):
    """Rows; False where it is known that there are none; None where nothing is known."""
    if not path.exists():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    return Rows(told["recipe"], tuple(told["shape"]), told["dtype"]) if told else False


def _made(setup, arguments, data):
    """Rows, after every image has one; False where there can be none."""
    network = network_for(
        data,
        arguments["base"],
        weights=arguments["weights"],
        features=arguments["features"],
        seed=arguments["seed"],
        where=setup.training.where,
    )
    stages = setup.stages_of(pretrained=network.pretrained)[:1]
    training = dataclasses.replace(setup.training, caching=dataclasses.replace(setup.training.caching, mode=True))
    parts = frozen_parts(network, data, stages, training)
    rest = parts.prefixes[0].rest
    if rest is None or not {layer.name for layer in rest.layers[1:]} <= set(network.head):
        return False
    parts.prepare(0)
    features = parts.features(0, "train")
    is_vector = len(features.shape) == 1
    if features.recipe is None or not is_vector:
        return False
    return Rows(features.recipe, features.shape, features.dtype.name)
