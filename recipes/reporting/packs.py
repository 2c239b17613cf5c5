"""A Packed as text."""

from recipes.reporting.tables import WIDTH, amount, cut

_SHOWN = 20  # arrays in a terminal
_NAME = 36
_CODING = 24


def pack_table(packed):
    """A Packed as plain text, at most 100 columns wide: a row per array; of more than 20, the largest in the file."""
    rows = [("weights", "numbers", "coding", "bytes", "bits each")]
    shown = sorted(packed.tensors, key=lambda tensor: -tensor.bytes)[:_SHOWN]
    for tensor in (tensor for tensor in packed.tensors if tensor in shown):
        size = "×".join(map(str, tensor.shape)) or "1"
        cells = (cut(tensor.name, _NAME), size, cut(tensor.coding, _CODING), f"{tensor.bytes:,}", f"{tensor.bits:.3g}")
        rows.append(cells)
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [cut("  ".join(_aligned(row, widths)), WIDTH) for row in rows]
    if len(packed.tensors) > len(shown):
        lines.append(f"(the {len(shown)} largest of {len(packed.tensors):,})")
    lines.append(
        f"{amount('bytes', packed.weight_bytes)} of weights in a file of {amount('bytes', packed.file_bytes)}, "
        f"{amount('bytes', packed.header_bytes)} of it layers and names: {packed.ratio:.3g}× smaller"
    )
    return "\n".join(lines)


def _aligned(row, widths):
    return [
        text.rjust(width) if number in (3, 4) else text.ljust(width)
        for number, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
