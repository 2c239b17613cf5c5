"""What the documents tell readers to run, runs."""

import re
import shlex
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from recipes.cli import COMMANDS

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


def run(path, folder, monkeypatch, edit=str):
    """Every cell of a notebook, in a folder of its own, its source edited; at least two of them show a picture."""
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = edit(cell.source)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in shown if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch):
    run(path, tmp_path, monkeypatch)


def test_the_first_notebook_runs_with_an_epoch_a_stage(tmp_path, monkeypatch):
    """The others take minutes even so, and what they call is tested elsewhere too."""
    run(NOTEBOOKS[0], tmp_path, monkeypatch, lambda source: re.sub(r"epochs=\d+", "epochs=1", source))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)


def commands_in(text):
    """Every `recipes …` command of a document, as words."""
    lines = re.findall(r"recipes ((?:" + "|".join(COMMANDS) + r") --[^\n`&>]+)", text)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_commands_in_documents_take_the_arguments_that_are_written(document):
    import importlib
    import inspect

    found = commands_in((ROOT / document).read_text(encoding="utf-8"))
    assert found or document != "README.md"
    for command, *words in found:
        verb = getattr(importlib.import_module(COMMANDS[command]), command)
        known = {f"--{name}" for name in inspect.signature(verb).parameters} | {"--config", "--print_config"}
        assert {word for word in words if word.startswith("--")} <= known


def test_what_the_readme_names_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|benchmarks|notebooks)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([\w./]+)\)", text):
        assert (ROOT / path).exists(), path


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) < 60
