"""The rungs that a ladder may have.

Each takes the verb named in errors and the arguments of its own verb by their names, checks them, and gives a function
of a Subject to its list of Step. From the ladder that is given `floor`, the least validation accuracy, and `recovery`,
`seed` and `verbose`.
"""

import functools

from recipes.bases.simplifying import without_normalization
from recipes.compression.few_bits import check_levels, choose_levels, round_off
from recipes.compression.low_rank import Factoring, check_factoring, thin
from recipes.compression.masking import KEEP
from recipes.compression.quantization import IMAGES, Quantizing, rounded
from recipes.compression.steps import Step, is_enough
from recipes.compression.unit_pruning import UnitPruning, shrink
from recipes.compression.unit_transform import Judging
from recipes.compression.weight_pruning import Pruning, check_pruning, prune
from recipes.compression.weight_sharing import check_bits, share


def fold(where):
    """See `recipes.fold`."""

    def run(subject, *, floor, recovery, seed, verbose):
        model, notes = without_normalization(subject.model)
        accuracy = subject.accuracy(model)
        return [Step("fold", model, accuracy, notes, is_enough(accuracy, floor))]

    return run


def units(where, *, fraction=None, criterion="taylor", scope="global", least=4, divisor=1, keep=()):
    """See `recipes.prune_units`."""
    plan = UnitPruning(fraction, Judging(criterion, scope, least, divisor, keep))
    plan.judging.check(where)
    plan.check(0.0, where)  # the floor says how far to go
    return functools.partial(_planned, shrink, plan)


def low_rank(where, *, kind="auto", energy=None, fraction=None, keep=(), is_fitted=True):
    """See `recipes.factor`."""
    plan = Factoring(kind, energy, fraction, keep, is_fitted)
    check_factoring(plan, where)
    return functools.partial(_planned, thin, plan)


def weights(where, *, sparsity=None, scope="layer", keep=KEEP, steps=4):
    """See `recipes.prune_weights`."""
    plan = Pruning(sparsity, scope, keep, steps)
    check_pruning(plan, where)
    return functools.partial(_planned, prune, plan)


def sharing(where, *, bits=None, keep=(), averaged=False):
    """See `recipes.share_weights`."""
    check_bits(bits, where)
    return functools.partial(share, bits=bits, keep=keep, averaged=averaged)


def few_bits(where, *, bits=None, method=None, keep=("first", "last")):
    """See `recipes.few_bits`."""
    check_levels(bits, method, where)

    def run(subject, **options):
        return round_off(subject, *choose_levels(subject, bits, method, keep), **options)

    return run


def quantize(where, *, form, precision="int8", is_trained=None, calibration_images=IMAGES, keep=()):
    """See `recipes.quantize`."""
    plan = Quantizing(precision, form, is_trained, calibration_images, keep)
    plan.check(where)
    return functools.partial(_planned, rounded, plan)


def _planned(method, plan, subject, *, floor, **training):
    return method(subject, plan, floor, **training)
