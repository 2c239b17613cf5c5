"""Whether what was exported answers as the model that was measured."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from recipes.checks import complaint
from recipes.data.decoding import make_fitter
from recipes.data.reading import decode_all
from recipes.serving import proof

MOST = 512  # samples, spread evenly
# Of a probability: what another order of the same float32 sums may change, what another runtime may, what half
# precision may, which rounds at 1e-3 and differently in each batch size.
TOLERANCES = {"saved_model": 1e-5, "keras": 1e-5, "onnx": 1e-4, "litert": 1e-4}
_MIXED = 1e-2
_OTHERWISE = 1e-4  # another algorithm, as `recipes.accelerate` allows
_ROOT = Path(__file__).parents[2]


class Samples:
    """Raw files, or pixels, and what the model gives for them.

    Args:
        result: Result.
        given: paths, bytes or arrays, or None for raw files of the measured split where they are still there, else its
            images as PNG, else made-up images of several sizes.
        where: verb to name in errors.

    Attributes:
        source: what they are, in words.
        total: how many there were to choose from.
        names: what was chosen: paths, bytes or arrays.
        pixels: the same, uint8 at the model's size.
        expected: float32 `(images, classes)`.
    """

    def __init__(self, result, given, where):
        self._takes_files = result.channels in (1, 3)
        self.names, self.source, self.total = _choose(result, given, self._takes_files, where)
        form = result.image_size, result.channels, result.resize
        self.pixels = decode_all(self.names, *form, where)
        self.expected = _predict(result.model, self.pixels)
        height, width = result.image_size
        self._odd = np.random.default_rng(0).integers(0, 256, (3, height + 5, 2 * width, result.channels), np.uint8)
        self._of_odd = _predict(result.model, make_fitter(*form)(self._odd).numpy())

    def in_the_report(self, result, probabilities=None):
        """Of the samples that the report has, by the model or by other probabilities: `images`; `same`, those with the
        class that stands there; `accuracy`."""
        rows = {row["file"]: row for row in (result.report.rows if result.report is not None else ())}
        probabilities = self.expected if probabilities is None else probabilities
        best = [result.class_names[index] for index in probabilities.argmax(1)]
        known = [(rows[name], said) for name, said in zip(self.names, best, strict=True) if _is_in(rows, name)]
        same = sum(row["predicted"] == said for row, said in known)
        right = sum(row["true"] == said for row, said in known)
        return {"images": len(known), "same": same, "accuracy": right / max(len(known), 1)}

    def expected_of(self, signature, count):
        """What another signature should give for the first `count` of what it is asked."""
        return self._of_odd[:count] if signature == "of_other_sizes" else self.expected[:count]

    def save(self, folder):
        """Write them for `proof.py`; the path of what was written. Files are named and not copied."""
        paths = []
        for number, sample in enumerate(self.names if self._takes_files else ()):
            path = Path(sample) if isinstance(sample, (str, os.PathLike)) else Path(folder, f"{number}.image")
            if isinstance(sample, bytes):
                path.write_bytes(sample)
            elif isinstance(sample, np.ndarray):
                path.write_bytes(_as_png(sample))
            paths.append(os.path.abspath(path))
        np.savez(Path(folder, "samples.npz"), paths=np.array(paths, str), pixels=self.pixels, odd=self._odd)
        return Path(folder, "samples.npz")


def prove(name, folder, samples, tolerance, where, measured=None):
    """Raise RuntimeError unless the file of format `name` in `folder` answers, in a fresh process, as the model does.

    Args:
        name: of the format.
        folder: that has the file.
        samples: Samples.
        tolerance: largest difference of a probability.
        where: verb to name in errors.
        measured: of a file that answers otherwise than the model by its nature, what it answered to the samples in this
            process, where it is measured; then it must answer so again, and how far it is from the model is told.

    Returns:
        `{"samples", "top_1_identical", "largest_difference", "tolerance", "seconds_to_load"}`, and `from_model`, with
        the first two of these differences, where `measured` is given.
    """
    answers = _answer(name, folder, samples, where)
    expected = samples.expected if measured is None else measured
    probabilities = answers["probabilities"]
    worst = float(np.abs(probabilities - expected).max())
    for signature, values in answers.items():
        if signature.startswith("of_"):
            worst = max(worst, float(np.abs(values - samples.expected_of(signature, len(values))).max()))
    served = probabilities.argmax(1)
    # Where two classes are equally probable to within rounding, either may come first.
    short = float((expected.max(1) - expected[np.arange(len(served)), served]).max())
    if not worst <= tolerance or not short <= tolerance:
        usual = "the model does" if measured is None else "it did when it was measured"
        rule = f"the {name} file must answer as {usual}, within {tolerance:g}"
        received = f"probabilities that differ by up to {worst:.2g}, and first classes that fall {short:.2g} short"
        mend = "Nothing was published. Where the format rounds more, pass tolerance=; else please report it."
        raise RuntimeError(complaint(where, rule, received, mend))
    proof = {
        "samples": len(expected),
        **_compared(probabilities, expected),
        "largest_difference": worst,
        "tolerance": tolerance,
        "seconds_to_load": round(float(answers["seconds_to_load"]), 3),
    }
    return proof if measured is None else proof | {"from_model": _compared(measured, samples.expected)}


def _compared(probabilities, expected):
    return {
        "top_1_identical": int((probabilities.argmax(1) == expected.argmax(1)).sum()),
        "largest_difference": float(np.abs(probabilities - expected).max()),
    }


def tolerance_of(name, model, is_plain=True):
    """Largest difference of a probability that the format `name` of `model` may have; `is_plain`, whether formats other
    than the SavedModel compute by the same algorithms."""
    if any(layer.compute_dtype != "float32" for layer in model.layers):
        return _MIXED
    return TOLERANCES[name] if is_plain or name == "saved_model" else max(TOLERANCES[name], _OTHERWISE)


def _predict(model, pixels):
    """float32 `(images, classes)`, on the CPU, as the proof is made there: GPUs round otherwise, each in its way."""
    if not tf.config.list_logical_devices("GPU"):
        return model.predict(pixels, batch_size=proof.BATCH, verbose=0).astype("float32")
    parts = np.split(pixels, range(proof.BATCH, len(pixels), proof.BATCH))
    with tf.device("CPU"):
        answers = [model(part.astype("float32"), training=False) for part in parts]
    return np.concatenate([keras.ops.convert_to_numpy(keras.ops.cast(answer, "float32")) for answer in answers])


def _answer(name, folder, samples, where):
    with tempfile.TemporaryDirectory() as nearby:
        given, answers = samples.save(nearby), Path(nearby, "answers.npz")
        words = [sys.executable, "-P", proof.__file__, name, os.fspath(folder), os.fspath(given), os.fspath(answers)]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "CUDA_VISIBLE_DEVICES": ""}
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
    """(paths, bytes or arrays, what they are, how many there were to choose from)."""
    if given is not None:
        given = [given] if isinstance(given, (str, bytes, os.PathLike)) else list(given)
        _check(given, where)
        return _spread(given), "given samples", len(given)
    if not takes_files:
        shape = (proof.FEW, *result.image_size, result.channels)
        return list(np.random.default_rng(0).integers(0, 256, shape, np.uint8)), "made-up pixels", proof.FEW
    rows = result.report.rows if result.report is not None else ()
    files = [row["file"] for row in rows if Path(row["file"]).is_file()]
    if files:
        return _spread(files), f"raw files of the {result.report.split} split", len(files)
    if result.data is not None:
        name = next(name for name in ("test", "valid", "train") if len(getattr(result.data, name)))
        split = getattr(result.data, name)
        pixels = [split.images(index, index + 1)[0] for index in _spread(range(len(split)))]
        return pixels, f"images of the {name} split, as PNG", len(split)
    made = _made_up(result.channels)
    return made, "made-up images", len(made)


def _check(given, where):
    """Raise unless there are samples, each a file that is there, bytes, or a uint8 array."""
    if not given:
        raise ValueError(complaint(where, "samples must hold an image", "none", "Pass some, or leave samples out."))
    for sample in given:
        if isinstance(sample, (str, os.PathLike)) and not Path(sample).is_file():
            raise FileNotFoundError(complaint(where, "each sample must be there", repr(str(sample)), "Mend the path."))
        is_pixels = isinstance(sample, np.ndarray) and sample.dtype == np.uint8 and sample.ndim == 3
        if not isinstance(sample, (str, bytes, os.PathLike)) and not is_pixels:
            rule = "samples must be paths, bytes, or uint8 arrays (height, width, channels)"
            received = f"{getattr(sample, 'dtype', type(sample).__name__)} of shape {getattr(sample, 'shape', '?')}"
            raise TypeError(complaint(where, rule, received, "Convert it."))


def _spread(values):
    """At most `MOST` of them, spread evenly."""
    return [values[index] for index in np.linspace(0, len(values) - 1, min(MOST, len(values))).astype(int)]


def _made_up(channels):
    """PNG bytes of soft shapes with some noise, in several sizes, when there is nothing better."""
    random, images = np.random.default_rng(0), []
    for size in ((64, 64), (33, 97), (200, 150), (17, 17)) * 8:
        shapes = tf.image.resize(random.uniform(0, 255, (random.integers(1, 6), 4, channels)), size, "bicubic")
        images.append(np.clip(shapes + random.normal(0, random.uniform(0, 30), shapes.shape), 0, 255).astype(np.uint8))
    return [_as_png(image) for image in images]


def _as_png(image):
    return tf.io.encode_png(image).numpy()
