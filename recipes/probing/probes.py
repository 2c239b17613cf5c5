"""What probing finds: small frozen values, printable and JSON."""

import dataclasses
import json
import math
from pathlib import Path

from recipes.files import write_json


@dataclasses.dataclass(frozen=True)
class ProbedBlock:
    """What the features at the end of one block are worth.

    Args:
        base: name of the base.
        block: name of the block, as `finetune(features=...)` takes it.
        depth: of the blocks of the base, the fraction up to the end of this one, above 0 up to 1.
        features: numbers per image, after the average over the map.
        multiply_adds: for one image, from the pixels to here.
        linear: accuracy of the linear classifier, 0–1.
        neighbours: accuracy of the nearest neighbours, 0–1.
        loss: mean cross-entropy of the linear classifier, nats; for a support vector machine the fraction of errors.
        strengths: the strength that each part chose, as `C` of scikit-learn for features whose squares sum to 1 on
            average; from strong regularisation to weak.
        classifier_seconds: wall time of both classifiers.
    """

    base: str
    block: str
    depth: float
    features: int
    multiply_adds: int
    linear: float
    neighbours: float
    loss: float
    strengths: tuple[float, ...]
    classifier_seconds: float


@dataclasses.dataclass(frozen=True, repr=False)
class Probe:
    """How well features of bases tell classes apart. Prints as a table; `save` and `load` bring it to JSON and back.

    Args:
        rows: one `ProbedBlock` for each base and block, from input to output.
        split: what was measured on: `"train"`, in folds, each by classifiers fitted to the others; or `"valid"`, by
            classifiers fitted to the training images.
        folds: number of folds; 1 where the validation images were measured.
        images: number measured.
        classes: number of classes.
        chance: fraction of the images that are of the largest class, 0–1.
        classifier: `"logistic"` or `"svm"`.
        k: number of nearest neighbours.
        feature_seconds: for each base, wall time in which its features came about, or were found where they are kept.
        computed: for each base, the images that went through it; of the others the features were kept.
    """

    rows: tuple[ProbedBlock, ...]
    split: str
    folds: int
    images: int
    classes: int
    chance: float
    classifier: str
    k: int
    feature_seconds: dict[str, float]
    computed: dict[str, int]

    def __repr__(self):
        from recipes.reporting.probes import probe_table

        return probe_table(self)

    @property
    def best(self):
        """The row with the highest linear accuracy; of equal ones, that with the fewest multiply-adds."""
        return max(self.rows, key=lambda row: (row.linear, -row.multiply_adds))

    @property
    def ranking(self):
        """Names of the bases, the one with the best row first."""
        best = {}
        for row in self.rows:
            best[row.base] = max(best.get(row.base, 0.0), row.linear)
        return tuple(sorted(best, key=lambda base: -best[base]))

    def error_of(self, accuracy):
        """Standard error of an accuracy measured on so many images."""
        return math.sqrt(accuracy * (1 - accuracy) / self.images)

    def save(self, path):
        """Write this probe to `path` as JSON (through a temporary name)."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path):
        """Read a probe that `save` wrote."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        rows = [ProbedBlock(**row | {"strengths": tuple(row["strengths"])}) for row in content.pop("rows")]
        return cls(rows=tuple(rows), **content)
