"""The rungs that a ladder may have: each method as a function of a Subject to its list of Step.

Each takes the arguments of its verb by their names, and from the ladder `floor`, the least validation accuracy,
`recovery`, `seed` and `verbose`.
"""

from recipes.bases.simplifying import without_normalization
from recipes.compression.few_bits import choose_levels, round_off
from recipes.compression.low_rank import Factoring, check_factoring, thin
from recipes.compression.masking import KEEP
from recipes.compression.quantization import IMAGES, Quantizing, rounded
from recipes.compression.steps import Step, is_enough
from recipes.compression.unit_pruning import UnitPruning, shrink
from recipes.compression.unit_transform import Judging
from recipes.compression.weight_pruning import Pruning, check_pruning, prune
from recipes.compression.weight_sharing import check_bits, share


def fold(subject, *, floor, recovery, seed, verbose):
    """See `recipes.fold`."""
    model, notes = without_normalization(subject.model)
    accuracy = subject.accuracy(model)
    return [Step("fold", model, accuracy, notes, is_enough(accuracy, floor))]


def units(
    subject, *, fraction=None, criterion="taylor", scope="global", least=4, divisor=1, keep=(), floor, **training
):
    """See `recipes.prune_units`."""
    plan = UnitPruning(fraction, Judging(criterion, scope, least, divisor, keep))
    plan.judging.check(subject.where)
    plan.check(floor, subject.where)
    return shrink(subject, plan, floor, **training)


def low_rank(subject, *, kind="auto", energy=None, fraction=None, keep=(), is_fitted=True, floor, **training):
    """See `recipes.factor`."""
    plan = Factoring(kind, energy, fraction, keep, is_fitted)
    check_factoring(plan, subject.where)
    return thin(subject, plan, floor, **training)


def weights(subject, *, sparsity=None, scope="layer", keep=KEEP, steps=4, floor, **training):
    """See `recipes.prune_weights`."""
    plan = Pruning(sparsity, scope, keep, steps)
    check_pruning(plan, subject.where)
    return prune(subject, plan, floor, **training)


def sharing(subject, *, bits=None, keep=(), averaged=False, floor, **training):
    """See `recipes.share_weights`."""
    check_bits(bits, subject.where)
    return share(subject, bits, keep=keep, averaged=averaged, floor=floor, **training)


def few_bits(subject, *, bits=None, method=None, keep=("first", "last"), floor, **training):
    """See `recipes.few_bits`."""
    return round_off(subject, *choose_levels(subject, bits, method, keep), floor=floor, **training)


def quantize(
    subject, *, form, precision="int8", is_trained=None, calibration_images=IMAGES, keep=(), floor, **training
):
    """See `recipes.quantize`."""
    plan = Quantizing(precision, form, is_trained, calibration_images, keep)
    plan.check(subject.where)
    return rounded(subject, plan, floor, **training)
