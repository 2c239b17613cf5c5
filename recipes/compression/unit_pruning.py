"""recipes.prune_units: filters and neurons really removed, as many as the accuracy allows."""

import dataclasses

from recipes.checks import check_number, complaint
from recipes.compression.descending import descend
from recipes.compression.footprints import finish
from recipes.compression.forms import find_form
from recipes.compression.recovering import open_recovery
from recipes.compression.steps import Step
from recipes.compression.subjects import BATCH, open_subject
from recipes.compression.unit_budget import check_reach
from recipes.compression.unit_transform import Judging, removable, remove_units

_WHERE = "prune_units"
_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the multiply-adds of the network as it came
_IMAGES = 512  # by which units are judged and statistics measured


def prune_units(
    model,
    data=None,
    *,
    fraction=None,
    max_drop=0.01,
    criterion="taylor",
    scope="global",
    least=4,
    divisor=1,
    keep=(),
    recovery=None,
    form="keras",
    seed=0,
    verbose=True,
):
    """Remove filters and neurons, with all that depends on them, as many as the accuracy allows.

    1. Follow each channel through the graph: what is added, multiplied, or otherwise bound together goes together,
       through residual sums, concatenations, depthwise layers, normalization and flattening.
    2. Judge how much each unit matters, and choose those that go for a share of the multiply-adds.
    3. Build the network anew without them: smaller layers of the same names, their other weights as they were. It gives
       what the old one gives where those channels are 0 for every convolution and dense layer that reads them.
    4. Measure the statistics of BatchNormalization anew on training images, and train, by the stages of
       `recipes.finetune`.
    5. Go on so, a tenth of the multiply-adds at a time, as long as the validation accuracy stays within `max_drop` of
       what it was.

    Layers become smaller, so files shrink and time falls in every format. Channels stay where something that is not
    known reads them, or LayerNormalization, whose statistics are of all of them; `notes` name such layers.

    Args:
        model: Result, folder of a saved one, or Keras model from images of 0–255 to probabilities. It stays as it is.
        data: Data, or any source that `recipes.load_data` takes; None for the data that a Result was trained on. None
            is needed with a fraction, `max_drop=None`, no epochs of recovery, and another criterion than `"taylor"`.
        fraction: of the multiply-adds to remove, above 0 and below 1; with `max_drop`, the most. Several, rising, are
            gone through one by one, with training after each. None: as many as `max_drop` allows.
        max_drop: accuracy, 0–1, that may be lost on the validation images; None takes `fraction` at once.
        criterion: how units are judged: `"taylor"`, the square of what the loss of training images would change by if
            the unit were 0, to first order; `"l1"` or `"l2"`, the norm of its filters; `"gamma"`, the size of its
            factors in BatchNormalization; or `"random"`.
        scope: `"global"` ranks the units of all layers by what they matter for what they cost; `"layer"` removes the
            same share of every layer.
        least: units that each layer keeps at least, where it has so many.
        divisor: layers keep a multiple of so many units, or all.
        keep: layers that keep their units: regular expressions for their names, `"first"` or `"last"`.
        recovery: `recipes.Recovery`, how to train after each step.
        form: what sizes and latency are of: `"keras"`, or another one that compression knows.
        seed: of the images that units are judged by, of `"random"`, and of the training.
        verbose: whether to show progress.

    Returns:
        `Compression`. Its `notes` name the layers that keep their units, each with the reason.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range, or more is to go than can; the data
            does not fit the model.

    Example:
        >>> import keras, recipes
        >>> image = keras.Input((16, 16, 3))
        >>> x = keras.layers.Conv2D(32, 3, activation="relu")(image)
        >>> x = keras.layers.Conv2D(32, 3, activation="relu")(x)
        >>> x = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x))
        >>> untrained = {"max_drop": None, "recovery": recipes.Recovery(epochs=0), "verbose": False}
        >>> small = recipes.prune_units(keras.Model(image, x), fraction=0.5, criterion="l1", **untrained)
        >>> small.rungs[1].multiply_adds <= 0.5 * small.rungs[0].multiply_adds
        True

    Source:
        Li et al. 2017, "Pruning filters for efficient ConvNets" (`"l1"`); Liu et al. 2017, "Network slimming"
        (`"gamma"`); Molchanov et al. 2019, "Importance estimation for neural network pruning" (`"taylor"`).
    """
    judging = Judging(criterion, scope, least, divisor, keep)
    judging.check(_WHERE)
    plan = UnitPruning(fraction, judging)
    plan.check(max_drop, _WHERE)
    find_form(form, _WHERE)
    recovery = open_recovery(recovery, _WHERE)
    needs_data = bool(recovery.epochs) or max_drop is not None or criterion == "taylor"
    subject = open_subject(model, data, _WHERE, max_drop=max_drop, needs_data=needs_data)
    return finish(subject, shrink(subject, plan, subject.floor(max_drop), recovery, seed, verbose), form)


@dataclasses.dataclass(frozen=True)
class UnitPruning:
    """How much to remove, and how to choose it.

    Args:
        fraction: see `prune_units`.
        judging: Judging.
    """

    fraction: float | tuple[float, ...] | None = None
    judging: Judging = dataclasses.field(default_factory=Judging)

    def check(self, max_drop, where):
        """Raise unless the fractions make sense, with that `max_drop`."""
        if self.fraction is None:
            if max_drop is None:
                mend = "Pass fraction=0.3, or max_drop=0.01."
                raise ValueError(complaint(where, "something must say how far to go", "neither", mend))
            return
        given = self.fraction if isinstance(self.fraction, (tuple, list)) else (self.fraction,)
        for value in given:
            check_number(where, "fraction", value, most=0.9999, above=True)
        if not given or list(given) != sorted(set(given)):
            rule = "fraction must be a number, or several that rise"
            raise ValueError(complaint(where, rule, repr(self.fraction), "Pass fraction=(0.2, 0.4), say."))

    def levels(self, is_bounded):
        """The shares of the multiply-adds that are removed one after the other."""
        if isinstance(self.fraction, (tuple, list)):
            return tuple(self.fraction)
        last = 1.0 if self.fraction is None else self.fraction
        steps = [level for level in _LEVELS if is_bounded and level < last - 1e-9]
        return (*steps, *(() if self.fraction is None else (last,)))


def shrink(subject, plan, floor, recovery, seed, verbose):
    """Remove units of the Subject's model level by level, by a UnitPruning; a list of Step."""
    whole, reach = removable(subject.model, plan.judging, subject.where)
    levels = plan.levels(floor is not None)
    if plan.fraction is None:
        levels = tuple(level for level in levels if level <= reach)
    else:
        check_reach(reach, levels[-1], subject.where)
    cutter = _Cutter(subject, plan.judging, whole, seed)
    if not levels:
        _, notes = cutter.attempt(subject.model, 0.0)
        return [Step("no units that could be removed", subject.model, subject.accuracy(), notes)]
    options = {"floor": floor, "recovery": recovery, "seed": seed, "verbose": verbose}
    return descend(subject, levels, cutter.attempt, name=lambda level: f"{level:.0%} of multiply-adds less", **options)


class _Cutter:
    """Removes units until so much of the network that came is gone."""

    def __init__(self, subject, judging, whole, seed):
        self._subject = subject
        self._judging = judging
        self._whole = whole
        self._seed = seed
        self._images = subject.sample(_IMAGES, seed)

    def attempt(self, model, level):
        """See `descend`."""
        options = {"whole": self._whole, "batches": self._batches(), "seed": self._seed, "where": self._subject.where}
        return remove_units(model, level, self._judging, **options)

    def _batches(self):
        """Images with their labels, where the criterion asks for any."""
        count = 0 if self._images is None or self._judging.criterion != "taylor" else len(self._images)
        for start in range(0, count, BATCH):
            yield self._images.images(start, start + BATCH), self._images.labels[start : start + BATCH]
