"""The values of compression: one Rung, and all of them with the network that came out."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from recipes.checks import complaint
from recipes.files import write_json
from recipes.serving.exporting import export_file
from recipes.values import Report, Result


@dataclasses.dataclass(frozen=True)
class Rung:
    """A network on its way down, measured.

    Args:
        name: what was done, and how far; `"as it came"` for the first.
        accuracy: on the validation images, 0–1; None where there are none.
        parameters: numbers in its weights.
        nonzero: of these, those that are not 0.
        multiply_adds: of one image; zeros count like other numbers.
        stored_bytes: of its file.
        compressed_bytes: of that file, compressed by gzip at its best.
        milliseconds: of one image in that form on this machine, the median of rounds in which all rungs take turns;
            None for what was not kept.
        is_kept: whether it is on the way to the result; else its accuracy fell too far.
        notes: `{layer: why it was left alone}`.
    """

    name: str
    accuracy: float | None
    parameters: int
    nonzero: int
    multiply_adds: int
    stored_bytes: int
    compressed_bytes: int
    milliseconds: float | None
    is_kept: bool = True
    notes: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Compression:
    """A compressed classifier, and what each step saved. Prints as a table.

    Args:
        result: Result with the compressed network. Its report is measured on the test split where there is one, and its
            `cost` says what the network costs now.
        before: Report of the classifier as it came, on the same images; None where there are none.
        rungs: every Rung, from the classifier as it came.
        form: what sizes and latency are of: `"keras"`, `"litert"`, `"onnx"` or `"packed"`.
        content: the file in that form, bytes; None for `"keras"`.
    """

    result: Result
    before: Report | None
    rungs: tuple[Rung, ...]
    form: str
    content: bytes | None = None

    def __repr__(self):
        from recipes.reporting.compressions import compression_table

        return compression_table(self)

    @property
    def model(self):
        """The compressed Keras model."""
        return self.result.model

    @property
    def report(self):
        """The Report of the compressed classifier."""
        return self.result.report

    @property
    def notes(self):
        """`{layer: why it was left alone}`, of all steps that were kept."""
        return {layer: reason for rung in self.rungs if rung.is_kept for layer, reason in rung.notes.items()}

    def predict(self, images):
        """See `recipes.predict`."""
        return self.result.predict(images)

    def save(self, folder):
        """Save the classifier for `recipes.load`, and `compression.json` with the rungs beside it."""
        path = self.result.save(folder)
        write_json(path / "compression.json", {"form": self.form, "rungs": [dataclasses.asdict(r) for r in self.rungs]})
        return path

    def write(self, path):
        """Write the file that was measured: `.tflite`, `.onnx`, or packed; ValueError where it is a Keras model."""
        if self.content is None:
            rule, mend = "only what was measured as a file of its own is written", "Call save(folder)."
            raise ValueError(complaint("Compression.write", rule, f"the form {self.form!r}", mend))
        path = Path(os.fspath(path)).expanduser()
        temporary = path.with_name(f".{os.getpid()}.{path.name}")
        try:
            temporary.write_bytes(self.content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def export(self, folder, **options: Any):
        """Export what was measured for serving, proved to answer as it did; see `recipes.export`.

        A `.tflite` or `.onnx` file goes as it is, and takes no options but `samples` and `tolerance`.
        """
        if self.form not in ("litert", "onnx") or options.get("formats", self.form) not in (self.form, (self.form,)):
            return self.result.export(folder, **options)
        options.pop("formats", None)
        done = [rung.name for rung in self.rungs[1:] if rung.is_kept]
        return export_file(self.result, folder, self.form, self.content, done[-1] if done else "float32", **options)
