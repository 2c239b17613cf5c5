"""The epochs of a stage: steps, a look at the validation images, and what follows from it."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable

import keras

from recipes.checks import complaint
from recipes.training.averaging import Averages
from recipes.training.interrupting import Interrupt
from recipes.training.journal import Journal
from recipes.training.pausing import is_due, pause
from recipes.training.progress import EpochLine


@dataclasses.dataclass
class Loop:
    """Trains from where a Standing says to the end of a stage.

    Args:
        where: for errors.
        stage: name of the stage, for errors.
        batches: those that are left, in their order.
        step: Stepper.
        steps: in an epoch.
        epochs: in the stage, at most.
        patience: epochs without a better validation score after which the stage ends, or None.
        rate: the highest of the stage, for errors.
        optimizer: whose rate is lowered where the validation loss stands still.
        has_plateau: whether it is.
        measure: function to validation scores, `{}` where there are no images for them.
        averages: Averages, the weights to measure and to keep.
        journal: Journal, which writes checkpoints.
        interrupt: Interrupt.
        verbose: whether to show progress.

    Attributes:
        waited: seconds in which the step had to wait for its batch.
    """

    where: str
    stage: str
    batches: Iterable
    step: Callable
    steps: int
    epochs: int
    patience: int | None
    rate: float
    optimizer: keras.optimizers.Optimizer
    has_plateau: bool
    measure: Callable
    averages: Averages
    journal: Journal
    interrupt: Interrupt
    verbose: bool
    waited: float = 0.0

    def run(self, standing):
        """Train; `standing` is brought up to date in place.

        Raises:
            FloatingPointError: the loss or a gradient is not finite any more.
            KeyboardInterrupt, SystemExit: a signal asked to stop; a checkpoint has been written.
            Pause: the run was to pause here; a checkpoint has been written.
        """
        batches = iter(self.batches)
        while standing.epoch < self.epochs and not self._is_enough(standing):
            if is_due(self.journal.curves, standing):
                self._save(standing)
                here = pause(self.journal, standing)
                raise here
            line = EpochLine(standing, self.steps, self.epochs, self.verbose)
            self._run_steps(standing, batches, line)
            self._end_epoch(standing, line)

    def _is_enough(self, standing):
        return self.patience is not None and standing.waited >= self.patience

    def _run_steps(self, standing, batches, line):
        # What a step gives is looked at one step later, so that a device never waits for us.
        ahead = None
        for _ in range(standing.step, self.steps):
            asked = time.perf_counter()
            batch = next(batches)
            self.waited += time.perf_counter() - asked
            ahead, before = self.step(batch), ahead
            if before is not None:
                self._book(standing, before, line)
            if self._has_to_save():
                self._book(standing, ahead, line)
                ahead = None
                self._save(standing)
        if ahead is not None:
            self._book(standing, ahead, line)

    def _book(self, standing, sums, line):
        *sums, health = sums.numpy()
        if not math.isfinite(health):
            self._complain(standing, sums[0])
        standing.add_step(sums)
        line.show(standing)

    def _has_to_save(self):
        return self.journal.is_due() or self.interrupt.asked is not None

    def _save(self, standing):
        self.journal.save(standing)
        self.interrupt.check()

    def _end_epoch(self, standing, line):
        try:
            with self.averages.shown():
                scores = self.measure()
                if not all(math.isfinite(value) for value in scores.values()):
                    self._complain(standing, scores["val_loss"])
                if self.has_plateau:
                    scores["learning_rate"] = float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))
                if standing.end_epoch(scores):
                    self.journal.keep_best()
                self.journal.keep_snapshot()
        except (KeyboardInterrupt, SystemExit):
            if standing.step == self.steps and not self.interrupt.is_forced:  # the epoch is not booked yet
                self.journal.save(standing)
            raise
        factor = standing.factor_at_plateau(scores["val_loss"]) if self.has_plateau else 1
        if factor != 1:
            self.optimizer.learning_rate = scores["learning_rate"] * factor
        line.end(standing)
        if self._has_to_save():
            self._save(standing)

    def _complain(self, standing, loss):
        rate = self.rate * standing.rate_factor
        what = "a gradient that is no number" if math.isfinite(loss) else f"a loss of {loss:g}"
        step = f"step {standing.step + 1}" if standing.step < self.steps else "on the validation images"
        place = f"stage {self.stage!r}, epoch {standing.epoch + 1}, {step}"
        is_first = standing.epoch == standing.step == 0
        cause = (
            "At the very first step, it is likely that the weights hold such numbers already."
            if is_first
            else "The likely cause is a rate that is too high."
        )
        mend = f"{cause} Lower the learning rate (learning_rate={rate / 10:g}, say) or set precision='float32'."
        if self.journal.is_kept:
            mend += ' To do so in this folder, pass resume="restart".'
        rule = "the loss and its gradients must stay finite"
        raise FloatingPointError(complaint(self.where, rule, f"{what} in {place} (rate {rate:g})", mend))
