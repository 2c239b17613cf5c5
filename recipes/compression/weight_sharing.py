"""recipes.share_weights: kernels of few distinct values, trained as such."""

import dataclasses

from recipes.checks import check_whole, complaint
from recipes.compression.descending import descend
from recipes.compression.footprints import finish
from recipes.compression.forms import find_form
from recipes.compression.kernels import KINDS, check_keep, check_patterns, find_kernels
from recipes.compression.recovering import open_recovery
from recipes.compression.subjects import open_subject
from recipes.compression.tying import bits_of, shared, tied, untied

_WHERE = "share_weights"
_LADDER = (8, 6, 5, 4, 3, 2)  # where no bits are asked for
_MOST = 12  # beyond, indices and codebook save little over halves of floats


def share_weights(
    model,
    data=None,
    *,
    bits=None,
    keep=(),
    averaged: bool = False,
    max_drop=0.01,
    recovery=None,
    form="packed",
    seed=0,
    verbose=True,
):
    """Let the weights of each layer of a classifier share few values, as few as its accuracy allows.

    1. Find the values that stand best for the weights of each kernel: k-means from equal distances. Zeros stay zeros.
    2. Train the values, each by the gradients of all weights that have it, by the stages of `recipes.finetune`.
    3. Without `bits`, go on with fewer, as long as the validation accuracy stays within `max_drop` of what it was.
    4. Measure accuracy, size and latency of each step.

    Few values save bytes in a packed file: an index of some bits for each weight. Runtimes multiply by the values, so
    no time is saved.

    Args:
        model: Result, folder of a saved one, or Keras model from images of 0–255 to probabilities. It stays as it is.
        data: Data, or any source that `recipes.load_data` takes; None for the data that a Result was trained on.
        bits: each kernel gets at most 2**bits values, 0 among them where there are zeros: 1–12, or
            `{"conv": 8, "dense": 5}` by kind or by regular expressions for names of layers. None goes from 8 to 2.
        keep: what stays: regular expressions for names of layers, `"first"`, `"last"`, `"conv"`, `"dense"` or
            `"depthwise"`. Biases and normalisation always do.
        averaged: whether the gradient of a value is the mean of those of its weights, rather than their sum, which it
            is by the chain rule. With Adam and its like, both train alike; plain SGD takes larger steps with the sum.
        max_drop: accuracy, 0–1, that may be lost on the validation images; None takes every step.
        recovery: `recipes.Recovery`, how to train after each step.
        form: what sizes are of: `"packed"`, the file of `recipes.pack`, or another one that compression knows.
        seed: of the training.
        verbose: whether to show progress.

    Returns:
        `Compression`, whose model is a plain one. If it trained on, its weights would part again.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range; the data does not fit the model.

    Example:
        >>> import keras, recipes
        >>> dense = keras.layers.Dense(10, activation="softmax", name="dense")
        >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), dense])
        >>> small = recipes.share_weights(network, "digits", bits=4, max_drop=None, verbose=False)
        >>> len(set(small.model.get_layer("dense").get_weights()[0].ravel().tolist()))
        16

    Source:
        Han, Mao and Dally 2016, "Deep Compression: compressing deep neural networks with pruning, trained quantization
        and Huffman coding", section 3.
    """
    check_bits(bits, _WHERE)
    find_form(form, _WHERE)
    recovery = open_recovery(recovery, _WHERE)
    subject = open_subject(model, data, _WHERE, max_drop=max_drop)
    options = {"keep": keep, "averaged": averaged, "recovery": recovery, "seed": seed, "verbose": verbose}
    return finish(subject, share(subject, bits, floor=subject.floor(max_drop), **options), form)


def check_bits(bits, where):
    """Raise unless `bits` is None, a whole number of bits, or a dictionary of such."""
    for number in bits.values() if isinstance(bits, dict) else () if bits is None else (bits,):
        check_whole(where, "bits", number)
        if number > _MOST:
            rule, mend = f"bits must be at most {_MOST}", 'Pass bits=8, or {"conv": 8, "dense": 5}.'
            raise ValueError(complaint(where, rule, number, mend))


def share(subject, bits, *, keep, averaged, floor, recovery, seed, verbose):
    """Share the weights of the Subject's model, with fewer values step by step where `bits` is None; a list of Step."""
    check_keep(subject.where, keep, subject.model)
    if isinstance(bits, dict):
        check_patterns(subject.where, "bits", bits, find_kernels(subject.model)[0], KINDS)
    if not find_kernels(subject.model, keep)[0]:
        return []

    def attempt(model, level):
        new, notes = shared(untied(model), level, keep=keep)
        names = {kernel.name for kernel in find_kernels(new, keep)[0] if bits_of(kernel, level) is not None}
        return tied(new, names, averaged), notes

    levels = _LADDER if bits is None else (bits,)
    options = {"floor": floor, "recovery": recovery, "seed": seed, "verbose": verbose}
    steps = descend(subject, levels, attempt, name=_describe, **options)
    return [dataclasses.replace(step, model=untied(step.model)) for step in steps]


def _describe(bits):
    if not isinstance(bits, dict):
        return f"shared values, {bits} bits"
    return "shared values, " + ", ".join(f"{name} {number}" for name, number in bits.items()) + " bits"
