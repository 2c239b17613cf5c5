"""A Report as one HTML page that needs no other file, no script and no network."""

import base64
import html
import io
import json
import warnings

from recipes.files import write_text
from recipes.reporting.plots import plot_confusion, plot_curves
from recipes.reporting.tables import amount, cells, crops_line, title, worst_first

_WRONG = 30
# The policy forbids scripts and the network even where a browser would find some.
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1000px; margin: 2em auto;
  padding: 0 1em }}
h1 {{ font-size: 1.6em; margin-bottom: 0 }}
h2 {{ font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ddd }}
table {{ border-collapse: collapse }}
th, td {{ padding: .2em .8em .2em 0; text-align: left; vertical-align: top; overflow-wrap: anywhere;
  unicode-bidi: isolate }}
th {{ color: #666; font-weight: 600 }}
.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }}
.scores {{ display: flex; flex-wrap: wrap; gap: .5em 2.5em; margin: 1em 0; padding: 0 }}
.scores div {{ color: #666 }}
.scores b {{ display: block; font-size: 1.7em; color: #222 }}
img {{ max-width: 100% }}
.long {{ max-height: 32em; overflow-y: auto }}
</style>
</head>
<body>
"""


def write_page(report, path):
    """Write a report as one HTML page that needs no other file.

    1. Draw curves and confusion matrix as PNG, held inside the page.
    2. Put together scores, plots, classes, confused pairs, the 30 most confidently wrong images, settings, versions,
       cost and seconds; names of classes and files are shown as text, whatever they contain.
    3. Write the page under a temporary name, sync it, and rename it.

    Args:
        report: a `Report`; parts that it lacks are left out of the page.
        path: the file to write, `"report.html"`, say. Its folder must exist.
    """
    name = f"Accuracy {report.scores['accuracy']:.4f} on the {report.split} split"
    sections = (
        f"<h1>{html.escape(name)}</h1>",
        _scores(report),
        f"<p>{html.escape(crops_line(report.crops))}</p>" if report.crops else "",
        section("Curves", picture(plot_curves(report), "curves") if report.curves.get("loss") else ""),
        section("Confusion matrix", picture(plot_confusion(report), "confusion matrix")),
        section("Classes, lowest F1 first", _per_class(report)),
        section("Most confused pairs", _confused(report)),
        section("Most confidently wrong images", _wrong(report)),
        section("Settings", _pairs(report.settings, _setting)),
        section("Cost", _pairs(report.cost, amount, title)),
        section("Seconds", _pairs(report.seconds, lambda _, value: f"{value:,.1f}", title)),
        section("Versions", _pairs(report.versions, lambda _, value: str(value))),
    )
    write_text(path, head(name) + "\n".join(filter(None, sections)) + "\n</body>\n</html>\n")


def head(title):
    """The beginning of a page, down to its body."""
    return _HEAD.format(title=html.escape(title))


def section(heading, body):
    """A part of a page under its heading; nothing without a body."""
    return f"<h2>{heading}</h2>\n{body}" if body else ""


def _scores(report):
    shown = {name: f"{value:.4f}" for name, value in report.scores.items() if name != "images"}
    shown["images"] = f"{report.scores.get('images', len(report.rows)):,}"
    shown["classes"] = f"{len(report.class_names):,}"
    cards = (f"<div><b>{value}</b>{html.escape(title(name))}</div>" for name, value in shown.items())
    return f'<div class="scores">{"".join(cards)}</div>'


def _per_class(report):
    rows = [[name, *cells(report.per_class[name])] for name in worst_first(report.per_class)]
    return table(("class", "precision", "recall", "F1", "images"), rows, text_columns=1)


def _confused(report):
    rows = [[pair["true"], pair["predicted"], f"{pair['images']:,}"] for pair in report.confused]
    return table(("true", "predicted", "images"), rows, text_columns=2)


def _wrong(report):
    wrong = sorted((row for row in report.rows if row["true"] != row["predicted"]), key=lambda row: -row["probability"])
    rows = [[row["file"], row["true"], row["predicted"], f"{row['probability']:.4f}"] for row in wrong[:_WRONG]]
    return table(("file", "true", "predicted", "probability"), rows, text_columns=3)


def _pairs(values, show, name=str):
    return table((), [[name(key), show(key, value)] for key, value in values.items()], text_columns=2)


def _setting(_, value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def table(heads, rows, text_columns):
    """An HTML table, every cell escaped; the columns after `text_columns` hold numbers. Empty without rows."""
    if not rows:
        return ""

    def line(tag, texts):
        kinds = [""] * text_columns + [' class="n"'] * (len(texts) - text_columns)
        return "".join(f"<{tag}{kind}>{html.escape(text)}</{tag}>" for kind, text in zip(kinds, texts, strict=False))

    top = f"<thead><tr>{line('th', heads)}</tr></thead>\n" if heads else ""
    body = "\n".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f'<div class="long"><table>\n{top}<tbody>\n{body}\n</tbody></table></div>'


def picture(figure, name):
    """A matplotlib figure as an image that is held inside the page."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Names in scripts that matplotlib's own font lacks stand in full in the tables.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png")
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{name}" width="{int(figure.get_figwidth() * 96)}" src="data:image/png;base64,{code}">'
