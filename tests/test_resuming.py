"""Stopped anywhere, a run goes on to the same weights."""

import contextlib
import errno
import itertools
import json
import os
import random as chance
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from endings import Death, base, die_at, outcome

import recipes
from recipes.data.row_cache import RowCache
from recipes.training import checkpoints as checkpointing
from recipes.training import runs
from recipes.training.checkpoints import Checkpoints, Remembered
from recipes.training.frozen_prefix import FrozenParts
from recipes.training.journal import Journal
from recipes.training.looping import Loop
from recipes.training.progress import EpochLine

PLAN = [recipes.Stage("head", 2, 0.03), recipes.Stage("blocks", 4, 0.03, 1.0, 0.3, 0.1)]
# What has a state of its own beside the weights.
KINDS = {
    "cached views, averages, accumulation, early stopping": {
        "augmentation": "photo",
        "views": 2,
        "cache": True,
        "optimizer": keras.optimizers.AdamW(0.01, use_ema=True, ema_momentum=0.8, gradient_accumulation_steps=2),
        "patience": 2,
    },
    "live augmentation, plateau, averages": {
        "augmentation": "flip",
        "schedule": "plateau",
        "optimizer": keras.optimizers.SGD(0.01, momentum=0.9, use_ema=True, ema_momentum=0.8),
    },
    "a layer as augmentation, dropout between": {"augmentation": keras.layers.RandomRotation(0.1), "views": None},
    "strong changes, mixed labels": {"augmentation": ["strong", "cut_mix"], "augmentation_strength": 0.7},
    "averaged snapshots": {"snapshots": 3, "patience": None},
    "cached, in half precision": {"cache": True, "precision": "mixed_float16", "optimizer": "sgd"},
}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def tune(data, out=None, **arguments):
    options = {"plan": PLAN, "batch_size": 8, "dropout": 0.3, "label_smoothing": 0.1, "checkpoint_steps": 3}
    return recipes.finetune(base(), data, out=out, **{"verbose": False} | options | arguments)


# Where a run may end: in the frozen part, a step, the first of a stage, a look at the validation images, a checkpoint,
# between stages, in measuring, in saving the result.
PLACES = {
    "rows of the frozen part": (RowCache, "append", 2, True),
    "first step": (Loop, "_book", 1, False),
    "a step of the first stage": (Loop, "_book", 8, False),
    "a step of the second stage": (Loop, "_book", 23, False),
    "validation": (Loop, "_end_epoch", 4, False),
    "after an epoch": (Loop, "_end_epoch", 3, True),
    "a checkpoint": (np, "savez", 4, False),
    "the renaming of a checkpoint": (Path, "rename", 5, False),
    "the end of a stage": (Journal, "end_stage", 1, False),
    "between stages": (Journal, "end_stage", 1, True),
    "after the stages": (Journal, "end_stage", 2, True),
    "measuring": (FrozenParts, "predict", 1, True),
    "saving the model": (keras.Model, "save", 1, False),
    "before the last file": (runs, "save", 1, False),
    "after the last file": (runs, "save", 1, True),
}


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """Outcomes of the kinds, made when first asked for."""
    made = {}

    def make(kind):
        if kind not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
                made[kind] = outcome(tune(data, **KINDS[kind]))
        return made[kind]

    return make


# Each place once, each kind several times, of which the fast tests see one; all pairs are for the killed processes.
FAST = ("rows of the frozen part", "a step of the second stage", "validation", "the renaming of a checkpoint")
FAST += ("after the last file",)


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        pytest.param(kind, place, marks=() if place in FAST else pytest.mark.slow)
        for kind, place in zip(itertools.cycle(KINDS), PLACES, strict=False)
    ],
)
def test_ended_anywhere_it_goes_on_to_the_same_weights(data, tmp_path, monkeypatch, undisturbed, kind, place):
    expected = undisturbed(kind)
    with monkeypatch.context() as patch:
        calls = die_at(patch, *PLACES[place])
        with pytest.raises(Death):
            tune(data, tmp_path / "run", **KINDS[kind])
        assert len(calls) == PLACES[place][2]
    with monkeypatch.context() as patch:
        booked = die_at(patch, Loop, "_book", 10**9)
        result = tune(data, tmp_path / "run", **KINDS[kind])
    assert outcome(result) == expected
    assert result.report.is_repeatable is (not tf.config.list_logical_devices("GPU"))
    whole = 6 * -(-len(data.train) // 8)
    if place in ("a step of the second stage", "between stages"):
        assert len(booked) < whole - 10  # and does not begin again
    if place in ("after the stages", "measuring", "saving the model", "after the last file"):
        assert not booked
    names = {"settings.json", "report.json", "report.html", "model.keras", "classifier.json"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names


# Killed processes

SCRIPT = """
    import sys
    sys.path.insert(0, {tests!r})
    import numpy as np
    import test_resuming
    from cases import random_images
    import recipes
    labels = np.arange(80) % 3
    images = random_images(np.random.default_rng(0), 80) // 3 + (labels * 60).astype(np.uint8)[:, None, None, None]
    data = recipes.load_data((images, labels), valid=0.25, test=0.2)
    result = test_resuming.tune(data, sys.argv[1], **list(test_resuming.KINDS.values())[int(sys.argv[2])])
    print("OUTCOME", test_resuming.outcome(result)[:3], flush=True)
"""


def start(tmp_path, kind, cache="cache"):
    script = textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent)))
    words = [sys.executable, "-c", script, str(tmp_path / f"run{kind}"), str(kind)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def told(process):
    said, error = process.communicate()
    lines = [line for line in said.splitlines() if line.startswith("OUTCOME")]
    assert lines, error[-2000:]
    return lines[0]


def killed_once(tmp_path, number, kind, random, least, most):
    """The folder of a run that was killed at a random moment before its end; whether it had come to a checkpoint."""
    for again in range(10):
        folder = tmp_path / f"{number}-{again}"
        folder.mkdir()
        process = start(folder, kind)
        try:
            process.wait(random.uniform(least, most))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return folder, any(folder.glob("run*/checkpoints/*.npz"))
    raise AssertionError("every run ended before it was killed")


def test_killed_for_good(tmp_path, data, undisturbed):
    expected = undisturbed(next(iter(KINDS)))
    process = start(tmp_path, 0)
    checkpoints, began = tmp_path / "run0" / "checkpoints", time.monotonic()
    while not (checkpoints / "4.npz").exists() and process.poll() is None and time.monotonic() < began + 120:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert checkpoints.exists()
    assert told(start(tmp_path, 0)) == f"OUTCOME {expected[:3]}"


@pytest.mark.slow
def test_fifty_runs_killed_at_random_moments(tmp_path, data, undisturbed):
    """Each killed once, started again, and the same in the end."""
    began = time.monotonic()
    told(start(tmp_path, 0))
    whole = time.monotonic() - began
    random, same, went_on = chance.Random(0), 0, 0
    for number in range(50):
        kind = number % len(KINDS)
        folder, has_checkpoint = killed_once(tmp_path, number, kind, random, 0.4 * whole, whole)
        same += told(start(folder, kind)) == f"OUTCOME {undisturbed(list(KINDS)[kind])[:3]}"
        went_on += has_checkpoint
        print(f"{number + 1} killed, {same} the same in the end, {went_on} from a checkpoint", flush=True)
    assert same == 50 and went_on > 10


# Asked to stop


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(data, tmp_path, monkeypatch, undisturbed, number, raised):
    kind = "live augmentation, plateau, averages"
    expected = undisturbed(kind)
    with monkeypatch.context() as patch:
        calls = []

        def show(*_):
            calls.append(1)
            if len(calls) == 20:
                os.kill(os.getpid(), number)

        patch.setattr(EpochLine, "show", show)
        with pytest.raises(raised) as caught:
            tune(data, tmp_path / "run", checkpoint_steps=10**6, **KINDS[kind])
    if number == signal.SIGTERM:
        assert caught.value.code == 128 + signal.SIGTERM
    with monkeypatch.context() as patch:
        booked = die_at(patch, Loop, "_book", 10**9)
        assert outcome(tune(data, tmp_path / "run", **KINDS[kind])) == expected
    assert len(calls) + len(booked) == 6 * -(-len(data.train) // 8)  # no step is lost and none is done twice


# The folder


def test_other_settings_are_named_and_restart_keeps_the_old_run(data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        die_at(patch, Loop, "_book", 20)
        with pytest.raises(Death):
            tune(data, tmp_path / "run")
    with pytest.raises(FileExistsError, match=r"dropout was 0.3 and is 0.1.*resume=\"restart\""):
        tune(data, tmp_path / "run", dropout=0.1)
    for number, dropout in ((1, 0.1), (2, 0.2)):
        result = tune(data, tmp_path / "run", dropout=dropout, resume="restart")
        assert result.report.settings["dropout"] == dropout
        assert (tmp_path / "run" / f"earlier-{number}" / "settings.json").exists()
    assert (tmp_path / "run" / "earlier-1" / "checkpoints").is_dir()
    assert recipes.load(tmp_path / "run" / "earlier-2").report.settings["dropout"] == 0.1
    assert tune(data, tmp_path / "run", dropout=0.2).report == result.report


def test_a_folder_in_use_is_refused(data, tmp_path):
    with (
        runs.run_folder(tmp_path / "run", "finetune"),
        pytest.raises(BlockingIOError, match="in use by another process"),
    ):
        tune(data, tmp_path / "run")
    tune(data, tmp_path / "run", plan="head", epochs=1)


def test_leftovers_of_the_killed_are_cleared(data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        die_at(patch, Loop, "_book", 20)
        with pytest.raises(Death):
            tune(data, tmp_path / "run")
    for name in (".123.model.keras", ".report.json.123.tmp", "checkpoints/.9.tmp"):
        (tmp_path / "run" / name).write_text("half")
    tune(data, tmp_path / "run")
    assert not [path for path in (tmp_path / "run").rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"]


def test_names_of_any_kind(data, tmp_path, monkeypatch):
    out = tmp_path / "läufe mit 空格" / ("lang" * 60) / ("ü" * 100) / "run"
    with monkeypatch.context() as patch:
        die_at(patch, Loop, "_book", 20)
        with pytest.raises(Death):
            tune(data, out)
    assert (out / "checkpoints").is_dir()
    tune(data, out)
    assert recipes.load(out).report.scores["images"] == len(data.test)


def test_killed_in_its_first_moments_it_can_be_called_again(data, tmp_path):
    (tmp_path / "run").mkdir()
    for name in (".writable.12", ".settings.json.345.tmp"):
        (tmp_path / "run" / name).write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".gitignore").write_text("*")
    tune(data, tmp_path / "run", plan="head", epochs=1)
    assert not list((tmp_path / "run").glob(".*"))
    with pytest.raises(FileExistsError, match="new folder"):
        tune(data, tmp_path / "other", plan="head", epochs=1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"optimizer": keras.optimizers.Adam(0.01)},
        lambda: {"augmentation": keras.layers.RandomRotation(0.1)},
        lambda: {"augmentation": keras.layers.RandomCrop(16, 16)},
        lambda: {"augmentation": keras.layers.Pipeline([keras.layers.RandomFlip(), keras.layers.RandomZoom(0.1)])},
    ],
)
def test_what_keras_counts_on_is_no_other_setting(data, tmp_path, make):
    one = tune(data, tmp_path / "run", plan="head", epochs=1, **make())
    assert tune(data, tmp_path / "run", plan="head", epochs=1, **make()).report == one.report


def test_a_full_disk_costs_checkpoints_and_not_the_run(data, tmp_path, monkeypatch, undisturbed):
    kind, real, calls = list(KINDS)[1], np.savez, []

    def full(file, **content):
        calls.append(1)
        if len(calls) > 3:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, **content)

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.warns(UserWarning, match="No space left on device"):
            assert outcome(tune(data, tmp_path / "run", **KINDS[kind])) == undisturbed(kind)
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        die_at(patch, Loop, "_book", 30)
        calls.clear()
        with pytest.warns(UserWarning, match="No space left"), pytest.raises(Death):
            tune(data, tmp_path / "other", **KINDS[kind])
    assert sorted(path.name for path in (tmp_path / "other" / "checkpoints").iterdir()) == ["2.npz", "3.npz"]
    assert outcome(tune(data, tmp_path / "other", **KINDS[kind])) == undisturbed(kind)


def test_an_image_that_changes_or_goes_after_it_was_read(tmp_path, monkeypatch):
    from cases import write_photos

    photos = write_photos(tmp_path / "photos", {"red": 20, "green": 20})
    options = {"plan": [recipes.Stage("head", 2, 0.03)], "verbose": False, "out": tmp_path / "run", "batch_size": 4}
    with monkeypatch.context() as patch:
        die_at(patch, Loop, "_book", 5)
        with pytest.raises(Death):
            recipes.finetune(base(), photos, checkpoint_steps=2, **options)
    first, second = sorted((photos / "red").iterdir())[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes()[:-2])
    with pytest.raises(FileExistsError, match="data_fingerprint was"):
        recipes.finetune(base(), photos, **options)
    first.unlink()
    with pytest.raises(FileExistsError, match="data_fingerprint was"):
        recipes.finetune(base(), photos, **options)
    first.write_bytes(content)
    recipes.finetune(base(), photos, **options)


# Checkpoints


def some_state(number, random):
    arrays = {
        "network": [random.normal(size=(3, 4)).astype("float32"), np.float32(number)],
        "optimizer": [np.int64(number), np.array([1, number], "uint32"), np.array([True])],
        "best": [tf.cast([1.5, number], tf.bfloat16).numpy(), np.zeros((0, 3), "float16")],
    }
    return {"number": number, "nothing": None, "loss": 0.1 + 0.2}, arrays


@pytest.mark.parametrize("kind", [Checkpoints, Remembered])
def test_a_checkpoint_comes_back_as_it_was(tmp_path, random, kind):
    checkpoints = kind(tmp_path / "c") if kind is Checkpoints else kind()
    assert checkpoints.load() is None
    for number in range(5):
        state, arrays = some_state(number, random)
        checkpoints.save(state, arrays)
    found, loaded = checkpoints.load()
    assert found == state
    for name, values in arrays.items():
        for before, after in zip(values, loaded[name], strict=True):
            assert before.dtype == after.dtype and before.shape == after.shape
            np.testing.assert_array_equal(before, after)
    if kind is Checkpoints:
        assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["4.npz", "5.npz"]
        checkpoints.remove()
        assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path, random, damage):
    checkpoints = Checkpoints(tmp_path / "c")
    for number in (1, 2):
        checkpoints.save(*some_state(number, random))
    newest = tmp_path / "c" / "2.npz"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "flipped": content}[damage])
    with pytest.warns(UserWarning, match=r"2\.npz is damaged"):
        assert checkpoints.load()[0]["number"] == 1


def test_nothing_pickled_is_loaded(tmp_path):
    np.savez(tmp_path / "1.npz", state=np.array([{"a": 1}], dtype=object))
    with pytest.warns(UserWarning, match=r"1\.npz is damaged"):
        assert Checkpoints(tmp_path).load() is None


INTERRUPTED = """
    import os
    import random
    import signal
    import sys
    import time
    import numpy as np
    from recipes.training.checkpoints import Checkpoints

    moments, checkpoints = random.Random(0), Checkpoints(sys.argv[1])
    numbers = np.arange(500_000, dtype="float32")
    checkpoints.save({"number": 0}, {"all": [numbers]})
    for _ in range(50):
        child = os.fork()
        if not child:
            for number in range(10**6):
                checkpoints.save({"number": number}, {"all": [numbers + number]})
        time.sleep(moments.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        state, arrays = checkpoints.load()
        print(np.array_equal(arrays["all"][0], numbers + state["number"]))
"""


def test_a_save_killed_fifty_times_leaves_a_good_file(tmp_path):
    script = textwrap.dedent(INTERRUPTED)  # a process of its own, which is small: forking this one takes much memory
    done = subprocess.run([sys.executable, "-W", "error", "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.split() == ["True"] * 50, done.stderr[-2000:]
    assert len(list(tmp_path.iterdir())) <= 3  # two and the last begun


def test_what_a_killed_save_left_goes_before_the_next_is_written(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    for number in range(3):
        with monkeypatch.context() as patch:
            if number == 2:  # after its file is in place, before an old one is removed
                die_at(patch, checkpointing, "sync_folder", 1)
            with contextlib.suppress(Death):
                checkpoints.save({"number": number}, {"all": [np.arange(9.0)]})
    assert len(list(tmp_path.iterdir())) == 3
    die_at(monkeypatch, np, "savez", 1)
    with pytest.raises(Death):
        checkpoints.save({"number": 3}, {"all": [np.arange(9.0)]})
    assert len(list(tmp_path.iterdir())) == 2 and checkpoints.load()[0] == {"number": 2}


def test_a_disk_full_fifty_times_leaves_a_good_file(tmp_path, monkeypatch):
    chances, checkpoints = chance.Random(0), Checkpoints(tmp_path)
    checkpoints.save({"number": 0}, {"all": [np.arange(500_000, dtype="float32")]})
    monkeypatch.setattr(np, "savez", lambda file, **_: file.write(bytes(chances.randrange(2_000_000))) and full())

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    for _ in range(50):
        with pytest.raises(OSError, match="No space"):
            checkpoints.save({"number": -1}, {"all": [np.zeros(500_000)]})
        assert checkpoints.load()[0]["number"] == 0
    assert len(list(tmp_path.iterdir())) == 1


def test_checkpoints_take_a_fiftieth_of_the_time_at_most(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class Slow(Remembered):
        def save(self, state, arrays):
            now[0] += 3.0

    journal, saved = Journal(Slow(), [[]], seconds=10.0), 0
    for _ in range(10_000):
        now[0] += 0.1
        if journal.is_due():
            journal.save(journal.standing)
            saved += 1
    assert 0.012 < 3.0 * (saved - 1) / now[0] <= 0.02  # the last has its time still to come


def test_a_slow_disk_is_written_to_less_often(data, tmp_path, monkeypatch, undisturbed):
    """Beside the first and those between stages there are no more where one takes as long as many steps."""
    kind = "live augmentation, plateau, averages"
    expected, saved, original = undisturbed(kind), [], np.savez

    def slow(*arguments, **arrays):
        saved.append(1)
        time.sleep(0.3)
        original(*arguments, **arrays)

    monkeypatch.setattr(np, "savez", slow)
    assert outcome(tune(data, tmp_path / "run", checkpoint_steps=None, checkpoint_seconds=0, **KINDS[kind])) == expected
    assert 2 <= len(saved) <= 4


def test_a_clock_that_jumps_changes_nothing(data, tmp_path, monkeypatch, undisturbed):
    kind = "cached views, averages, accumulation, early stopping"
    expected, chances = undisturbed(kind), chance.Random(0)
    # From 1983 on: the zip file of a Keras model can hold no time before 1980.
    monkeypatch.setattr(time, "time", lambda: chances.uniform(4e8, 4e9))
    monkeypatch.setattr(time, "time_ns", lambda: chances.randrange(4 * 10**17, 4 * 10**18))
    with monkeypatch.context() as patch:
        die_at(patch, Loop, "_book", 23)
        with pytest.raises(Death):
            tune(data, tmp_path / "run", **KINDS[kind])
    for path in (tmp_path / "run").rglob("*"):  # as files are whose clock ran ahead or behind
        os.utime(path, (moment := chances.uniform(0, 4e9), moment))
    assert outcome(tune(data, tmp_path / "run", **KINDS[kind])) == expected


# Numbers that go wrong

WILD = [recipes.Stage("wild", 3, 1e4, top=1, intermediate=1, early=1)]


def test_the_last_good_checkpoint_stays(data, tmp_path):
    with pytest.raises(FloatingPointError, match=r"epoch \d, step \d+ \(rate 10000\).*learning_rate=1000"):
        tune(data, tmp_path / "run", plan=WILD, optimizer="sgd", schedule="constant", checkpoint_steps=1)
    _, arrays = Checkpoints(tmp_path / "run" / "checkpoints").load()
    assert all(np.isfinite(value).all() for value in arrays["network"])


@pytest.mark.parametrize(
    ("has_folder", "precision", "schedule"),
    [
        (False, "auto", "constant"),
        (True, "auto", "cosine"),
        pytest.param(True, "mixed_float16", "constant", marks=pytest.mark.slow),
        (True, "mixed_float16", "cosine"),
    ],
)
def test_one_retry_at_a_tenth_of_the_rate(data, tmp_path, schedule, has_folder, precision):
    plan = [recipes.Stage("wild", 2, 1.5e4, top=1, intermediate=1, early=1)]
    options = {"plan": plan, "optimizer": keras.optimizers.SGD(1.0), "schedule": schedule, "weight_decay": None}
    options["precision"] = precision
    rates = []

    @keras.saving.register_keras_serializable("tests")
    class Fragile(keras.optimizers.SGD):
        """Gives up at rates above 2000."""

        def update_step(self, gradient, variable, learning_rate):
            wrong = tf.where(learning_rate > 2000.0, np.nan, 0.0)
            variable.assign_add(gradient * 0 + tf.cast(wrong, variable.dtype))
            tf.numpy_function(lambda rate: rates.append(float(rate)), [learning_rate], [])

    options["optimizer"] = Fragile(1.0)
    out = tmp_path / "run" if has_folder else None
    with pytest.warns(UserWarning, match="at a tenth of the rate"):
        result = tune(data, out, on_nan="retry", **options)
    assert np.isfinite(result.report.curves["loss"]).all()
    assert max(rates) == pytest.approx(15_000, rel=0.4) and rates[-1] <= 1500 * 1.001
    with pytest.raises(FloatingPointError):
        tune(data, None, on_nan="stop", **options)
    with pytest.raises(FloatingPointError), pytest.warns(UserWarning, match="a tenth"):
        tune(data, None, on_nan="retry", **options | {"plan": [recipes.Stage("w", 2, 1e6, 1.0, 1.0)]})


@keras.saving.register_keras_serializable("tests")
class SteepInside(keras.layers.Layer):
    """The identity, with a gradient that is no number."""

    def call(self, inputs):
        @tf.custom_gradient
        def steep(x):
            return tf.identity(x), lambda upstream: upstream * np.nan

        return steep(inputs)


@pytest.mark.parametrize(("precision", "step"), [("float32", 1), ("mixed_float16", 37)])
def test_a_gradient_that_is_no_number_is_told_from_a_loss(data, precision, step):
    """In half precision the scale of the loss is halved 36 times first, from 2¹⁵ to less than 2⁻²⁰."""
    image = keras.Input((16, 16, 3))
    steep = SteepInside()(keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(image)))
    epoch, step = divmod(step - 1, 6)
    said = f"a gradient that is no number in stage 'all', epoch {epoch + 1}, step {step + 1} "
    with pytest.raises(FloatingPointError, match=said):
        recipes.finetune(keras.Model(image, steep), data, plan="all", batch_size=8, precision=precision, verbose=False)


# Memory


@keras.saving.register_keras_serializable("tests")
class Hungry(keras.layers.Layer):
    """The identity; asks for more memory than there is when it gets more than `most` images."""

    most = tf.Variable(10)

    def call(self, inputs):
        asked = tf.where(tf.shape(inputs)[0] > self.most, tf.constant(2**46, tf.int64), 1)
        return inputs + 0 * tf.reduce_sum(tf.random.uniform([asked])[:1])


def hungry_base():
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = Hungry()(keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(image)))
    return keras.Model(image, keras.layers.Conv2D(8, 3)(x))


@pytest.mark.slow
def test_too_little_memory_is_told_and_auto_takes_parts(data):
    options = {"plan": [recipes.Stage("all", 2, 0.03, 1, 1, 1, 1)], "verbose": False, "optimizer": "sgd"}
    Hungry.most.assign(10)
    with pytest.raises(MemoryError, match=r'Received 32 images of 16×16 pixels.*Pass batch_size="auto"'):
        recipes.finetune(hungry_base(), data, **options)
    parted = recipes.finetune(hungry_base(), data, batch_size="auto", **options)
    Hungry.most.assign(1000)
    whole = recipes.finetune(hungry_base(), data, **options)
    at_once = recipes.finetune(hungry_base(), data, batch_size="auto", **options)
    for one, two, three in zip(*(made.model.get_weights() for made in (whole, parted, at_once)), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(three, one)
    assert parted.report.scores == pytest.approx(whole.report.scores, rel=1e-4)
    Hungry.most.assign(0)
    with pytest.raises(MemoryError, match="fit into the memory"):
        recipes.finetune(hungry_base(), data, batch_size="auto", **options)


@pytest.mark.slow
def test_parts_go_on_from_the_last_validation(data, tmp_path, monkeypatch):
    """Where no batch is left to find out with how many fit."""
    Hungry.most.assign(10)
    options = {"plan": [recipes.Stage("all", 1, 0.03, 1, 1, 1, 1)], "batch_size": "auto", "verbose": False}
    expected = outcome(recipes.finetune(hungry_base(), data, **options))
    with monkeypatch.context() as patch:
        patch.setattr("recipes.training.stages.validate", lambda *_: os.kill(os.getpid(), signal.SIGINT) or _[3]())
        with pytest.raises(KeyboardInterrupt):
            recipes.finetune(hungry_base(), data, out=tmp_path / "run", **options)
    assert outcome(recipes.finetune(hungry_base(), data, out=tmp_path / "run", **options)) == expected


def test_bad_arguments(data):
    for arguments, said in (
        ({"resume": "never"}, "resume is not known"),
        ({"on_nan": "ignore"}, "on_nan is not known"),
        ({"checkpoint_steps": 0}, "checkpoint_steps must be at least 1"),
        ({"checkpoint_seconds": -1}, "checkpoint_seconds must be at least 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ):
        with pytest.raises(ValueError, match=said):
            tune(data, **arguments)


def test_the_settings_are_json(data, tmp_path):
    tune(data, tmp_path / "run", plan="head", epochs=1)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["dropout"] == 0.3 and "resume" not in settings and "checkpoint_steps" not in settings
