"""The verbs as commands; what they take is read off the functions' signatures and docstrings."""

import argparse
import ast
import contextlib
import importlib
import inspect
import itertools
import os
import re
import sys
import warnings
from pathlib import Path

from recipes.checks import nearest
from recipes.memory import end_quickly, keep_memory, no_collections

COMMANDS = {
    "finetune": "recipes.finetuning",
    "probe": "recipes.probing.probing",
    "check": "recipes.sanity.checking",
    "find_lr": "recipes.rate_finding",
    "search": "recipes.searching.searching",
    "evaluate": "recipes.evaluation",
    "predict": "recipes.prediction",
    "export": "recipes.serving.exporting",
    "serve": "recipes.serving.server",
    "compress": "recipes.compression.ladder",
    "advise": "recipes.advising.advising",
    "cost": "recipes.costs.costing",
    "cache": "recipes.caching",
}
_EPILOG = """\
"recipes COMMAND --help" lists what a command takes; "--config job.yaml" reads it from a file, "--print_config" writes
such a file. "--traceback" shows where an error came from.

exit codes: 0 done · 2 an argument or the data is wrong · 3 the surroundings are (disk, network, permissions)
4 the run failed (the loss is no number, an export does not answer as its model, no trial succeeds, an accuracy that was
asked for is missed, a check fails) · 130 interrupted
"""


def main(arguments=None):
    """Run one command line; its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] not in COMMANDS:
        return _front_page(arguments)
    command, *rest = arguments
    with_traceback = "--traceback" in rest
    # "None" is what Python users type; YAML's word for it is null.
    rest = [re.sub("(^|=)[Nn]one$", r"\1null", word) for word in rest if word != "--traceback"]
    rest = [re.sub("^--[^=]+", lambda name: "--" + name[0][2:].replace("-", "_"), word) for word in rest]
    warnings.showwarning = _show_warning
    if command != "serve":
        keep_memory(os.environ)
    end_quickly()
    try:
        with no_collections(), _quiet_start():
            function = getattr(importlib.import_module(COMMANDS[command]), command)
        outcome = function(**_parse(command, function, rest))
        _show(command, outcome)
    except KeyboardInterrupt:
        sys.stderr.write(f"recipes {command}: interrupted.\n")
        return 130
    except Exception as error:
        if with_traceback:
            raise
        known = isinstance(error, (TypeError, ValueError, OSError, ImportError, ArithmeticError, RuntimeError))
        kind = "" if known else f"recipes {command}: {type(error).__name__}: "
        sys.stderr.write(f"{kind}{' '.join(str(error).split())}\n")
        return _exit_code(error)
    return 4 if command == "check" and not outcome.passed else 0


@contextlib.contextmanager
def _quiet_start():
    """Without the lines that TensorFlow's libraries write while they load, unless the user has set their level."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    with open(os.devnull, "wb") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            import tensorflow as tf

            yield
            tf.config.list_physical_devices()
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    """A warning as one line, without the place in the source that raised it."""
    sys.stderr.write(f"warning: {message}\n")


def _front_page(arguments):
    """`recipes`, `recipes --help`, `recipes --version`, and misspelt commands: answered without TensorFlow."""
    parser = argparse.ArgumentParser(
        prog="recipes",
        description="From a folder of photos to a classifier you can trust and serve.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command, module in COMMANDS.items():
        commands.add_parser(command, help=_summary(command, module))
    asked = parser.parse_args(arguments)
    if asked.version:
        from importlib.metadata import version

        sys.stdout.write(f"keras-recipes {version('keras-recipes')}\n")
        return 0
    parser.print_help()
    return 0 if arguments else 2


def _summary(command, module):
    """First line of a verb's docstring, read from its source, since importing it would import TensorFlow."""
    source = Path(__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py").read_text(encoding="utf-8")
    definitions = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    verb = next(node for node in definitions if node.name == command)
    return ast.get_docstring(verb).splitlines()[0].rstrip(".").replace("%", "%%")


def _named(function, words):
    """Words before the first option are the arguments that have no default, in their order."""
    required = [name for name, kind in inspect.signature(function).parameters.items() if kind.default is kind.empty]
    bare = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    pairs = [part for name, word in zip(required, bare, strict=False) for part in (f"--{name}", word)]
    return [*words[len(bare) :], *pairs, *bare[len(required) :]]  # the last word counts: before it, a job file


def _parse(command, function, arguments):
    """Keyword arguments for a verb. Nothing a command line or job file names is imported or run."""
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(prog=f"recipes {command}", allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the arguments below.")
    many = {"images"} & set(function.__annotations__)  # so that the shell can spell out *.jpg
    # A function of the user's would have to be imported.
    functions = {name for name, kind in function.__annotations__.items() if "Callable" in str(kind)}
    parser.add_function_arguments(function, as_positional=False, skip=many | functions)
    for name in many:
        parser.add_argument(f"--{name}", nargs="+", type=str, required=True, help="Paths of images.")
    try:
        taken = parser.parse_args(_named(function, arguments)).as_dict()
    except ArgumentError as error:
        raise ValueError(_advise(command, function, str(error))) from error
    taken.pop("config", None)
    return {name: None if value in ("None", "none") else value for name, value in taken.items()}


def _advise(command, function, message):
    """What is wrong with a command line, with the argument that was probably meant."""
    names = [f"--{name}" for name in (*inspect.signature(function).parameters, "config", "traceback")]
    unknown = next((word for word in message.split() if word.startswith("--") and word not in names), None)
    guess = nearest(unknown, names) if unknown else None
    mend = f"Did you mean {guess}?" if guess else f'See "recipes {command} --help".'
    return f"{command}: {message.rstrip('.')}. {mend}"


def _show(command, outcome):
    if outcome is None:
        return
    if command == "predict":
        for prediction in outcome:
            sys.stdout.write(f"{prediction.label}\t{prediction.probability:.4f}\n")
        return
    sys.stdout.write(f"{outcome.report if command == 'finetune' else outcome}\n")


def _exit_code(error):
    if isinstance(error, (FileNotFoundError, FileExistsError)):
        return 2
    if isinstance(error, (OSError, ImportError)):
        return 3
    return 2 if isinstance(error, (TypeError, ValueError)) else 4
