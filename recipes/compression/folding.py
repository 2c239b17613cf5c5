"""recipes.fold: BatchNormalization made part of the layers around it, for good."""

import dataclasses
import warnings

import keras

from recipes.bases.flattening import flat_copy, graph_config
from recipes.bases.simplifying import without_normalization
from recipes.checks import complaint
from recipes.evaluation import cost_of
from recipes.reporting.tables import cut
from recipes.values import Result

_NAMED = 5  # layers that stay, in a warning
_WIDTH = 200


def fold(model):
    """Make each BatchNormalization part of the weights of a layer beside it; the outputs stay, up to rounding.

    1. Unfold nested models and blocks into one flat graph.
    2. A BatchNormalization that is all that follows a convolution (plain, depthwise, transposed or separable, in one to
       three dimensions) or a dense layer goes into that layer's kernel and bias.
    3. One that is all that such a layer is given, with no zeros padded in between, goes into that layer. Transposed
       convolutions take in what follows them only.
    4. Those that stay (behind an activation or a sum, say) are named in a warning, each with the reason.

    It needs no images. What it gives is for serving, and for steps that look at kernels afterwards (quantization, low
    rank): trained on, it would miss its normalization. `recipes.export` and `recipes.accelerate` fold by themselves.

    Args:
        model: Result, or keras.Model, functional or sequential, with one input and one output.

    Returns:
        Result or keras.Model, as `model` was, of one flat graph which shares nothing with it.

    Raises:
        TypeError: `model` is of another kind.

    Example:
        >>> import keras, recipes
        >>> image = keras.Input((16, 16, 3))
        >>> x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, use_bias=False)(image))
        >>> [layer.name for layer in recipes.fold(keras.Model(image, x)).layers[1:]]
        ['conv2d...']

    Source:
        Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only
        inference", section 3.2.
    """
    if isinstance(model, Result):
        folded, report = _folded(model.model), model.report
        if report is not None:
            report = dataclasses.replace(report, cost=report.cost | cost_of(folded))
        return dataclasses.replace(model, model=folded, report=report)
    if not isinstance(model, keras.Model):
        rule, mend = "model must be a Result or a keras.Model", "Pass what recipes.finetune or keras.Model gave."
        raise TypeError(complaint("fold", rule, f"a {type(model).__name__}", mend))
    return _folded(model)


def _folded(model):
    _check_graph(model)
    folded, notes = without_normalization(flat_copy(model, "fold"))
    if notes:
        named = "; ".join(cut(f"{name!r}: {reason}", _WIDTH) for name, reason in list(notes.items())[:_NAMED])
        more = f"; and {len(notes) - _NAMED} more" if len(notes) > _NAMED else ""
        warnings.warn(f"fold: {len(notes)} BatchNormalization layers stay. {named}{more}", stacklevel=3)
    return folded


def _check_graph(model):
    is_graph = model.built if isinstance(model, keras.Sequential) else graph_config(model)
    if not is_graph or len(model.inputs) != 1 or len(model.outputs) != 1:
        rule = "model must be functional or sequential, with one input and one output"
        mend = "Build it with keras.Model(image, output), or keras.Sequential with an Input."
        raise TypeError(complaint("fold", rule, f"{model.name!r} of class {type(model).__name__}", mend))
