"""recipes.sensitivity: what each layer loses when its weights alone are pruned, before anything is trained."""

import dataclasses

import numpy as np

from recipes.checks import check_number, complaint
from recipes.compression.kernels import check_keep, find_kernels
from recipes.compression.masking import smallest, zeros_in
from recipes.compression.subjects import open_subject
from recipes.files import write_json
from recipes.reporting.sensitivities import sensitivity_table
from recipes.training.progress import say

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
_WHERE = "sensitivity"
_HALVINGS = 60  # of the span in which the common loss is looked for: more than a float64 tells apart


@dataclasses.dataclass(frozen=True, repr=False)
class Sensitivity:
    """How accuracy falls with the sparsity of each layer. Prints as a table; `curves` can be plotted as they are.

    Args:
        accuracy: of the whole network on the validation images, 0–1.
        sparsities: fractions of a layer's weights that were set to zero, rising.
        curves: for each kernel, the accuracy at each of the sparsities, with nothing trained.
        sizes: for each kernel, how many weights it has.
        chance: accuracy of a network that has lost everything: one over the number of classes.
        notes: `{layer: why it was left alone}`.
    """

    accuracy: float
    sparsities: tuple[float, ...]
    curves: dict[str, tuple[float, ...]]
    sizes: dict[str, int]
    chance: float
    notes: dict[str, str] = dataclasses.field(default_factory=dict)

    def __repr__(self):
        return sensitivity_table(self)

    def save(self, path):
        """Write this to `path` as JSON (through a temporary name)."""
        write_json(path, dataclasses.asdict(self))

    def allot(self, sparsity, sizes=None):
        """How many weights of each kernel to set to zero, so that all kernels alone would lose as much.

        Between the sparsities measured, accuracy is taken to fall on a straight line, and from the last on to chance.

        Args:
            sparsity: fraction of all weights, 0–1.
            sizes: `{kernel: weights}` of those that are to be pruned; None for all that were measured.

        Returns:
            `{kernel: zeros}`, which together are exactly as many as asked for.
        """
        sizes = self.sizes if sizes is None else sizes
        total = zeros_in(sum(sizes.values()), sparsity)
        counts = np.array(list(sizes.values()), float)
        shares = self._shares(list(sizes), counts, total)
        whole = np.floor(shares * counts + 1e-9).astype(int)
        rest = np.argsort(whole - shares * counts, kind="stable")[: total - whole.sum()]
        whole[rest] += 1
        return dict(zip(sizes, whole.tolist(), strict=True))

    def _shares(self, names, counts, total):
        """The sparsity of each kernel at which all lose alike and `total` weights are zero."""
        few, many = -1.0, 1.0
        for _ in range(_HALVINGS):
            middle = (few + many) / 2
            if (self._at_loss(names, middle) * counts).sum() <= total:
                few = middle
            else:
                many = middle
        # Where accuracy does not fall over a span of sparsities, one loss stands for all of the span.
        below, above = self._at_loss(names, few), self._at_loss(names, many)
        span = ((above - below) * counts).sum()
        return below + (above - below) * ((total - (below * counts).sum()) / span if span > 0 else 0)

    def _at_loss(self, names, loss):
        """The largest sparsity of each kernel that costs no more than `loss`; 0 for a loss below 0."""
        if loss < 0:
            return np.zeros(len(names))
        sparsities = np.array([0.0, *self.sparsities, 1.0])
        shares = []
        for name in names:
            losses = [0.0, *(self.accuracy - one for one in self.curves[name]), max(self.accuracy - self.chance, 0)]
            losses = np.maximum.accumulate(losses)
            place = int(np.searchsorted(losses, loss, "right"))  # the first that costs more
            if place == len(losses):
                shares.append(1.0)
                continue
            way = (loss - losses[place - 1]) / (losses[place] - losses[place - 1])
            shares.append(sparsities[place - 1] + way * (sparsities[place] - sparsities[place - 1]))
        return np.array(shares)


def sensitivity(model, data=None, *, sparsities=SPARSITIES, keep=(), verbose=True):
    """Tell which layers of a classifier can do without many weights, and which cannot.

    1. Set the smallest weights of one kernel to zero, at each of the sparsities; all others stay.
    2. Measure the validation accuracy, with nothing trained.

    That takes one pass over the validation images for each kernel and sparsity. Nothing is trained or kept.

    Args:
        model: Result, folder of a saved one, or Keras model from images of 0–255 to probabilities. It stays as it is.
        data: Data, or any source that `recipes.load_data` takes; None for the data that a Result was trained on.
        sparsities: fractions of a kernel's weights, 0–1, rising.
        keep: kernels that are not measured: regular expressions for names of layers, `"first"`, `"last"`, `"conv"`,
            `"dense"` or `"depthwise"`.
        verbose: whether to show progress.

    Returns:
        `Sensitivity`: for each kernel a curve of accuracies.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range; the data does not fit the model, or
            has no validation images.

    Example:
        >>> import keras, recipes
        >>> dense = keras.layers.Dense(10, activation="softmax", name="dense")
        >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), dense])
        >>> falls = recipes.sensitivity(network, "digits", sparsities=(0.5, 0.9), verbose=False)
        >>> {name: len(curve) for name, curve in falls.curves.items()}
        {'dense': 2}

    Source:
        Han et al. 2015, "Learning both weights and connections for efficient neural networks", section 5; Li et al.
        2017, "Pruning filters for efficient ConvNets".
    """
    _check_sparsities(sparsities)
    subject = open_subject(model, data, _WHERE)
    check_keep(_WHERE, keep, subject.model)
    return measure_sensitivity(subject, sparsities, keep, verbose)


def measure_sensitivity(subject, sparsities, keep, verbose):
    """The Sensitivity of a Subject's model, which is the same again afterwards."""
    if not len(subject.data.valid):
        rule, mend = "sensitivity is measured on validation images", "Load the data with valid=0.15."
        raise ValueError(complaint(subject.where, rule, "none", mend))
    kernels, notes = find_kernels(subject.model, keep)
    curves = {}
    for kernel in kernels:
        curves[kernel.name] = tuple(_curve(subject, kernel, sparsities))
        line = ", ".join(f"{accuracy:.4f}" for accuracy in curves[kernel.name])
        say(verbose, f"{kernel.name}: {line}")
    sizes = {kernel.name: kernel.size for kernel in kernels}
    chance = 1 / len(subject.original.class_names)
    return Sensitivity(subject.accuracy(), tuple(sparsities), curves, sizes, chance, notes)


def _curve(subject, kernel, sparsities):
    values = kernel.values.copy()
    magnitudes = np.abs(values)
    try:
        for sparsity in sparsities:
            kernel.variable.assign(np.where(smallest(magnitudes, zeros_in(kernel.size, sparsity)), 0, values))
            yield subject.accuracy()
    finally:
        kernel.variable.assign(values)


def _check_sparsities(sparsities):
    if not isinstance(sparsities, (tuple, list)) or not sparsities:
        mend = "Pass sparsities=(0.5, 0.9), say."
        raise TypeError(complaint(_WHERE, "sparsities must be a tuple of fractions", repr(sparsities), mend))
    for sparsity in sparsities:
        check_number(_WHERE, "sparsities", sparsity, most=1.0, above=True)
    if list(sparsities) != sorted(set(sparsities)):
        mend = f"Pass sparsities={tuple(sorted(set(sparsities)))}."
        raise ValueError(complaint(_WHERE, "sparsities must rise", repr(sparsities), mend))
