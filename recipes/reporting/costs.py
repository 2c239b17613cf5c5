"""A Cost as text."""

from recipes.reporting.tables import WIDTH, amount, cut

_SHOWN = 15  # layers in a terminal
_NAME = 32  # columns
_HEADS = ("layer", "kind", "shape", "parameters", "mult-adds", "share", "output", "kept", "moved", "ms")
_DISPENSABLE = ("kind", "share", "shape")  # where the terminal is too narrow, in this order


def cost_table(cost):
    """A Cost as plain text, at most 100 columns wide: totals, and the layers that cost most, in their order.

    Of more than 15 layers, those with most multiply-adds are shown, or, where times were measured, the slowest.
    """
    lines = [*_totals(cost), "", *_layers(cost)]
    notes = [f"{row.name}: {row.note}" for row in cost.layers if row.note]
    return "\n".join([*lines, *(cut(f"note: {note}", WIDTH) for note in notes)])


def costliest(cost, count):
    """The `count` layers that cost most, in the order of their calls."""

    def weight(place):
        row = cost.layers[place]
        return (row.milliseconds or 0, row.multiply_adds, row.moved_bytes)

    places = sorted(range(len(cost.layers)), key=weight, reverse=True)[:count]
    return [cost.layers[place] for place in sorted(places)]


def short(number):
    """A count in thousands, millions or billions: `1.23 G`."""
    for unit in ("", " k", " M"):
        if abs(number) < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:,.3g} G" if number < 1000 else f"{number:,.0f} G"


def _totals(cost):
    size = "" if cost.image_size is None else f" · {cost.image_size[0]}×{cost.image_size[1]} pixels"
    frozen = cost.parameters - cost.trainable_parameters
    parts = f"{cost.parameters:,} parameters" + (f", {frozen:,} of them not trained" if frozen else "")
    lines = [
        f"{cut(cost.name, 40)}{size} · batch of {cost.batch_size:,}",
        f"{parts} · {cost.multiply_adds:,} multiply-adds an image",
        f"inference  {_size(cost.inference_bytes)}: weights {_size(cost.weight_bytes)}, images "
        f"{_size(cost.input_bytes)}, at most {_size(_rest(cost))} between layers",
    ]
    if cost.training_bytes is not None:
        lines.append(
            f"training   {_size(cost.training_bytes)}: kept for the way back {_size(cost.kept_bytes)}, gradients "
            f"{_size(cost.gradient_bytes)}, {cut(cost.optimizer, 16)} {_size(cost.optimizer_bytes)}"
        )
    if cost.milliseconds is not None:
        lines.append(f"time       {cost.milliseconds:.3g} ms a batch at inference, measured")
    return lines


def _rest(cost):
    return cost.inference_bytes - cost.weight_bytes - cost.input_bytes


def _layers(cost):
    shown = costliest(cost, _SHOWN)
    table = [_HEADS, *([*_texts(row), *_numbers(row, cost)] for row in shown)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADS))]
    used = [column for column in range(len(_HEADS)) if any(row[column] for row in table[1:])]
    for head in _DISPENSABLE:
        if sum(widths[column] + 2 for column in used) - 2 > WIDTH:
            used = [column for column in used if _HEADS[column] != head]
    lines = [_line([row[column] for column in used], [widths[column] for column in used]) for row in table]
    if len(shown) < len(cost.layers):
        by = "most time" if cost.milliseconds is not None else "most multiply-adds"
        lines.append(f"(the {len(shown)} of {len(cost.layers)} layers with {by}; all are in .layers)")
    return lines


def _texts(row):
    times = f" ({row.calls}×)" if row.calls > 1 else ""
    return [_tail(row.name, _NAME - len(times)) + times, cut(row.kind, 16), "×".join(map(str, row.output_shape))]


def _numbers(row, cost):
    share = row.multiply_adds / cost.multiply_adds if cost.multiply_adds else 0
    return [
        short(row.parameters),
        short(row.multiply_adds),
        f"{share:.1%}",
        _size(row.activation_bytes),
        "" if row.kept_bytes is None else _size(row.kept_bytes),
        _size(row.moved_bytes),
        "" if row.milliseconds is None else f"{row.milliseconds:.3g}",
    ]


def _line(cells, widths):
    texts = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
    return cut("  ".join([cells[0].ljust(widths[0]), *texts[1:]]), WIDTH)


def _size(size):
    return amount("bytes", size)


def _tail(text, width):
    """The end of a name, which tells layers apart better than its beginning."""
    text = cut(text, 400)
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]
