"""Finding a learning rate before training."""

import functools
import inspect
import os
from pathlib import Path
from typing import Any

from recipes.bases import list_bases, network_for
from recipes.bases.drop_paths import with_drop_paths
from recipes.checks import check_number, check_whole, complaint
from recipes.finetuning import finetune
from recipes.probing.fitting import fit_head
from recipes.probing.planning import planned
from recipes.saving import load
from recipes.training.devices import dtype_policy, placement
from recipes.training.given_data import open_data
from recipes.training.learning_rate_finder import Ramp, sweep_rates
from recipes.training.objectives import embedding_width
from recipes.training.preparing import BATCH, check_alone, for_data, prepare
from recipes.training.progress import collector_spared, say
from recipes.training.stages import frozen_parts
from recipes.values import Result

_LEAST_STEPS = 20
_DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(finetune).parameters.items()}


def find_lr(
    base: str | Any,
    data: dict[str, Any] | str | Any,
    *,
    weights: str | None = "pretrained",
    image_size: int | tuple[int, int] | None = None,
    head: str | tuple[int, ...] = "linear",
    plan: str | list[dict[str, Any]] | Any = "default",
    stage: int = 0,
    layer_ratios: tuple[float, float, float] = (1.0, 0.1, 0.01),
    layer_decay: float | None = None,
    batch_size: int | str = BATCH,
    optimizer: str | Any = "adamw",
    weight_decay: float | None = 0.01,
    dropout: float = 0.0,
    label_smoothing: float = 0.0,
    sampling: str = "all",
    loss: str | Any | None = None,
    stochastic_depth: float = 0.0,
    augmentation: str | Any | None = None,
    views: int | None = None,
    precision: str = "auto",
    seed: int = 0,
    lowest: float = 1e-5,
    highest: float = 10.0,
    steps: int = 100,
    runs: int | None = None,
):
    """Find the learning rate of `finetune` by a range test: train at a rate that rises, and look at the loss.

    1. Open the data and build the network, as `finetune` would; with `plan="auto"`, measure, choose and say so, as it
       would too.
    2. Run what the stage leaves frozen once over the images; the rows stay in the cache, where `finetune` finds them.
    3. Train the stage by its own step (optimizer with layer-wise rates, augmentation, loss, batches) at a rate that
       rises evenly in the logarithm; stop when the loss has run away. Begin again from the same weights, in another
       order of the images, `runs` times.
    4. Take the median of the losses at each rate, smooth it, and suggest a tenth of the rate at which it has risen
       again by half of what it fell; where it rises at no rate, the rate at which it falls fastest.

    What it is given stays as it is: a copy trains, and that one's weights, statistics and random states are brought
    back after each run, bit by bit. Each step takes as long as one of training; on a frozen part that is kept, all
    take a second or two, to which `plan="auto"` adds what choosing takes.

    Args:
        base: as in `recipes.finetune`; a `Result`, or the folder of one, stands for its model.
        data: as in `recipes.finetune`.
        weights: as in `recipes.finetune`.
        image_size: as in `recipes.finetune`, pixels.
        head: as in `recipes.finetune`.
        plan: as in `recipes.finetune`; `"auto"` is chosen first, as there.
        stage: number of the stage in its plan, from 0. Later ones are tried from the weights at the start of the run.
        layer_ratios: as in `recipes.finetune`.
        layer_decay: as in `recipes.finetune`.
        batch_size: as in `recipes.finetune`. Another batch size wants another rate.
        optimizer: as in `recipes.finetune`.
        weight_decay: as in `recipes.finetune`.
        dropout: as in `recipes.finetune`.
        label_smoothing: as in `recipes.finetune`.
        sampling: as in `recipes.finetune`.
        loss: as in `recipes.finetune`.
        stochastic_depth: as in `recipes.finetune`.
        augmentation: as in `recipes.finetune`.
        views: as in `recipes.finetune`.
        precision: as in `recipes.finetune`.
        seed: as in `recipes.finetune`.
        lowest: rate to begin with.
        highest: rate to end with, unless the loss runs away before.
        steps: of each run, 20 or more.
        runs: how many. Default: 3 where the head trains alone and the images are the same in every epoch, else 1.

    Returns:
        `RateSweep`, which prints as a table: `suggestion`, `rates`, `losses`. `recipes.plot_rates` draws it.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range; see `recipes.finetune`.
        FloatingPointError: the loss is no number to begin with.
        MemoryError: a step does not fit into memory; says what to set.

    Example:
        >>> import recipes
        >>> data = recipes.load_data("digits", image_size=8)
        >>> found = recipes.find_lr("small_resnet", data, weights=None, plan="head", steps=60)
        >>> 0.001 < found.suggestion < 1
        True

    Source:
        Smith 2017, "Cyclical learning rates for training neural networks", section 3.3; Howard & Gugger 2020, "fastai"
        (rising exponentially, stopping when the loss runs away).
    """
    where, given = "find_lr", locals()
    _check_ramp(given, where)
    given["base"] = base = _opened(base)
    own = ("stage", "lowest", "highest", "steps", "runs")
    setup = prepare(_DEFAULTS | {name: value for name, value in given.items() if name not in own}, where)
    training = setup.training
    with collector_spared():
        data = open_data(data, base, weights, image_size, where)
        training = for_data(training, data, augmentation)
        strategy = placement()
        with strategy.scope(), dtype_policy(precision):
            check_alone(strategy, training)
            make = functools.partial(
                network_for,
                data,
                base,
                weights=weights,
                head=head,
                embedding=embedding_width(training),
                dropout=dropout,
                seed=seed,
                where=where,
            )
            network, chosen = make(), None
            stages, decided = setup.stages_of(pretrained=network.pretrained), {}
            if plan == "auto":
                network, stages, chosen = planned(network, head, make, data, training, setup.stages_of)
                say(training.verbose, chosen.line)
            if stochastic_depth:
                network = with_drop_paths(network, stochastic_depth, seed, where)
            _check_stage(stage, stages, where)
            parts = frozen_parts(network, data, stages, training, decided)
            if chosen is not None and chosen.head_start == "fitted":
                fit_head(network, data, seed=seed)
            ramp = Ramp(lowest, highest, steps, runs)
            return sweep_rates(network, data, stages[stage], stage, training, parts, decided, ramp)


def _opened(base):
    """What `finetune` takes: the model of a Result, or of the folder of one."""
    is_path = isinstance(base, (str, os.PathLike)) and base not in list_bases()
    if is_path and Path(base).expanduser().is_dir():
        base = load(base)
    return base.model if isinstance(base, Result) else base


def _check_ramp(given, where):
    check_whole(where, "stage", given["stage"], least=0)
    check_whole(where, "steps", given["steps"], least=_LEAST_STEPS)
    if given["runs"] is not None:
        check_whole(where, "runs", given["runs"])
    check_number(where, "lowest", given["lowest"], above=True)
    check_number(where, "highest", given["highest"], least=given["lowest"], above=True)


def _check_stage(stage, stages, where):
    if stage >= len(stages):
        names = ", ".join(f"{number}: {one.name!r}" for number, one in enumerate(stages))
        raise ValueError(complaint(where, f"the plan has {len(stages)} stage(s)", f"stage={stage}", f"Pass {names}."))
