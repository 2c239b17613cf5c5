"""Fine-tunes on one device and on several in step, and compares: `python devices_in_step.py 2`."""

import sys
import tempfile

import numpy as np
import tensorflow as tf
from cases import random_images, tiny_base

import recipes
from recipes.data.loading import pick
from recipes.training.looping import Loop


def check(strategy, data, train, valid, batch_size):
    """Whatever is left over in the last batch, also where a device has none of it."""
    parts = {"train": pick(data.train, range(train)), "valid": pick(data.valid, range(valid))}
    data = recipes.Data(**{**vars(data), **parts, "test": pick(data.test, range(valid + 1))})
    options = {"epochs": (2, 1), "optimizer": "sgd", "learning_rate": 1e-3, "batch_size": batch_size}
    options |= {"schedule": "constant", "verbose": False}
    one = recipes.finetune(tiny_base(), data, **options)
    with strategy.scope():
        several = recipes.finetune(tiny_base(), data, **options)
    for single, shared in zip(one.model.get_weights(), several.model.get_weights(), strict=True):
        np.testing.assert_allclose(shared, single, atol=1e-5)
    curves = one.report.curves, several.report.curves
    np.testing.assert_allclose(curves[1]["val_accuracy"], curves[0]["val_accuracy"], rtol=1e-6)
    np.testing.assert_allclose(curves[1]["val_loss"], curves[0]["val_loss"], rtol=1e-4)
    assert several.report.scores["accuracy"] == one.report.scores["accuracy"]
    with tempfile.TemporaryDirectory() as folder, strategy.scope():
        resumed = interrupted(data, folder, options)
    for shared, again in zip(several.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(again, shared)
    image = data.test.images(0, 1)[0]
    assert several.predict(image).label == one.predict(image).label
    sys.stdout.write(f"{train} {valid} {batch_size}: equal\n")


def interrupted(data, folder, options):
    """The Result of a run that stopped in its second step and was called again."""
    book, steps = Loop._book, []

    def stop(self, *arguments):
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt
        book(self, *arguments)

    Loop._book = stop
    try:
        recipes.finetune(tiny_base(), data, out=f"{folder}/run", checkpoint_steps=1, **options)
    except KeyboardInterrupt:
        Loop._book = book
        return recipes.finetune(tiny_base(), data, out=f"{folder}/run", checkpoint_steps=2, **options)
    finally:
        Loop._book = book


def main():
    devices = int(sys.argv[1])
    configurations = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], configurations)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(devices)])
    data = recipes.load_data((random_images(np.random.default_rng(0), 80), np.arange(80) % 2), valid=0.25, test=0.25)
    for sizes in ((24, 9, 8), (25, 7, 8), (19, 8, 7), (4, 4, 8)):
        check(strategy, data, *sizes)


if __name__ == "__main__":
    main()
