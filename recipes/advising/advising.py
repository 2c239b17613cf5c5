"""Reading a network and saying what the craft would change."""

import os
from pathlib import Path
from typing import Any

import keras

from recipes.advising.advice import KINDS, Advices
from recipes.advising.reading import Graph
from recipes.advising.rules import RULES
from recipes.bases import build_network, find_base, list_bases
from recipes.bases.sources import find_source
from recipes.checks import complaint
from recipes.data import load_data
from recipes.data.loading import check_options
from recipes.saving import load
from recipes.values import Data, Result

NAMED_OPTIMIZERS = ("adam", "adamw", "lion", "rmsprop")


def advise(model: str | Any, data: dict[str, Any] | str | Any = None):
    """Read a network and say what the craft would change, with the reason and the saving.

    1. Open the network, and the images where there are any.
    2. Read its graph, blocks and nested models unfolded; nothing is trained, and the model stays as it is.
    3. Ask each rule, which names all layers that it is about at once.

    The rules, mistakes first:

    - `inputs_not_normalized`: what reaches the first weights deviates by more than 10 and is not centred, or by less
      than 0.01.
    - `data_does_not_fit`: images of another size, with other channels or classes than the network's.
    - `unfitting_initialisation`: fresh weights under SELU that are not LeCun's, under tanh and sigmoid that are He's;
      ReLU after ReLU without normalization, where the start makes the signal fade or grow (free while it is less than
      a hundredfold).
    - `saturating_activation`: sigmoid or tanh between hidden layers; gates and outputs may be.
    - `penalty_in_adaptive_optimizer`: L2 in a model that Adam or its like trains.
    - `checkerboard`: a transposed convolution with a kernel that is no multiple of its stride.
    - `bias_before_normalization` (free): a bias right before BatchNormalization.
    - `relu_before_max_pool` (free): an activation of which the next max-pooling throws most away.
    - `large_kernel` (choice): 5×5 and more, stride 1, where a stack of 3×3 saves a fifth or more.
    - `missing_bottleneck` (choice): 3×3 and more, stride 1, with the weights of 256 to 256 channels or more and no 1×1
      that reduces channels before.
    - `dense_on_map` (choice): Dense on a flattened map of 4×4 and more, with a quarter of all weights and at least
      100,000.
    - `images_smaller_than_trained` (choice): images below half of the side at which a base's weights were trained.

    The networks of the catalogue make no mistake. What is free or a choice in them is named where it is there, as the
    wide 3×3 convolutions of VGG, or the biases before BatchNormalization in Keras' ResNet.

    Args:
        model: a functional or sequential `keras.Model`, a `Result` or the folder of a saved one, a name of
            `recipes.list_bases` (built as `finetune` would, with random weights), or the path of a `.keras` file,
            of which no optimizer is read.
        data: None, `Data`, or any source that `recipes.load_data` takes: the images that the network is meant for.
            Size, channels and classes are compared, and what reaches the first weights is measured on 32 of them.

    Returns:
        `Advices`, which prints as a list and is empty where there is nothing to change.

    Raises:
        TypeError: `model` is of no known kind.
        ValueError: the model is written as a class, so that its graph cannot be seen, or is not built.
        FileNotFoundError: for the path of no file.

    Example:
        >>> import recipes
        >>> recipes.advise("small_resnet")
        small_resnet (681,714 parameters, 99,533,056 multiply-adds): nothing to change
        >>> [(advice.rule, advice.kind) for advice in recipes.advise("vgg16")]
        [('relu_before_max_pool', 'free'), ('missing_bottleneck', 'choice')]
    """
    where = "advise"
    graph = _opened(model, data, where)
    found = [advice for rule in RULES if (advice := rule(graph)) is not None]
    found.sort(key=lambda advice: (KINDS.index(advice.kind), -_largest_fraction(advice)))
    return Advices(graph.name, graph.parameters, graph.multiply_adds, tuple(found))


def _opened(model, data, where):
    """The Graph of what `model` means, with the Data that it is meant for."""
    if isinstance(model, str) and model in list_bases():
        return _opened_base(find_base(model), data, where)
    optimizer = None
    if isinstance(model, (str, os.PathLike)):
        model = load(model) if Path(model).expanduser().is_dir() else find_source(model, where).model
    if isinstance(model, Result):
        optimizer = _optimizer_of(model.report)
        model = model.model
    if not isinstance(model, keras.Model):
        mend = "Pass a keras.Model, a Result, the folder of one, a .keras file or a name of recipes.list_bases()."
        raise TypeError(complaint(where, "model is of no known kind", type(model).__name__, mend))
    graph = Graph(model, where)
    graph.optimizer = graph.optimizer or optimizer
    shape = graph.inputs[0].shape
    size = shape[1:3] if len(shape) == 4 and None not in shape[1:3] else None
    graph.data = _loaded(data, size, where)
    return graph


def _opened_base(row, data, where):
    """The network that `finetune` would build on a base, for the size of the data or that of its published weights."""
    data = _loaded(data, (row.default_size,) * 2, where)
    size, channels, class_count = (row.default_size,) * 2, 3, 2
    if data is not None:
        size = tuple(max(row.least_size, side) for side in data.image_size)
        channels, class_count = data.channels, len(data.class_names)
    network = build_network(row, weights=None, image_size=size, channels=channels, class_count=class_count, where=where)
    graph = Graph(network.model, where)
    graph.data = data
    graph.trained_side = row.default_size if row.weights else None
    return graph


def _loaded(data, image_size, where):
    """Data from any source, at the size of the network where that is known."""
    if data is None or isinstance(data, Data):
        return data
    source, options = check_options(data, where)
    if image_size is not None:
        options.setdefault("image_size", image_size)
    return load_data(source, **options)


def _optimizer_of(report):
    """The optimizer that a Result was trained by, where its report names one of Keras' own."""
    name = None if report is None else report.settings.get("optimizer")
    return keras.optimizers.get(name) if name in NAMED_OPTIMIZERS else None


def _largest_fraction(advice):
    return max((value for name, value in advice.saving.items() if name.endswith("_fraction")), default=0.0)
