"""The learning-rate range test on a stage's own training step: rates that rise, until the loss runs away."""

import dataclasses
import math
import time
import warnings

import numpy as np

from recipes.bases.seeding import derived_seed, globals_kept
from recipes.checks import complaint
from recipes.data.batches import replicas_of, steps_per_epoch, training_batches
from recipes.training.averaging import kept
from recipes.training.objectives import objective_of
from recipes.training.opening import (
    complaint_about_memory,
    free_layers,
    frozen_noise,
    make_stepper,
    open_optimizer,
    order_of,
    shorten_memory,
)
from recipes.training.progress import say
from recipes.training.rate_sweep import RateSweep, is_away
from recipes.training.stepping import distribute

FOUND = "learning rates"  # as `decided` of a Journal has it
AUTO, LIGHT = "auto", "head"
_RUNS = 3  # where a stage is light


@dataclasses.dataclass(frozen=True)
class Ramp:
    """How the rate rises; see the arguments of `recipes.find_lr`."""

    lowest: float = 1e-5
    highest: float = 10.0
    steps: int = 100
    runs: int | None = None

    def rates(self):
        """float64 `(steps,)`, evenly spaced in the logarithm."""
        return np.geomspace(self.lowest, self.highest, self.steps)


def is_sought(network, stage, training):
    """Whether the rate of a stage is to be found."""
    return training.finds_rate == AUTO or (training.finds_rate == LIGHT and _is_light(network, stage, training))


def _is_light(network, stage, training):
    """Whether the head trains alone, on images that are the same in every epoch: on rows that are computed once.

    What the cache does must not count, so that the same rate is found with it and without.
    """
    caching = training.caching
    # Views that are drawn anew would be computed for epochs that only the sweep goes through.
    is_still = training.augment is None or (caching.views is not None and caching.refresh_views is None)
    return is_still and not any(stage.ratios(len(network.blocks)))


def swept_images(network, stage, training):
    """How many images a sweep goes through before a stage."""
    if not is_sought(network, stage, training):
        return 0
    return Ramp().steps * training.batch_size * (_RUNS if _is_light(network, stage, training) else 1)


def with_found_rate(network, data, stage, number, training, parts, decided):
    """The stage at the rate that a sweep finds, where the Training asks for that; else as it is.

    Args:
        network: Network, as it is before the stage; in the end it is so again.
        data: Data.
        stage: Stage.
        number: of it in its plan, from 0.
        training: Training.
        parts: from `frozen_parts`.
        decided: dictionary of a Journal, which remembers the rates: a run that goes on goes on at the same.
    """
    if not is_sought(network, stage, training):
        return stage
    found = decided.setdefault(FOUND, {})
    if str(number) not in found:
        sweep = sweep_rates(network, data, stage, number, training, parts, decided, Ramp())
        say(training.verbose, sweep.line)
        if sweep.suggestion is None:
            warnings.warn(f"{training.where}: {sweep.reason} The rate is {stage.learning_rate:g}.", stacklevel=4)
        found[str(number)] = sweep.suggestion or stage.learning_rate
    return dataclasses.replace(stage, learning_rate=found[str(number)])


def found_rates(decided):
    """`{"found_learning_rates": {number of a stage: rate}}`, for the report of a run that has found some; else `{}`."""
    return {"found_learning_rates": dict(decided[FOUND])} if decided.get(FOUND) else {}


def sweep_rates(network, data, stage, number, training, parts, decided, ramp):
    """The RateSweep of a stage. Afterwards all weights, statistics and random states are as before, bit by bit.

    1. Open the stage as training does: what trains, the rows of what is frozen, the layer-wise optimizer.
    2. In each run, from the same weights and in an order of the images of its own, step with rates that rise; stop
       once the loss has run away.
    3. Read the rate off the losses of all runs.

    Args:
        network: Network.
        data: Data.
        stage: Stage, number `number` of its plan.
        number: from 0.
        training: Training.
        parts: from `frozen_parts`.
        decided: dictionary of what is known about the machine.
        ramp: Ramp.

    Raises:
        FloatingPointError: the very first loss is no number.
    """
    start = time.monotonic()
    ratios = free_layers(network, stage, training.where)
    if not network.pretrained:
        shorten_memory(network.model, steps_per_epoch(data.train, training.batch_size))
    prepared = parts.prepare(number)
    runs = ramp.runs or (_RUNS if _is_light(network, stage, training) else 1)
    with complaint_about_memory(data, training), frozen_noise(network, stage), globals_kept():
        losses = _run_all(prepared, training, ratios, decided, ramp.rates(), runs)
    return RateSweep.of(ramp.rates(), losses, stage.name, time.monotonic() - start)


def _run_all(prepared, training, ratios, decided, rates, runs):
    """The losses of each run, a list of lists, which end where the loss has run away."""
    model = prepared.model
    with kept(model.variables):
        optimizer = open_optimizer(model, training, float(rates[0]), ratios)
        objective = objective_of(training, model.output_shape[-1], training.class_weights)
        stepper, found = None, []
        for run in range(runs):
            batches = distribute(model, _batches(prepared, training, len(rates), run))
            if stepper is None:
                stepper = make_stepper(prepared, optimizer, objective, batches, training, decided)
            with kept(model.variables), kept(optimizer.variables):
                found.append(_run(stepper, optimizer, iter(batches), rates))
        if not math.isfinite(found[0][0]):
            rule, mend = "the loss must be a number to begin with", "Check the weights of the base: recipes.check does."
            raise FloatingPointError(complaint(training.where, rule, f"{found[0][0]:g}", mend))
        return found


def _batches(prepared, training, steps, run):
    return training_batches(
        prepared.train,
        training.batch_size,
        epochs=-(-steps // steps_per_epoch(prepared.train, training.batch_size)),
        seed=derived_seed(training.seed, "rates", run),
        augment=prepared.augment,
        replicas=replicas_of(prepared.model),
        classes=prepared.model.output_shape[-1],
        order=order_of(prepared.train, training),
    )


def _run(stepper, optimizer, batches, rates):
    """The mean loss of each step, before that step."""
    losses = []
    for rate in rates:
        optimizer.learning_rate = float(rate)
        total, _, images, _ = stepper(next(batches)).numpy()
        losses.append(float(total / images))
        if is_away(losses):
            break
    return losses
