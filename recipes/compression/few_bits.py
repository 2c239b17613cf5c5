"""recipes.few_bits: weights of two or three values, trained as such, in one or two bits each."""

from recipes.checks import check_choice, complaint
from recipes.compression.bit_layers import METHODS, weighted_names, with_few_bits
from recipes.compression.descending import descend
from recipes.compression.footprints import finish
from recipes.compression.forms import find_form
from recipes.compression.keeping import kept_names
from recipes.compression.recovering import Recovery, open_recovery
from recipes.compression.steps import Step
from recipes.compression.subjects import open_subject

_WHERE = "few_bits"
_LEVELS = ("ternary", "binary")
_RECOVERY = Recovery(epochs=10, learning_rate=1e-3, weight_decay=0.0)


def few_bits(
    model,
    data=None,
    *,
    bits=None,
    method=None,
    keep=("first", "last"),
    max_drop=0.01,
    recovery=None,
    form="packed",
    seed=0,
    verbose=True,
):
    """Give convolutions and dense layers weights of two or three values each, and train the network with them.

    1. Put `layers.BinaryConv`, `BinaryDense`, `TernaryConv` or `TernaryDense` in the place of each `Conv2D` and
       `Dense`, of the same real weights, which training goes on to change; their signs and scales are what is computed
       with. Layers of other kinds, and those in `keep`, stay as they are; `notes` name them.
    2. Measure the statistics of BatchNormalization anew on training images.
    3. Train, by the stages of `recipes.finetune`.
    4. Measure accuracy and size packed: a bit or two a weight, by `recipes.pack`; `recipes.unpack` brings back a
       network of the same outputs.

    It saves bytes and no time: no runtime of today multiplies by single bits, and these layers make their signs anew at
    each call. It takes more training than other methods, most of all binary weights.

    Args:
        model: Result, folder of a saved one, or Keras model from images of 0–255 to probabilities. It stays as it is.
        data: Data, or any source that `recipes.load_data` takes; None for the data that a Result was trained on.
        bits: `"ternary"`, two bits a weight; `"binary"`, one; or None: ternary first, and binary where that too stays
            within `max_drop`.
        method: of binary weights, `"bwn"` (signs times the mean magnitude of each filter; the usual one) or
            `"binaryconnect"` (signs alone, for networks with BatchNormalization); of ternary ones, `"twn"` (threshold
            and scale by each filter's magnitudes; the usual one) or `"ttq"` (two trained scales a layer).
        keep: layers that stay: `"first"`, `"last"`, and regular expressions for names.
        max_drop: accuracy, 0–1, that may be lost on the validation images; None takes every step.
        recovery: `recipes.Recovery`, how to train. Default: 10 epochs at a rate of 0.001 without weight decay.
        form: what sizes and latency are of: `"packed"`, the file of `recipes.pack`, or another one that compression
            knows.
        seed: of the training.
        verbose: whether to show progress.

    Returns:
        `Compression`. Its model has the layers named above, and trains on.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range; the data does not fit the model.

    Example:
        >>> import keras, recipes
        >>> x = image = keras.Input((8, 8, 1))
        >>> for filters in (16, 64, 64):
        ...     x = keras.layers.Conv2D(filters, 3, activation="relu")(x)
        >>> x = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x))
        >>> options = {"max_drop": None, "recovery": recipes.Recovery(epochs=1), "verbose": False}
        >>> small = recipes.few_bits(keras.Model(image, x), "digits", bits="binary", **options)
        >>> small.rungs[1].stored_bytes < 0.4 * small.rungs[0].stored_bytes
        True

    Source:
        Courbariaux et al. 2015, "BinaryConnect"; Rastegari et al. 2016, "XNOR-Net" (binary-weight networks); Li and Liu
        2016, "Ternary weight networks"; Zhu et al. 2017, "Trained ternary quantization".
    """
    check_levels(bits, method, _WHERE)
    find_form(form, _WHERE)
    recovery = _RECOVERY if recovery is None else open_recovery(recovery, _WHERE)
    subject = open_subject(model, data, _WHERE, max_drop=max_drop)
    chosen = choose_levels(subject, bits, method, keep)
    steps = round_off(subject, *chosen, subject.floor(max_drop), recovery, seed, verbose)
    return finish(subject, steps, form)


def choose_levels(subject, bits, method, keep):
    """(kinds of weights from mild to strong, method, names of layers that stay), checked."""
    check_levels(bits, method, subject.where)
    keep = kept_names(keep, weighted_names(subject.model), subject.where)
    return _LEVELS if bits is None else (bits,), method, keep


def check_levels(bits, method, where):
    """Raise unless there are such bits and such a method of them."""
    if bits is not None:
        check_choice(where, "bits", bits, tuple(METHODS))
    if method is None:
        return
    if bits is None:
        rule, mend = "method is for one kind of bits", 'Pass bits="binary" or bits="ternary" with it.'
        raise ValueError(complaint(where, rule, f"method={method!r} and bits=None", mend))
    check_choice(where, f"method of bits={bits!r}", method, METHODS[bits])


def round_off(subject, levels, method, keep, floor, recovery, seed, verbose):
    """Convert the Subject's model, each level from the real weights it came with; a list of Step."""
    _, notes = with_few_bits(subject.model, levels[0], method=method, keep=keep)
    if len(notes) == len(weighted_names(subject.model)):
        return [Step("few bits, nothing to convert", subject.model, subject.accuracy(), notes)]

    def attempt(model, level):
        return with_few_bits(model, level, method=method, keep=keep)

    options = {"floor": floor, "recovery": recovery, "seed": seed, "verbose": verbose, "is_cumulative": False}
    return descend(subject, levels, attempt, name=lambda level: f"{level} weights", **options)
