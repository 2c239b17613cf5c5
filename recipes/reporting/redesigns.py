"""Designs of equal cost as text."""

from recipes.reporting.tables import WIDTH, amount, cut


def redesign_table(found):
    """Designs as plain text, at most 100 columns wide, a row each in their order; `*` marks the network that was given.

    Columns: depth, ratio of the multiply-adds to the budget, ratio of the time to that of the given network, where it
    was measured, parameters, what was traded, and the name.
    """
    is_timed = found.measured is not None
    rows = [["depth", "cost", *["time"] * is_timed, "parameters", "traded", "", "design"]]
    rows += [_row(design, is_timed) for design in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [_line(row, widths) for row in rows]
    multiply_adds = amount("", found.budget)
    lines += ["", f"{len(found)} designs, * the one given. Cost 1 is {multiply_adds} multiply-adds an image."]
    if is_timed:
        lines.append(f"Time 1 is that of the given one: {found.measured}, in batches of {found.batch_size}.")
    lines.append("Traded: d depth, k kernel size, w width; kw→d is kernel size and width for depth.")
    return "\n".join(lines)


def _row(design, is_timed):
    time = [f"{design.time_ratio:.2f}"] if is_timed else []
    numbers = [str(design.depth), f"{design.ratio:.3f}", *time, f"{design.parameters:,}"]
    return [*numbers, _short(design.move), "*" * (design.move == "none"), design.name]


def _short(move):
    """`"kernel and width for depth"` as `kw→d`."""
    paid, _, bought = move.partition(" for ")
    return "→".join("".join(word[0] for word in side.split(" and ")) for side in (paid, bought)) if bought else ""


def _line(row, widths):
    cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=False)]
    return cut("  ".join(cells[:-1]) + f" {cells[-1]} {row[-1]}", WIDTH)
