"""recipes.deep_compress: prune, share, and code, one after the other."""

from recipes.compression.descending import last_kept
from recipes.compression.footprints import finish
from recipes.compression.masking import KEEP
from recipes.compression.recovering import open_recovery
from recipes.compression.subjects import open_subject
from recipes.compression.weight_pruning import Pruning, check_pruning, prune
from recipes.compression.weight_sharing import check_bits, share

_WHERE = "deep_compress"
_BITS = {"conv": 8, "depthwise": 8, "dense": 5}


def deep_compress(
    model,
    data=None,
    *,
    sparsity=None,
    scope="layer",
    keep=KEEP,
    steps=4,
    bits=None,
    max_drop=0.01,
    recovery=None,
    seed=0,
    verbose=True,
):
    """Make a classifier a small file: few weights, of few values, in the bits that they need.

    1. Prune the smallest weights, as `recipes.prune_weights` does.
    2. Let those that are left share few values, and train these, as `recipes.share_weights` does.
    3. Code the zeros as distances, the values as indices, and both by Huffman's code, as `recipes.pack` does.

    What comes out computes as before, in the same time: it is the file that is small. `write(path)` writes it, and
    `recipes.unpack(path)` reads the same weights.

    Args:
        model: Result, folder of a saved one, or Keras model from images of 0–255 to probabilities. It stays as it is.
        data: Data, or any source that `recipes.load_data` takes; None for the data that a Result was trained on.
        sparsity: fraction of the kernels' weights that is to be zero, 0–1, or `{name of a layer: fraction}`; None goes
            as far as the accuracy allows.
        scope: `"layer"`, `"global"`, `"deviation"` or `"sensitivity"`, as in `recipes.prune_weights`.
        keep: kernels that are not pruned; they share values all the same.
        steps: on the way to `sparsity`.
        bits: each kernel gets at most 2**bits values: a whole number, or by kind or name of layer. None means 8 for
            convolutions and 5 for dense layers.
        max_drop: accuracy, 0–1, that may be lost on the validation images, by both together; None takes every step.
        recovery: `recipes.Recovery`, how to train after each step.
        seed: of the training.
        verbose: whether to show progress.

    Returns:
        `Compression` in the form `"packed"`. A step that falls too far is shown, and left out.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range; the data does not fit the model.

    Example:
        >>> import keras, recipes
        >>> dense = keras.layers.Dense(10, activation="softmax", name="dense")
        >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), dense])
        >>> small = recipes.deep_compress(network, "digits", sparsity=0.8, steps=1, max_drop=None, verbose=False)
        >>> path = small.write("digits.packed")
        >>> recipes.unpack(path).model.count_params()
        650

    Source:
        Han, Mao and Dally 2016, "Deep Compression: compressing deep neural networks with pruning, trained quantization
        and Huffman coding".
    """
    plan = Pruning(sparsity, scope, keep, steps)
    check_pruning(plan, _WHERE)
    check_bits(bits, _WHERE)
    recovery = open_recovery(recovery, _WHERE)
    subject = open_subject(model, data, _WHERE, max_drop=max_drop)
    floor = subject.floor(max_drop)
    first = prune(subject, plan, floor, recovery, seed, verbose)
    options = {"keep": (), "averaged": False, "floor": floor, "recovery": recovery, "verbose": verbose}
    second = share(last_kept(subject, first), bits or _BITS, seed=seed + len(first), **options)
    return finish(subject, [*first, *second], "packed")
