"""How well a classifier that votes by its nearest examples tells what it has never seen."""

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from recipes.checks import check_whole, complaint
from recipes.data.loading import load_one_class
from recipes.data.matching import data_for
from recipes.neighbours.heads import check_neighbours, extractor, features_of, nearest_distances
from recipes.saving import open_classifier
from recipes.values import Novelty


def detect_unknown(
    model: str | Any,
    images: list[str] | str | Any,
    *,
    data: dict[str, Any] | str | Any | None = None,
    batch_size: int = 32,
):
    """Measure how well a classifier tells images of other kinds from images of its classes, by their distance.

    Args:
        model: `Result` of `recipes.fit_knn` or of `recipes.finetune(..., head="knn")`, or folder of a saved one.
        images: of other kinds: a folder, a list of paths, or an array `(images, height, width, channels)`, RGB 0–255.
        data: images of the known classes: `Data`, or any source that `recipes.load_data` takes; None for the data that
            a Result was trained on. The test split counts, or else the validation split.
        batch_size: images that run through the model together.

    Returns:
        `Novelty`: the area under the ROC curve, and what the threshold of the classifier does, where it has one.

    Raises:
        TypeError, ValueError: the classifier does not vote by neighbours, no image can be used, or there are no images
            of the known classes that it has not seen.
        FileNotFoundError: a path does not exist.

    Example:
        >>> import numpy as np, recipes
        >>> options = {"weights": None, "epochs": 1, "head": "knn", "verbose": False}
        >>> result = recipes.finetune("small_resnet", "digits", **options)
        >>> recipes.detect_unknown(result, np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1))).unknown
        9

    Source:
        Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors".
    """
    where = "detect_unknown"
    check_whole(where, "batch_size", batch_size)
    classifier = open_classifier(model, where)
    head = check_neighbours(classifier, where)
    data = data_for(classifier, data, where)
    known = next((part for part in (data.test, data.valid) if len(part)), None) if data is not None else None
    if known is None:
        mend = "Pass data= with a test or a validation split."
        raise ValueError(complaint(where, "there must be images of the known classes", "none", mend))
    strange = load_one_class(images, classifier, 0, where)
    features, stored = extractor(classifier.model, where), head.store.held()[0]
    near, far = (
        nearest_distances(stored, features_of(features, part, batch_size), head.metric) for part in (known, strange)
    )
    is_strange = np.repeat([False, True], (len(near), len(far)))
    limit = head.threshold
    return Novelty(
        auroc=float(roc_auc_score(is_strange, np.concatenate([near, far]))),
        rejected_known=None if limit is None else float(np.mean(near > limit)),
        rejected_unknown=None if limit is None else float(np.mean(far > limit)),
        threshold=limit,
        known=len(near),
        unknown=len(far),
    )
