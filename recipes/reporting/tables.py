"""A Report as plain text for a terminal, at most 100 columns wide."""

import textwrap
import unicodedata

WIDTH = 100
_CLASSES = 20
_NAME = 36
_SHORT = {"top_5_accuracy": "top-5", "stored_bytes": "stored", "compressed_bytes": "gzipped"}


def report_table(report):
    """Show a report as plain text, at most 100 columns wide.

    In order: split, images and scores · precision, recall and F1 of each class (of more than 20 classes, the 20 with
    the lowest F1) · the most confused pairs · cost and seconds, where the report has them.

    Args:
        report: a `Report`.

    Returns:
        The text, several lines without a newline at the end.
    """
    parts = [_head(report), _per_class(report), _confused(report), _foot(report)]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def worst_first(per_class):
    """Class names from the lowest F1 to the highest; classes without images come last, for they were not measured."""
    return sorted(per_class, key=lambda name: (per_class[name]["images"] == 0, per_class[name]["f1"]))


def cells(row):
    """Precision, recall, F1 and images of one class as text; a dash for what was not measured."""
    measured = row["images"] > 0
    scores = [f"{row[field]:.4f}" if measured else "–" for field in ("precision", "recall", "f1")]
    return [*scores, f"{row['images']:,}"]


def amount(name, value):
    """A quantity as text: bytes in the unit that fits, whole numbers with commas, others with three digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if name.endswith("bytes"):
        for unit in ("B", "kB", "MB"):
            if value < 1000:
                return f"{value:.3g} {unit}"
            value /= 1000
        return f"{value:,.3g} GB" if value < 1000 else f"{value:,.0f} GB"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def title(name):
    """The name of a score or quantity, as a reader would write it: `top-5`, `calibration error`, `weights`."""
    if name.endswith("_bytes") and name not in _SHORT:
        return name.removesuffix("_bytes") + "s"
    return _SHORT.get(name, name.replace("_", " "))


def cut(text, width):
    """`text` in at most `width` columns, with … where it was cut; control characters and half pairs become �."""
    text = "".join("�" if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") else sign for sign in str(text))
    if _columns(text) <= width:
        return text
    while _columns(text) >= width:
        text = text[:-1]
    return text + "…"


def _columns(text):
    return sum(
        0 if unicodedata.category(sign) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(sign) in "WF")
        for sign in text
    )


def _pad(text, width):
    return text + " " * (width - _columns(text))


def _head(report):
    scores = dict(report.scores)
    images = scores.pop("images", sum(map(sum, report.confusion)))
    line = " · ".join(f"{title(name)} {value:.4f}" for name, value in scores.items())
    return [
        f"{cut(report.split, 20)} split · {images:,} images · {len(report.class_names):,} classes",
        *_wrap("", line),
        *(_wrap("", crops_line(report.crops)) if report.crops else []),
    ]


def crops_line(crops):
    """What an average over crops brings and costs, as text."""
    what = "five scales" if crops["crops"] == "resnet" else f"{crops['crops']} crops"
    single = crops["single"]
    return (
        f"average of the {crops['average']} of {what}; a single crop has accuracy {single['accuracy']:.4f}, loss"
        f" {single['loss']:.4f}; {crops['passes']:.3g} times its forward passes,"
        f" {crops['milliseconds']:.3g} ms an image instead of {crops['single_milliseconds']:.3g}"
    )


def _per_class(report):
    classes = report.per_class
    names = worst_first(classes)[:_CLASSES] if len(classes) > _CLASSES else list(classes)
    width = max([_columns(cut(name, _NAME)) for name in names] + [len("class")])
    lines = [f"{_pad('class', width)}  precision  recall      f1  images"]
    for name in names:
        precision, recall, f1, images = cells(classes[name])
        lines.append(f"{_pad(cut(name, _NAME), width)}  {precision:>9}  {recall:>6}  {f1:>6}  {images:>6}")
    if len(names) < len(classes):
        lines.append(f"(the {len(names)} lowest by f1 of {len(classes):,} classes)")
    absent = sum(row["images"] == 0 for row in classes.values())
    if absent:
        lines.append(f"({absent:,} of {len(classes):,} classes without images here)")
    return lines


def _confused(report):
    if not report.confused:
        return []
    pairs = [(cut(pair["true"], _NAME), cut(pair["predicted"], _NAME), pair["images"]) for pair in report.confused]
    left = max(_columns(true) for true, _, _ in pairs)
    right = max(_columns(predicted) for _, predicted, _ in pairs)
    rows = [f"{_pad(true, left)} → {_pad(predicted, right)}  {images:>6,}" for true, predicted, images in pairs]
    return ["most confused, true → predicted, images", *rows]


def _foot(report):
    cost = " · ".join(f"{title(name)} {amount(name, value)}" for name, value in report.cost.items())
    seconds = " · ".join(f"{title(name)} {value:,.1f}" for name, value in report.seconds.items())
    return (_wrap("cost     ", cost) if cost else []) + (_wrap("seconds  ", seconds) if seconds else [])


def _wrap(label, line):
    return textwrap.wrap(line, WIDTH, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False)
