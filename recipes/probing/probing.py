"""The probe verb: which base, and features from which depth, measured before anything trains."""

import time
import warnings
from typing import Any

import numpy as np

from recipes.bases import check_base, network_for
from recipes.bases.sources import find_source
from recipes.checks import check_choice, check_whole, complaint
from recipes.data.loading import check_options
from recipes.probing.classifiers import CLASSIFIERS
from recipes.probing.features import PooledFeatures, stage_places
from recipes.probing.measuring import make_ground, measure_block
from recipes.probing.probes import Probe
from recipes.training.devices import dtype_policy, grow_memory
from recipes.training.given_data import open_data
from recipes.training.progress import collector_spared, say
from recipes.values import Data, Result

_WHERE = "probe"


def probe(
    bases: list[str] | str | Any,
    data: dict[str, Any] | str | Any,
    *,
    at: str | tuple[str, ...] = "stages",
    weights: str | None = "pretrained",
    image_size: int | tuple[int, int] | None = None,
    classifier: str = "logistic",
    neighbours: int = 5,
    folds: int | str | None = "auto",
    seed: int = 0,
    cache: bool = True,
    accelerate: bool = False,
    verbose: bool = True,
):
    """Tell which base suits images, and features from which depth, without training it.

    1. Open the images, at the size that each base wants. The test split is never looked at.
    2. Run them through the base once, and average what comes out at the end of each stage over the map.
    3. For each stage, fit a linear classifier and nearest neighbours to a part of the images and measure them on the
       rest.

    Features are kept on disk where `recipes.finetune` keeps those of frozen blocks: nothing runs through the base a
    second time, nor in `finetune(plan="head", features=...)` at one of these blocks. Features come to mean 0 and
    deviation 1 by the images fitted to. The linear classifier is fitted at up to four strengths of regularisation, and
    the images of each fold are measured at the one that is best for the other folds. Of equal images one counts.

    Args:
        bases: one or a list of: name in `recipes.list_bases()`, `keras.Model`, path of a `.keras` file, `Result`. A
            model is taken to accept RGB 0–255 and to hold its own preprocessing; its classifier is left out.
        data: anything that `recipes.load_data` takes, a `Data`, or a dictionary of `load_data`'s arguments.
        at: `"stages"`: the last block of each size of the map (five blocks, evenly apart, where there are less than
            three sizes); `"blocks"`: every block; or names of blocks.
        weights: as in `recipes.finetune`.
        image_size: pixels, one number or `(height, width)`. Default: what each base was trained on.
        classifier: `"logistic"`: multinomial logistic regression; `"svm"`: linear support vector machines, one a class
            against the rest, with squared hinge loss.
        neighbours: number of nearest neighbours that vote.
        folds: in how many folds the training images are measured, each by classifiers fitted to the others; None
            measures the validation images by classifiers fitted to the training images. `"auto"`: 5, or None from
            1,000 validation images on.
        seed: whole number that decides the folds, and with `weights=None` the network.
        cache: whether features are kept on disk, and looked for there.
        accelerate: whether each convolution runs by the algorithm that is fastest on this machine.
        verbose: whether to show progress.

    Returns:
        `Probe`: a row for each base and block, `best` among them, and `ranking` of the bases.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range; a base does not take images of the
            size of a `Data`; a class has fewer images than there are folds.
        ConnectionError: weights are not here and cannot be fetched.

    Example:
        >>> import recipes
        >>> found = recipes.probe("small_resnet", "digits", verbose=False)
        >>> [row.block for row in found.rows]
        ['stage0_block1', 'stage1_block1', 'stage2_block1']
        >>> found.best.linear > found.chance
        True

    Source:
        Donahue et al. 2014, "DeCAF"; Razavian et al. 2014, "CNN features off-the-shelf"; Alain & Bengio 2016,
        "Understanding intermediate layers using linear classifier probes"; Kornblith et al. 2019, "Do better ImageNet
        models transfer better?".
    """
    subjects = _subjects(bases, weights, image_size)
    _check(at, classifier, neighbours, folds, seed, cache, accelerate)
    grow_memory()
    rows, seconds, computed = [], {}, {}
    with collector_spared(), dtype_policy("auto"):
        for name, base, result in subjects:
            opened = open_data(_with_resize(data, result), base, weights, image_size, _WHERE)
            _warn_of_trained_on(result, opened)
            ground = make_ground(opened, folds, neighbours, seed, _WHERE)
            network = network_for(
                opened,
                base,
                weights=weights,
                seed=seed,
                where=_WHERE,
            )
            places = _places(network, at)
            clock = time.monotonic()
            features = PooledFeatures(network, places, opened, accelerate=accelerate, is_kept=cache)
            features.prepare(ground.images)
            seconds[name], computed[name] = time.monotonic() - clock, features.computed
            say(verbose, f"{name}: features of {len(ground.images):,} images in {seconds[name]:.1f} s")
            for number, place in enumerate(places):
                row, _ = measure_block(network, place, features, number, ground, name, classifier, neighbours, seed)
                rows.append(row)
                say(verbose, f"{name}, {row.block}: linear {row.linear:.4f}, {neighbours}-nn {row.neighbours:.4f}")
    counts = np.bincount(ground.images.labels[np.concatenate([held for _, held in ground.parts])])
    return Probe(
        rows=tuple(rows),
        split=ground.split,
        folds=len(ground.parts),
        images=int(counts.sum()),
        classes=len(opened.class_names),
        chance=float(counts.max() / counts.sum()),
        classifier=classifier,
        k=neighbours,
        feature_seconds=seconds,
        computed=computed,
    )


def _subjects(bases, weights, image_size):
    """(name, base, the Result it comes from or None) of each base, every name once."""
    listed = list(bases) if isinstance(bases, (list, tuple)) else [bases]
    if not listed:
        mend = 'Pass probe("small_resnet", data), say, or several in a list.'
        raise ValueError(complaint(_WHERE, "there must be a base to probe", repr(bases), mend))
    subjects, names = [], set()
    for base in listed:
        result = base if isinstance(base, Result) else None
        base = base if result is None else result.model
        check_base(base, weights, image_size, _WHERE)
        name = first = find_source(base, _WHERE).name
        count = 1
        while name in names:
            count += 1
            name = f"{first} ({count})"
        names.add(name)
        subjects.append((name, base, result))
    return subjects


def _check(at, classifier, neighbours, folds, seed, cache, accelerate):
    if isinstance(at, str):
        check_choice(_WHERE, "at", at, ("stages", "blocks"))
    elif not isinstance(at, (tuple, list)) or not at or not all(isinstance(name, str) for name in at):
        mend = 'Pass at="stages", "blocks", or names of blocks in a tuple.'
        raise TypeError(complaint(_WHERE, "at must be a word or names of blocks", repr(at), mend))
    check_choice(_WHERE, "classifier", classifier, CLASSIFIERS)
    check_whole(_WHERE, "neighbours", neighbours)
    if folds not in ("auto", None):
        check_whole(_WHERE, "folds", folds, least=2)
    check_whole(_WHERE, "seed", seed, least=0)
    for name, value in (("cache", cache), ("accelerate", accelerate)):
        if not isinstance(value, bool):
            mend = f"Pass {name}=True or {name}=False."
            raise TypeError(complaint(_WHERE, f"{name} must be True or False", repr(value), mend))


def _places(network, at):
    names = [block.name for block in network.blocks]
    if at == "stages":
        return stage_places(network)
    if at == "blocks":
        return tuple(range(len(names)))
    for name in at:
        check_choice(_WHERE, f"a block of {network.name}", name, names)
    return tuple(sorted({names.index(name) for name in at}))


def _with_resize(data, result):
    """The source with images brought to size as a Result has them."""
    if result is None or isinstance(data, Data):
        return data
    source, options = check_options(data, _WHERE)
    return {"source": source, "resize": result.resize} | options


def _warn_of_trained_on(result, data):
    seen = 0 if result is None else sum(digest.hex() in result.trained_on for digest in data.train.digests)
    if seen:
        warnings.warn(
            f"probe: {result.model.name} was trained on {seen:,} of these images and their labels, which its features"
            " remember; probe it on others to see what they are worth.",
            stacklevel=3,
        )
