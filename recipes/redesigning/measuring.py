"""How long designs take, side by side."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from recipes.bases.seeding import globals_kept
from recipes.timing import alternating


def seconds_of(designs, batch_size, is_training):
    """The designs with their median seconds, and the median over the rounds of their ratio to those of the first."""
    make = _training_step if is_training else _forward_pass
    with globals_kept():
        runs = {design.name: make(design.build(), batch_size) for design in designs}
    rounds = {name: np.array(seconds) for name, seconds in alternating(runs).items()}
    first = rounds[designs[0].name]
    return [
        dataclasses.replace(
            design,
            seconds=float(np.median(rounds[design.name])),
            time_ratio=float(np.median(rounds[design.name] / first)),
        )
        for design in designs
    ]


def _forward_pass(model, batch_size):
    images = _images(model, batch_size)
    return _waited_for(lambda: model(images, training=False))


def _training_step(model, batch_size):
    """A step so small that a network that was not trained stays as it is."""
    images = _images(model, batch_size)
    labels = tf.zeros([batch_size], tf.int32)
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    model.optimizer.learning_rate = 1e-9
    model.optimizer.build(model.trainable_variables)

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, model(images, training=True)))
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return _waited_for(step)


def _waited_for(function):
    """The function as one graph, whose result is waited for."""
    graph = tf.function(function).get_concrete_function()
    return lambda: graph().numpy()


def _images(model, batch_size):
    return tf.random.stateless_uniform((batch_size, *model.input_shape[1:]), (0, 0), maxval=255.0)
