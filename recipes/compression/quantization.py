"""recipes.quantize: a network in numbers of 8 or 16 bits, measured by the file that is served."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from recipes.bases.fake_quantization import fake_quantized, has_ranges, settled
from recipes.checks import check_whole, complaint
from recipes.compression.bit_layers import weighted_names
from recipes.compression.footprints import finish
from recipes.compression.forms import FORMS, find_form
from recipes.compression.keeping import kept_names
from recipes.compression.recovering import Recovery, open_recovery, recover
from recipes.compression.steps import Step, is_enough
from recipes.compression.subjects import open_subject
from recipes.serving.calibration import IMAGES, images_for_ranges
from recipes.serving.formats import FILES, check_formats
from recipes.serving.quantized import PRECISIONS, bits_of, check_precision, needs_images, stored, write_quantized
from recipes.serving.running import FileRunner
from recipes.training.progress import say

_WHERE = "quantize"
_RECOVERY = Recovery(epochs=3, learning_rate=1e-4)


def quantize(
    model,
    data=None,
    *,
    precision="int8",
    form="litert",
    is_trained=None,
    max_drop=0.01,
    recovery=None,
    calibration_images=IMAGES,
    keep=(),
    seed=0,
    verbose=True,
):
    """Store a network, and where it can be compute it, in numbers of 8 or 16 bits.

    1. `"int8"`: fold BatchNormalization; round each kernel of convolutions and dense layers to 255 steps by channel,
       and activations to 256 steps per tensor, within the range that they have on training images.
    2. Write the file, run it over the validation images, and compare its accuracy with `max_drop`.
    3. Where it lost more than that, or `is_trained` asks for it, train the network with everything rounded as it will
       be, by the stages of `recipes.finetune`, and write and measure it again.
    4. Measure size and latency beside the float32 file of the same form.

    Accuracy is that of the file, by the runtime that it is for. The Keras model that comes back rounds likewise: up to
    the order of sums it gives what the file gives, and `recipes.export` writes the same file from it.

    Args:
        model: Result, folder of a saved one, or Keras model from images of 0–255 to probabilities. It stays as it is.
        data: Data, or any source that `recipes.load_data` takes; None for the data that a Result was trained on. None
            is needed with `max_drop=None` and another precision than `"int8"`.
        precision: `"int8"`; `"int8_dynamic"`, kernels alone, which needs no images (LiteRT rounds activations of each
            image as they come, ONNX Runtime computes in float32); `"float16"`, half the bytes, computed in float32 by
            LiteRT and ONNX Runtime; for Keras also `"bfloat16"`, and `"int8"` means Keras' own `quantize`, which knows
            dense layers only.
        form: `"litert"`, `"onnx"` (needs `pip install "keras-recipes[onnx]"`) or `"keras"`.
        is_trained: whether to train with everything rounded, for `"int8"` of LiteRT and ONNX; None does it where
            calibration alone loses more than `max_drop`.
        max_drop: accuracy, 0–1, that may be lost on the validation images; None takes what comes.
        recovery: `recipes.Recovery`, how to train. Default: 3 epochs at a rate of 0.0001.
        calibration_images: training images at most, spread evenly, on which ranges are found.
        keep: layers that stay in float: `"first"`, `"last"`, and regular expressions for names.
        seed: of the training.
        verbose: whether to show progress.

    Returns:
        `Compression`, whose `content` is the file. Its `notes` name the layers that stay in float.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range, form and precision do not go
            together, or the data does not fit the model.
        ImportError: the form needs a package that is not installed.

    Example:
        >>> import keras, recipes
        >>> image = keras.Input((8, 8, 1))
        >>> x = keras.layers.Conv2D(64, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
        >>> x = keras.layers.Conv2D(64, 3, activation="relu")(x)
        >>> x = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x))
        >>> small = recipes.quantize(keras.Model(image, x), "digits", max_drop=None, verbose=False)
        >>> small.rungs[1].stored_bytes < 0.4 * small.rungs[0].stored_bytes
        True

    Source:
        Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only
        inference"; Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference" (by channel).
    """
    plan = Quantizing(precision, form, is_trained, calibration_images, keep)
    plan.check(_WHERE)
    recovery = _RECOVERY if recovery is None else open_recovery(recovery, _WHERE)
    needs_data = bool(is_trained) or plan.is_trainable
    subject = open_subject(model, data, _WHERE, max_drop=max_drop, needs_data=needs_data)
    return finish(subject, rounded(subject, plan, subject.floor(max_drop), recovery, seed, verbose), form)


@dataclasses.dataclass(frozen=True)
class Quantizing:
    """What to quantize to, and how; the fields are the arguments of `quantize`."""

    precision: str = "int8"
    form: str = "litert"
    is_trained: bool | None = None
    calibration_images: int = IMAGES
    keep: tuple[str, ...] = ()

    @property
    def is_trainable(self):
        """Whether there is a network of float numbers that rounds as the file does."""
        return self.precision == "int8" and self.form != "keras"

    def check(self, where):
        """Raise unless the arguments make sense together and what they need is installed."""
        able = [name for name in FORMS if name in PRECISIONS]
        if self.form not in able:
            find_form(self.form, where)
            rule, mend = f"form must be one of {', '.join(map(repr, able))}", 'Pass form="litert".'
            raise ValueError(complaint(where, rule, repr(self.form), mend))
        check_precision(self.precision, [self.form], where)
        check_formats(self.form, where)
        check_whole(where, "calibration_images", self.calibration_images)
        if self.precision == "float32":
            rule, mend = "precision must be one of fewer bits", 'Pass precision="int8".'
            raise ValueError(complaint(where, rule, "'float32'", mend))
        if (self.is_trained or self.keep) and not self.is_trainable:
            name = "is_trained" if self.is_trained else "keep"
            rule = f'{name} is for precision="int8" of LiteRT and ONNX'
            received = f"precision={self.precision!r} of {self.form!r}"
            raise ValueError(complaint(where, rule, received, f"Leave {name} out."))


def rounded(subject, plan, floor, recovery, seed, verbose):
    """Quantize the Subject's model by a Quantizing; a list of Step, each with the file that was measured."""
    if plan.is_trained and has_ranges(subject.model):
        rule, mend = "what is quantized already is not trained again", "Pass the network as it was before."
        raise ValueError(complaint(subject.where, rule, f"a model with ranges, {subject.model.name!r}", mend))
    images, options, steps = None, {}, []
    if needs_images(plan.form, plan.precision, subject.model):
        options["kept"] = kept_names(plan.keep, weighted_names(subject.model), subject.where)
        images = images_for_ranges(subject.data, subject.original, subject.where, plan.calibration_images)
    if not plan.is_trained:
        model, notes = stored(plan.form, subject.model, plan.precision, subject.where, images, **options)
        steps.append(_step(subject, plan, model, notes, plan.precision, floor, verbose))
    is_short = plan.is_trained is None and not steps[-1].is_kept
    if plan.is_trained or (is_short and images is not None):
        model, notes = fake_quantized(subject.model, images, bits=bits_of(plan.form), **options)
        say(verbose, f"{plan.precision}, trained:")
        recover(model, subject, recovery, seed=seed, verbose=verbose)
        steps.append(_step(subject, plan, settled(model), notes, f"{plan.precision}, trained", floor, verbose))
    return steps


def _step(subject, plan, model, notes, name, floor, verbose):
    """A Step whose accuracy is that of its file."""
    with tempfile.TemporaryDirectory() as folder:
        write_quantized(plan.form, dataclasses.replace(subject.original, model=model), Path(folder), plan.precision)
        content = Path(folder, FILES[plan.form]).read_bytes()
    accuracy = None
    if subject.data is not None and len(subject.data.valid):
        valid = subject.data.valid
        answers = FileRunner(plan.form, content).predict(_Pixels(valid))
        accuracy = float(np.mean(answers.argmax(-1) == valid.labels))
        say(verbose, f"{name}: validation accuracy of the file {accuracy:.4f}")
    return Step(name, model, accuracy, notes, is_enough(accuracy, floor), content)


class _Pixels:
    """The images of a Split, a slice at a time."""

    def __init__(self, split):
        self._split = split

    def __len__(self):
        return len(self._split)

    def __getitem__(self, rows):
        return self._split.images(rows.start, rows.stop)
