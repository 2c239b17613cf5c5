"""The values of `check`: one Finding per test, and the Checkup of them all."""

import dataclasses
import textwrap

import numpy as np

from recipes.files import write_json

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
_WIDTH = 100  # columns


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one test of `recipes.check` found.

    Args:
        test: its name: `"pixels"`, `"preprocessing"`, `"weights"`, `"loss at start"`, `"gradients"`, `"overfitting"` or
            `"labels"`.
        status: `"passed"`, `"failed"` or `"skipped"`.
        measured: what was measured, or why nothing was, a sentence.
        cause: what usually causes such a failure; empty where it passed.
        mend: how to mend it; empty where it passed.
    """

    test: str
    status: str
    measured: str
    cause: str = ""
    mend: str = ""


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Checkup:
    """What `recipes.check` found. Prints as a table; `show` draws what the network sees.

    Args:
        network: name of the network.
        findings: one Finding per test, in the order in which they were made.
        seen: float32 `(images, height, width, channels)` under `"images"` (0–255), `"augmented"` (0–255, where there is
            an augmentation) and `"preprocessed"` (as the first weights take them in).
        labels: names of the classes of these images.
        seconds: of wall time.
    """

    network: str
    findings: tuple[Finding, ...]
    seen: dict[str, np.ndarray]
    labels: tuple[str, ...]
    seconds: float

    @property
    def passed(self):
        """Whether no test failed."""
        return not self.failed

    @property
    def failed(self):
        """Names of the tests that failed."""
        return tuple(finding.test for finding in self.findings if finding.status == FAILED)

    def __getitem__(self, test):
        return next(finding for finding in self.findings if finding.test == test)

    def __repr__(self):
        said = "all is well" if self.passed else f"failed: {', '.join(self.failed)}"
        head = f"{self.network}: {said} ({self.seconds:.1f} s)"
        return "\n".join([head, "", *(line for finding in self.findings for line in _lines(finding))])

    def show(self):
        """See `recipes.plot_check`."""
        from recipes.reporting.check_plots import plot_check

        return plot_check(self)

    def save(self, path):
        """Write the findings to `path` as JSON (through a temporary name), without the images."""
        content = {"network": self.network, "passed": self.passed, "seconds": self.seconds}
        write_json(path, content | {"findings": [dataclasses.asdict(finding) for finding in self.findings]})


def passed(test, measured):
    """A Finding that all is well."""
    return Finding(test, PASSED, measured)


def failed(test, measured, cause, mend):
    """A Finding of something wrong."""
    return Finding(test, FAILED, measured, cause, mend)


def skipped(test, measured):
    """A Finding that nothing was measured, and why."""
    return Finding(test, SKIPPED, measured)


def _lines(finding):
    yield from _wrapped(f"{finding.status:<8} {finding.test:<14} ", finding.measured)
    for name in ("cause", "mend"):
        if getattr(finding, name):
            yield from _wrapped(f"{'':<24}{name + ':':<7}", getattr(finding, name))


def _wrapped(label, text):
    rest = " " * max(24, len(label))
    return textwrap.wrap(text, _WIDTH, initial_indent=label, subsequent_indent=rest, break_on_hyphens=False)
