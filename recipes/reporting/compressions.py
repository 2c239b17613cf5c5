"""A Compression as text."""

from recipes.reporting.costs import short
from recipes.reporting.tables import WIDTH, amount, cut

_HEADS = ("step", "accuracy", "parameters", "nonzero", "mult-adds", "stored", "gzipped", "ms")
_NOTES = 12


def compression_table(compression):
    """A Compression as plain text, at most 100 columns wide: a row per rung, then what was measured at the end."""
    rows = [_HEADS, *(_cells(rung) for rung in compression.rungs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    widths[0] = min(widths[0], WIDTH - sum(width + 2 for width in widths[1:]))
    lines = [_line(row, widths) for row in rows]
    if not all(rung.is_kept for rung in compression.rungs):
        lines.append("× not kept: its accuracy fell too far")
    return "\n".join([*lines, "", *_ends(compression), *_notes(compression.notes)])


def _cells(rung):
    return (
        rung.name if rung.is_kept else f"× {rung.name}",
        "–" if rung.accuracy is None else f"{rung.accuracy:.4f}",
        short(rung.parameters),
        short(rung.nonzero),
        short(rung.multiply_adds),
        amount("bytes", rung.stored_bytes),
        amount("bytes", rung.compressed_bytes),
        "–" if rung.milliseconds is None else f"{rung.milliseconds:.3g}",
    )


def _line(cells, widths):
    texts = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join([cut(cells[0], widths[0]).ljust(widths[0]), *texts[1:]])


def _ends(compression):
    first, last = compression.rungs[0], [rung for rung in compression.rungs if rung.is_kept][-1]
    lines = [
        f"{compression.form} file {_ratio(first.stored_bytes, last.stored_bytes)} smaller · "
        f"multiply-adds {_ratio(first.multiply_adds, last.multiply_adds)} fewer · "
        f"{_ratio(first.milliseconds, last.milliseconds)} as fast"
    ]
    if compression.before is not None:
        scores = [report.scores["accuracy"] for report in (compression.before, compression.report)]
        split = compression.report.split
        lines.append(f"{split} accuracy {scores[0]:.4f} before, {scores[1]:.4f} after (above: validation images)")
    return lines


def _ratio(before, after):
    return f"{before / after:.3g}×" if after else "–"


def _notes(notes):
    shown = [cut(f"left alone: {layer}: {reason}", WIDTH) for layer, reason in list(notes.items())[:_NOTES]]
    more = len(notes) - len(shown)
    return shown + ([f"(and {more} more layers, all in .notes)"] if more else [])
