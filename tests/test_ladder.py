"""recipes.compress: methods in turn, each within its share of the allowance, to a file that is proved."""

import json

import keras
import numpy as np
import pytest

import recipes
from recipes.cli import main
from recipes.compression import ladder
from recipes.compression.steps import Step

QUICK = {"epochs": 1, "learning_rate": 2e-3, "batch_size": 64}


@pytest.fixture(scope="module")
def result():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Rescaling(1 / 16)(image)
    for number, filters in enumerate((16, 32)):
        x = keras.layers.Conv2D(filters, 3, use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(name=f"normal{number}")(x))
    x = keras.layers.Dense(48, activation="relu", name="dense")(keras.layers.Flatten()(x))
    data = recipes.load_data("digits", image_size=8)
    return recipes.finetune(
        keras.Model(image, x, name="reader"), data, weights=None, epochs=8, learning_rate=0.01, verbose=False
    )


@pytest.fixture(scope="module")
def small(result):
    steps = ["fold", {"units": {"fraction": [0.3]}}, {"low_rank": {"fraction": 0.2}}, "quantize"]
    return recipes.compress(result, steps=steps, max_drop=0.05, recovery=QUICK, verbose=False)


def test_every_rung_stays_within_what_is_allowed(small, result):
    names = [rung.name for rung in small.rungs if rung.is_kept]
    assert names[:2] == ["as it came", "fold"]
    assert any("multiply-adds less" in name for name in names)
    assert any("low rank" in rung.name for rung in small.rungs)
    assert names[-1].startswith("int8")
    first, last = small.rungs[0], [rung for rung in small.rungs if rung.is_kept][-1]
    assert all(rung.accuracy >= first.accuracy - 0.05 - 1e-9 for rung in small.rungs if rung.is_kept)
    assert all(rung.accuracy < first.accuracy for rung in small.rungs if not rung.is_kept)
    assert last.multiply_adds < 0.9 * first.multiply_adds
    assert last.stored_bytes < first.stored_bytes / 3
    assert small.form == "litert" and small.content[4:8] == b"TFL3"
    assert result.model.get_layer("conv0").filters == 16 and len(result.model.layers) == 11


def test_what_is_exported_is_what_was_measured(small, tmp_path):
    version = small.export(tmp_path / "served")
    assert (version / "model.tflite").read_bytes() == small.content
    card = json.loads((version / "card.json").read_text())
    assert "int8" in json.dumps(card)
    path = small.write(tmp_path / "reader.tflite")
    assert path.read_bytes() == small.content


def test_each_method_is_given_its_share_and_starts_from_the_last(result, monkeypatch):
    """Floors fall evenly, what is exact takes no share, and what was not kept is not built on."""
    seen = []

    def method(is_kept):
        def run(subject, *, floor, recovery, seed, verbose):
            seen.append((subject.model, floor))
            model = keras.models.clone_model(subject.model)
            return [Step("step", model, 0.9, {}, is_kept)]

        return lambda where: run

    for name, is_kept in {"fold": True, "units": True, "low_rank": False, "weights": True}.items():
        monkeypatch.setitem(ladder.METHODS, name, method(is_kept))
    ladder._arguments.cache_clear()
    steps = ["fold", "units", "low_rank", "weights"]
    done = recipes.compress(result, steps=steps, max_drop=0.03, form="keras", verbose=False)
    accuracy = done.rungs[0].accuracy
    assert [round(accuracy - floor, 6) for _, floor in seen] == [0.03, 0.01, 0.02, 0.03]
    models = [model for model, _ in seen]
    assert models[3] is models[2] and models[2] is not models[1] is not models[0]
    assert [rung.is_kept for rung in done.rungs] == [True, True, True, False, True]


def test_steps_take_arguments_of_their_own(result):
    steps = ["fold", {"weights": {"sparsity": 0.5, "steps": 1}}, {"share": {"bits": 4}}]
    done = recipes.compress(result, steps=steps, max_drop=0.5, recovery=QUICK, verbose=False)
    assert done.form == "packed"
    dense = keras.ops.convert_to_numpy(done.model.get_layer("dense").kernel)
    assert len(np.unique(dense)) <= 17 and (dense == 0).mean() >= 0.5


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"steps": []}, ValueError, "must name a method"),
        ({"steps": "prune"}, ValueError, "units"),
        ({"steps": ["fold", "unit"]}, ValueError, "units"),
        ({"steps": ["quantize", "units"]}, ValueError, "last step"),
        ({"steps": [{"units": {"fractions": 0.3}}]}, ValueError, "fraction"),
        ({"steps": [{"units": 0.3}]}, TypeError, "a step is a name"),
        ({"steps": [{"units": {"fraction": 1.3}}]}, ValueError, "fraction"),
        ({"steps": ["low_rank", {"weights": {"scope": "typo"}}]}, ValueError, "scope"),
        ({"steps": ["units", {"few_bits": {"bits": "quaternary"}}]}, ValueError, "bits"),
        ({"steps": [3]}, TypeError, "a step is a name"),
        ({"steps": ["quantize"], "form": "packed"}, ValueError, "packed"),
        ({"steps": ["fold"], "form": "savedmodel"}, ValueError, "form"),
        ({"max_drop": 1.5}, ValueError, "max_drop"),
        ({"max_drop": "1%"}, TypeError, "max_drop"),
        ({"seed": -1}, ValueError, "seed"),
        ({"recovery": {"epoch": 3}}, ValueError, "epochs"),
        ({"data": {"source": "digits", "valid": 0.0}}, ValueError, "validation images"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bad_arguments_are_told_before_any_work(arguments, error, words, result, monkeypatch):
    monkeypatch.setattr(ladder, "_climb_down", None)
    with pytest.raises(error, match=words):
        recipes.compress(result, **arguments)


def test_a_command_compresses_saves_and_exports(result, tmp_path, capsys):
    saved = result.save(tmp_path / "reader")
    options = ["--steps", '["fold"]', "--out", str(tmp_path / "small"), "--served", str(tmp_path / "served")]
    assert main(["compress", str(saved), "--data", "digits", *options, "--verbose", "false"]) == 0
    shown = capsys.readouterr().out
    assert "as it came" in shown and "fold" in shown
    assert recipes.load(tmp_path / "small").class_names == result.class_names
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()
    rungs = json.loads((tmp_path / "small" / "compression.json").read_text())["rungs"]
    assert [rung["name"] for rung in rungs] == ["as it came", "fold"]


def test_a_dictionary_of_steps_keeps_their_arguments():
    plan = ladder._plan({"units": {"fraction": 0.3}, "quantize": {}}, "compress")
    assert plan == [("units", {"fraction": 0.3}), ("quantize", {})]


def test_folders_that_cannot_be_written_are_told_before_any_work(result, tmp_path, monkeypatch):
    monkeypatch.setattr(ladder, "open_subject", None)
    (tmp_path / "file").write_text("")
    for name in ("out", "served"):
        with pytest.raises(OSError, match="the folder cannot be written"):
            recipes.compress(result, **{name: tmp_path / "file" / "inner"})
