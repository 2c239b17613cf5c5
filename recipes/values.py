"""The values that recipes take and return: small, frozen, printable, and JSON where no model is inside."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from recipes.checks import check_number, check_whole, complaint
from recipes.files import write_json


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Split:
    """The images of one split: rows of a store that the splits share.

    Args:
        store: uint8 array, `(images, height, width, channels)`, RGB 0–255; usually a memory map, never copied whole.
        rows: int64 array, the rows of `store` that belong to this split.
        labels: int32 array, one class index per row.
        files: one name per row: the path of the file, or a made-up name such as `x[17]` for an array.
        digests: one digest of the content per row, 16 bytes: equal images have equal digests.
    """

    store: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    files: tuple[str, ...]
    digests: tuple[bytes, ...]

    def __len__(self):
        return len(self.rows)

    def __repr__(self):
        return f"Split({len(self)} images of {'×'.join(map(str, self.store.shape[1:]))})"

    def images(self, start=0, stop=None):
        """uint8 images `start` to `stop` of this split, copied into memory."""
        return self.store[self.rows[start:stop]]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Data:
    """Images ready to train on: decoded, inspected and split.

    Args:
        train: the training images.
        valid: the validation images; empty when none were asked for.
        test: the test images; empty when none were asked for.
        class_names: names of the classes, in the order of the label numbers.
        image_size: `(height, width)` in pixels to which every image was brought.
        channels: 3 for RGB, 1 for grey arrays, more for arrays with more.
        resize: how images were brought to size: `"crop"`, `"stretch"` or `"pad"`.
        fingerprint: hexadecimal digest of the images' content, labels, splits and size.
        skipped: `(file, reason)` for each file that was left out.
    """

    train: Split
    valid: Split
    test: Split
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    resize: str
    fingerprint: str
    skipped: tuple[tuple[str, str], ...] = ()

    def __repr__(self):
        names = ", ".join(self.class_names[:6]) + (", …" if len(self.class_names) > 6 else "")
        return (
            f"Data({len(self.train)} train, {len(self.valid)} valid, {len(self.test)} test; "
            f"{len(self.class_names)} classes: {names}; {self.image_size[0]}×{self.image_size[1]}×{self.channels}; "
            f"{len(self.skipped)} skipped; fingerprint {self.fingerprint[:12]})"
        )


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of training: what trains, for how long, at which rate.

    Args:
        name: shown in the progress line and the report.
        epochs: most epochs; early stopping may end the stage sooner.
        learning_rate: base rate, reached after warm-up. A group's rate is this times its ratio.
        head: ratio for the layers on top of the base. 0 freezes a group.
        top: ratio for the blocks of the base that are nearest to the output.
        intermediate: ratio for the upper half of the blocks below those, rounded up.
        early: ratio for all other blocks.
        layer_decay: instead of the three ratios above: each block's ratio is this factor times that of the block
            above it, and the topmost block's is this factor times `head` (0–1).
        top_blocks: number of blocks that `top` is for. Default: a third of them, rounded up.

    Example:
        >>> import recipes
        >>> recipes.Stage("top", epochs=5, learning_rate=1e-3, top=0.1, intermediate=0.01).ratios(6)
        (0.0, 0.0, 0.01, 0.01, 0.1, 0.1)
    """

    name: str
    epochs: int
    learning_rate: float = 1e-3
    head: float = 1.0
    top: float = 0.0
    intermediate: float = 0.0
    early: float = 0.0
    layer_decay: float | None = None
    top_blocks: int | None = None

    def __post_init__(self):
        where = f"Stage {self.name!r}"
        check_whole(where, "epochs", self.epochs)
        check_number(where, "learning_rate", self.learning_rate, above=True)
        for field in ("head", "top", "intermediate", "early"):
            check_number(where, field, getattr(self, field))
        if self.top_blocks is not None:
            check_whole(where, "top_blocks", self.top_blocks)
        if self.layer_decay is not None:
            check_number(where, "layer_decay", self.layer_decay, most=1.0, above=True)
            if self.top or self.intermediate or self.early or self.top_blocks:
                rule = "layer_decay replaces top, intermediate, early and top_blocks"
                raise ValueError(complaint(where, rule, "both", "Set either layer_decay or the others."))
            check_number(where, "head, which layer_decay starts from,", self.head, above=True)
        elif not (self.head or self.top or self.intermediate or self.early):
            raise ValueError(complaint(where, "something must train", "ratios that are all 0", "Set head=1.0, say."))

    def ratios(self, blocks):
        """The ratio of each of `blocks` blocks, from the input to the output."""
        if self.layer_decay is not None:
            return tuple(self.head * self.layer_decay ** (blocks - index) for index in range(blocks))
        top = min(blocks, self.top_blocks or math.ceil(blocks / 3))
        intermediate = math.ceil((blocks - top) / 2)
        early = blocks - top - intermediate
        return (self.early,) * early + (self.intermediate,) * intermediate + (self.top,) * top


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the classifier says of one image.

    Args:
        label: name of the most probable class.
        probability: its probability, 0–1.
        probabilities: every class name with its probability, most probable first.
    """

    label: str
    probability: float
    probabilities: dict[str, float] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """What was measured, and how it came about. Prints as a table; `save` and `load` bring it to JSON and back.

    Args:
        scores: `accuracy`, `top_5_accuracy` (more than five classes), `loss` (mean cross-entropy, nats),
            `calibration_error` (Guo et al. 2017, 15 bins), all but the loss in 0–1; `images`, the number measured.
        split: the split the scores were measured on: `"test"`, `"valid"`, `"train"` where there was no other, or
            `"all"`.
        class_names: names of the classes, in label order.
        per_class: for each class name its `precision`, `recall`, `f1` (0–1) and `images`.
        confusion: counts; row = true class, column = predicted class.
        confused: most confused pairs first: `{"true", "predicted", "images"}`.
        rows: one per image: `{"file", "true", "predicted", "probability"}`; `probability` is that of the prediction.
        curves: per-epoch lists: `loss`, `accuracy`, `val_loss`, `val_accuracy`, and `stage`, the name of its stage.
        cost: `parameters`, `trainable_parameters` (of the last stage), `weight_bytes`.
        settings: every argument of the run.
        versions: of Python and of the packages that matter.
        seconds: wall seconds by part of the run, since it was last resumed.
        is_repeatable: whether the same call would give the same bits on this hardware; None where nothing was trained.
        crops: of an average over crops: `crops`, `average`, `passes` (how many times the pixels of one crop the network
            sees), `milliseconds` for an image, `single_milliseconds` and `single`, the scores of a single crop.
    """

    scores: dict[str, float]
    split: str
    class_names: tuple[str, ...]
    per_class: dict[str, dict[str, float]]
    confusion: tuple[tuple[int, ...], ...]
    confused: tuple[dict[str, Any], ...]
    rows: tuple[dict[str, Any], ...]
    curves: dict[str, list] = dataclasses.field(default_factory=dict)
    cost: dict[str, int] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    is_repeatable: bool | None = None
    crops: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self):
        from recipes.reporting.tables import report_table

        return report_table(self)

    def save(self, path):
        """Write this report to `path` as JSON (through a temporary name)."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path):
        """Read a report that `save` wrote."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        for field in ("class_names", "confused", "rows"):
            content[field] = tuple(content[field])
        content["confusion"] = tuple(tuple(row) for row in content["confusion"])
        return cls(**content)


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Result:
    """A trained classifier with everything it needs to be used.

    Args:
        model: Keras model, `(batch, height, width, channels)` RGB 0–255 in, class probabilities out.
        class_names: names of the classes, in the order of the model's outputs.
        image_size: `(height, width)` in pixels that the model takes.
        channels: channels that the model takes: 3 for RGB.
        resize: how images are brought to size: `"crop"`, `"stretch"` or `"pad"`.
        report: the Report of the run; None where nothing was measured.
        trained_on: hexadecimal digests of the images it was trained on, so that none of them is measured by mistake.
        data: the Data it was trained on; None after `recipes.load`.
    """

    model: Any
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    resize: str
    report: Report
    trained_on: frozenset[str] = frozenset()
    data: Data | None = None

    @property
    def is_bare(self):
        """Whether it is a Keras model by itself, which has no names of its own: its classes are those of any data."""
        return self.report is None and self.data is None and not self.trained_on

    def __repr__(self):
        told = "not measured"
        if self.report is not None:
            told = f"{self.report.split} accuracy {self.report.scores['accuracy']:.4f}"
        size = f"{self.image_size[0]}×{self.image_size[1]} px"
        return f"Result({self.model.name}, {len(self.class_names)} classes, {size}, {told})"

    def predict(self, images, **options):
        """See `recipes.predict`."""
        import recipes

        return recipes.predict(self, images, **options)

    def evaluate(self, data, **options):
        """See `recipes.evaluate`."""
        import recipes

        return recipes.evaluate(self, data, **options)

    def add_class(self, name, images, **options):
        """See `recipes.add_class`."""
        import recipes

        return recipes.add_class(self, images, name=name, **options)

    def export(self, folder, **options):
        """See `recipes.export`."""
        import recipes

        return recipes.export(self, folder, **options)

    def save(self, folder):
        """See `recipes.save`."""
        import recipes

        return recipes.save(self, folder)


@dataclasses.dataclass(frozen=True)
class Novelty:
    """How well a classifier tells images of its classes from others, by their distance to the nearest it has stored.

    Args:
        auroc: the chance that an image of another kind lies farther than one of the known classes, 0–1; 0.5 is none.
        rejected_known: fraction of the images of known classes that it calls unknown; None without that class.
        rejected_unknown: fraction of the others that it calls unknown; None without that class.
        threshold: distance beyond which it does; None without that class.
        known: number of images of known classes.
        unknown: number of the others.
    """

    auroc: float
    rejected_known: float | None
    rejected_unknown: float | None
    threshold: float | None
    known: int
    unknown: int


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Args:
        number: from 0, in the order of their choice.
        settings: `{argument: value}` of what was searched.
        status: `"done"`, `"paused"` (the search let others go on in its place) or `"failed"`.
        score: by the objective of the search, on the validation images; None for a failure.
        scores: all that were measured there, by names such as `"val_accuracy"`.
        epochs: trained.
        seconds: of wall time.
        attempts: how often it was run, after crashes.
        peak_bytes: most memory that its process took, what it shares with others included.
        reason: of a failure.
        command: that trains it again, with all its settings.
    """

    number: int
    settings: dict[str, Any]
    status: str
    score: float | None
    scores: dict[str, float]
    epochs: int
    seconds: float
    attempts: int
    peak_bytes: int
    reason: str
    command: str


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Search:
    """What a search found; prints as a table.

    Args:
        trials: every Trial, in the order of their choice.
        best: the Trial with the best score.
        result: the Result of that trial, measured once, on the test split, which no trial saw.
        objective: name of the score that decided.
        is_more_better: whether a higher score is better.
        method: `"grid"`, `"random"`, `"hyperband"` or `"bayesian"`.
        seconds: of wall time, all calls together.
        folder: of the search, a path; None where there was none.
    """

    trials: tuple[Trial, ...]
    best: Trial
    result: Result
    objective: str
    is_more_better: bool
    method: str
    seconds: float
    folder: Path | None

    def __repr__(self):
        from recipes.reporting.searches import search_table

        return search_table(self)


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What one layer of a network costs, all its calls together.

    Args:
        name: of the layer, with the names of the models that it stands in before it.
        kind: its class.
        calls: how often the network calls it.
        output_shape: of its first call, without the batch.
        parameters: numbers in its weights, those that do not train included.
        multiply_adds: of its convolutions and products of matrices, on one image.
        activation_bytes: of what it gives, for a batch.
        kept_bytes: of what training keeps of it until the gradients are computed, for a batch; None where that was not
            asked for.
        moved_bytes: of what it reads, its weights included, and what it writes, for a batch, each once.
        milliseconds: measured, of one batch at inference, by itself; None where that was not asked for.
        note: what could not be counted; empty where everything was.
    """

    name: str
    kind: str
    calls: int
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int
    kept_bytes: int | None
    moved_bytes: int
    milliseconds: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class Cost:
    """What a network costs. Prints as a table; `save` and `load` bring it to JSON and back.

    Args:
        name: of the network.
        image_size: `(height, width)` in pixels; None for a network that takes no images.
        batch_size: that memory, bytes moved and time are for.
        optimizer: name of the one that training memory is for; None where that was not asked for.
        layers: one LayerCost per layer, in the order in which they are called.
        parameters: numbers in all weights; a weight that layers share counts once.
        trainable_parameters: of these, those that train.
        multiply_adds: of one image.
        weight_bytes: of all weights.
        input_bytes: of a batch of images.
        gradient_bytes: of the gradients of all weights that train, of which some are freed before others are there;
            None where training was not asked for.
        optimizer_bytes: of what the optimizer keeps beside the weights; None where training was not asked for.
        kept_bytes: of what training keeps from the forward pass for the backward pass; None where not asked for.
        inference_bytes: most memory that inference on a batch takes, weights and images included.
        training_bytes: most memory that a step of training on a batch takes, likewise; None where not asked for.
        milliseconds: measured, of the whole network on a batch at inference; None where not asked for.
    """

    name: str
    image_size: tuple[int, int] | None
    batch_size: int
    optimizer: str | None
    layers: tuple[LayerCost, ...]
    parameters: int
    trainable_parameters: int
    multiply_adds: int
    weight_bytes: int
    input_bytes: int
    gradient_bytes: int | None
    optimizer_bytes: int | None
    kept_bytes: int | None
    inference_bytes: int
    training_bytes: int | None
    milliseconds: float | None = None

    def __repr__(self):
        from recipes.reporting.costs import cost_table

        return cost_table(self)

    def save(self, path):
        """Write this cost to `path` as JSON (through a temporary name)."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path):
        """Read a cost that `save` wrote."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        rows = content.pop("layers")
        layers = tuple(LayerCost(**{**row, "output_shape": tuple(row["output_shape"])}) for row in rows)
        size = content.pop("image_size")
        return cls(layers=layers, image_size=None if size is None else tuple(size), **content)
