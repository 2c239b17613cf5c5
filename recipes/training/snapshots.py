"""The average of the weights that a stage ended its last epochs with."""

import numpy as np

from recipes.data.batches import take
from recipes.training.opening import drawn_positions
from recipes.training.progress import say
from recipes.training.statistics import measure_statistics, normalizations

TAKEN = "averages taken"  # as `decided` of a Journal has it
_IMAGES = 512  # from which statistics are measured


def average_snapshots(prepared, journal, standing, measure, name, training):
    """Let the average of the last epochs' weights be the best, where validation says so, or where there is none.

    Args:
        prepared: Prepared, of the stage that has come to its end.
        journal: Journal, with snapshots.
        standing: Standing; its score becomes that of the average where that is taken.
        measure: function to validation scores, `{}` where there are no images for them.
        name: of the stage.
        training: Training.

    Source:
        Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization".
    """
    count = journal.assign_average()
    if count < 2:
        return
    changing = [layer for layer in normalizations(prepared.model) if layer.trainable]
    if changing:
        # In evenly spaced parts, as they stand, since it is for images as they stand that the weights are kept.
        positions = drawn_positions(prepared.train, training)
        places = np.linspace(0, len(positions) - 1, min(_IMAGES, len(positions))).astype(np.int64)
        measure_statistics(prepared.model, take(prepared.train, standing.epoch - 1, positions[places]), changing)
    scores = measure()
    score = (scores["val_accuracy"], -scores["val_loss"]) if scores else None
    is_better = score is None or standing.score is None or score > tuple(standing.score)
    told = f", validation accuracy {scores['val_accuracy']:.4f} (best epoch {standing.score[0]:.4f})" if scores else ""
    taken = "kept" if is_better else "not kept"
    say(training.verbose, f"Stage {name!r}: average of the weights of the last {count} epochs{told}: {taken}")
    journal.decided.setdefault(TAKEN, {})[str(journal.stage)] = is_better
    if is_better:
        standing.score = score or standing.score
        journal.keep_best()


def taken_averages(decided):
    """`{"averages_taken": {number of a stage: bool}}`, for the report of a run with snapshots; else `{}`."""
    return {"averages_taken": dict(decided[TAKEN])} if decided.get(TAKEN) else {}
