"""Going down level by level, with training in between, as far as the accuracy allows."""

from recipes.compression.recovering import recover
from recipes.compression.renormalizing import renormalize
from recipes.compression.steps import Step, is_enough
from recipes.training.progress import say


def descend(subject, levels, attempt, *, name, floor, recovery, seed=0, verbose=True, is_cumulative=True):
    """Go from level to level until one falls below the floor.

    1. `attempt` makes a new model of the last one that was good enough; its BatchNormalization is measured anew.
    2. It trains, and its validation accuracy is measured.
    3. Where that is below the floor, it is noted and the levels after it are not tried.

    Args:
        subject: Subject to begin with.
        levels: what `attempt` understands, from mild to strong.
        attempt: function `(model, level) -> (new model, {layer: why it was left alone})`; it changes nothing in place.
        name: function of a level to the name of its Step.
        floor: least validation accuracy, or None, with which every level is taken.
        recovery: Recovery.
        seed: of the training.
        verbose: whether to show progress.
        is_cumulative: whether each level starts from what the last one left, rather than from the subject's model.

    Returns:
        list of Step; the last one that `is_kept` has the model. It is empty where no level changes anything.
    """
    steps, last = [], subject.model
    for number, level in enumerate(levels):
        model, notes = attempt(last if is_cumulative else subject.model, level)
        say(verbose, f"{name(level)}:")
        renormalize(model, subject)
        recover(model, subject, recovery, seed=seed + number, verbose=verbose)
        accuracy = subject.accuracy(model)
        is_kept = is_enough(accuracy, floor)
        steps.append(Step(name(level), model, accuracy, notes, is_kept))
        if accuracy is not None:
            verdict = "kept" if is_kept else f"below {floor:.4f}: this is as far as it goes"
            say(verbose, f"{name(level)}: validation accuracy {accuracy:.4f}, {verdict}")
        if not is_kept:
            break
        last = model
    return steps


def last_kept(subject, steps):
    """The Subject with the model of the last step that was good enough."""
    kept = [step for step in steps if step.is_kept]
    return subject.with_model(kept[-1].model) if kept else subject
