"""Searches with real trials, in processes of their own: what they find, what they survive, and what they leave."""

import contextlib
import functools
import gc
import itertools
import json
import os
import random as chance
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from cases import tiny_base

import recipes
from recipes.cli import main
from recipes.searching import heads
from recipes.searching.local import LocalEngine
from recipes.searching.nursery import JOB
from recipes.searching.records import STATE
from recipes.searching.trials import Common, Job, run_trial

SETTINGS = {"plan": "head", "epochs": 2, "batch_size": 8, "verbose": False}


@pytest.fixture(scope="module")
def base_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bases") / "tiny.keras"
    tiny_base().save(path)
    return str(path)


def search(photos, base, out, **options):
    """A search over two heads and two rates, on frozen rows."""
    settings = {"plan": "head", "epochs": 2, "batch_size": 8}
    space = {"head": ("linear", (8,)), "learning_rate": (0.1, 0.01)}
    data = {"source": str(photos), "valid": 0.25, "test": 0.25}
    arguments = {"space": space, "settings": settings, "method": "grid", "verbose": False}
    return recipes.search(data, base, out=out, **arguments | options)


@pytest.fixture(scope="module")
def found(photos, base_file, tmp_path_factory):
    """A finished search with two workers."""
    return search(photos, base_file, tmp_path_factory.mktemp("searches") / "heads", workers=2, keep=2)


def test_every_trial_is_what_finetune_gives(found, photos, base_file, tmp_path):
    """Trained without the base, on rows from the cache; `finetune` builds all of it. The same up to rounding."""
    for trial in (found.trials[0], found.trials[-1]):  # they differ in every setting
        data = recipes.load_data(photos, image_size=16, valid=0.25, test=0.25)
        settings = {"plan": "head", "epochs": 2, "batch_size": 8, **trial.settings, "verbose": False}
        settings["head"] = trial.settings["head"] if isinstance(trial.settings["head"], str) else (8,)
        curves = recipes.finetune(base_file, data, **settings).report.curves
        assert trial.scores["val_accuracy"] == max(curves["val_accuracy"])
        best = curves["val_accuracy"].index(trial.scores["val_accuracy"])
        assert trial.scores["val_loss"] == pytest.approx(min(curves["val_loss"][best:]), abs=1e-5)


def test_heads_are_trained_without_the_base(found):
    for number in range(4):
        log = (found.folder / "trials" / f"{number:04d}" / "log.txt").read_text()
        assert "multiply-adds" not in log  # what a stage on a base that is there says
        assert "head at" in log


def test_the_best_is_measured_once_on_images_that_no_trial_saw(found, photos):
    best = max(found.trials, key=lambda trial: trial.score)
    assert found.best.score == best.score
    assert found.result.report.split == "test"
    assert len(found.result.data.test) == found.result.report.scores["images"]
    again = recipes.evaluate(found.result, found.result.data)
    assert again.scores == pytest.approx(found.result.report.scores, abs=1e-6)
    # `resume` would have measured it once more; the file says when it was.
    before = (found.folder / "best" / "report.json").stat().st_mtime_ns
    loaded = recipes.load(found.folder / "best")
    assert loaded.report.scores == found.result.report.scores
    assert (found.folder / "best" / "report.json").stat().st_mtime_ns == before


def test_called_again_it_brings_the_table_back_and_runs_nothing(found, photos, base_file, monkeypatch):
    monkeypatch.setattr(LocalEngine, "start", None)
    before = (found.folder / "best" / "report.json").stat().st_mtime_ns
    again = search(photos, base_file, found.folder, workers=1, keep=2)
    assert again.trials == found.trials
    assert again.result.report.scores == found.result.report.scores
    assert (found.folder / "best" / "report.json").stat().st_mtime_ns == before


def test_what_it_leaves(found):
    assert {path.name for path in found.folder.iterdir()} == {STATE, "trials", "best", "trials.csv", "search.html"}
    runs = {int(path.parent.name) for path in found.folder.glob("trials/*/run")}
    assert len(runs) == 2
    assert found.best.number in runs
    assert "trial  val_accuracy" in repr(found)


def test_the_command_trains_it_again(found, tmp_path, capsys):
    words = shlex.split(found.best.command)
    assert words[:2] == ["recipes", "finetune"]
    assert main([*words[1:], "--out", str(tmp_path / "run"), "--verbose", "false"]) == 0
    again = recipes.load(tmp_path / "run")
    assert again.report.split == "test"
    for one, other in zip(again.model.get_weights(), found.result.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)  # rounding: the rows were cached there


def test_other_settings_in_the_same_folder_are_refused(found, photos, base_file):
    with pytest.raises(FileExistsError, match=r"seed was 0 and is 1"):
        search(photos, base_file, found.folder, seed=1)


def test_the_best_can_be_exported(found, tmp_path):
    assert recipes.export(found.result, tmp_path / "served").name == "1"


def test_hyperband_goes_on_from_where_a_trial_paused(photo_data, base_file, tmp_path):
    """The rungs of the best trial are, one after the other, the undisturbed run of `finetune`."""
    stage = recipes.Stage("all", epochs=3, learning_rate=0.05, top=0.1, intermediate=0.1, early=0.1)
    space = {"learning_rate": "1e-3..1e-1 log", "dropout": "0.0..0.3"}
    settings = {"plan": "all", "epochs": 3, "batch_size": 8, "patience": None}
    options = {"space": space, "settings": settings, "method": "hyperband", "workers": 2, "verbose": False}
    found = recipes.search(photo_data, base_file, out=tmp_path / "search", **options)
    assert stage.epochs == 3
    state = json.loads((tmp_path / "search" / STATE).read_text())
    legs = [[leg["epochs"] for leg in trial["legs"]] for trial in state["trials"]]
    assert sorted(map(str, legs)) == sorted(map(str, [[1, None]] + [[1]] * 2 + [[None]] * 2))
    promoted = found.trials[legs.index([1, None])]
    log = (tmp_path / "search" / "trials" / f"{promoted.number:04d}" / "log.txt").read_text()
    assert log.count("Epoch 1/3") == log.count("Epoch 2/3") == 1
    whole = recipes.finetune(base_file, photo_data, **settings, **promoted.settings, verbose=False)
    assert promoted.scores["val_accuracy"] == max(whole.report.curves["val_accuracy"])
    assert {trial.status for trial in found.trials} == {"done", "paused"}
    assert found.best.status == "done"


# Models of the user's own


def build(hp):
    """A classifier that learns colours, or one that does what no classifier should."""
    kind = hp.Choice("kind", ["well", "raises", "dies", "hangs", "wrong"])
    units = 4
    with hp.conditional_scope("kind", ["well"]):
        if kind == "well":
            units = hp.Int("units", 4, 8, step=4)
    if kind == "raises":
        raise ValueError("this one cannot be built")
    if kind == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hangs":
        time.sleep(600)
    layers = [keras.Input((16, 16, 3)), keras.layers.Rescaling(1 / 255), keras.layers.GlobalAveragePooling2D()]
    layers += [keras.layers.Dense(units, activation="relu"), keras.layers.Dropout(0.1)]
    model = keras.Sequential([*layers, keras.layers.Dense(2 if kind == "wrong" else 3, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.05), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_a_trial_fails_alone_and_says_why(photo_data, tmp_path):
    options = {"settings": {"epochs": 3, "batch_size": 8}, "method": "grid", "workers": 2, "verbose": False}
    found = recipes.search(photo_data, build=build, out=tmp_path / "out", retries=1, time_limit=20, **options)
    trials = {(trial.settings["kind"], trial.settings.get("units")): trial for trial in found.trials}
    assert len(trials) == len(found.trials) == 6
    assert {trial.status for (kind, _), trial in trials.items() if kind == "well"} == {"done"}
    reasons = {kind: trial.reason for (kind, _), trial in trials.items() if kind != "well"}
    assert reasons["raises"] == "this one cannot be built"
    assert "killed (SIGKILL)" in reasons["dies"]
    assert "time limit of 20 s" in reasons["hangs"]
    assert "build must give a model from (None, 16, 16, 3) to (None, 3)" in reasons["wrong"]
    assert {kind: trials[kind, None].attempts for kind in reasons} == {"raises": 1, "dies": 2, "hangs": 1, "wrong": 1}
    assert found.best.settings["kind"] == "well"
    assert found.result.report.split == "test"
    loaded = recipes.load(tmp_path / "out" / "best")
    again = recipes.evaluate(loaded, found.result.data)
    assert again.scores["accuracy"] == found.result.report.scores["accuracy"]
    assert "units" in found.best.command


def with_dropout(hp):
    """Random in every step, so that whatever is not restored is seen."""
    hp.Choice("width", [8])
    if not gc.isenabled():
        raise RuntimeError("a trial must have its garbage collected")
    layers = [keras.Input((16, 16, 3)), keras.layers.Rescaling(1 / 255), keras.layers.GlobalAveragePooling2D()]
    layers += [keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.3), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.01), loss=keras.losses.CategoricalCrossentropy())
    return model


@pytest.mark.parametrize("augmentation", ["flip", ("flip", "cut_mix")])
def test_a_model_that_pauses_goes_on_as_if_it_had_not(photo_data, tmp_path, augmentation):
    """Dropout, Adam's moments and the order of the images included; bit for bit, on a CPU."""
    from recipes.searching.models import DEFAULTS, explore
    from recipes.searching.spaces import Space

    hp = explore(with_dropout, Space((), {}).hyperparameters(), "search")
    settings = {**DEFAULTS, "epochs": 4, "batch_size": 8, "patience": None, "augmentation": augmentation}
    common = Common(Space((), settings), hp, with_dropout, "search")
    scores = []
    for name, legs in (("whole", [None]), ("parts", [1, 3, None])):
        for epochs in legs:
            (tmp_path / name).mkdir(exist_ok=True)
            outcome = run_trial(common, Job(0, {"width": 8}, epochs, str(tmp_path / name), str(tmp_path)), photo_data)
            assert (outcome.status, outcome.epochs) == ("paused" if epochs else "done", epochs or 4), outcome
        scores.append(outcome.scores)
    assert scores[0] == scores[1]


def test_mixed_labels_need_a_loss_of_shares(photo_data, tmp_path):
    def sparse(hp):
        model = with_dropout(hp)
        model.compile("adam", loss="sparse_categorical_crossentropy")
        return model

    from recipes.searching.models import DEFAULTS, explore
    from recipes.searching.spaces import Space

    hp = explore(sparse, Space((), {}).hyperparameters(), "search")
    common = Common(Space((), {**DEFAULTS, "augmentation": "mix_up"}), hp, sparse, "search")
    outcome = run_trial(common, Job(0, {"width": 8}, None, str(tmp_path), str(tmp_path)), photo_data)
    assert outcome.status == "failed"
    assert "labels that augmentation mixes need a loss of shares" in outcome.reason


# What a search survives

SCRIPT = """
import sys
import recipes

data = {"source": sys.argv[1], "valid": 0.25, "test": 0.25}
settings = {"plan": "all", "epochs": 3, "batch_size": 8, "checkpoint_seconds": 0, "dropout": 0.2}
space = {"learning_rate": (0.1, 0.03, 0.01), "head": ("linear", (8,)), "label_smoothing": (0.0, 0.1)}
found = recipes.search(data, sys.argv[2], space=space, settings=settings, method="grid", workers=2, retries=50,
                       out=sys.argv[3])
"""


def start(photos, base_file, out):
    """The driver of a search over twelve combinations, all of the network in each."""
    words = [sys.executable, "-c", SCRIPT, str(photos), base_file, str(out)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def processes_of(driver):
    """Process numbers by what they are: the driver, the nursery, its children."""
    found = {"driver": [driver.pid], "nursery": [], "trial": []}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if b"recipes.searching.nursery" in words:
            found["nursery" if parent == driver.pid else "trial"].append((int(folder.name), parent))
    found["nursery"] = [pid for pid, _ in found["nursery"]]
    found["trial"] = [pid for pid, parent in found["trial"] if parent in found["nursery"]]
    return found


def kill_now_and_then(photos, base_file, out, random, kills):
    """Run a search to its end, through so many kills: of trials, of the nursery, of the driver, of all; by kind.

    Three of four come while a trial runs, the others at any moment.
    """
    counts = dict.fromkeys(("trial", "nursery", "driver", "everything"), 0)
    driver = start(photos, base_file, out)
    while sum(counts.values()) < kills and driver.poll() is None:
        kind = random.choice(list(counts))
        if kind == "trial" or random.random() < 0.75:
            while driver.poll() is None and not processes_of(driver)["trial"]:
                time.sleep(0.05)
            time.sleep(random.uniform(0, 1))
        else:
            time.sleep(random.uniform(0, 12))
        found = processes_of(driver)
        chosen = list(itertools.chain(*found.values())) if kind == "everything" else found[kind][:1]
        if driver.poll() is not None or not chosen:
            continue
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        counts[kind] += 1
        if kind in ("driver", "everything"):
            driver.communicate()
            driver = start(photos, base_file, out)
    said, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, said
    return counts


def rows_of(out):
    """Settings and scores of every trial, as they must be, whatever happened."""
    state = json.loads((out / STATE).read_text())

    def came(leg):
        return leg["epochs"], leg["outcome"]["scores"]

    return [(trial["values"], list(map(came, trial["legs"]))) for trial in state["trials"]]


@pytest.mark.slow
def test_thirty_kills_leave_the_table_as_it_is(photos, base_file, tmp_path):
    """At moments drawn from a seed; where a search is over before its share of kills, another one takes over."""
    start(photos, base_file, tmp_path / "whole").communicate()
    expected = rows_of(tmp_path / "whole")
    assert len({json.dumps(values) for values, _ in expected}) == len(expected) == 12
    random, total = chance.Random(0), {}
    for number in range(30):
        if sum(total.values()) >= 30:
            break
        out = tmp_path / str(number)
        counts = kill_now_and_then(photos, base_file, out, random, kills=30 - sum(total.values()))
        total = {kind: total.get(kind, 0) + count for kind, count in counts.items()}
        assert rows_of(out) == expected
    sys.stdout.write(f"kills: {total} in {number} searches\n")
    assert min(total.values()) > 0


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc, which only Linux has")
def test_killed_for_good_it_goes_on(photos, base_file, tmp_path):
    """A trial, then everything, once each; and no process is left behind."""
    driver = start(photos, base_file, tmp_path / "out")
    wait_for(lambda: processes_of(driver)["trial"] and (tmp_path / "out" / "trials" / "0001" / "run").exists())
    os.kill(processes_of(driver)["trial"][0], signal.SIGKILL)
    wait_for(lambda: (tmp_path / "out" / "trials" / "0003").exists())
    os.kill(driver.pid, signal.SIGKILL)
    left = processes_of(driver)
    driver.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left["nursery"] + left["trial"]))
    started = [leg for trial in json.loads((tmp_path / "out" / STATE).read_text())["trials"] for leg in trial["legs"]]
    assert sum(leg["outcome"] is None for leg in started) > 0
    said, _ = start(photos, base_file, tmp_path / "out").communicate(timeout=300)
    rows = rows_of(tmp_path / "out")
    assert len({json.dumps(values) for values, _ in rows}) == len(rows) == 12
    assert "trial  val_accuracy" not in said  # a script prints what it wants to see
    for number in (1,):
        data = recipes.load_data(photos, image_size=16, valid=0.25, test=0.25)
        values = rows[number][0]
        settings = {"plan": "all", "epochs": 3, "batch_size": 8, "dropout": 0.2, "head": "linear"}
        assert values["head"] == "linear"
        settings |= {name: values[name] for name in ("learning_rate", "label_smoothing")}
        curves = recipes.finetune(base_file, data, **settings, verbose=False).report.curves
        assert rows[number][1][0][1]["val_accuracy"] == max(curves["val_accuracy"])


def wait_for(condition, seconds=120):
    """Until something is so; a failure after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_interrupted_it_says_how_to_go_on(photos, base_file, tmp_path):
    driver = start(photos, base_file, tmp_path / "out")
    wait_for(lambda: (tmp_path / "out" / "trials" / "0001" / "run").exists())
    driver.send_signal(signal.SIGINT)
    said, _ = driver.communicate(timeout=60)
    assert driver.returncode != 0
    assert "Stopped. The same call goes on from here." in said
    assert (tmp_path / "out" / STATE).exists()


def test_processes_may_start_afresh(photos, base_file, tmp_path, monkeypatch):
    """As they do where nothing can be forked."""
    monkeypatch.setattr("recipes.searching.searching.LocalEngine", functools.partial(LocalEngine, forks=False))
    found = search(photos, base_file, tmp_path / "out", space={"learning_rate": (0.1,), "dropout": (0.0,)})
    assert found.best.status == "done"
    assert found.best.peak_bytes > 10**8


# Nodes that do not see the folder of the search


def test_what_a_far_node_trained_comes_back(photo_data, base_file, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    from recipes.searching import cluster
    from recipes.searching.spaces import parse_space

    fixed = {"base": base_file, **SETTINGS}
    space = parse_space({"dropout": (0.0, 0.5)}, fixed, ("dropout", *fixed), "search")
    common = cluster.pickle.dumps(Common(space, space.hyperparameters(), None, "search"))
    far, place = str(tmp_path / "not here"), (str(tmp_path), "another mark")
    left, outcomes = {}, []
    for epochs in (1, None):  # the second goes on from what the first left
        job = Job(0, {"dropout": 0.5}, epochs, far, far)
        outcome, left = cluster._run("trial", common, job, photo_data, photo_data.train.store, place, left, 60)
        outcomes.append(outcome)
        assert "settings.json" in left
        assert any(name.startswith("checkpoints/") for name in left)
    assert [outcome.status for outcome in outcomes] == ["paused", "done"], outcomes
    whole, _ = cluster._run("trial", common, job, photo_data, photo_data.train.store, place, {}, None)
    assert whole.scores == outcomes[1].scores
    assert not Path(far).exists()


def test_a_far_node_ends_a_trial_in_time(photo_data, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    from recipes.searching import cluster
    from recipes.searching.spaces import parse_space

    space = parse_space({"epochs": (10**6, 1)}, {"patience": None}, ("epochs", "patience"), "search")
    hp = space.hyperparameters()
    hp.Choice("width", [8])
    common = cluster.pickle.dumps(Common(space, hp, with_dropout, "search"))
    job = Job(0, {"epochs": 10**6, "width": 8}, None, "far", "far")
    place = (str(tmp_path), "another mark")
    outcome, _ = cluster._run("trial", common, job, photo_data, photo_data.train.store, place, {}, 5)
    assert (outcome.status, outcome.may_pass) == ("failed", False)
    assert "time limit of 5 s" in outcome.reason


@pytest.mark.slow
def test_a_cluster_of_three_nodes_loses_one(photos, base_file, tmp_path):
    """In a process of its own: Ray's settings for loopback addresses are read when it is imported."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    words = [sys.executable, Path(__file__).parent / "ray_cluster.py", photos, base_file, tmp_path / "out"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["nodes"] == [3, 2]
    rows = rows_of(tmp_path / "out")
    assert len({json.dumps(values) for values, _ in rows}) == len(rows) == 6
    assert all(len(legs) == 1 for _, legs in rows)
    same = {"space": told["space"], "settings": told["settings"]}
    undisturbed = search(photos, base_file, tmp_path / "whole", workers=2, **same)
    assert [legs[0][1] for _, legs in rows] == [pytest.approx(trial.scores, abs=1e-5) for trial in undisturbed.trials]


# What is wrong is said at the door

BAD = [
    ({"space": {"learning_rat": (1, 2)}}, ValueError, "Did you mean 'learning_rate'"),
    ({"space": {"out": ("a", "b")}}, ValueError, "not known"),
    ({"space": {"optimizer": ("adamw", "adamm")}}, ValueError, "or 'adamw'"),
    ({"space": {"dropout": (0.1, 1.5)}}, ValueError, "dropout must be"),
    ({"space": {"head": ("linear", "square")}}, TypeError, "head must be"),
    ({"space": {"views": (2, 4)}}, ValueError, "views needs an augmentation"),
    ({"space": {}}, ValueError, "something to choose"),
    ({"space": {"dropout": "0.0..0.5"}}, ValueError, "a grid needs steps"),
    ({"trials": 2}, ValueError, "a grid visits all 4 combinations"),
    ({"method": "gird"}, ValueError, "Did you mean 'grid'"),
    ({"objective": "accuracy"}, ValueError, "Did you mean 'val_accuracy'"),
    ({"workers": "rey"}, ValueError, 'or "ray"'),
    ({"workers": 0}, ValueError, "workers must be at least 1"),
    ({"method": "hyperband", "objective": "val_calibration_error"}, ValueError, "on its way"),
    ({"method": "hyperband", "trials": 5}, ValueError, "hyperband decides"),
    ({"build": build}, ValueError, "both base and build"),
    ({"build": 3, "base": None}, TypeError, "build must be a function"),
    ({"base": None}, ValueError, "a search needs a base"),
    ({"base": "vgg61"}, ValueError, "or 'vgg16'"),
    ({"data": {"source": "digits", "valid": 0.0}}, ValueError, "needs validation images"),
    ({"data": "digitz"}, FileNotFoundError, "does not exist"),
    ({"settings": {"epochs": 2, "learning_rate": 1.0}}, ValueError, "must be set in one place"),
    ({"assert_accuracy_at_least": 98}, ValueError, "at most 1"),
]


@pytest.mark.parametrize(("wrong", "kind", "said"), BAD, ids=range(len(BAD)))
def test_bad_arguments(photos, base_file, tmp_path, monkeypatch, wrong, kind, said):
    monkeypatch.setattr(LocalEngine, "start", None)  # before any trial
    space = {"head": ("linear", (8,)), "learning_rate": (0.1, 0.01)}
    arguments = {"data": str(photos), "base": base_file, "space": space, "method": "grid", "verbose": False}
    arguments |= wrong
    with pytest.raises(kind, match=re.escape(said)):
        recipes.search(arguments.pop("data"), arguments.pop("base"), out=tmp_path / "out", **arguments)


def test_the_command_line_takes_a_job_and_asks_for_an_accuracy(found, photos, base_file, tmp_path, capsys, monkeypatch):
    """The search in `found` is complete, so that nothing is run here."""
    monkeypatch.setattr(LocalEngine, "start", None)
    job = f"""
data: {{source: {photos}, valid: 0.25, test: 0.25}}
base: {base_file}
method: grid
settings: {{plan: head, epochs: 2, batch_size: 8}}
space:
  head: [linear, [8]]
  learning_rate: [0.1, 0.01]
out: {found.folder}
verbose: false
"""
    (tmp_path / "job.yaml").write_text(job)
    assert main(["search", "--config", str(tmp_path / "job.yaml")]) == 0
    assert "trial  val_accuracy" in capsys.readouterr().out
    accuracy = found.result.report.scores["accuracy"]
    words = ["search", "--config", str(tmp_path / "job.yaml"), "--assert-accuracy-at-least"]
    assert main([*words, "1.0"]) == (0 if accuracy == 1.0 else 4)


def test_no_trial_succeeds(photo_data, tmp_path):
    options = {"method": "grid", "settings": {"epochs": 1}, "verbose": False}
    with pytest.raises(RuntimeError, match=r"2 failures, 2 by: search: build must return a compiled keras.Model"):
        recipes.search(photo_data, build=without_model, out=tmp_path / "out", **options)


def without_model(hp):
    """Asks, and gives nothing."""
    hp.Choice("units", [1, 2])


def test_a_trial_without_its_rows_says_so(tmp_path):
    rows = heads.Rows({}, (4,), "float32")
    with pytest.raises(LookupError, match="must be kept"):
        rows.runner(None, None)(None)


def test_a_job_is_a_file_that_says_all(found):
    assert all((found.folder / "trials" / f"{number:04d}" / JOB).exists() for number in range(4))
