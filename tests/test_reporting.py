"""Reports: scores against hand-computed answers and Keras, and the table, plots and page that show them."""

import base64
import dataclasses
import html.parser
import math
import os
import warnings
from fractions import Fraction
from pathlib import PurePosixPath

import keras
import matplotlib
import numpy as np
import pytest
from fresh_python import run_python

from recipes.reporting.pages import write_page
from recipes.reporting.plots import plot_confusion, plot_curves
from recipes.reporting.scores import calibration_error, score, top_k_accuracy
from recipes.reporting.tables import cut, report_table
from recipes.values import Report

NASTY = '<script>alert("x")</script>'


def small_report():
    """Six images of three classes. Predicted: ant ant bee | bee ant | wasp, of true: ant ant ant | bee bee | wasp."""
    probabilities = [
        [0.70, 0.20, 0.10],
        [0.50, 0.25, 0.25],
        [0.30, 0.60, 0.10],
        [0.05, 0.90, 0.05],
        [0.80, 0.15, 0.05],
        [0.25, 0.25, 0.50],
    ]
    files = [f"photos/{number}.jpg" for number in range(6)]
    return score(probabilities, [0, 0, 0, 1, 1, 2], files, ["ant", "bee", "wasp"], "test")


def random_case(images=200, classes=9, dtype="float32"):
    """Probabilities, sharp enough that some are cut at 1e-7, and labels that they favour."""
    generator = np.random.default_rng(3)
    labels = generator.integers(0, classes, images)
    logits = generator.normal(scale=4, size=(images, classes))
    logits[np.arange(images), labels] += 7
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (odds / odds.sum(axis=1, keepdims=True)).astype(dtype), labels


def random_report(classes, **parts):
    probabilities, labels = random_case(classes=classes)
    names = [f"class {number}" for number in range(classes)]
    report = score(probabilities, labels, [f"{row}.jpg" for row in range(len(labels))], names, "valid")
    return dataclasses.replace(report, **parts)


CURVES = {
    "loss": [1.0, 0.6, 0.5, 0.45],
    "accuracy": [0.5, 0.7, 0.8, 0.85],
    "val_loss": [1.1, 0.8, 0.7, 0.75],
    "val_accuracy": [0.4, 0.6, 0.7, 0.65],
    "stage": ["head $1", "top", "top", "all"],
}


def test_small_report_equals_hand_computed_answers():
    report = small_report()
    assert report.confusion == ((2, 1, 0), (1, 1, 0), (0, 0, 1))
    assert report.per_class == {
        "ant": {"precision": 2 / 3, "recall": 2 / 3, "f1": pytest.approx(2 / 3), "images": 3},
        "bee": {"precision": 1 / 2, "recall": 1 / 2, "f1": pytest.approx(1 / 2), "images": 2},
        "wasp": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "images": 1},
    }
    assert report.confused == (
        {"true": "ant", "predicted": "bee", "images": 1},
        {"true": "bee", "predicted": "ant", "images": 1},
    )
    assert report.rows[4] == {"file": "photos/4.jpg", "true": "bee", "predicted": "ant", "probability": 0.8}
    assert report.scores["accuracy"] == 4 / 6
    assert report.scores["images"] == 6
    assert "top_5_accuracy" not in report.scores
    # Each image is alone in its bin of a fifteenth, but for the two of 0.50.
    assert report.scores["calibration_error"] == pytest.approx((0.3 + 1.0 + 0.6 + 0.1 + 0.8) / 6)
    expected = -sum(map(math.log, (0.7, 0.5, 0.3, 0.9, 0.15, 0.5))) / 6
    assert report.scores["loss"] == pytest.approx(expected)


def test_accuracy_and_loss_equal_those_of_keras():
    probabilities, labels = random_case()
    report = score(probabilities, labels, list(map(str, labels)), list(map(str, range(9))), "test")
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    accuracy.update_state(labels, probabilities)
    # Keras sums in float32: half a unit in the 24th bit.
    assert report.scores["accuracy"] == pytest.approx(float(accuracy.result()), rel=2**-23)
    assert report.scores["accuracy"] == float(Fraction(int(np.sum(probabilities.argmax(1) == labels)), 200))
    assert 0.5 < report.scores["accuracy"] < 1
    loss = float(keras.losses.SparseCategoricalCrossentropy()(labels, probabilities))
    # Float32 holds 1 - 1e-7 only to 2e-8, and the mean is over 200 logarithms in float32.
    assert report.scores["loss"] == pytest.approx(loss, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("true", [0.0, 1.0, 1e-9, 1 - 1e-9])
def test_extreme_probabilities_cost_what_they_cost_in_keras(true):
    probabilities = np.array([[true, 1 - true]])
    loss = float(keras.losses.SparseCategoricalCrossentropy()(np.array([0]), probabilities))
    report = score(probabilities, [0], ["a.jpg"], ["ant", "bee"], "test")
    # Near 1, float32 rounds 1 - 1e-7 to 1 - 1.2e-7.
    assert report.scores["loss"] == pytest.approx(loss, rel=1e-6, abs=3e-8)


def test_probabilities_that_do_not_sum_to_one_cost_what_they_cost_in_keras():
    probabilities = np.array([[0.4, 0.3, 0.1], [0.2, 0.1, 0.9]])
    loss = float(keras.losses.SparseCategoricalCrossentropy()(np.array([0, 1]), probabilities))
    report = score(probabilities, [0, 1], ["a.jpg", "b.jpg"], ["ant", "bee", "wasp"], "test")
    assert report.scores["loss"] == pytest.approx(loss, rel=1e-6)
    assert report.scores["loss"] == pytest.approx((math.log(0.8 / 0.4) + math.log(1.2 / 0.1)) / 2)


def test_top_5_accuracy_equals_that_of_keras_with_ties():
    probabilities, labels = random_case()
    probabilities = np.round(probabilities, 1)
    expected = float(np.mean(keras.metrics.sparse_top_k_categorical_accuracy(labels, probabilities, k=5)))
    assert top_k_accuracy(probabilities, labels, k=5) == pytest.approx(expected, rel=2**-23)
    # The case has ties at the fifth place that a rule by class number would decide otherwise.
    by_number = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    assert float(np.mean((by_number == labels[:, None]).any(axis=1))) < expected


def test_top_5_accuracy_counts_five_places():
    probabilities = np.tile([0.3, 0.25, 0.2, 0.12, 0.08, 0.05], (6, 1))
    report = score(probabilities, np.arange(6), list("abcdef"), list("uvwxyz"), "test")
    assert report.scores["top_5_accuracy"] == 5 / 6
    assert report.scores["accuracy"] == 1 / 6
    five = score(np.eye(5), np.arange(5), list("abcde"), list("uvwxy"), "test")
    assert "top_5_accuracy" not in five.scores


def test_calibration_error_equals_a_plain_loop():
    probabilities, labels = random_case(images=500, dtype="float64")
    confidences = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    expected = 0.0
    for number in range(15):
        inside = [i for i, c in enumerate(confidences) if number / 15 < c <= (number + 1) / 15]
        if inside:
            accuracy = sum(bool(correct[i]) for i in inside) / len(inside)
            confidence = sum(confidences[i] for i in inside) / len(inside)
            expected += len(inside) / 500 * abs(accuracy - confidence)
    assert calibration_error(confidences, correct) == pytest.approx(expected, rel=1e-12)
    assert expected > 0.01


def test_calibration_bins_hold_their_upper_edge():
    # 0.2 ends the third bin: with 0.19 the gaps cancel; apart they would not. 1 is inside the last bin.
    together = calibration_error(np.array([0.19, 0.2]), np.array([True, False]))
    assert together == pytest.approx(abs(0.81 - 0.2) / 2)
    assert calibration_error(np.array([1.0, 0.95]), np.array([True, False])) == pytest.approx(0.95 / 2)


def test_equal_probabilities_predict_the_first_class():
    report = score([[0.5, 0.5]], [1], ["a.jpg"], ["ant", "bee"], "test")
    assert report.rows[0]["predicted"] == "ant"


@pytest.mark.filterwarnings("error")
def test_classes_without_images_score_zero():
    report = score([[0.1, 0.9, 0.0], [0.2, 0.8, 0.0]], [1, 1], ["a", "b"], ["ant", "bee", "wasp"], "valid")
    assert report.scores["accuracy"] == 1.0
    assert report.confusion == ((0, 0, 0), (0, 2, 0), (0, 0, 0))
    assert report.per_class["ant"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "images": 0}
    assert report.confused == ()
    assert "(2 of 3 classes without images here)" in report_table(report)
    assert cell_texts(plot_confusion(report)) == ["0"] * 4 + ["2"] + ["0"] * 4


def test_confused_pairs_are_the_ten_most_frequent():
    pairs = [(true, guess) for true in range(4) for guess in range(4) if true != guess]
    labels, guesses = [], []
    for count, (true, guess) in enumerate(pairs, start=1):
        labels += [true] * count
        guesses += [guess] * count
    report = score(np.eye(4)[guesses], labels, ["f"] * len(labels), list("abcd"), "test")
    assert [pair["images"] for pair in report.confused] == list(range(12, 2, -1))
    assert report.confused[0] == {"true": "d", "predicted": "c", "images": 12}


def test_inputs_stay_as_they_were():
    probabilities, labels = random_case(dtype="float64")
    before = probabilities.copy(), labels.copy()
    score(probabilities, labels, list(map(str, labels)), list(map(str, range(9))), "test")
    assert np.array_equal(probabilities, before[0])
    assert np.array_equal(labels, before[1])


def test_report_survives_json(tmp_path):
    report = random_report(9, curves=CURVES, cost={"parameters": 12}, seconds={"training": 1.5}, settings={"seed": 1})
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    assert {type(value) for value in report.scores.values()} == {int, float}


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"probabilities": [[0.5, 0.5], [math.nan, 0.5]]}, ValueError, ["nan", "'b.jpg'", "(1 of 2 images)"]),
        ({"probabilities": [[0.5, 0.5], [math.inf, 0.5]]}, ValueError, ["inf", "'b.jpg'", "learning_rate"]),
        ({"probabilities": [[3.0, -2.0], [0.5, 0.5]]}, ValueError, ["Received 3", "'a.jpg'", "softmax"]),
        ({"probabilities": [[0.5, 0.5], [1.1, 0.0]]}, ValueError, ["Received 1.1", "'b.jpg'", "softmax"]),
        ({"probabilities": [[0.5, 0.3, 0.2]] * 2}, ValueError, ["(2, 2)", "(2, 3)"]),
        ({"labels": [0]}, ValueError, ["(2,)", "(1,)"]),
        ({"labels": [0, 2]}, ValueError, ["0–1", "Received 2"]),
        ({"labels": [-1, 0]}, ValueError, ["0–1", "Received -1"]),
        ({"labels": [0.0, 1.0]}, TypeError, ["whole numbers", "float64", "astype"]),
        ({"class_names": ["ant", "ant"]}, ValueError, ["'ant' twice", "Rename"]),
        ({"probabilities": [], "labels": [], "files": []}, ValueError, ["no images"]),
    ],
)
def test_bad_input_raises_with_its_value(changes, error, words):
    good = {"probabilities": [[0.5, 0.5], [0.1, 0.9]], "labels": [0, 1], "files": ["a.jpg", "b.jpg"]}
    arguments = {**good, "class_names": ["ant", "bee"], "split": "test"}
    score(**arguments)
    with pytest.raises(error) as caught:
        score(**{**arguments, **changes})
    for word in ["score: ", "Received", *words]:
        assert word in str(caught.value)


def test_rounding_a_little_above_one_is_no_mistake():
    probabilities = np.array([[1 + 2**-10, 0.0], [0.25, 0.75]], "float16")
    report = score(probabilities, [0, 0], ["a.jpg", "b.jpg"], ["ant", "bee"], "test")
    assert [row["probability"] for row in report.rows] == [1 + 2**-10, 0.75]
    assert report.scores["accuracy"] == 0.5


def test_table_holds_the_numbers():
    cost = {"parameters": 14_715_712, "weight_bytes": 58_862_848}
    text = repr(dataclasses.replace(small_report(), cost=cost, seconds={"training": 61.23}))
    for line in (
        "test split · 6 images · 3 classes",
        "ant       0.6667  0.6667  0.6667       3",
        "wasp      1.0000  1.0000  1.0000       1",
        "ant → bee       1",
        "cost     parameters 14,715,712 · weights 58.9 MB",
        "seconds  training 61.2",
    ):
        assert line in text.splitlines()
    assert text.splitlines()[1].startswith("accuracy 0.6667 · loss ")
    assert "cost" not in repr(small_report())


def test_table_of_many_classes_shows_the_twenty_worst():
    probabilities, labels = np.eye(30)[[*range(29), 0]], np.arange(30)
    probabilities[20:25] = np.eye(30)[7]
    # The thirty-first class has no image: it was not measured, so it is not among the worst.
    probabilities = np.pad(probabilities, ((0, 0), (0, 1)))
    report = score(probabilities, labels, list(map(str, labels)), [f"c{n:02d}" for n in range(31)], "test")
    lines = report_table(report).splitlines()
    assert "top-5" in lines[1]
    start = lines.index("class  precision  recall      f1  images") + 1
    shown = [line.split()[0] for line in lines[start : start + 20]]
    # Five classes and the thirtieth are never found; then the two they were taken for, then those without a mistake.
    assert shown[:8] == ["c20", "c21", "c22", "c23", "c24", "c29", "c07", "c00"]
    assert lines[start + 20] == "(the 20 lowest by f1 of 31 classes)"


def test_table_fits_a_terminal():
    names = ["x" * 300, "蜂" * 100, "line\nbreak \x1b[31m", "lone \udcff half"]
    report = score(np.eye(4)[[1, 0, 3, 2]], [0, 1, 2, 3], list("abcd"), names, "test")
    cost = {f"number_{place}": 10**9 for place in range(12)}
    text = report_table(dataclasses.replace(report, cost=cost))
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert "line�break �[31m" in text
    assert text.encode("utf-8")
    assert "number 11 1,000,000,000" in text


def test_long_names_are_cut_by_columns():
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"
    # Chinese signs take two columns each.
    assert cut("蜂蜂蜂蜂", 6) == "蜂蜂…"


def cell_texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_curves_hold_the_values_and_the_stages():
    loss, accuracy = plot_curves(random_report(3, curves=CURVES)).axes
    for axes, metric in ((loss, "loss"), (accuracy, "accuracy")):
        training, validation, *boundaries = axes.lines
        assert list(training.get_xdata()) == [1, 2, 3, 4]
        assert list(training.get_ydata()) == CURVES[metric]
        assert list(validation.get_ydata()) == CURVES[f"val_{metric}"]
        assert [line.get_xdata()[0] for line in boundaries] == [1.5, 3.5]
        assert cell_texts(axes.figure)[:3] == ["head $1", "top", "all"]


def test_curves_without_validation_have_one_line_each():
    curves = {"loss": [1.0], "accuracy": [0.5], "stage": ["head"]}
    assert [len(axes.lines) for axes in plot_curves(random_report(3, curves=curves)).axes] == [1, 1]


def test_curves_of_an_evaluation_are_refused():
    with pytest.raises(ValueError, match=r"plot_curves: .* Received .* recipes\.finetune"):
        plot_curves(random_report(3))


def test_confusion_shows_shares_and_counts():
    figure = plot_confusion(small_report())
    shares = figure.axes[0].images[0].get_array()
    assert np.allclose(shares, [[2 / 3, 1 / 3, 0], [1 / 2, 1 / 2, 0], [0, 0, 1]], rtol=1e-15)
    assert cell_texts(figure) == ["2", "1", "0", "1", "1", "0", "0", "0", "1"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["ant", "bee", "wasp"]


@pytest.mark.parametrize(("classes", "counts", "names"), [(20, 400, 20), (21, 0, 21), (60, 0, 60), (121, 0, 41)])
def test_confusion_of_many_classes_thins_out(classes, counts, names):
    figure = plot_confusion(random_report(classes))
    assert len(cell_texts(figure)) == counts
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert len(labels) == names
    assert labels[1] == f"class {math.ceil(classes / 60)}"


def test_names_with_dollars_and_foreign_signs_are_drawn(tmp_path):
    names = [r"$\frac{$", "蜂", "lone \udcff half"]
    report = score(np.eye(3), [0, 1, 2], ["\udcff.jpg", "b", "c"], names, "test")
    report = dataclasses.replace(report, curves={**CURVES, "stage": [r"$\bad{$"] * 4})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_page(report, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<td>蜂</td>" in text
    assert r"<td>lone \udcff half</td>" in text


def test_plots_leave_matplotlib_as_it_was(tmp_path):
    from matplotlib import pyplot

    pyplot.switch_backend("svg")
    mine = pyplot.figure()
    before = matplotlib.rcParams.copy()
    write_page(random_report(3, curves=CURVES), tmp_path / "report.html")
    assert pyplot.get_fignums() == [mine.number]
    assert pyplot.gcf() is mine
    assert not mine.axes
    assert matplotlib.get_backend() == "svg"
    assert matplotlib.rcParams == before
    pyplot.close(mine)


def test_a_report_prints_without_matplotlib_and_scikit_learn():
    printed = run_python(
        "import sys; from recipes.values import Report\n"
        "row = dict(precision=1.0, recall=1.0, f1=1.0, images=1)\n"
        "print(Report(dict(accuracy=1.0, images=1), 'test', ('a',), dict(a=row), ((1,),), (), ()))\n"
        "print(sorted({'matplotlib', 'sklearn', 'tensorflow'} & set(sys.modules)))"
    )
    assert printed.startswith("test split · 1 images · 1 classes\naccuracy 1.0000\n")
    assert printed.endswith("[]\n")


def test_plots_need_no_pyplot():
    printed = run_python(
        "import io, sys; from recipes.reporting.plots import plot_confusion; from recipes.values import Report\n"
        "plot_confusion(Report({}, 'test', ('a',), {}, ((1,),), (), ())).savefig(io.BytesIO())\n"
        "print('matplotlib.figure' in sys.modules, 'matplotlib.pyplot' in sys.modules)",
        without=["DISPLAY", "MPLBACKEND"],
    )
    assert printed == "True False\n"


class Page(html.parser.HTMLParser):
    """What a browser would see: tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def nasty_page(tmp_path):
    names = [NASTY, '" onload="alert(1)', "bees & wasps"]
    files = ["a/<img src=x onerror=alert(1)>.jpg", "</td></table><script>", "c.jpg"]
    report = score(np.eye(3)[[1, 2, 2]], [0, 1, 2], files, names, NASTY)
    parts = {part: {NASTY: NASTY} for part in ("settings", "versions")}
    numbers = {part: {NASTY: 2} for part in ("cost", "seconds")}
    curves = {**CURVES, "stage": [NASTY] * 4}
    report = dataclasses.replace(report, curves=curves, scores={**report.scores, NASTY: 0.5}, **parts, **numbers)
    write_page(report, tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_page_shows_hostile_names_as_text(tmp_path):
    page = nasty_page(tmp_path)
    assert not page.open
    assert "script" not in [tag for tag, _ in page.tags]
    assert [tag for tag, _ in page.tags].count("img") == 2
    attributes = {name for _, found in page.tags for name in found}
    assert attributes <= {"lang", "charset", "http-equiv", "content", "name", "class", "alt", "width", "src"}
    for text in (NASTY, '" onload="alert(1)', "bees & wasps", "</td></table><script>"):
        assert text in page.texts


def test_page_needs_nothing_from_outside(tmp_path):
    page = nasty_page(tmp_path)
    sources = [found["src"] for _, found in page.tags if "src" in found]
    assert len(sources) == 2
    for source in sources:
        kind, code = source.split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(code, validate=True).startswith(b"\x89PNG\r\n")
    assert "//" not in "".join(text for text in page.texts if NASTY not in text)


def test_page_holds_every_part(tmp_path):
    parts = {"cost": {"weight_bytes": 2_500}, "seconds": {"data": 1234.56}, "versions": {"keras": "3.15.1"}}
    settings = {"base": "vgg16", "image_size": (224, 224), "out": PurePosixPath("runs/one")}
    report = dataclasses.replace(small_report(), curves=CURVES, settings=settings, **parts)
    write_page(report, str(tmp_path / "report.html"))
    texts = Page((tmp_path / "report.html").read_text(encoding="utf-8")).texts
    for text in (
        "0.6667",
        "weights",
        "2.5 kB",
        "1,234.6",
        "3.15.1",
        "vgg16",
        "[224, 224]",
        '"runs/one"',
        "Curves",
        "Confusion matrix",
    ):
        assert text in texts
    wrong = texts.index("Most confidently wrong images")
    assert [text for text in texts[wrong:] if text.endswith(".jpg")] == ["photos/4.jpg", "photos/2.jpg"]


def test_page_lists_at_most_thirty_wrong_images(tmp_path):
    confidences = np.linspace(0.51, 0.99, 40)
    files = [f"{place}.jpg" for place in range(40)]
    report = score(np.stack([confidences, 1 - confidences], axis=1), [1] * 40, files, ["ant", "bee"], "test")
    write_page(report, tmp_path / "report.html")
    texts = Page((tmp_path / "report.html").read_text(encoding="utf-8")).texts
    assert [text for text in texts if text.endswith(".jpg")] == files[:9:-1]


def test_page_without_curves_leaves_them_out(tmp_path):
    write_page(small_report(), tmp_path / "report.html")
    texts = Page((tmp_path / "report.html").read_text(encoding="utf-8")).texts
    assert "Confusion matrix" in texts
    assert not {"Curves", "Settings", "Cost", "Seconds", "Versions"} & set(texts)


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_page(small_report(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
