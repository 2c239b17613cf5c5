"""The sanity check: what should be true before any time goes into training."""

import time
from typing import Any

import keras
import numpy as np

from recipes.bases.seeding import globals_kept
from recipes.checks import check_whole
from recipes.sanity.checkup import FAILED, Checkup, skipped
from recipes.sanity.labels import check_labels
from recipes.sanity.learning import check_gradients, check_overfitting, check_start, check_weights
from recipes.sanity.pixels import check_pixels, check_preprocessing
from recipes.sanity.subject import open_subject
from recipes.training.augmentation import change, make_augmentation
from recipes.training.devices import dtype_policy
from recipes.training.progress import collector_spared

_SEEN = 8  # images of the picture
_TESTS = {
    "pixels": check_pixels,
    "preprocessing": check_preprocessing,
    "weights": check_weights,
    "loss at start": check_start,
    "gradients": check_gradients,
    "overfitting": check_overfitting,
    "labels": check_labels,
}
# What must be right before a test says anything.
_NEEDS = {
    "preprocessing": ("pixels",),
    "loss at start": ("weights", "preprocessing"),
    "gradients": ("weights",),
    "overfitting": ("pixels", "preprocessing", "weights", "gradients"),
    "labels": ("pixels",),
}


def check(
    model: str | Any,
    data: dict[str, Any] | str | Any = None,
    *,
    weights: str | None = "pretrained",
    image_size: int | tuple[int, int] | None = None,
    head: str | tuple[int, ...] = "linear",
    augmentation: str | Any | None = None,
    steps: int = 100,
    seed: int = 0,
):
    """See whether a network and its data are fit to be trained, and say what is wrong where they are not.

    All is done on a fresh copy in float32, in which dropout drops nothing; the model and the data stay as they are.
    A test that says nothing while another fails is skipped.

    1. `pixels`: the images are neither nearly black (of 0–1, say) nor of one colour.
    2. `preprocessing`: the first weights take in numbers of a scale that they can learn from. Where a trained
       BatchNormalization remembers what the network has seen, images prepared otherwise (red and blue exchanged,
       scaled once more or once less, as other networks have it) must not fit it clearly better.
    3. `weights`: all are finite.
    4. `loss at start`: a head that knows nothing has a loss of ln(classes): from 0.75 times that to 1 above it.
    5. `gradients`: every weight that trains gets one that is finite and not all zeros.
    6. `overfitting`: 16 images are learnt by heart, to a loss of 0.05.
    7. `labels`: from true labels, a linear classifier (on small pictures and the network's pooled features) learns what
       it does not learn from shuffled ones, measured on held-out images.

    It takes some passes over 800 images at most and, for `overfitting`, up to `steps` steps of training on 16.

    Args:
        model: name in `recipes.list_bases()`, path of a `.keras` file, or a `keras.Model`, which is examined as it is
            where it ends in a softmax for the classes of the data, else as the base that `recipes.finetune` would
            take it for. Or a `Result`, or the folder of one.
        data: as in `recipes.finetune`. None for the data of a `Result`.
        weights: as in `recipes.finetune`.
        image_size: as in `recipes.finetune`, pixels.
        head: as in `recipes.finetune`.
        augmentation: as in `recipes.finetune`; shown in the picture.
        steps: most steps to learn the batch by heart, at each of three rates.
        seed: of the head's start and of the images that are chosen.

    Returns:
        `Checkup`, which prints as a table: `passed`, `failed`, a `Finding` per test; `show()` draws what the network
        really sees. As a command, it ends with code 4 where a test failed.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range, or the data makes training
            senseless; see `recipes.load_data`.

    Example:
        >>> import recipes
        >>> data = recipes.load_data("digits", image_size=16)
        >>> recipes.check("small_resnet", data).passed
        True

    Source:
        Karpathy 2019, "A recipe for training neural networks"; Zhang et al. 2017, "Understanding deep learning requires
        rethinking generalization" (shuffled labels).
    """
    where, start = "check", time.monotonic()
    check_whole(where, "steps", steps)
    check_whole(where, "seed", seed, least=0)
    augment = make_augmentation(augmentation, seed, where)
    with collector_spared(), dtype_policy("float32"), globals_kept():
        subject = open_subject(model, data, weights, image_size, head, augment, seed, where)
        findings = {}
        for test, function in _TESTS.items():
            wrong = [need for need in _NEEDS.get(test, ()) if need in findings and findings[need].status == FAILED]
            if wrong:
                findings[test] = skipped(test, f"Says nothing while {wrong[0]!r} fails.")
            else:
                findings[test] = function(subject, steps) if test == "overfitting" else function(subject)
        seen, labels = _seen(subject)
    return Checkup(subject.model.name, tuple(findings.values()), seen, labels, time.monotonic() - start)


def _seen(subject):
    """(what the network sees, names of the classes) of some images."""
    images, labels = subject.pick(_SEEN)
    seen = {"images": images.astype("float32")}
    if subject.augment is not None:
        pair, targets = np.array([subject.seed, 0]), np.eye(subject.model.output_shape[-1], dtype="float32")[labels]
        seen["augmented"] = np.asarray(change(subject.augment, seen["images"], pair, targets)[0], "float32")
    preprocessing = subject.preprocessing()
    if preprocessing is not None:
        last = list(seen.values())[-1]
        seen["preprocessed"] = keras.ops.convert_to_numpy(preprocessing(last, training=False)).astype("float32")
    return seen, tuple(subject.data.class_names[label] for label in labels)
