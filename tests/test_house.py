"""House laws: who imports whom, how errors read, what public names owe their readers."""

import ast
import doctest
import inspect
import re
import sys
from pathlib import Path

import pytest
from fresh_python import run_python

import recipes

ROOT = Path(recipes.__file__).parents[1]
SOURCES = sorted([*ROOT.glob("recipes/**/*.py"), *ROOT.glob("layers/**/*.py")])
ROOM_MAY_IMPORT = {
    "checks": set(),
    "files": set(),
    "locks": set(),
    "memory": set(),
    "values": {"checks", "files"},
    "caching": {"checks", "data"},
    "data": {"checks", "locks", "values"},
    "bases": {"checks", "values", "layers"},
    "acceleration": {"checks", "files", "locks", "values", "data", "bases", "layers", "timing"},
    "reporting": {"checks", "files", "values"},
    "timing": set(),
    "saving": {"checks", "files", "values", "reporting", "layers"},
    "training": {"checks", "files", "locks", "values", "data", "bases", "acceleration", "saving", "layers"},
    "cropping": {"checks", "layers"},
    "prediction": {"checks", "cropping", "values", "data", "saving"},
    "evaluation": {"checks", "cropping", "timing", "values", "data", "saving", "prediction", "reporting"},
    "ensembling": {"checks", "values", "bases", "saving", "evaluation"},
    "serving": {"checks", "cropping", "files", "locks", "values", "data", "bases", "saving", "layers"},
    "neighbours": {"checks", "values", "data", "bases", "saving", "evaluation", "layers"},
    "finetuning": {
        *("checks", "values", "data", "bases", "training", "saving", "evaluation", "reporting"),
        *("neighbours", "probing"),
    },
    "probing": {"checks", "files", "values", "data", "bases", "training", "acceleration"},
    "rate_finding": {"checks", "values", "data", "bases", "training", "probing", "saving", "finetuning"},
    "sanity": {
        *("checks", "files", "values", "data", "bases", "training", "saving", "advising", "finetuning", "reporting"),
    },
    "searching": {
        *("checks", "files", "locks", "values", "data", "bases", "training", "saving", "evaluation", "reporting"),
        *("finetuning", "memory"),
    },
    "compression": {
        *("checks", "files", "locks", "values", "data", "bases", "training", "saving", "prediction", "evaluation"),
        *("reporting", "serving", "costs", "timing", "layers"),
    },
    "advising": {"checks", "files", "values", "data", "bases", "saving", "reporting"},
    "costs": {"checks", "values", "bases", "training", "timing"},
    "redesigning": {"checks", "bases", "timing"},
    "cli": {"checks", "memory"},
    "__main__": {"cli"},
    "__init__": set(),
    "layers": set(),
}
# Verbs whose examples train for ten seconds and more; other tests call them.
LONG = {
    *("add_class", "check", "compress", "deep_compress", "detect_unknown", "ensemble", "evaluate", "few_bits"),
    *("fit_knn", "plot_check", "plot_search", "search"),
}
# What a server answers other programs, in the words of TensorFlow Serving.
ANSWERS = ("BadRequestError", "_RefusedError")
# A value's methods hand on to the verbs by the public door, and its repr is the report's table.
INSIDE_FUNCTIONS = {
    ("values", "recipes"),
    ("values", "reporting"),
    ("redesigning", "reporting"),
    ("compression", "reporting"),
    ("probing", "reporting"),
}

# The one file of the layers that may ask a backend for what Keras has no word for, where that backend runs.
COMPILING = ("_compiling.py", "tensorflow")


def room(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "layers" if parts[0] == "layers" else parts[1]


def imports(tree):
    """(module, whether inside a function) of every import."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inner = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, id(node) in inner) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", id(node) in inner
            yield from ((f"{node.module}.{name.name}", id(node) in inner) for name in node.names)


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_design(path):
    here = room(path)
    for module, inside in imports(parsed(path)):
        assert not module.startswith(("keras.src", "tensorflow.python")), module
        parts = module.split(".")
        if parts[0] not in ("recipes", "layers"):
            if here == "layers" and not (inside and (path.name, parts[0]) == COMPILING):
                assert parts[0] in ("keras", "numpy", *sys.stdlib_module_names), module
            continue
        target = "layers" if parts[0] == "layers" else (parts[1] if len(parts) > 1 else "recipes")
        if target == here or (inside and (here, target) in INSIDE_FUNCTIONS):
            continue
        assert target in ROOM_MAY_IMPORT[here], f"{here} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_asserts_prints_or_errors_that_say_too_little(path):
    for node in ast.walk(parsed(path)):
        assert not isinstance(node, ast.Assert), f"assert in line {node.lineno}"
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"bare except in line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"print in line {node.lineno}"
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and room(path) not in ("cli", "__init__"):
            if getattr(node.exc.func, "id", "") in ANSWERS:
                continue
            said = node.exc.args[0]
            whole = isinstance(said, ast.Call) and getattr(said.func, "id", "") in ("complaint", "_complaint")
            assert whole or isinstance(said, ast.Name), f"line {node.lineno} raises without rule, value and mend"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_and_every_public_function_says_what_it_is(path):
    tree = parsed(path)
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def described(docstring):
    """Names of the arguments that a docstring's Args section describes."""
    section = re.search(r"^Args:\n(.*?)(?=^\w|\Z)", inspect.cleandoc(docstring), re.MULTILINE | re.DOTALL)
    return re.findall(r"^    (\w+):", section.group(1), re.MULTILINE) if section else []


@pytest.mark.parametrize("name", recipes.__all__)
def test_docstrings_describe_exactly_the_arguments(name):
    public = getattr(recipes, name)
    parameters = [parameter for parameter in inspect.signature(public).parameters if parameter != "self"]
    assert described(public.__doc__) == [name for name in parameters if name != "name" or "name:" in public.__doc__]


VERBS = [name for name in recipes.__all__ if name[0].islower()]


@pytest.mark.parametrize("name", VERBS)
def test_verbs_take_at_most_two_positional_arguments_and_no_catch_all(name):
    kinds = [parameter.kind for parameter in inspect.signature(getattr(recipes, name)).parameters.values()]
    assert sum(kind == inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds) <= 2
    assert not {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL} & set(kinds)


@pytest.mark.parametrize("name", VERBS)
def test_verbs_give_an_example(name):
    assert ">>>" in getattr(recipes, name).__doc__


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in recipes.__all__]
)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    public = getattr(recipes, name)
    found = doctest.DocTestFinder(recurse=False).find(public, name, globs={})
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=flags)
    for test in found:
        runner.run(test, out=lambda text: pytest.fail(text, pytrace=False) if "Failed example" in text else None)
    assert runner.summarize(verbose=False).failed == 0


def test_import_is_cheap():
    """`import recipes` brings in nothing heavy; a verb brings in TensorFlow when it is first touched."""
    code = (
        "import sys, recipes; print('tensorflow' in sys.modules); recipes.load_data; print('tensorflow' in sys.modules)"
    )
    assert run_python(code).split() == ["False", "True"]


def test_unknown_names_say_what_there_is():
    with pytest.raises(AttributeError, match="finetune"):
        recipes.fintune  # noqa: B018
    assert set(dir(recipes)) == set(recipes.__all__)
