"""A Search as text, as CSV and as one HTML page."""

import csv
import html
import io
import json

from recipes.files import write_text
from recipes.reporting.pages import head, picture, section, table
from recipes.reporting.search_plots import plot_search
from recipes.reporting.tables import WIDTH, amount, cut

_SHOWN = 20  # trials in a terminal
_COLUMN = 24


def ranked(search):
    """Trials from the best to the worst; those that are done before those that paused, failures last."""
    sign = -1 if search.is_more_better else 1
    order = {"done": 0, "paused": 1, "failed": 2}
    return sorted(
        search.trials,
        key=lambda trial: (order[trial.status], 0 if trial.score is None else sign * trial.score, trial.number),
    )


def search_table(search):
    """A Search as plain text, at most 100 columns wide: the best 20 trials, and what the best of them came to."""
    names = searched_names(search)
    rows = [["trial", search.objective, "epochs", "seconds", *names]]
    trials = ranked(search)
    for trial in trials[:_SHOWN]:
        rows.append([*_numbers(trial), *(cut(cell(trial, name), _COLUMN) for name in names)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [cut("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)), WIDTH) for row in rows]
    if len(trials) > _SHOWN:
        lines.append(f"(the best {_SHOWN} of {len(trials)})")
    return "\n".join([*lines, "", *_closing(search)])


def write_table(search, path):
    """Write every trial of a search as a row of a CSV file."""
    names = searched_names(search)
    scores = sorted({name for trial in search.trials for name in trial.scores})
    fields = ["trial", "status", *names, *scores, "epochs", "seconds", "attempts", "peak_bytes", "reason", "command"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    for trial in search.trials:
        settings = [cell(trial, name) for name in names]
        measured = [trial.scores.get(name, "") for name in scores]
        rest = [trial.epochs, f"{trial.seconds:.3f}", trial.attempts, trial.peak_bytes, trial.reason, trial.command]
        writer.writerow([trial.number, trial.status, *settings, *measured, *rest])
    write_text(path, text.getvalue())


def write_search_page(search, path):
    """Write a search as one HTML page that needs no other file: what it found, plots, trials, commands."""
    names = searched_names(search)
    title = f"Search: {search.objective} {search.best.score:.4f} in trial {search.best.number}"
    rows = [
        [*_numbers(trial), *(cell(trial, name) for name in names), trial.status, trial.reason]
        for trial in ranked(search)
    ]
    heads = ("trial", search.objective, "epochs", "seconds", *names, "status", "reason")
    commands = [[str(trial.number), trial.command] for trial in ranked(search)]
    closing = "".join(f"<p>{html.escape(line)}</p>" for line in _closing(search))
    sections = (
        f"<h1>{html.escape(title)}</h1>",
        closing,
        section("Plots", picture(plot_search(search), "scores by trial and by setting")),
        section("Trials, the best first", table(heads, rows, text_columns=len(heads))),
        section("What trains each of them again", table(("trial", "command"), commands, text_columns=2)),
    )
    write_text(path, head(title) + "\n".join(filter(None, sections)) + "\n</body>\n</html>\n")


def searched_names(search):
    """Names of what was searched, in order."""
    return list(dict.fromkeys(name for trial in search.trials for name in trial.settings))


def cell(trial, name):
    """A setting of a trial as text; nothing for one that it does not have."""
    if name not in trial.settings:
        return ""
    value = trial.settings[name]
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _numbers(trial):
    score = trial.status if trial.score is None else f"{trial.score:.4f}" + "…" * (trial.status == "paused")
    return [str(trial.number), score, str(trial.epochs), f"{trial.seconds:.1f}"]


def _closing(search):
    """Sentences on the best trial, and on how far its score can be trusted."""
    best, report = search.best, search.result.report
    tried = sum(trial.score is not None for trial in search.trials)
    failed = len(search.trials) - tried
    first = f"{search.method} search, {len(search.trials)} trials in {search.seconds:,.0f} s"
    first += f", {failed} failed" * bool(failed)
    peak = max((trial.peak_bytes for trial in search.trials), default=0)
    lines = [first + f"; at most {amount('bytes', peak)} of memory a trial" * bool(peak) + "."]
    lines.append(f"Best: trial {best.number}, {search.objective} {best.score:.4f} on the validation images.")
    lines.append(f"That is the best of {tried} by chance too, so it promises more than new images will bring.")
    if report.split == "test":
        scores = report.scores
        lines.append(
            f"Measured once on the test images, which no trial saw: accuracy {scores['accuracy']:.4f}, "
            f"loss {scores['loss']:.4f} ({scores['images']} images)."
        )
    else:
        lines.append("There is no test split to measure it on: load the data with test=0.15.")
    lines.append(f"Again: {best.command}")
    return lines
