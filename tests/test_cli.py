"""The verbs as commands: what they print, and the codes they end with."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

import recipes
from recipes.cli import COMMANDS, main


@pytest.fixture
def run(capsys, monkeypatch):
    """`run(*words)` gives (exit code, standard output, standard error)."""

    def call(*words):
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")  # so that standard error is left as pytest has set it
    monkeypatch.setattr("warnings.showwarning", lambda *_: None)
    return call


@pytest.fixture(scope="module")
def base_file(tmp_path_factory):
    from cases import tiny_base

    path = tmp_path_factory.mktemp("bases") / "tiny.keras"
    tiny_base().save(path)
    return path


@pytest.fixture(scope="module")
def run_folder(base_file, photos, tmp_path_factory):
    """The folder of a run that the command line made."""
    out = tmp_path_factory.mktemp("runs") / "one"
    words = ["finetune", "--base", base_file, "--data", photos, "--out", out, "--epochs", "[3,1]", "--verbose", "false"]
    assert main([str(word) for word in words]) == 0
    return out


def test_help_needs_no_tensorflow():
    code = "import sys, recipes.cli\ntry: recipes.cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print({'tensorflow', 'keras', 'numpy', 'jsonargparse'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("set()")
    for command in COMMANDS:
        assert command in done.stdout


def test_every_command_is_a_public_verb_with_a_summary(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    for command in COMMANDS:
        assert getattr(recipes, command).__doc__.splitlines()[0].rstrip(".") in shown


def test_nothing_asked_and_misspelt_commands_are_usage_errors(capsys):
    assert main([]) == 2
    with pytest.raises(SystemExit) as ended:
        main(["finetun"])
    assert ended.value.code == 2
    assert main(["--version"]) == 0
    assert "keras-recipes" in capsys.readouterr().out


def test_finetune_prints_the_report(run, run_folder, base_file, photos):
    words = ["--base", base_file, "--data", photos, "--out", run_folder, "--epochs", "[3,1]"]
    code, out, _ = run("finetune", *words)
    assert code == 0
    assert "is complete" in out
    assert "test split" in out
    code, _, error = run("finetune", *words[:-1], 5)
    assert code == 2
    assert "epochs was [3, 1] and is 5" in error


def test_evaluate_predict_export(run, run_folder, photos, tmp_path):
    code, out, _ = run("evaluate", "--model", run_folder, "--data", photos, "--out", tmp_path / "report")
    assert code == 0
    assert "accuracy" in out
    assert json.loads((tmp_path / "report" / "report.json").read_text())["split"] == "all"
    files = sorted((photos / "red").iterdir())[:2]
    code, out, _ = run("predict", "--model", run_folder, "--images", *files)
    assert code == 0
    expected = recipes.load(run_folder).predict([str(file) for file in files])
    assert out.splitlines() == [f"{prediction.label}\t{prediction.probability:.4f}" for prediction in expected]
    code, out, _ = run("export", "--model", run_folder, "--folder", tmp_path / "served")
    assert (code, out) == (0, f"{tmp_path / 'served' / '1'}\n")


def test_a_job_file_says_the_same_as_the_command_line(run, run_folder, base_file, photos, tmp_path):
    job = {"base": str(base_file), "data": str(photos), "out": str(run_folder), "epochs": [3, 1]}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    code, out, _ = run("finetune", "--config", tmp_path / "job.yaml")
    assert code == 0
    assert "is complete" in out


def test_a_job_file_runs_no_code(run, tmp_path):
    target = tmp_path / "touched"
    (tmp_path / "job.yaml").write_text(f"base: !!python/object/apply:os.system ['touch {target}']\ndata: digits\n")
    code, _, _ = run("finetune", "--config", tmp_path / "job.yaml")
    assert code == 2
    spec = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(target)]}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({"base": "vgg16", "data": "digits", "optimizer": spec}))
    code, _, _ = run("finetune", "--config", tmp_path / "job.yaml")
    assert code == 2
    assert not target.exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["finetune", "--base", "vgg16"], 2, "required: data"),
        (["finetune", "--base", "vgg17", "--data", "digits"], 2, "Did you mean 'vgg19'"),
        (["finetune", "--base", "vgg16", "--data", "digitz"], 2, "does not exist"),
        (["finetune", "--base", "vgg16", "--data", "digits", "--epoch", "3"], 2, "Did you mean --epochs?"),
        (["finetune", "--base", "vgg16", "--data", "digits", "--epochs", "three"], 2, "three"),
        (["finetune", "--base", "vgg16", "--data", "digits", "--epochs", "-1"], 2, "epochs must be at least 1"),
        (["finetune", "--config", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["evaluate", "--model", "nowhere", "--data", "digits"], 2, "no finished classifier"),
        (["predict", "--model", "nowhere", "--images", "a.jpg"], 2, "no finished classifier"),
        (["export", "--model", "nowhere", "--folder", "served"], 2, "no finished classifier"),
    ],
)
def test_errors_are_one_line_with_a_code(run, monkeypatch, tmp_path, words, code, said):
    monkeypatch.chdir(tmp_path)
    ended, out, error = run(*words)
    assert ended == code
    assert said in error
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_traceback_on_request(run):
    with pytest.raises(FileNotFoundError):
        run("evaluate", "--model", "nowhere", "--data", "digits", "--traceback")


def test_a_folder_that_cannot_be_written_is_a_matter_of_the_surroundings(run, base_file, photos, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, error = run("finetune", "--base", base_file, "--data", photos, "--out", tmp_path / "file" / "run")
    assert code == 3
    assert "cannot be written" in error


@pytest.mark.parametrize("spelling", [["--weights", "None"], ["--weights=None"], ["--config", "job.yaml"]])
def test_none_is_null(run, base_file, photos, tmp_path, spelling, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text("weights: None\npatience: null\n")
    words = ["--base", base_file, "--data", photos, *spelling, "--epochs", "1", "--verbose", "false"]
    code, _, error = run("finetune", *words, "--out", tmp_path / "run")
    assert code == 0, error
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["weights"] is None


def test_interrupted_it_ends_with_130_and_says_how_to_go_on(base_file, photos, tmp_path):
    words = ["finetune", "--base", base_file, "--data", photos, "--epochs", "10000", "--patience", "None"]
    out, environment = tmp_path / "run", {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL")
    process = subprocess.Popen(
        [sys.executable, "-m", "recipes", *map(str, words), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    for line in process.stdout:
        if line.startswith("Epoch 2/"):
            break
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    said, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error == "recipes finetune: interrupted.\n"
    assert time.monotonic() - began < 60
    assert re.search(r"Stopped\. The same call goes on from here: stage 'head', epoch \d+, after step \d+\.\n$", said)
    assert {path.name for path in out.iterdir()} == {"settings.json", "checkpoints"}
