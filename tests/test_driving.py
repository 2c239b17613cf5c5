"""The course of a search, with trials that take no time: what is proposed, run, killed, noted down and shown."""

import collections
import csv
import dataclasses
import errno
import json
import random as chance

import keras_tuner
import pytest

import recipes
from recipes.reporting.searches import search_table, write_search_page, write_table
from recipes.searching.choosing import make_chooser
from recipes.searching.driving import Drive, ranking
from recipes.searching.records import STATE, Records, search_folder
from recipes.searching.spaces import parse_space
from recipes.searching.trials import Outcome
from recipes.searching.view import View, standing_line
from recipes.values import Search, Trial

OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")
SPACE = parse_space({"dropout": "0.0..0.5 by 0.1", "views": (1, 2)}, {}, ("dropout", "views"), "search")
WIDE = parse_space({"dropout": "0.0..0.5"}, {}, ("dropout",), "search")


class Death(BaseException):
    """The end of a driver, whatever it was doing."""


class Instant:
    """An engine in which trials end at once, in an order drawn at random; it may kill its driver."""

    def __init__(self, score, capacity=2, seed=0, dies_after=None):
        self.capacity, self.started = capacity, []
        self._score, self._random, self._left = score, chance.Random(seed), dies_after
        self._running = {}

    def start(self, number, folder):
        self._count()
        self.started.append(number)
        self._running[number] = json.loads((folder / "job.json").read_text())

    def poll(self, seconds):
        self._count()
        if not self._running:
            return []
        number = self._random.choice(sorted(self._running))
        return [(number, self._score(number, *self._running.pop(number)))]

    def _count(self):
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Death


def score_of(number, values, epochs):
    """The outcome of a trial follows from its settings and how long it trains."""
    score = 0.5 + values["dropout"] / 2 + (epochs or 9) / 100 + values.get("views", 0) / 1000
    return Outcome("done" if epochs is None else "paused", {"val_accuracy": score}, epochs or 9, seconds=1.0)


def drive(folder, method="grid", space=SPACE, score=score_of, retries=2, keep=2, trials=None, **engine):
    """A search in `folder`; its records and its engine."""
    records = Records(folder, {"method": method}, "search")
    hp = space.hyperparameters()
    runner = Instant(score, **engine)

    def write_job(leg, home):
        (home / "run").mkdir(exist_ok=True)
        (home / "job.json").write_text(json.dumps([leg.values, leg.epochs]))

    course = Drive(
        chooser=make_chooser(
            *(method, hp, OBJECTIVE, trials, 9, runner.capacity, 0, "search"),
            before=[trial["values"] for trial in records["trials"]],
        ),
        records=records,
        engine=runner,
        write_job=write_job,
        folder_of=lambda number: folder / "trials" / str(number),
        objective="val_accuracy",
        sign=1,
        retries=retries,
        keep=keep,
        view=View("val_accuracy", 1, str, verbose=False),
        where="search",
    )
    course.run()
    return records, runner


def table(records):
    """All that must be the same after whatever has happened."""
    return [
        (
            trial["values"],
            [(leg["epochs"], leg["outcome"]["scores"], leg["outcome"]["status"]) for leg in trial["legs"]],
        )
        for trial in records["trials"]
    ]


@pytest.mark.parametrize(
    ("method", "space", "trials"),
    [("grid", SPACE, None), ("random", WIDE, 8), ("bayesian", WIDE, 5), ("hyperband", WIDE, None)],
)
def test_killed_at_any_moment_it_ends_with_the_same_table(tmp_path, method, space, trials):
    """After every possible number of events in turn, and then again and again after a few."""
    (tmp_path / "whole").mkdir()
    expected, runner = drive(tmp_path / "whole", method, space, trials=trials)
    events = 2 * len(runner.started)
    for dies_after in range(0, events, max(1, events // 12)):
        folder = tmp_path / str(dies_after)
        folder.mkdir()
        with pytest.raises(Death):
            drive(folder, method, space, trials=trials, seed=dies_after, dies_after=dies_after)
        again, _ = drive(folder, method, space, trials=trials, seed=dies_after + 1)
        assert table(again) == table(expected)
    folder, deaths = tmp_path / "often", 0
    folder.mkdir()
    while True:
        try:
            again, _ = drive(folder, method, space, trials=trials, seed=deaths, dies_after=3)
            break
        except Death:
            deaths += 1
    assert deaths > 3
    assert table(again) == table(expected)


def test_a_grid_visits_every_combination_once(tmp_path):
    records, runner = drive(tmp_path)
    assert sorted(runner.started) == list(range(12))
    assert len({json.dumps(trial["values"]) for trial in records["trials"]}) == 12


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_hyperband_does_not_depend_on_the_workers(tmp_path, workers):
    records, _ = drive(tmp_path, "hyperband", WIDE, capacity=workers, seed=workers)
    (tmp_path / "other").mkdir()
    assert table(records) == table(drive(tmp_path / "other", "hyperband", WIDE, capacity=3)[0])


def test_only_the_best_keep_what_they_trained(tmp_path):
    records, _ = drive(tmp_path, keep=3)
    best = ranking(records.last_outcomes(), "val_accuracy", 1)[:3]
    assert best == [11, 10, 9]
    assert {int(path.parent.name) for path in tmp_path.glob("trials/*/run")} == set(best)


def test_hyperband_keeps_what_may_go_on_and_no_more(tmp_path):
    most = 0

    def counted(number, values, epochs):
        nonlocal most
        most = max(most, len(list(tmp_path.glob("trials/*/run"))))
        return score_of(number, values, epochs)

    drive(tmp_path, "hyperband", WIDE, keep=1, score=counted, capacity=1)
    assert len(list(tmp_path.glob("trials/*/run"))) == 1
    assert most < 17  # trials in all; the nine of the first rung are all but forgotten when the others begin


def test_what_may_pass_is_run_again_and_what_may_not_is_not(tmp_path):
    attempts = collections.Counter()

    def flaky(number, values, epochs):
        attempts[number] += 1
        if number == 1 and attempts[number] < 3:
            return Outcome("failed", reason="it was killed", may_pass=True)
        if number == 2:
            return Outcome("failed", reason="it was killed", may_pass=True)
        if number == 3:
            return Outcome("failed", reason="head must be ...")
        return score_of(number, values, epochs)

    records, _ = drive(tmp_path, score=flaky, retries=2)
    outcomes = records.last_outcomes()
    assert [attempts[number] for number in range(4)] == [1, 3, 3, 1]
    assert [outcomes[number].attempts for number in range(4)] == [1, 3, 3, 1]
    assert [outcomes[number].status for number in range(4)] == ["done", "done", "failed", "failed"]
    assert outcomes[3].reason == "head must be ..."
    records.forget_failures(only_if_all=True)
    assert records.last_outcomes() == outcomes
    records.forget_failures(only_if_all=False)
    again, runner = drive(tmp_path)
    assert sorted(runner.started) == [2, 3]
    assert {outcome.status for outcome in again.last_outcomes().values()} == {"done"}


def test_the_death_of_a_driver_is_no_crash_of_its_trials(tmp_path):
    """A trial that was under way at four deaths may still crash once."""
    for _ in range(4):
        with pytest.raises(Death):
            drive(tmp_path, dies_after=1, capacity=1)
    left = [1]

    def crash(number, values, epochs):
        if number == 0 and left:
            left.pop()
            return Outcome("failed", reason="it was killed", may_pass=True)
        return score_of(number, values, epochs)

    records, _ = drive(tmp_path, score=crash, retries=1, capacity=1)
    outcome = records.last_outcomes()[0]
    assert (outcome.status, outcome.attempts) == ("done", 6)


def test_nothing_but_failures_ends_it_and_mended_it_goes_on(tmp_path):
    def fail(number, values, epochs):
        return Outcome("failed", reason="head must be a tuple", is_wrong=True)

    with pytest.raises(RuntimeError, match=r"5 failures, 5 by: head must be .* failed trials are then run anew"):
        drive(tmp_path, score=fail)
    Records(tmp_path, {"method": "grid"}, "search").forget_failures(only_if_all=True)
    records, runner = drive(tmp_path)
    assert sorted(runner.started) == list(range(12))
    assert len(records["trials"]) == 12


def test_failures_of_their_own_end_no_search(tmp_path):
    """The first five of a grid run out of memory; the others do not."""

    def hungry(number, values, epochs):
        if number < 6:
            return Outcome("failed", reason="it was killed", may_pass=True)
        return score_of(number, values, epochs)

    records, _ = drive(tmp_path, score=hungry, retries=1)
    assert sum(outcome.status == "done" for outcome in records.last_outcomes().values()) == 6


def test_a_full_disk_stops_it_and_with_room_it_goes_on(tmp_path, monkeypatch):
    def full(number, values, epochs):
        if number == 4:
            return Outcome("failed", reason="[Errno 28] No space left on device", may_pass=True, is_full=True)
        return score_of(number, values, epochs)

    with pytest.raises(OSError, match=r"the disk must have room .* nothing is lost"):
        drive(tmp_path, score=full)
    records, runner = drive(tmp_path)
    assert 4 in runner.started
    assert records.last_outcomes()[4].attempts == 1
    assert len(records["trials"]) == 12


def test_a_disk_that_fills_up_under_the_state_leaves_the_last_state(tmp_path, monkeypatch):
    from recipes.searching import records as module

    write, count = module.write_json, 0

    def full(path, content):
        nonlocal count
        count += 1
        if count == 15:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        drive(tmp_path)
    monkeypatch.undo()
    (tmp_path / "whole").mkdir()
    assert table(drive(tmp_path)[0]) == table(drive(tmp_path / "whole")[0])


def test_a_folder_in_use_and_other_settings_are_refused(tmp_path):
    with (
        search_folder(tmp_path / "out", "search") as folder,
        pytest.raises(BlockingIOError, match="in use by another search"),
        search_folder(folder, "search"),
    ):
        pass
    Records(tmp_path / "out", {"method": "grid", "seed": 1}, "search")
    Records(tmp_path / "out", {"method": "grid", "seed": 3}, "search")  # nothing has come of it yet
    (tmp_path / "used").mkdir()
    drive(tmp_path / "used")
    with pytest.raises(FileExistsError, match=r"method was grid and is random.*restart"):
        drive(tmp_path / "used", "random", WIDE)
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "thesis.doc").touch()
    with pytest.raises(FileExistsError, match="a new folder"), search_folder(tmp_path / "strange", "search"):
        pass


def test_changed_images_are_refused(tmp_path):
    records = Records(tmp_path, {}, "search")
    records.check_data((16, 16), "a")
    records.check_data((32, 32), "b")
    with pytest.raises(FileExistsError, match="fingerprint was a and is c"):
        records.check_data((16, 16), "c")


def test_what_was_chosen_before_stands(tmp_path):
    """Even where an oracle would choose otherwise by now, as on a machine that rounds otherwise."""
    drive(tmp_path, "random", WIDE, trials=4)
    state = json.loads((tmp_path / STATE).read_text())
    state["trials"][2]["values"]["dropout"] = 0.123
    state["trials"][2]["legs"] = []
    (tmp_path / STATE).write_text(json.dumps(state))
    records, runner = drive(tmp_path, "random", WIDE, trials=4)
    assert runner.started == [2]
    assert records.last_outcomes()[2].scores["val_accuracy"] == pytest.approx(0.5 + 0.123 / 2 + 0.09)


def test_failures_run_anew_change_no_choice(tmp_path):
    """A Gaussian process that knows more would choose other trials than those that were run already."""

    def fail(number, values, epochs):
        return Outcome("failed", reason="odd") if number in (1, 3) else score_of(number, values, epochs)

    drive(tmp_path, "bayesian", WIDE, trials=7, score=fail, capacity=1)
    records = Records(tmp_path, {"method": "bayesian"}, "search")
    before = [trial["values"] for trial in records["trials"]]
    records.forget_failures(only_if_all=False)
    again, runner = drive(tmp_path, "bayesian", WIDE, trials=7, capacity=1)
    assert sorted(runner.started) == [1, 3]
    assert [trial["values"] for trial in again["trials"]] == before


def test_more_trials_go_on_from_fewer(tmp_path):
    drive(tmp_path, "random", WIDE, trials=4)
    records, runner = drive(tmp_path, "random", WIDE, trials=7)
    assert sorted(runner.started) == [4, 5, 6]
    (tmp_path / "whole").mkdir()
    assert table(records) == table(drive(tmp_path / "whole", "random", WIDE, trials=7)[0])


# What is shown


def test_the_line_says_how_it_stands(tmp_path):
    records, _ = drive(tmp_path)
    line = standing_line(records, 12, 2, "val_accuracy", 1, 75.2)
    assert line == "12 of 12 done · 2 running · best val_accuracy 0.8420 (trial 11) · about 1 min 15 s left"


def test_the_line_is_drawn_on_a_terminal_only(tmp_path, capsys, monkeypatch):
    records, _ = drive(tmp_path)
    for is_terminal in (False, True):
        monkeypatch.setattr("sys.stdout.isatty", lambda is_terminal=is_terminal: is_terminal)
        view = View("val_accuracy", 1, str, verbose=True)
        view.update(records, 12, 0)
        view.say("a line that stays")
        view.close()
        shown = capsys.readouterr().out
        assert ("12 of 12 done" in shown) == is_terminal
        assert shown.endswith("a line that stays\n")


def report():
    scores = {"accuracy": 0.75, "loss": 0.5, "images": 4}
    return recipes.Report(scores, "test", ("a", "b"), {}, ((1, 1), (0, 2)), (), ())


def some_search(**changes):
    settings = [
        {"optimizer": "sgd", "learning_rate": 0.1, "head": [256]},
        {"optimizer": "adamw", "learning_rate": 1e-4, "head": "linear"},
        {"optimizer": "<lion> $x_1$", "head": [512, 128]},
    ]
    trials = tuple(
        Trial(
            number, chosen, "done", score, {"val_accuracy": score}, 3, 1.5, 1, 10**9, "", f"recipes finetune {number}"
        )
        for number, (chosen, score) in enumerate(zip(settings, (0.5, 0.9, 0.7), strict=True))
    )
    failed = Trial(3, {"optimizer": "sgd"}, "failed", None, {}, 0, 0.1, 3, 0, "it crashed, twice", "recipes finetune 3")
    result = dataclasses.make_dataclass("Result", ["report"])(report())
    found = Search((*trials, failed), trials[1], result, "val_accuracy", True, "random", 12.3, None)
    return dataclasses.replace(found, **changes)


def test_the_table_is_by_score_and_says_what_the_best_is_worth():
    shown = search_table(some_search()).splitlines()
    assert shown[0].split() == ["trial", "val_accuracy", "epochs", "seconds", "optimizer", "learning_rate", "head"]
    assert [line.split()[0] for line in shown[1:5]] == ["1", "2", "0", "3"]
    assert "failed" in shown[4]
    text = "\n".join(shown)
    assert "4 trials in 12 s, 1 failed; at most 1 GB of memory a trial." in text
    assert "the best of 3 by chance too, so it promises more than new images will bring" in text
    assert "Measured once on the test images, which no trial saw: accuracy 0.7500" in text
    assert max(map(len, shown)) <= 100 + len("Again: ")


def test_lower_may_be_better():
    found = some_search(is_more_better=False)
    assert [line.split()[0] for line in search_table(found).splitlines()[1:4]] == ["0", "2", "1"]


def test_the_csv_has_every_trial(tmp_path):
    write_table(some_search(), tmp_path / "trials.csv")
    with open(tmp_path / "trials.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["learning_rate"] for row in rows] == ["0.1", "0.0001", "", ""]
    assert [row["head"] for row in rows] == ["[256]", "linear", "[512, 128]", ""]
    assert rows[3]["reason"] == "it crashed, twice"
    assert rows[1]["val_accuracy"] == "0.9"
    assert rows[2]["command"] == "recipes finetune 2"


def test_the_page_needs_nothing_else(tmp_path):
    write_search_page(some_search(), tmp_path / "search.html")
    page = (tmp_path / "search.html").read_text(encoding="utf-8")
    assert "&lt;lion&gt; $x_1$" in page
    assert "<script" not in page
    assert "<lion>" not in page
    assert page.count("data:image/png;base64,") == 1
    assert "promises more than new images will bring" in page


def test_the_figure_has_a_panel_for_everything():
    figure = recipes.plot_search(some_search())
    titles = [axes.get_title() for axes in figure.axes]
    assert {"optimizer", "learning_rate", "head"} <= set(titles)
    best = figure.axes[0].lines[-1].get_ydata()
    assert list(best) == [0.5, 0.9, 0.9]
    rates = figure.axes[titles.index("learning_rate")]
    assert rates.get_xscale() == "log"
    assert list(rates.lines[0].get_xdata()) == [0.1, 1e-4]
    parallel = figure.axes[1]
    assert [line.get_ydata()[-1] for line in parallel.lines[:3]] == pytest.approx([0, 0.5, 1])  # the best on top


def test_a_search_of_failures_has_no_figure():
    with pytest.raises(ValueError, match="needs a trial with a score"):
        recipes.plot_search(some_search(trials=some_search().trials[3:]))
