"""Sets of TensorFlow Datasets by name: `"tfds:cifar10"`."""

import itertools
import os
import threading
import urllib.error
import urllib.request

from recipes.checks import complaint, nearest
from recipes.data.listing import SPLITS, Listing, split_of
from recipes.data.sources.streams import stream

_PREFLIGHT = "https://storage.googleapis.com/tfds-data/"
_PATIENCE = 8  # seconds


def list_tfds(name, where):
    """Listing of a prepared set, or of one that is downloaded now; without a network it says so within seconds."""
    import tensorflow_datasets as tfds

    builder = _builder(tfds, name, where)
    keys = _keys(tfds, builder.info, name, where)
    if not builder.is_prepared():
        _check_network(name, builder, where)
        builder.download_and_prepare()
    image, label = (builder.info.features[key] for key in keys)
    given = {split_of(split): split for split in builder.info.splits if split_of(split)}
    if len(given) < 2:
        parts = [(None, next(iter(builder.info.splits)))]
    else:
        parts = [(split, given[split]) for split in SPLITS if split in given]
    decoders = {keys[0]: tfds.decode.SkipDecoding()}  # the bytes go through our own decoder
    datasets = [
        (split, spelt, builder.as_dataset(split=spelt, decoders=decoders).map(lambda row: (row[keys[0]], row[keys[1]])))
        for split, spelt in parts
    ]
    return Listing(
        chunks=itertools.chain.from_iterable(
            stream(dataset, split, where, prefix=f"tfds:{name}/{spelt}") for split, spelt, dataset in datasets
        ),
        class_names=tuple(label.names) if getattr(label, "names", None) else None,
        natural_size=image.shape[:2] if all(image.shape[:2]) else None,
        channels=1 if image.shape[-1] == 1 else 3,
        given_splits=tuple(split for split, _ in parts if split),
        count=sum(builder.info.splits[spelt].num_examples for _, spelt in parts),
    )


def _keys(tfds, info, name, where):
    """Names of the image and of the label among the features: the declared ones, or the only ones there are."""
    if info.supervised_keys:
        keys = info.supervised_keys[:2]
    else:
        kinds = (tfds.features.Image, tfds.features.ClassLabel)
        found = [[key for key, feature in info.features.items() if isinstance(feature, kind)] for kind in kinds]
        keys = tuple(names[0] for names in found) if all(len(names) == 1 for names in found) else ()
    if not keys or not isinstance(info.features[keys[0]], tfds.features.Image):
        mend = "Choose a set for image classification, or map it to (image, label) and pass the tf.data.Dataset."
        raise ValueError(complaint(where, "the set must hold images with labels", repr(f"tfds:{name}"), mend))
    return keys


def _builder(tfds, name, where):
    try:
        # TFDS reads the variable when it is imported; read now, it holds as long as users expect.
        return tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
    except tfds.core.DatasetNotFoundError as error:
        close = nearest(name, tfds.list_builders())
        mend = f'Did you mean "tfds:{close}"?' if close else "See tensorflow_datasets.list_builders()."
        raise ValueError(complaint(where, "TensorFlow Datasets has no such set", repr(f"tfds:{name}"), mend)) from error


def _check_network(name, builder, where):
    """Raise ConnectionError within seconds when the set would have to be downloaded and there is no network."""
    outcome = []
    # Looking up a name can hang for a minute without a network, and no time-out reaches it: let a thread wait for it.
    asking = threading.Thread(target=lambda: outcome.append(_reachable()), daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    if outcome != [True]:
        mend = (
            f"Connect this machine, or prepare the set on another one and copy it to {builder.data_dir!r} "
            f"(or name its parent folder in TFDS_DATA_DIR)."
        )
        raise ConnectionError(
            complaint(where, "the set is not prepared here and the network cannot be reached", f'"tfds:{name}"', mend)
        )


def _reachable():
    try:
        urllib.request.urlopen(urllib.request.Request(_PREFLIGHT, method="HEAD"), timeout=_PATIENCE - 2)
    except urllib.error.HTTPError:
        return True  # it answered
    except OSError:
        return False
    return True
