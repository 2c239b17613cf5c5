"""What a step of an optimizer needs for each weight, found by letting it take one in a graph."""

import keras
import tensorflow as tf

from recipes.costs.allocator import Allocator
from recipes.costs.liveness import follow
from recipes.training.optimizers import make_optimizer

_SIDE = 64


def optimizer_needs(optimizer):
    """`(slots, beside)`: what an optimizer keeps, and the tensors that a step takes, both in sizes of the weight.

    Args:
        optimizer: a name that `recipes.finetune` takes, with what it sets, or a Keras optimizer.
    """
    layer = keras.layers.Dense(_SIDE, use_bias=False, dtype="float32", name="probe")
    layer.build((None, _SIDE))
    variable = layer.kernel
    given = make_optimizer(optimizer, 1e-3, None, {}).inner_optimizer
    config = {name: value for name, value in given.get_config().items() if value is not None}
    stepping = type(given).from_config(config)
    stepping.build([variable])
    size = tf.TensorSpec(variable.shape, variable.dtype)
    step = tf.function(lambda gradient: stepping.apply([gradient], [variable]), autograph=False)
    operations = step.get_concrete_function(size).graph.get_operations()
    weight = _SIDE * _SIDE
    kept = sum(each.shape.num_elements() for each in stepping.variables if each.shape and len(each.shape) == 2)
    allocator = Allocator()
    follow(operations, [], allocator)
    return kept / weight, round(allocator.peak / (4 * weight))
