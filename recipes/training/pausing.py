"""Runs that pause after some epochs and say how good they are, so that a search can let the best of them go on."""

import contextlib
import contextvars
import dataclasses

_epochs = contextvars.ContextVar("epochs after which to pause", default=None)


@dataclasses.dataclass
class Pause(Exception):
    """A run has come as far as it was asked to; its last checkpoint says where it stands.

    Attributes:
        epochs: that it has trained, of all stages together.
        scores: of its best weights on the validation images, by names such as `"val_accuracy"`.
        is_complete: whether all stages are trained.
    """

    epochs: int
    scores: dict[str, float]
    is_complete: bool = False


@contextlib.contextmanager
def pausing(epochs):
    """Within, a run raises `Pause` after so many epochs, of all stages together, or when it has trained them all.

    It then neither measures the test split nor saves its model: the same run outside goes on to its end.
    """
    token = _epochs.set(epochs)
    try:
        yield
    finally:
        _epochs.reset(token)


def is_pausing():
    """Whether the run is to end in a Pause."""
    return _epochs.get() is not None


def is_due(curves, standing):
    """Whether a run with these curves of earlier stages, and this Standing in its stage, has trained long enough."""
    return is_pausing() and len(curves["stage"]) + standing.epoch >= _epochs.get()


def pause(journal, standing):
    """The Pause of a run whose stage stands there.

    Raises:
        OSError: the checkpoint that the run would go on from could not be written.
    """
    if journal.failure is not None:
        raise journal.failure
    accuracy, negative_loss = standing.score
    scores = {"val_accuracy": accuracy, "val_loss": -negative_loss}
    return Pause(len(journal.curves["stage"]) + standing.epoch, scores)


def complete(journal, scores):
    """The Pause of a run that has trained all its stages, with the scores of its best weights on validation images.

    Raises:
        OSError: the checkpoint that the run would go on from could not be written.
    """
    if journal.failure is not None:
        raise journal.failure
    told = {f"val_{name}": value for name, value in scores.items() if name != "images"}
    return Pause(len(journal.curves["stage"]), told, is_complete=True)
