"""Convolutions that cost more than they must: large kernels, and many channels without a bottleneck."""

import math

from recipes.advising.advice import CHOICE, advice
from recipes.advising.measuring import channels, is_square_convolution, kernels_of, sides

# A stack that saves less than this fraction of its layer is not worth the change.
LEAST_SAVING = 0.2
# Map sides at which Inception v3 found k×1 and 1×k to work well.
FACTOR_SIDES = range(12, 21)
# Weights of a 3×3 convolution from 256 to 256 channels; He et al. 2015 keep plain units below that.
LARGE_KERNEL = 9 * 256 * 256
REDUCTION = 4


def large_kernel(graph):
    """Square kernels of 5×5 and more, stride 1, for which a stack of 3×3 saves a fifth or more.

    With a stride the stack would work on the larger map, and from few channels (a stem on RGB) its inner convolutions
    cost more than the kernel they replace: neither is named.
    """
    found = [step for step in graph.steps if _stack_fraction(step) >= LEAST_SAVING]
    if not found:
        return None
    shown = ", ".join(dict.fromkeys(_stack_words(step) for step in found))
    return advice(
        graph,
        "large_kernel",
        CHOICE,
        found,
        what=f"One large kernel where several small ones see the same pixels: {shown}.",
        reason="Two 3×3 see 5×5 pixels with 18 instead of 25 weights (-28 %), three see 7×7 with 27 instead of 49 "
        "(-45 %), and there is a non-linearity between them: Simonyan & Zisserman 2014, section 2.3; Szegedy et al. "
        "2015, section 3.1.",
        mend="\n".join(dict.fromkeys(_stack_mend(step) for step in found)),
        **_saved((step, _stack(step)) for step in found),
    )


def missing_bottleneck(graph):
    """Kernels of 3×3 and more with the weights of a 3×3 from 256 to 256 channels or more, and no 1×1 that reduces
    channels before them. Those with a stride, which make maps smaller, are not named.
    """
    found = [step for step in graph.steps if _is_large(step) and not _is_reduced(graph, step)]
    if not found:
        return None
    chains = [(step, _bottleneck(step)) for step in found]
    fraction = 1 - sum(_chain_weights(chain) for _, chain in chains) / sum(map(_weights, found))
    step = max(found, key=_weights)
    inner, filters = _inner_channels(step), step.operation.filters
    side = step.operation.kernel_size[0]
    return advice(
        graph,
        "missing_bottleneck",
        CHOICE,
        found,
        what=f"Large convolutions between many channels; 1×1 to a quarter of the channels, {side}×{side}, and 1×1 back "
        f"would do with {100 * fraction:.0f} % fewer weights.",
        reason="A k×k kernel costs k² × channels in × channels out: Lin et al. 2013 and Szegedy et al. 2014 (1×1 "
        "reductions), He et al. 2015, section 4.1 (bottleneck units, in all their networks of 50 layers and more).",
        mend=f"keras.layers.Conv2D({inner}, 1) → Conv2D({inner}, {side}) → Conv2D({filters}, 1), for {step.name}; with "
        "a shortcut around them: layers.ResidualBottleneck",
        **_saved(chains),
    )


def _saved(chains):
    """What is saved by `(step, chain in its place)`. Weights of a layer that is called several times count once."""
    chains = list(chains)
    less = {id(step.operation): _weights(step) - _chain_weights(chain) for step, chain in chains}
    # A chain has a bias after each of its convolutions.
    more = {id(step.operation): step.operation.use_bias * sum(out for *_, out in chain[:-1]) for step, chain in chains}
    adds = [_fewer_adds(step, chain) for step, chain in chains]
    parameters = sum(less.values()) - sum(more.values())
    return {"parameters": parameters, "multiply_adds": None if None in adds else sum(adds)}


def _weights(step):
    return math.prod(kernels_of(step)[0].shape)


def _chain_weights(chain):
    return sum(side * side * inner * out for side, inner, out in chain)


def _fewer_adds(step, chain):
    """Multiply-adds less by a chain; without padding, the maps within it are larger than the one behind it."""
    lengths = sides(step.outputs[0], step.operation)
    if None in lengths:
        return None
    adds, margin = _weights(step) * math.prod(lengths), 0
    for side, inner, out in reversed(chain):
        adds -= side * side * inner * out * math.prod(length + margin for length in lengths)
        margin += (side - 1) * (step.operation.padding == "valid")
    return adds


def _stack(step):
    """`(side, channels in, channels out)` of the convolutions of the StackedConv that sees as many pixels."""
    inputs, filters = channels(step.inputs[0], step.operation), step.operation.filters
    return [(3, inputs, filters), *[(3, filters, filters)] * ((step.operation.kernel_size[0] - 1) // 2 - 1)]


def _bottleneck(step):
    """The same of a bottleneck in a convolution's place."""
    inputs, inner = channels(step.inputs[0], step.operation), _inner_channels(step)
    return ((1, inputs, inner), (step.operation.kernel_size[0], inner, inner), (1, inner, step.operation.filters))


def _stack_fraction(step):
    """The fraction of a convolution's weights that a stack of 3×3 saves; 0 where none can stand in its place."""
    if not is_square_convolution(step, 5) or step.operation.kernel_size[0] % 2 == 0 or _has_stride(step):
        return 0
    return 1 - _chain_weights(_stack(step)) / _weights(step)


def _stack_words(step):
    side = step.operation.kernel_size[0]
    return f"{side}×{side} as {(side - 1) // 2} of 3×3 ({-100 * _stack_fraction(step):.0f} %)"


def _stack_mend(step):
    """The layer of the project in a convolution's place; on maps of middle size, the cheaper factors beside it."""
    operation = step.operation
    side, filters = operation.kernel_size[0], operation.filters
    arguments = f'({filters}, {side}, padding="{operation.padding}", activation=…)'
    line = f"layers.StackedConv{arguments}"
    if all(length in FACTOR_SIDES for length in sides(step.outputs[0], operation)):
        line += f"; or layers.SeparableFactorConv{arguments}: {side}×1 and 1×{side}, for maps of 12–20 pixels"
    return line


def _has_stride(step):
    return tuple(step.operation.strides) != (1, 1)


def _is_large(step):
    return is_square_convolution(step, 3) and not _has_stride(step) and _weights(step) >= LARGE_KERNEL


def _is_reduced(graph, step):
    """Whether the last kernel before this step is a 1×1 with fewer channels out than in."""
    while True:
        step = graph.maker(step.inputs[0])
        if step is None or len(step.inputs) != 1:
            return False
        if kernels_of(step):
            return is_square_convolution(step, 1) and step.operation.kernel_size == (1, 1) and _narrows(step)


def _narrows(step):
    return step.operation.filters < channels(step.inputs[0], step.operation)


def _inner_channels(step):
    return max(1, min(channels(step.inputs[0], step.operation), step.operation.filters) // REDUCTION)
