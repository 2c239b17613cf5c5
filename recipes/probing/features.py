"""Features of a base at the end of its blocks: averaged over the map, all blocks in one pass, kept on disk."""

import keras
import numpy as np
import tensorflow as tf

from recipes.acceleration.choosing import fastest_algorithms
from recipes.bases import block_outputs, folded, multiply_adds
from recipes.data.batches import ordered_rows, traced
from recipes.data.row_cache import RowCache, make_room
from recipes.training.frozen_prefix import BATCH, CHUNK, Features, digest_of, recipe_of

_LEAST_STAGES, _SPREAD = 3, 5


def outputs_of(network):
    """The tensor at the end of each block of a Network."""
    *ends, _ = block_outputs(network.model, network.blocks)
    return (*ends, network.model.get_layer(network.head[0]).input)


def stage_places(network):
    """Places of the blocks at the end of a stage: the last of each size of the map.

    A network with less than three sizes counts as one of five stages, as near to even as its blocks allow.
    """
    ends = {tuple(tensor.shape[1:-1]): place for place, tensor in enumerate(outputs_of(network))}
    places = sorted(ends.values())
    if len(places) >= _LEAST_STAGES:
        return tuple(places)
    last = len(network.blocks) - 1
    return tuple(sorted({round(place) for place in np.linspace(0, last, min(_SPREAD, last + 1))}))


class PooledFeatures:
    """What the blocks of a base give for the images of a Data, averaged over the map.

    Rows are kept where `finetune` keeps and looks for those of a frozen base with its head at the end of that block.

    Args:
        network: Network.
        places: numbers of the blocks.
        data: Data.
        accelerate: whether each convolution runs by the algorithm that is fastest on this machine.
        is_kept: whether rows are kept on disk.

    Attributes:
        widths: features of each block.
        multiply_adds: for one image, from the pixels to the end of each block.
        computed: images that went through the base so far.
    """

    def __init__(self, network, places, data, *, accelerate=False, is_kept=True):
        outputs = outputs_of(network)
        tensors = [outputs[place] for place in places]
        self._image, self._tensors = network.model.input, tensors
        self._accelerate = accelerate
        models = [keras.Model(self._image, _pooled(tensor, "head_pool"), name="frozen") for tensor in tensors]
        self.widths = [model.output.shape[-1] for model in models]
        self.multiply_adds = [multiply_adds(model.layers) for model in models]
        self._dtype = np.dtype(tf.as_dtype(models[0].output.dtype).as_numpy_dtype)
        recipes = [recipe_of(model, digest_of(model), data, accelerate) if is_kept else None for model in models]
        self._caches = [
            recipe and RowCache("features", recipe, (width,), self._dtype)
            for recipe, width in zip(recipes, self.widths, strict=True)
        ]
        self._held, self._run, self.computed = {}, None, 0

    def prepare(self, split):
        """See to it that every image of a Split has a row for each block."""
        digests = Features.digests_of(split, 0)
        missing = {place for place, digest in enumerate(digests) if None in self._caches and digest not in self._held}
        missing.update(*(cache.missing(digests) for cache in self._caches if cache))
        if not missing:
            return
        make_room(len(missing) * sum(self.widths) * self._dtype.itemsize)
        together, values = [], []
        for picks, batch in ordered_rows(split.store, split.rows, sorted(missing), BATCH):
            together.extend(digests[pick] for pick in picks)
            values.append(self._runner()(batch).numpy())
            if sum(part.nbytes for part in values) >= CHUNK:
                self._keep(together, np.concatenate(values))
                together, values = [], []
        if together:
            self._keep(together, np.concatenate(values))
        self.computed += len(missing)

    def rows(self, split, number):
        """float32 `(images, features)` of a Split that is prepared, for the block at `places[number]`."""
        digests = Features.digests_of(split, 0)
        if self._caches[number]:
            rows, places = self._caches[number].rows(digests)
            return np.asarray(rows[places], np.float32)
        return np.stack([self._held[digest][number] for digest in digests]).astype(np.float32)

    def _keep(self, digests, values):
        parts = np.split(values, np.cumsum(self.widths)[:-1], axis=1)
        for cache, part in zip(self._caches, parts, strict=True):
            if cache:
                cache.append(digests, part)
        if None in self._caches:
            self._held.update({digest: [part[row] for part in parts] for row, digest in enumerate(digests)})

    def _runner(self):
        if self._run is None:
            pooled = [_pooled(tensor, f"pool_{place}") for place, tensor in enumerate(self._tensors)]
            joined = keras.layers.Concatenate(name="joined")(pooled) if len(pooled) > 1 else pooled[0]
            model = keras.Model(self._image, joined)
            algorithms = fastest_algorithms(model, BATCH) if self._accelerate else None
            images = tf.TensorSpec((None, *self._image.shape[1:]), tf.uint8)
            self._run = traced(folded(model, algorithms=algorithms), [images])
        return self._run


def _pooled(tensor, name):
    """The mean over all axes but the batch's and the last."""
    if len(tensor.shape) == 4:
        return keras.layers.GlobalAveragePooling2D(name=name)(tensor)
    return keras.layers.GlobalAveragePooling1D(name=name)(tensor) if len(tensor.shape) == 3 else tensor
