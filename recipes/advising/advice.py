"""The values of `advise`: one Advice, and all of them for a network."""

import dataclasses

from recipes.files import write_json

MISTAKE, FREE, CHOICE = KINDS = ("mistake", "free", "choice")


@dataclasses.dataclass(frozen=True)
class Advice:
    """One thing that the craft would change about a network.

    Args:
        rule: short name of the rule, such as `"bias_before_normalization"`.
        kind: `"mistake"` (training or the answers suffer), `"free"` (the network computes the same without it, or
            starts better, and nothing is lost) or `"choice"` (another network, cheaper, to be trained and measured).
        layers: names of the layers, in the order of the data; within blocks and nested models as `"block/layer"`.
        what: what was found, in a sentence.
        reason: why it matters, with its source.
        mend: what to write instead.
        saving: whole numbers of `parameters`, `multiply_adds` per image and `activations` (values per image that go
            through an activation), each with its `_fraction` of the whole network, 0–1. Where a change touches none of
            these it is empty. Savings of several advices about one layer do not add up.
    """

    rule: str
    kind: str
    layers: tuple[str, ...]
    what: str
    reason: str
    mend: str
    saving: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, repr=False)
class Advices:
    """All that the craft would change about a network; prints as a list, and is false where there is nothing.

    Args:
        network: name of the network.
        parameters: that it has.
        multiply_adds: per image; None where the size of the images is not known.
        advices: every Advice: mistakes, then what is free, then choices; the largest saving first.
    """

    network: str
    parameters: int
    multiply_adds: int | None
    advices: tuple[Advice, ...] = ()

    def __len__(self):
        return len(self.advices)

    def __iter__(self):
        return iter(self.advices)

    def __getitem__(self, place):
        return self.advices[place]

    def __repr__(self):
        from recipes.advising.listing import advice_list

        return advice_list(self)

    def save(self, path):
        """Write this to `path` as JSON (through a temporary name)."""
        write_json(path, dataclasses.asdict(self))


def advice(graph, rule, kind, steps, *, what, reason, mend, **saved):
    """The Advice of `rule` about `steps` of a Graph; `saved` are whole numbers, None for what is not known.

    A layer that is called several times is named once.
    """
    names = tuple(dict.fromkeys(step.name for step in steps))
    saving = {}
    for quantity, number in saved.items():
        total = getattr(graph, quantity)
        if number is not None and total:
            saving |= {quantity: int(number), f"{quantity}_fraction": number / total}
    return Advice(rule, kind, names, what, reason, mend, saving)
