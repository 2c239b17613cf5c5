"""Where a stage stands: all of it that is no variable, and when it has done enough."""

import dataclasses

_PLATEAU_PATIENCE = 3  # epochs
_PLATEAU_FACTOR = 0.3
_PLATEAU_LEAST = 1e-4  # by which the loss must fall


@dataclasses.dataclass
class Standing:
    """Plain numbers, which a checkpoint writes down as they are.

    Args:
        epoch: epochs that are over.
        step: steps of the next one that are done.
        sums: of these steps: the loss over their images, the images told right, the images.
        history: per-epoch lists by name.
        score: best validation score so far, `(accuracy, -loss)`; None where there is none.
        waited: epochs since then.
        lowest: lowest validation loss so far, as the plateau schedule sees it.
        stood: epochs since then, or since the rate was lowered.
        rate_factor: what the stage's rates are multiplied by, once numbers have gone wrong.
    """

    epoch: int = 0
    step: int = 0
    sums: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0.0, 0.0])
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    score: tuple[float, float] | None = None
    waited: int = 0
    lowest: float | None = None
    stood: int = 0
    rate_factor: float = 1.0

    def add_step(self, sums):
        """Count a step with its loss, images told right, and images."""
        self.step += 1
        self.sums = [before + float(value) for before, value in zip(self.sums, sums, strict=True)]

    def running(self):
        """`{"accuracy", "loss"}` of the epoch so far."""
        loss, right, images = self.sums
        return {"accuracy": right / images, "loss": loss / images}

    def end_epoch(self, scores):
        """Book the epoch with its `scores`, a dictionary; whether its validation score is the best so far.

        Better is a higher validation accuracy, or an equal one with a lower validation loss.
        """
        for name, value in (self.running() | scores).items():
            self.history.setdefault(name, []).append(value)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, [0.0, 0.0, 0.0]
        if "val_loss" not in scores:
            return False
        score = (scores["val_accuracy"], -scores["val_loss"])
        if self.score is None or score > tuple(self.score):
            self.score, self.waited = score, 0
            return True
        self.waited += 1
        return False

    def factor_at_plateau(self, loss):
        """What to multiply the rate by after an epoch with this validation loss."""
        if self.lowest is None or loss < self.lowest - _PLATEAU_LEAST:
            self.lowest, self.stood = loss, 0
            return 1.0
        self.stood += 1
        if self.stood < _PLATEAU_PATIENCE:
            return 1.0
        self.stood = 0
        return _PLATEAU_FACTOR
