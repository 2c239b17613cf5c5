"""Filters and neurons really removed, with all that depends on them."""

import dataclasses

import keras

from recipes.bases.composites import composite_graph
from recipes.bases.flattening import flat_copy, graph_config
from recipes.checks import check_choice, check_number, check_whole, complaint
from recipes.compression.keeping import kept_names
from recipes.compression.unit_budget import choose_units, least_units
from recipes.compression.unit_costs import Costs
from recipes.compression.unit_groups import Channels
from recipes.compression.unit_importance import CRITERIA, score_units
from recipes.compression.unit_removal import without_units

SCOPES = ("global", "layer")


@dataclasses.dataclass(frozen=True)
class Judging:
    """How to choose the units that go; the arguments of `prune_units` of these names."""

    criterion: str = "l1"
    scope: str = "global"
    least: int = 4
    divisor: int = 1
    keep: tuple[str, ...] = ()

    def check(self, where):
        """Raise unless the fields make sense by themselves."""
        check_choice(where, "criterion", self.criterion, CRITERIA)
        check_choice(where, "scope", self.scope, SCOPES)
        check_whole(where, "least", self.least)
        check_whole(where, "divisor", self.divisor)


def remove_units(model, fraction, judging=None, *, whole=None, batches=(), seed=0, where="prune_units"):
    """A model that needs a share of the multiply-adds less, because whole filters and neurons are gone.

    1. Follow the channels through the graph: what is added, multiplied or otherwise bound together goes together.
    2. Judge how much each unit matters, and choose which go.
    3. Build the model anew without them, its other weights as they were.

    It gives what `model` gives where the channels that are gone are 0 wherever a convolution or dense layer reads them.

    Args:
        model: keras.Model, functional or sequential, with one input and one output, built.
        fraction: of the multiply-adds, 0 to below 1: at least so many go.
        judging: Judging; None for the usual one.
        whole: multiply-adds that `fraction` is of; None for those of `model`.
        batches: pairs of images and labels, for the criterion `"taylor"`.
        seed: for the criterion `"random"`.
        where: the verb named in errors.

    Returns:
        `(model, notes)`: a new model that shares nothing with the old, and `{layer: why it keeps its units}`.

    Raises:
        TypeError: the model is no such graph.
        ValueError: so many multiply-adds cannot go, or `keep` names no layer.
    """
    judging = Judging() if judging is None else judging
    judging.check(where)
    check_number(where, "fraction", fraction, most=0.9999)
    channels, costs = _followed(model, judging, where)
    target = (costs.whole if whole is None else whole) * (1 - fraction)
    scores = score_units(channels, judging.criterion, batches=batches, seed=seed)
    gone = choose_units(costs, scores, target, judging, where)
    return without_units(channels, gone), channels.notes(gone)


def removable(model, judging, where):
    """`(multiply-adds of a model, share of them that can go at most)`."""
    _, costs = _followed(model, judging, where)
    return costs.whole, 1 - costs.total(least_units(costs, judging)) / max(costs.whole, 1)


def _followed(model, judging, where):
    channels = Channels(_flat(model, where))
    channels.keep(kept_names(judging.keep, list(channels.made), where))
    return channels, Costs(channels)


def _flat(model, where):
    """The model in one flat graph: itself where it is one."""
    is_graph = isinstance(model, keras.Model) and (
        model.built if isinstance(model, keras.Sequential) else bool(graph_config(model))
    )
    if not is_graph or len(model.inputs) != 1 or len(model.outputs) != 1 or None in model.input_shape[1:]:
        rule = "model must be built, functional or sequential, with one input of known size and one output"
        received = f"{getattr(model, 'name', model)!r} of class {type(model).__name__}"
        raise TypeError(complaint(where, rule, received, "Build it with keras.Model(image, output) and a keras.Input."))
    if isinstance(model, keras.Sequential):
        return flat_copy(model, where)
    is_nested = any(isinstance(part, keras.Model) or composite_graph(part) for part in model.operations)
    return flat_copy(model, where) if is_nested else model
