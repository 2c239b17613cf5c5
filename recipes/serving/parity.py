"""Whether what was exported answers as the model that was measured."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from recipes.checks import complaint
from recipes.data.reading import decode_all
from recipes.serving import proof

MOST = 512  # samples, spread evenly
# Of a probability: what another order of the same float32 sums may change, what another runtime may, what half
# precision may, which rounds at 1e-3 and differently in each batch size.
TOLERANCES = {"saved_model": 1e-5, "keras": 1e-5, "onnx": 1e-4, "litert": 1e-4}
_MIXED = 1e-2
_ROOT = Path(__file__).parents[2]


class Samples:
    """Raw files, or pixels, and what the model gives for them.

    Args:
        result: Result.
        given: paths, bytes or arrays, or None for raw files of the measured split where they are still there, else its
            images as PNG, else made-up images of several sizes.
        model: keras.Model that is to be proved equal.
        where: verb to name in errors.

    Attributes:
        source: what they are, in words.
        total: how many there were to choose from.
        expected: float32 `(images, classes)`.
    """

    def __init__(self, result, given, where):
        takes_files = result.channels in (1, 3)
        chosen, self.source = _choose(result, given, takes_files, where)
        self.total = len(chosen)
        self.names = [chosen[index] for index in np.linspace(0, self.total - 1, min(MOST, self.total)).astype(int)]
        self.pixels = decode_all(self.names, result.image_size, result.channels, result.resize, where)
        self.contents = [_content(sample) for sample in self.names] if takes_files else []
        self.expected = result.model.predict(self.pixels, batch_size=proof.BATCH, verbose=0)

    def in_the_report(self, result):
        """Of the samples that the report has: `images`; `same`, those with the class that stands there; `accuracy`."""
        rows = {row["file"]: row for row in (result.report.rows if result.report is not None else ())}
        best = [result.class_names[index] for index in self.expected.argmax(1)]
        known = [(rows[name], said) for name, said in zip(self.names, best, strict=True) if _is_in(rows, name)]
        same = sum(row["predicted"] == said for row, said in known)
        right = sum(row["true"] == said for row, said in known)
        return {"images": len(known), "same": same, "accuracy": right / max(len(known), 1)}

    def save(self, path):
        """Write them for `proof.py`."""
        contents = np.frombuffer(b"".join(self.contents), np.uint8)
        ends = np.cumsum([len(content) for content in self.contents], dtype=np.int64)
        np.savez(path, contents=contents, ends=ends, pixels=self.pixels)


def prove(name, folder, samples, result, tolerance, where):
    """Raise RuntimeError unless the file of format `name` in `folder` answers, in a fresh process, as the model does.

    Returns:
        `{"samples", "top_1_identical", "largest_difference", "tolerance", "seconds_to_load"}`.
    """
    answers = _answer(name, folder, samples, where)
    tolerance = tolerance or _tolerance(name, result.model)
    expected, probabilities = samples.expected, answers["probabilities"]
    worst = float(np.abs(probabilities - expected).max())
    others = {signature: answers[signature] for signature in answers if signature.startswith("of_")}
    for values in others.values():
        worst = max(worst, float(np.abs(values - expected[: len(values)]).max()))
    served = probabilities.argmax(1)
    # Where two classes are equally probable to within rounding, either may come first.
    short = float((expected.max(1) - expected[np.arange(len(served)), served]).max())
    if not worst <= tolerance or not short <= tolerance:
        rule = f"the {name} file must answer as the model does, within {tolerance:g}"
        received = f"probabilities that differ by up to {worst:.2g}, and first classes that fall {short:.2g} short"
        mend = "Nothing was published. Where the format rounds more, pass tolerance=; else please report it."
        raise RuntimeError(complaint(where, rule, received, mend))
    return {
        "samples": len(expected),
        "top_1_identical": int((served == expected.argmax(1)).sum()),
        "largest_difference": worst,
        "tolerance": tolerance,
        "seconds_to_load": round(float(answers["seconds_to_load"]), 3),
    }


def _tolerance(name, model):
    is_precise = all(layer.compute_dtype == "float32" for layer in model.layers)
    return TOLERANCES[name] if is_precise else _MIXED


def _answer(name, folder, samples, where):
    with tempfile.TemporaryDirectory() as nearby:
        given, answers = Path(nearby, "samples.npz"), Path(nearby, "answers.npz")
        samples.save(given)
        words = [sys.executable, "-P", proof.__file__, name, os.fspath(folder), os.fspath(given), os.fspath(answers)]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        if name == "keras":
            paths = [os.fspath(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            environment["PYTHONPATH"] = os.pathsep.join(paths)
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", env=environment, check=False)
        if done.returncode:
            rule = f"the {name} file must answer in a fresh process"
            received = "the error: " + " ".join(done.stderr.split()[-60:])
            raise RuntimeError(complaint(where, rule, received, "Nothing was published. Please report it."))
        with np.load(answers) as content:
            return dict(content)


def _is_in(rows, name):
    return isinstance(name, str) and name in rows


def _choose(result, given, takes_files, where):
    """(paths, bytes or arrays, what they are)."""
    if given is not None:
        given = [given] if isinstance(given, (str, bytes, os.PathLike)) else list(given)
        if not given:
            raise ValueError(complaint(where, "samples must hold an image", "none", "Pass some, or leave samples out."))
        return given, "given samples"
    if not takes_files:
        shape = (proof.FEW, *result.image_size, result.channels)
        return list(np.random.default_rng(0).integers(0, 256, shape, np.uint8)), "made-up pixels"
    rows = result.report.rows if result.report is not None else ()
    files = [row["file"] for row in rows if Path(row["file"]).is_file()]
    if files:
        return files, f"raw files of the {result.report.split} split"
    if result.data is not None:
        name = next(name for name in ("test", "valid", "train") if len(getattr(result.data, name)))
        split = getattr(result.data, name)
        kept = np.linspace(0, len(split) - 1, min(MOST, len(split))).astype(int)
        pixels = [split.images(index, index + 1)[0] for index in kept]
        return [tf.io.encode_png(image).numpy() for image in pixels], f"images of the {name} split, as PNG"
    return _made_up(result.channels), "made-up images"


def _made_up(channels):
    """PNG bytes of noise in several sizes, when there is nothing better."""
    random = np.random.default_rng(0)
    sizes = [(64, 64), (33, 97), (200, 150), (17, 17)]
    return [tf.io.encode_png(random.integers(0, 256, (*size, channels), np.uint8)).numpy() for size in sizes]


def _content(sample):
    """The bytes of a sample; those of an array as PNG."""
    if isinstance(sample, bytes):
        return sample
    if isinstance(sample, np.ndarray):
        return tf.io.encode_png(sample if sample.ndim == 3 else sample[..., None]).numpy()
    return Path(sample).read_bytes()
