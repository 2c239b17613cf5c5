"""What a network costs, layer by layer and in total."""

from typing import Any

import keras

from recipes.checks import check_whole, complaint
from recipes.costs.allocator import Allocator
from recipes.costs.clocking import WHOLE, clock
from recipes.costs.liveness import follow
from recipes.costs.opening import input_specs, open_model
from recipes.costs.optimizers import optimizer_needs
from recipes.costs.rows import kept_by_layer, layer_rows, numbers_in, weight_bytes
from recipes.costs.tracing import tensor_bytes, trace
from recipes.training.optimizers import check_optimizer
from recipes.values import Cost


def cost(
    model: str | Any,
    image_size: int | tuple[int, int] | None = None,
    *,
    batch_size: int = 1,
    optimizer: str | Any | None = "adamw",
    is_timed: bool = False,
):
    """Count what a network costs: parameters, multiply-adds, memory and bytes moved, by layer and in total.

    1. Build the network, where a name is given, with random weights: nothing is downloaded.
    2. Trace it as TensorFlow runs it, at inference and, with its gradients, in training. It is not run.
    3. Count multiply-adds operation by operation, as papers do: convolutions and products of matrices (attention's
       too), padding included; biases, normalization, activations and pooling count nothing.
    4. Follow every tensor from the operation that makes it to the last that reads it. The most that is there at one
       time, with weights and what the optimizer keeps, is the memory that is needed.
    5. Measure the time of each layer by itself and of the whole, when asked to.

    Memory is that of tensors, as TensorFlow's allocator has them in use, in the precision of the network, without XLA.
    A process takes a few hundred megabytes more for TensorFlow itself, and `recipes.finetune` up to the size of the
    weights, since it joins small ones. What is frozen (`trainable = False`) needs no
    gradient and keeps nothing, so cost says what freezing saves. Tracing takes seconds, training several times as long
    as inference: `optimizer=None` leaves training out.

    Args:
        model: a Keras model, a `Result`, or a name of `recipes.list_bases()`, which stands for the network with its
            classifier of 1000 classes (ten where it is made for small images).
        image_size: height and width of the images in pixels: a whole number or `(height, width)`. Default: the size
            that the model takes, or its authors used. At another size, a copy of the model is counted.
        batch_size: images that go through the network together, for memory, bytes moved and time.
        optimizer: `"adamw"`, `"adam"`, `"sgd"` (with momentum), `"rmsprop"`, `"lion"`, or a Keras optimizer; None where
            nothing is to be trained.
        is_timed: whether to measure milliseconds on this machine; about a tenth of a second a layer and more.

    Returns:
        `Cost`: totals, and `layers` with a `LayerCost` each. It prints as a table; `recipes.plot_cost` draws it.

    Raises:
        TypeError: `model` is none of these.
        ValueError: the name is not known, the model does not know its sizes, or cannot be built for `image_size`.

    Example:
        >>> import recipes
        >>> cost = recipes.cost("small_resnet", 32, optimizer=None)
        >>> cost.parameters, cost.multiply_adds
        (682746, 99534080)
    """
    check_whole("cost", "batch_size", batch_size)
    if optimizer is not None:
        check_optimizer(optimizer, "cost")
    if not isinstance(is_timed, bool):
        raise TypeError(complaint("cost", "is_timed must be true or false", repr(is_timed), "Pass is_timed=True."))
    opened, size = open_model(model, image_size)
    inputs = input_specs(opened, batch_size)
    inference = trace(opened, inputs, is_training=False)
    training = {} if optimizer is None else _training(opened, inputs, optimizer)
    times = clock(opened, inference, inputs) if is_timed else {}
    layers = layer_rows(opened, inference, batch_size, training.pop("kept_by_layer", None), times)
    weights = weight_bytes(opened.weights)
    images = sum(tensor_bytes(spec) for spec in keras.tree.flatten(inputs))
    return Cost(
        name=opened.name,
        image_size=size,
        batch_size=batch_size,
        layers=layers,
        parameters=numbers_in(opened.weights),
        trainable_parameters=numbers_in(opened.trainable_weights),
        multiply_adds=sum(row.multiply_adds for row in layers),
        weight_bytes=weights,
        input_bytes=images,
        inference_bytes=_inference_bytes(opened, inputs, inference),
        milliseconds=times.get(WHOLE),
        **{**_UNTRAINED, **training},
    )


_UNTRAINED = dict.fromkeys(("optimizer", "gradient_bytes", "optimizer_bytes", "kept_bytes", "training_bytes"))


def _inference_bytes(model, inputs, traced):
    allocator = _started(model, inputs)
    follow(traced.operations, traced.results, allocator)
    return allocator.peak


def _training(model, inputs, optimizer):
    """What training takes, by the fields of Cost, and `kept_by_layer`."""
    traced = trace(model, inputs, is_training=True)
    slots, beside = optimizer_needs(optimizer)
    allocator = _started(model, inputs, slots)
    updates = {name: [size] * beside for name, size in traced.gradients.items()}
    left = follow(traced.operations, traced.results, allocator, updates=updates, forward=traced.forward)
    kept = kept_by_layer(traced, left)
    gradients = weight_bytes(model.trainable_weights)
    return {
        "optimizer": optimizer if isinstance(optimizer, str) else optimizer.name,
        "gradient_bytes": gradients,
        "optimizer_bytes": round(slots * gradients),
        "kept_bytes": sum(kept.values()),
        "kept_by_layer": kept,
        "training_bytes": allocator.peak,
    }


def _started(model, inputs, slots=0):
    """An Allocator that holds weights, what an optimizer keeps of each, and a batch of images."""
    allocator = Allocator()
    for weight in model.weights:
        size = weight_bytes([weight])
        # Random weights are drawn, scaled and shifted, each a tensor, of which the last one stays.
        passing = [allocator.take(size) for _ in range(2 if len(weight.shape) > 1 else 0)]
        allocator.take(size)
        for piece in passing:
            allocator.give_back(piece)
    allocator.peak = allocator.in_use
    for weight in model.trainable_weights if slots else ():
        for _ in range(max(1, round(slots))):
            allocator.take(round(slots * weight_bytes([weight]) / max(1, round(slots))))
    for spec in keras.tree.flatten(inputs):
        allocator.take(tensor_bytes(spec))
    return allocator
