"""A Sensitivity as text."""

from recipes.reporting.tables import WIDTH, cut

_NAME = 32
_NOTES = 12


def sensitivity_table(sensitivity):
    """A Sensitivity as plain text, at most 100 columns wide: a row per kernel, a column per sparsity."""
    width = max([len(cut(name, _NAME)) for name in sensitivity.curves] + [len("accuracy when pruned to")])
    heads = "".join(f"  {sparsity:>6.1%}" for sparsity in sensitivity.sparsities)
    lines = [f"{'accuracy when pruned to':<{width}}  {'weights':>11}{heads}"]
    for name, curve in sensitivity.curves.items():
        cells = "".join(f"  {accuracy:>6.4f}" for accuracy in curve)
        lines.append(f"{cut(name, _NAME):<{width}}  {sensitivity.sizes[name]:>11,}{cells}")
    lines = [cut(line, WIDTH) for line in lines]
    lines.append(f"as it is {sensitivity.accuracy:.4f}, chance {sensitivity.chance:.4f}; nothing trained in between")
    notes = [cut(f"left alone: {layer}: {reason}", WIDTH) for layer, reason in sensitivity.notes.items()]
    more = [f"(and {len(notes) - _NOTES} more layers, all in .notes)"] if len(notes) > _NOTES else []
    return "\n".join([*lines, *notes[:_NOTES], *more])
