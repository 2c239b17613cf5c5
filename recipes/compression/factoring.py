"""A network with layers factored: which can be, how, and the same network with its layers whole again."""

import math

import keras
import numpy as np

from recipes.bases.flattening import flat_copy
from recipes.bases.rewiring import Wiring, detached
from recipes.checks import complaint
from recipes.compression.factors import KINDS, positions
from recipes.compression.ranks import Frontier, allot, most
from recipes.costs.costing import cost

_LINEAR = (keras.layers.Conv2D, keras.layers.Dense)
_OTHERS = (
    *(keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D, keras.layers.Conv2DTranspose),
    *(keras.layers.Conv1D, keras.layers.Conv3D, keras.layers.EinsumDense),
)


def factored(model, *, kind="auto", energy=None, fraction=None, keep=()):
    """A network with layers in the place of which thinner ones stand, all of them plain Keras layers.

    Args:
        model: keras.Model, functional or sequential, with one input and one output of known sizes.
        kind: see `recipes.factor`.
        energy: share of each layer's squared kernel that is kept, 0–1; or
        fraction: share of the network's multiply-adds to take away, 0–1.
        keep: names of layers that stay.

    Returns:
        `(model, notes)`: a new keras.Model, and `{layer: why it was left alone}`.

    Raises:
        ValueError: so many multiply-adds cannot be taken away.
    """
    whole = flat_copy(model, "factor")
    choices, notes = chosen(whole, kind, energy=energy, fraction=fraction, keep=keep)
    return detached(with_pieces(whole, choices)[0]), notes


def chosen(model, kind, *, energy=None, fraction=None, keep=()):
    """`({layer: Choice}, {layer: why it is left alone})` for a flat functional model; see `factored`."""
    frontiers, notes = frontiers_of(model, kind, keep)
    if energy is not None:
        choices = {name: frontier.cheapest(energy) for name, frontier in frontiers.items()}
    else:
        removed = fraction * cost(model, optimizer=None).multiply_adds
        _check_reachable(fraction, removed, frontiers)
        choices = allot(frontiers, removed)
    choices = {name: choice for name, choice in choices.items() if choice is not None}
    for name in frontiers.keys() - choices.keys():
        notes[name] = _why_whole(frontiers[name], energy)
    return choices, notes


def frontiers_of(model, kind, keep=()):
    """`({layer: Frontier}, {layer: why it cannot be factored})` of a flat functional model."""
    wiring = Wiring(model)
    frontiers, notes = {}, {}
    for name, layer in wiring.operations.items():
        if not isinstance(layer, (*_LINEAR, *_OTHERS)):
            continue
        reason = "it is to be kept" if name in keep else _why_not(layer, wiring.calls[name], kind)
        if reason:
            notes[name] = reason
            continue
        ways = [KINDS[way](layer) for way in _kinds(layer, kind)]
        frontiers[name] = Frontier(ways, math.prod(layer.kernel.shape) * positions(layer)[-1])
    return frontiers, notes


def linear_names(model):
    """Names of the layers of a flat model that multiply by kernels, in the order of the model's layers."""
    return [layer.name for layer in model.layers if isinstance(layer, (*_LINEAR, *_OTHERS))]


def _kinds(layer, kind):
    """Names of the ways that fit a layer."""
    if isinstance(layer, keras.layers.Dense) or max(layer.kernel_size) == 1:
        return ("svd",)
    possible = ("spatial", "tucker") if min(layer.kernel_size) > 1 else ("tucker",)
    return tuple(way for way in possible if kind in ("auto", way))


def _why_not(layer, calls, kind):
    if type(layer) not in _LINEAR:
        return f"a {type(layer).__name__} is not factored"
    if getattr(layer, "groups", 1) > 1:
        return f"its {layer.groups} groups make it thin already"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "channels do not stand last"
    if layer.dtype_policy.name != "float32" or layer.lora_enabled:
        return "it is not of single precision, or has an adapter"
    if layer.kernel_constraint is not None:
        return "its kernel has a constraint, which factors would not hold"
    if calls != 1:
        return f"it is called {calls} times"
    if not _kinds(layer, kind):
        return f"kind={kind!r} does not fit a kernel of {layer.kernel_size[0]}×{layer.kernel_size[1]}"
    return ""


def _why_whole(frontier, energy):
    if not len(frontier.costs):
        return "no rank of it saves: even 1 costs as much as the layer"
    best = frontier.choice(len(frontier.costs) - 1)
    ranks = "×".join(str(rank) for rank in best.ranks)
    saves = f"it saves up to rank {ranks} ({best.way.kind}), which keeps {best.energy:.4f} of its energy"
    return f"{saves}, less than {energy:g}" if energy is not None else f"other layers lose less ({saves})"


def _check_reachable(fraction, removed, frontiers):
    possible = most(frontiers)
    if removed > possible:
        share = math.floor(1000 * fraction * possible / removed) / 1000
        rule = f"fraction must be at most {share}, where every layer that can be factored is of rank 1"
        raise ValueError(complaint("factor", rule, f"fraction={fraction}", "Pass less, or no fraction."))


def with_pieces(model, choices):
    """`(model, {layer: its new layers})`: a network in which some layers are factored, which shares all others."""
    taken = {operation.name for operation in model.operations}
    chains = {name: _built(choice, taken) for name, choice in choices.items()}
    wiring = Wiring(model)
    replaced = {name: _in_turn(chain) for name, chain in chains.items()}
    return wiring.rewired(replaced=replaced) if replaced else model, chains


def _in_turn(chain):
    def call(inputs):
        for layer in chain:
            inputs = layer(inputs)
        return inputs

    return call


def _built(choice, taken):
    layer, chain = choice.way.layer, []
    pieces = choice.way.pieces(choice.ranks)
    for piece in pieces:
        config = layer.get_config() | _bare(layer, piece)
        config |= {} if piece is pieces[-1] else _WITHOUT_END
        config["name"] = _unused(f"{layer.name}_{piece.suffix}", taken)
        new = type(layer).from_config(config)
        new.build((*(None,) * (piece.kernel.ndim - 1), piece.kernel.shape[-2]))
        bias = [keras.ops.convert_to_numpy(layer.bias)] if new.use_bias else []
        new.set_weights([piece.kernel, *bias])
        chain.append(new)
    return chain


_WITHOUT_END = {"use_bias": False, "activation": None, "activity_regularizer": None}


def _bare(layer, piece):
    if isinstance(layer, keras.layers.Dense):
        return {"units": piece.kernel.shape[-1]}
    steps = {"strides": (1, 1), "dilation_rate": (1, 1), "padding": "valid"} | piece.arguments
    return steps | {"filters": piece.kernel.shape[-1], "kernel_size": piece.kernel.shape[:2]}


def _unused(name, taken):
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def composed(model, choices, chains):
    """A network with whole layers again where `chains` stand, of the weights that these have now."""
    replaced, passed = {}, set()
    for name, chain in chains.items():
        way = choices[name].way
        first, *rest = [model.get_layer(layer.name) for layer in chain]
        kernels = [keras.ops.convert_to_numpy(layer.kernel).astype(np.float64) for layer in (first, *rest)]
        whole = type(way.layer).from_config(way.layer.get_config())
        whole.build((*(None,) * (way.kernel.ndim - 1), way.kernel.shape[-2]))
        last = rest[-1] if rest else first
        bias = [keras.ops.convert_to_numpy(last.bias)] if last.use_bias else []
        whole.set_weights([way.composed(kernels), *bias])
        replaced[first.name] = whole
        passed |= {layer.name for layer in rest}
    return detached(Wiring(model).rewired(replaced=replaced, passed=passed))
