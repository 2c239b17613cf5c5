"""Stochastic depth: residual branches that are dropped at random in training, and are whole at inference."""

import dataclasses

import keras

from recipes.bases.blocks import NORMALIZATIONS
from recipes.bases.flattening import live_tensors
from recipes.bases.rewiring import Wiring, detached
from recipes.bases.seeding import derived_seed
from recipes.checks import complaint

_SUFFIX = "_path"


def with_drop_paths(network, rate, seed, where):
    """The Network with a Dropout of whole branches at the end of each residual branch.

    Branch number l of L, from the input, is left out with probability `rate` × l / L, for each image by itself; else it
    is divided by the rest of that to 1, so that at inference nothing is to be done. (Huang et al. 2016, "Deep networks
    with stochastic depth", with linear decay: there, a branch is dropped for a whole batch, and scaled at inference.)

    Args:
        network: Network, whose layers go on in the new one as copies of the same names and weights.
        rate: of the last branch, 0–1.
        seed: of what is dropped.
        where: for errors.

    Raises:
        ValueError: there are no residual sums, or the network drops paths already.
    """
    own = [layer.name for layer in network.model.layers if drops_paths(layer)]
    if own:
        rule = "stochastic_depth is for networks that do not drop paths of their own accord"
        received, mend = f"{network.name}, which does so in {own[0]!r}", "Leave stochastic_depth out."
        raise ValueError(complaint(where, rule, received, mend))
    ends = residual_branches(network.model)
    if not ends:
        rule, mend = "stochastic_depth needs residual sums", 'Pass base="resnet50", say, or dropout= instead.'
        raise ValueError(complaint(where, rule, f"{network.name}, which has none", mend))
    after = {
        end: keras.layers.Dropout(
            rate * number / len(ends),
            noise_shape=(None, 1, 1, 1),
            seed=derived_seed(seed, end, _SUFFIX),
            name=f"{end}{_SUFFIX}",
        )
        for number, end in enumerate(ends, start=1)
    }
    blocks = [
        dataclasses.replace(block, layers=(*block.layers, *(f"{end}{_SUFFIX}" for end in ends if end in block.layers)))
        for block in network.blocks
    ]
    model = detached(Wiring(network.model).rewired(after=after))
    return dataclasses.replace(network, model=model, blocks=tuple(blocks))


def without_drop_paths(network):
    """The plain Network again, with the weights that it has now."""
    paths = {layer.name for layer in network.model.layers if drops_paths(layer)}
    model = detached(Wiring(network.model).rewired(passed=paths))
    blocks = [
        dataclasses.replace(block, layers=tuple(name for name in block.layers if name not in paths))
        for block in network.blocks
    ]
    return dataclasses.replace(network, model=model, blocks=tuple(blocks))


def residual_branches(model):
    """Names of the operations with which the residual branches of a flat model end, from its input to its output.

    A residual sum adds two tensors, and nothing else goes past it: a branch with convolutions, and a shortcut with
    fewer of them, or none.
    """
    wiring, region, ends = Wiring(model), set(), []
    for name, _, live in live_tensors(model.get_config()):
        region.add(name)
        if len(live) > 1:
            continue
        if isinstance(wiring.operations[name], keras.layers.Add) and wiring.calls[name] == 1:
            ends += _branch_of(wiring, name, region)
        region = set()
    return ends


def _branch_of(wiring, name, region):
    """[the end of the branch that a sum adds to its shortcut]; [] for a sum of another kind."""
    sources = wiring.sources[name]
    if len(sources) != 2:
        return []
    shortcut, branch = sorted(sources, key=lambda source: _kernels(wiring, source, region))
    is_more = _kernels(wiring, branch, region) > _kernels(wiring, shortcut, region)
    is_alone = branch is not None and wiring.users[branch] == [name] and wiring.calls[branch] == 1
    return [branch] if is_more and is_alone else []


def _kernels(wiring, end, region):
    """How many layers with kernels there are within `region` on the ways to an operation, itself included."""
    found, waiting = set(), [end]
    while waiting:
        name = waiting.pop()
        if name in region and name not in found:
            found.add(name)
            waiting += wiring.sources.get(name, [])
    layers = [wiring.operations[name] for name in found]
    return sum(bool(getattr(layer, "weights", None)) and not isinstance(layer, NORMALIZATIONS) for layer in layers)


def drops_paths(layer):
    """Whether a layer leaves out whole branches in training."""
    is_dropout = isinstance(layer, keras.layers.Dropout) and layer.noise_shape is not None
    return is_dropout or type(layer).__name__ == "StochasticDepth"
