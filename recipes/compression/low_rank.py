"""recipes.factor: each layer as a product of thinner ones, as thin as the accuracy allows."""

import dataclasses

from recipes.bases.rewiring import detached
from recipes.checks import check_choice, check_number, complaint
from recipes.compression.descending import descend
from recipes.compression.factoring import chosen, composed, frontiers_of, linear_names, with_pieces
from recipes.compression.footprints import finish
from recipes.compression.forms import find_form
from recipes.compression.keeping import kept_names
from recipes.compression.ranks import most
from recipes.compression.reconstructing import FITTED, reconstruct
from recipes.compression.recovering import open_recovery
from recipes.compression.steps import Step
from recipes.compression.subjects import open_subject
from recipes.costs.costing import cost

_WHERE = "factor"
_KINDS = ("auto", "svd", "spatial", "tucker")
_LEVELS = (0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8)  # of multiply-adds to take away, where nothing is asked for


@dataclasses.dataclass(frozen=True)
class Factoring:
    """How far to factor, and how; the arguments of `factor` of these names."""

    kind: str = "auto"
    energy: float | None = None
    fraction: float | None = None
    keep: tuple[str, ...] = ()
    is_fitted: bool = True


def factor(
    model,
    data=None,
    *,
    kind="auto",
    energy=None,
    fraction=None,
    keep=(),
    is_fitted=True,
    max_drop=0.01,
    recovery=None,
    form="keras",
    seed=0,
    verbose=True,
):
    """Put thinner layers in the place of convolutions and dense layers, as thin as the accuracy allows.

    1. Factor the kernel of each layer: a dense layer or a 1×1 convolution into two by singular values; a k×k
       convolution into k×1 and 1×k (spatial), or into 1×1, a k×k among few channels, and 1×1 (Tucker).
    2. Give each layer the rank that keeps `energy`, or all of them ranks by which `fraction` of the multiply-adds goes
       while the product of their energies stays largest. Where no rank saves, the layer stays, and `notes` say so.
    3. Fit the last layer of each by least squares to what the whole one answered to training images, and measure the
       statistics of BatchNormalization anew.
    4. Train all of it, by the stages of `recipes.finetune`.
    5. Where neither was asked for, take away more and more, from 0.1 to 0.8 of the multiply-adds, as long as the
       validation accuracy stays within `max_drop` of what it was.

    The new layers are plain ones of Keras. Strides, padding, dilation, bias and activation are the layer's: at full
    rank they compute what it computes. Depthwise layers and those in groups are thin already and stay.

    Args:
        model: Result, folder of a saved one, or Keras model from images of 0–255 to probabilities. It stays as it is.
        data: Data, or any source that `recipes.load_data` takes; None for the data that a Result was trained on. None
            is needed with energy or fraction, `max_drop=None` and no epochs of recovery.
        kind: how k×k convolutions are factored: `"spatial"`, `"tucker"`, `"svd"` (not at all: only dense layers and 1×1
            convolutions are), or `"auto"`: each by what saves most at equal energy.
        energy: share of the squares of each layer's weights that its factors keep, above 0 and at most 1; or
        fraction: share of the network's multiply-adds to take away, 0–1.
        keep: layers that stay: regular expressions for their names, `"first"` or `"last"`.
        is_fitted: whether to fit factors and statistics to training images.
        max_drop: accuracy, 0–1, that may be lost on the validation images; None takes every step.
        recovery: `recipes.Recovery`, how to train after each step.
        form: what sizes and latency are of: `"keras"`, or another one that compression knows.
        seed: of the training.
        verbose: whether to show progress.

    Returns:
        `Compression`. Its `notes` name the layers that stay, each with the reason.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range, or more is to go than can; the data
            does not fit the model.

    Example:
        >>> import keras, recipes
        >>> image = keras.Input((16, 16, 3))
        >>> x = keras.layers.Conv2D(32, 5, activation="relu")(image)
        >>> x = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x))
        >>> untrained = {"max_drop": None, "recovery": recipes.Recovery(epochs=0), "verbose": False}
        >>> small = recipes.factor(keras.Model(image, x), energy=0.6, **untrained)
        >>> small.rungs[1].multiply_adds < 0.8 * small.rungs[0].multiply_adds
        True

    Source:
        Jaderberg, Vedaldi and Zisserman 2014, "Speeding up convolutional neural networks with low rank expansions"; Kim
        et al. 2016, "Compression of deep convolutional neural networks for fast and low power mobile applications";
        Zhang et al. 2015, "Accelerating very deep convolutional networks for classification and detection".
    """
    plan = Factoring(kind, energy, fraction, keep, is_fitted)
    check_factoring(plan, _WHERE)
    find_form(form, _WHERE)
    recovery = open_recovery(recovery, _WHERE)
    needs_data = bool(recovery.epochs) or max_drop is not None
    subject = open_subject(model, data, _WHERE, max_drop=max_drop, needs_data=needs_data)
    return finish(subject, thin(subject, plan, subject.floor(max_drop), recovery, seed, verbose), form)


def check_factoring(plan, where):
    """Raise unless the fields of a Factoring make sense by themselves."""
    check_choice(where, "kind", plan.kind, _KINDS)
    if plan.energy is not None and plan.fraction is not None:
        rule = "ranks go by energy or by the fraction of multiply-adds to take away"
        received = f"energy={plan.energy} and fraction={plan.fraction}"
        raise ValueError(complaint(where, rule, received, "Leave out one of them."))
    if plan.energy is not None:
        check_number(where, "energy", plan.energy, most=1.0, above=True)
    if plan.fraction is not None:
        check_number(where, "fraction", plan.fraction, most=1.0, above=True)
    if not isinstance(plan.is_fitted, bool):
        raise TypeError(
            complaint(where, "is_fitted must be true or false", repr(plan.is_fitted), "Pass is_fitted=True.")
        )


def thin(subject, plan, floor, recovery, seed, verbose):
    """Factor the Subject's model level by level, by a Factoring; a list of Step."""
    keep = kept_names(plan.keep, linear_names(subject.model), subject.where)
    levels = [plan.fraction] if plan.fraction is not None else [plan.energy]
    if levels == [None]:
        frontiers, notes = frontiers_of(subject.model, plan.kind, keep)
        possible = most(frontiers) / max(cost(subject.model, optimizer=None).multiply_adds, 1)
        levels = [level for level in _LEVELS if level <= possible]
    else:
        measure = {"energy": plan.energy, "fraction": plan.fraction}
        choices, notes = chosen(subject.model, plan.kind, **measure, keep=keep)
        levels = levels if choices else []
    if not levels:
        return [Step(_describe(plan, 0), subject.model, subject.accuracy(), notes)]
    thinner = _Thinner(subject, plan, keep)
    options = {"floor": floor, "recovery": recovery, "seed": seed, "verbose": verbose}
    return descend(subject, levels, thinner.attempt, name=lambda level: _describe(plan, level), **options)


def _describe(plan, level):
    if plan.energy is not None:
        return f"low rank, {plan.energy:.1%} of the energy"
    return f"low rank, {level:.0%} of multiply-adds away" if level else "low rank, nothing to take away"


class _Thinner:
    """Makes each level from the last one, whose factors are multiplied out first: what training found is not lost."""

    def __init__(self, subject, plan, keep):
        self._plan = plan
        self._keep = keep
        self._images = None
        if plan.is_fitted and subject.data is not None:
            self._images = subject.sample(FITTED).images().astype(subject.model.inputs[0].dtype)
        self._last = {}, {}

    def attempt(self, model, level):
        """See `descend`."""
        whole = composed(model, *self._last)
        by = "energy" if self._plan.energy is not None else "fraction"
        choices, notes = chosen(whole, self._plan.kind, **{by: level}, keep=self._keep)
        thinner, chains = with_pieces(whole, choices)
        if self._images is not None:
            reconstruct(whole, chains, self._images)
        self._last = choices, chains
        return detached(thinner), notes
