"""The part of a network that a stage leaves as it is, run once over the images, so that only the rest trains."""

import dataclasses
import hashlib
import inspect
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from recipes.acceleration.choosing import fastest_algorithms
from recipes.bases import cut_tensor, folded, multiply_adds, split_at
from recipes.data import decoding
from recipes.data.batches import change_each, compiled, gather, ordered_rows, predict_split, replicas_of, traced
from recipes.data.row_cache import RowCache, cache_folder, cache_limit, make_room

VERSION = 2  # of what is kept: count on when the same recipe gives other rows
BATCH = 32  # images that go through the frozen part together
CHUNK = 2**25  # bytes that are brought to disk together
# What the estimate takes a machine to do in a second; only the order of magnitude counts.
_MULTIPLY_ADDS = {"CPU": 1.5e10, "GPU": 3e12}  # per core, per device
_DISK, _MEMORY = 5e8, 4e9  # bytes written, bytes read back
# What a stage silences in frozen blocks; other layers that draw at random go on drawing.
DROPOUTS = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianDropout,
    keras.layers.AlphaDropout,
)
_LEAST_GAIN = 1.0  # seconds; less is not worth a file


@dataclasses.dataclass(frozen=True)
class Caching:
    """How the outputs of frozen parts are kept; see the arguments of `recipes.finetune`."""

    mode: str | bool = "auto"
    views: int | None = None
    refresh_views: int | None = None
    memory_budget: int = 2**30


class Prefix:
    """A network cut where a stage lets it.

    Args:
        network: Network whose layers are marked `trainable` as the stage wants them.
        quiet: names of frozen layers, in which dropout drops nothing.
        is_accelerated: whether convolutions run by the algorithm that is fastest on this machine.

    Attributes:
        rest: the model that trains, from the outputs of the frozen part to the probabilities; None where nothing can be
            cut off.
        frozen: the model before it.
        tensor: the outputs of the frozen part.
    """

    def __init__(self, network, quiet, is_accelerated=False):
        model = network.model
        self.network, self._is_accelerated = network, is_accelerated
        self.tensor = cut_tensor(model, lambda name: is_fixed(model, name, quiet))
        self.frozen = self.rest = None
        if self.tensor is not None:
            self.frozen, self.rest = split_at(model, self.tensor)
            self.layers = {operation.name for operation in self.frozen.operations}
            self.cost = multiply_adds(self.frozen.layers)
        self._runs = {}

    @property
    def shape(self):
        return tuple(self.tensor.shape[1:])

    @property
    def dtype(self):
        return np.dtype(tf.as_dtype(self.tensor.dtype).as_numpy_dtype)

    @property
    def row_bytes(self):
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def runner(self, before, dtype):
        """A compiled function to the outputs of the frozen part: from those of the part before, or from images.

        Args:
            before: the tensor to start from, None for the images.
            dtype: of the rows that it is given.
        """
        if dtype not in self._runs:
            start = self.frozen.input if before is None else before
            rows = tf.TensorSpec((None, *start.shape[1:]), dtype)
            frozen = keras.Model(start, self.tensor)
            algorithms = fastest_algorithms(frozen, BATCH) if self._is_accelerated else None
            self._runs[dtype] = traced(folded(frozen, algorithms=algorithms), [rows])
        return self._runs[dtype]

    def digest(self):
        """`digest_of` the frozen part."""
        return digest_of(self.frozen)


def digest_of(model):
    """A digest of all that decides what a model gives: its graph and its weights."""
    content = hashlib.blake2b(json.dumps(_canonical(model.get_config()), sort_keys=True).encode())
    for weight in model.weights:
        content.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).tobytes())
    return content.hexdigest()


def recipe_of(model, digest, data, is_accelerated):
    """How a row comes from an unchanged image of a Data, as `RowCache` has it; None where it cannot be described.

    Args:
        model: what the images go through.
        digest: from `digest_of`.
        data: Data.
        is_accelerated: whether convolutions run by the algorithm that is fastest on this machine.
    """
    if not all(_is_known(operation) for operation in model.operations):
        return None
    images = [*data.image_size, data.channels, data.resize]
    recipe = {"prefix": digest, "images": images, "decoder": decoding.VERSION, "version": VERSION}
    return recipe | ({"rounds otherwise": True} if is_accelerated else {})


def is_fixed(model, name, quiet):
    """Whether an operation does the same in training, step after step, as at inference."""
    layer = next((layer for layer in model.layers if layer.name == name), None)
    if layer is None:
        return True  # a bare operation has no state
    if isinstance(layer, keras.layers.SpectralNormalization):
        return False  # it changes its weights in training, frozen or not
    if not _is_known(layer) and "training" in inspect.signature(layer.call).parameters:
        return False  # whatever it does then
    is_silenced = name in quiet and isinstance(layer, DROPOUTS)
    # A generator's state is a variable and no weight.
    has_chance = not is_silenced and len(layer.variables) > len(layer.weights)
    return not has_chance and not (layer.weights and layer.trainable)


def _is_known(operation):
    """Whether the configuration says all of what an operation computes: not of those that users write."""
    return type(operation).__module__.split(".")[0] in ("keras", "layers")


_IRRELEVANT = ("initializer", "regularizer", "constraint", "trainable", "seed", "shared_object_id", "build_config")


def _canonical(part):
    """A config without what does not change what a layer computes from given weights."""
    if isinstance(part, dict):
        return {key: _canonical(value) for key, value in part.items() if not key.endswith(_IRRELEVANT)}
    if isinstance(part, (list, tuple)):
        return [_canonical(value) for value in part]
    return part if isinstance(part, (str, int, float, bool, type(None))) else repr(part)


def views_drawn(caching, epoch):
    """Number of the view that is used in `epoch`; counted on from refresh to refresh, so that none comes again."""
    views, refresh = caching.views or 1, caching.refresh_views
    generation, within = divmod(epoch, refresh) if refresh else (0, epoch)
    return generation * views + within % views


def estimate(prefix, data, stage, caching, has_augmentation, draws=0):
    """Whether running the frozen part once pays, and a line that says what it saves.

    `draws` are the images that are gone through beside the epochs, to find the rate.

    Returns:
        `(pays, line, bytes)`.
    """
    used = {views_drawn(caching, epoch) for epoch in range(stage.epochs)} if has_augmentation else {0}
    kept = min(len(used), caching.views or 1)
    train, valid = len(data.train), len(data.valid)
    size = prefix.row_bytes * (train * kept + valid)
    spared = prefix.cost * (train * (stage.epochs - len(used)) + draws + valid * (stage.epochs - 1))
    cost = prefix.row_bytes * (train * len(used) + valid) / _DISK
    cost += prefix.row_bytes * (train + valid) * stage.epochs / _MEMORY
    gain = spared / _speed() - cost
    whole = prefix.cost + multiply_adds(prefix.rest.layers)
    passes = "pass" if len(used) == 1 else "passes"
    line = (
        f"Stage {stage.name!r}: {prefix.cost / 1e6:,.0f} of {whole / 1e6:,.0f} million multiply-adds per image are"
        f" frozen and run in {len(used)} {passes} instead of {stage.epochs} ({size / 1e6:,.1f} MB kept)"
    )
    return _fits(size) and gain > _LEAST_GAIN, line, size


def _fits(size):
    """Whether so many bytes can be kept on disk."""
    return size <= min(cache_limit(), 0.8 * shutil.disk_usage(cache_folder()).free)


def _speed():
    gpus = len(tf.config.list_logical_devices("GPU"))
    return gpus * _MULTIPLY_ADDS["GPU"] or (os.cpu_count() or 1) * _MULTIPLY_ADDS["CPU"]


class Features:
    """What the frozen part gives for the images of a split: rows to train on in the images' place.

    Without augmentation there is one row per image. With it there is one per image and view, each drawn from the seed,
    the image's content and the number of the view, and made when an epoch first asks for it.

    Args:
        prefix: Prefix.
        split: Split.
        caching: Caching.
        recipe: JSON-able description of all that decides a row beside the image and the view; None where it cannot be
            described, and the rows die with the process.
        augment: as in `training_batches`, or None.
        seed: of the augmentation.
        before: Features of a part of the frozen part, to go on from; None to start from the images.
        budget: bytes of memory for all views; what is larger stays on disk and is mapped.
    """

    def __init__(self, prefix, split, caching, recipe, augment=None, seed=0, before=None, budget=0):
        self.shape, self.dtype, self.recipe = prefix.shape, prefix.dtype, recipe
        self.split, self.labels = split, split.labels
        self._caching, self._seed, self._budget = caching, seed, budget
        self._change = change_each(augment) if augment is not None else None
        self._before = before
        self.tensor = prefix.tensor
        if before is not None:
            self._run = prefix.runner(before.tensor, before.dtype)
        else:
            self._run = prefix.runner(None, np.dtype("uint8" if augment is None else "float32"))
        self._cache = RowCache("features", recipe, self.shape, self.dtype) if recipe is not None else None
        self._views, self._lock = {}, threading.Lock()

    def __len__(self):
        return len(self.split)

    def take(self, epoch, picks):
        """The rows at `picks` for `epoch`, as an array of their own."""
        rows, places = self.view(views_drawn(self._caching, epoch) if self._change else 0)
        return gather(rows, places[picks])

    def view(self, number):
        """(rows, the row of each image) of a view, which is computed unless it is known."""
        with self._lock:
            if number not in self._views:
                while len(self._views) >= (self._caching.views or 1):
                    self._views.pop(min(self._views))
                self._views[number] = self._computed(number)
            return self._views[number]

    def _computed(self, number):
        digests = self.digests_of(self.split, number)
        if self._cache is None:
            rows = _buffer((len(self), *self.shape), self.dtype, self._budget // (self._caching.views or 1))
            for picks, values in self._passed(range(len(self)), number):
                rows[picks] = values
            return rows, np.arange(len(self))
        missing = self._cache.missing(digests)
        if missing:
            make_room(len(missing) * self._cache.row_bytes)
            for picks, values in self._passed(missing, number):
                self._cache.append([digests[pick] for pick in picks], values)
        rows, places = self._cache.rows(digests)
        if len(places) * self._cache.row_bytes * (self._caching.views or 1) <= self._budget:
            return np.ascontiguousarray(rows[places]), np.arange(len(places))
        return rows, places

    @staticmethod
    def digests_of(split, number):
        """What the rows of a view are kept under, one per image of a Split."""
        order = number.to_bytes(8, "little")
        return [hashlib.blake2b(digest + order, digest_size=16).digest() for digest in split.digests]

    def _passed(self, picks, number):
        """(positions, their rows) of what the frozen part makes of view `number`, some megabytes at a time."""
        together, values = [], []
        rows, places = (self.split.store, self.split.rows) if self._before is None else self._before.view(number)
        change = self._change if self._before is None else None
        seeds = self._seeds(picks, number)
        for positions, batch in ordered_rows(rows, places, picks, BATCH, change, seeds):
            together.extend(positions)
            values.append(self._run(batch).numpy())
            if sum(part.nbytes for part in values) >= CHUNK:
                yield together, np.concatenate(values)
                together, values = [], []
        if together:
            yield together, np.concatenate(values)

    def _seeds(self, picks, number):
        """One pair per image, which decides its change and depends on nothing but seed, content and view."""
        contents = [int.from_bytes(self.split.digests[pick][:6], "little") for pick in picks]
        return np.array([(content ^ self._seed, number) for content in contents], np.int64).reshape(-1, 2)


def _buffer(shape, dtype, budget):
    """Rows to fill: in memory within the budget, else in a file without a name."""
    if int(np.prod(shape)) * np.dtype(dtype).itemsize <= budget:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(dir=cache_folder()) as file:
        return np.memmap(file, dtype, mode="w+", shape=shape)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a stage trains, and on what: the rest of a network on rows, or the whole of it on images."""

    model: keras.Model
    run: Callable  # of (rows, training): what the model computes
    train: object
    valid: object
    predict: Callable | None  # from `compiled`; None where several devices share
    augment: Callable | None = None  # of the rows, in every epoch anew
    line: str = ""


class FrozenParts:
    """The frozen parts of all stages of a run, and what they gave for the images so far.

    Args:
        network: Network.
        data: Data.
        stages: all stages of the run, in order.
        free: function `(network, stage)` that marks the layers as the stage wants them.
        caching: Caching.
        augment: as in `training_batches`, or None.
        description: JSON-able description of the augmentation, None where there is none that another process could use.
        seed: of the run.
        decided: by the number of a stage, as text, whether its frozen part runs once, where that is decided already.
        accelerated: images at a time, where convolutions run by the algorithm that is fastest for so many; else None.
        draws: for each stage, the images that go through it beside its epochs; None for none.

    Attributes:
        prefixes: the Prefix of each stage; none where nothing is kept.
    """

    TEST_FITS = "rows of the test split fit"  # as `decided` has it

    def __init__(
        self,
        network,
        data,
        stages,
        free,
        caching,
        augment,
        description,
        seed,
        decided=None,
        accelerated=None,
        draws=None,
    ):
        self._draws = draws or [0] * len(stages)
        self._accelerated = accelerated
        self._network, self._data, self._stages = network, data, stages
        self._caching, self._augment, self._description, self._seed = caching, augment, description, seed
        self.prefixes, self._features, self._last = [], {}, None
        self.decided, self._digests = {} if decided is None else decided, {}
        for stage in stages if self._is_possible() else ():
            free(network, stage)
            self.prefixes.append(Prefix(network, frozen_layers(network, stage), accelerated is not None))
        for number in range(len(self.prefixes)):
            self._pays(number)
        if self.prefixes and self._pays(len(stages) - 1):
            last = self.prefixes[-1]
            size = self._estimate(len(stages) - 1)[2] + last.row_bytes * len(data.test)
            self.decided.setdefault(self.TEST_FITS, _fits(size))

    def _is_possible(self):
        is_alone = replicas_of(self._network.model) == 1
        is_live = self._augment is not None and self._caching.views is None
        return self._caching.mode is not False and is_alone and not is_live

    def prepare(self, number):
        """Prepared for a stage."""
        self._last = None
        if not self.prefixes or not self._pays(number):
            self._last = self._whole()
            return self._last
        self._digests = {
            later: prefix.digest() for later, prefix in enumerate(self.prefixes) if later >= number and prefix.rest
        }
        self._features = {key: rows for key, rows in self._features.items() if key[0] in self._digests.values()}
        line = self._estimate(number)[1]
        train, valid = self.features(number, "train"), self.features(number, "valid")
        train.view(0)
        if len(valid):
            valid.view(0)
        rest = self.prefixes[number].rest
        run = self._trained(rest)
        self._last = Prepared(rest, run, train, valid, compiled(run, valid), line=line)
        return self._last

    def _whole(self):
        """Prepared for training the network on the images as they are."""
        model, data = self._network.model, self._data

        def run(rows, training):
            return model(rows, training=training)

        if replicas_of(model) > 1:
            return Prepared(model, run, data.train, data.valid, None, self._augment)
        if self._caching.mode is not False or self._accelerated is not None:
            run = self._trained(model)
        return Prepared(model, run, data.train, data.valid, compiled(run, data.valid), self._augment)

    def _trained(self, model):
        """`folded` for training."""
        size = self._accelerated
        algorithms = fastest_algorithms(model, size, is_trained=True) if size is not None else None
        return folded(model, is_trained=True, algorithms=algorithms)

    def predict(self, name, batch_size):
        """Probabilities of a split after the last stage; None where there was none, or its rows would not fit."""
        number = len(self._stages) - 1
        if self._last is None:
            return None
        if not self.prefixes or not self._pays(number):
            return predict_split(self._last.model, getattr(self._data, name), batch_size, self._last.predict)
        if name == "test" and not self.decided[self.TEST_FITS]:
            return None
        return predict_split(self._last.model, self.features(number, name), batch_size, self._last.predict)

    def _estimate(self, number):
        prefix, stage = self.prefixes[number], self._stages[number]
        return estimate(prefix, self._data, stage, self._caching, self._augment is not None, self._draws[number])

    def _pays(self, number):
        if str(number) not in self.decided:  # once for all: free space may change
            self.decided[str(number)] = self.prefixes[number].rest is not None and self._is_worth_it(number)
        return self.decided[str(number)]

    def _is_worth_it(self, number):
        is_asked = self._caching.mode is True or (self._augment is not None and self._caching.views is not None)
        return is_asked or self._estimate(number)[0]

    def features(self, number, name):
        """Features of the split called `name` for a stage, from those of another stage where that saves."""
        key = self._digests[number], name
        if key not in self._features:
            below = self._below(number)
            before = self.features(below, name) if below is not None else None
            self._features[key] = self._make(number, *key, before)
        return self._features[key]

    def _make(self, number, digest, name, before):
        augment = self._augment if name == "train" else None
        data = self._data
        recipe = recipe_of(self.prefixes[number].frozen, digest, data, self._accelerated is not None)
        if augment is not None and self._description is None:
            recipe = None
        if augment is not None and recipe is not None:
            recipe |= {"augmentation": self._description, "seed": self._seed}
            if getattr(augment, "has_state", False):  # it draws for a batch of neighbours
                recipe["images together"] = hashlib.blake2b(b"".join(data.train.digests)).hexdigest()
        split = getattr(data, name)
        everything = max(1, sum(len(part) for part in (data.train, data.valid, data.test)))
        budget = self._caching.memory_budget * len(split) // everything // len(self.prefixes)
        return Features(self.prefixes[number], split, self._caching, recipe, augment, self._seed, before, budget)

    def _below(self, number):
        """The later stage with the most layers frozen beneath this stage's cut, all of them untouched until then."""
        layers = self.prefixes[number].layers
        found = None
        for later in range(number + 1, len(self._stages)):
            prefix = self.prefixes[later]
            if prefix.rest is None or not prefix.layers <= layers:
                break
            if prefix.layers < layers and self._pays(later):
                most = found is None or prefix.layers > self.prefixes[found].layers
                found = later if most else found
        return found


def frozen_layers(network, stage):
    """Names of all layers in blocks that the stage leaves as they are."""
    return {
        name
        for block, ratio in zip(network.blocks, stage.ratios(len(network.blocks)), strict=True)
        for name in block.layers
        if not ratio
    }
