"""The weights that ship with `small_resnet`: trained by `recipes.finetune` on the training images of CIFAR-10.

    python benchmarks/pretrain_small_resnet.py --data cifar10_images/ --out runs/small_resnet

`--data` has folders train and test with a folder per class. Leaves the run in `--out`, and beside it
`small_resnet_cifar10.weights.h5` (the base without its head) and `small_resnet_cifar10.json` (the report), as they
stand in `recipes/bases/pretrained/`.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import h5py
import tensorflow as tf
from machine import describe_machine

import recipes
from recipes.bases import find_base
from recipes.bases.naming import named_layers

SHIFT = 4  # pixels
HOLE = 8


def vary(images, seed):
    """Mirror every second image, shift each by whole pixels over its own reflection, and cover a square of it."""
    count, side = tf.shape(images)[0], tf.shape(images)[1]
    draws = tf.random.stateless_uniform((5, count), seed)
    images = tf.where(draws[0, :, None, None, None] < 0.5, images[:, :, ::-1], images)
    left, top = (tf.round(SHIFT * (2 * draw - 1)) for draw in (draws[1], draws[2]))
    ones, zeros = tf.ones_like(left), tf.zeros_like(left)
    images = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([ones, zeros, left, zeros, ones, top, zeros, zeros], 1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="REFLECT",
    )
    places = tf.range(tf.cast(side, tf.float32))[:, None, None]
    rows, columns = (tf.abs(places - tf.cast(side, tf.float32) * draw) < HOLE / 2 for draw in (draws[3], draws[4]))
    hole = tf.transpose(rows & tf.transpose(columns, (1, 0, 2)), (2, 0, 1))[..., None]
    return tf.where(hole, tf.reduce_mean(images, (1, 2), keepdims=True), images)


def train(base, data, epochs, **options):
    """A Result of `base` from random weights: SGD with Nesterov's momentum, on images that vary."""
    return recipes.finetune(
        base,
        data,
        weights=None,
        epochs=epochs,
        batch_size=128,
        optimizer="sgd",
        learning_rate=0.1,
        weight_decay=5e-3,  # times the rate; with momentum 0.9 this is the L2 gradient 5e-4 * w of the literature
        augmentation=vary,
        patience=None,
        **options,
    )


def in_halves(model):
    """Round every kernel to float16, which halves the file."""
    for variable in model.weights:
        if len(variable.shape) > 1:
            variable.assign(variable.numpy().astype("float16"))


def save_base(model, path):
    """The weights of the base alone, in the layout of the network that `recipes.bases` makes; kernels as float16."""
    base = find_base("small_resnet").constructor(input_shape=(32, 32, 3))
    for name, layer in named_layers(base).items():
        if layer.weights:
            layer.set_weights(model.get_layer(name).get_weights())
    base.save_weights(path)
    halve(path)


def halve(path):
    """Keep the kernels in the file as float16."""
    whole = Path(f"{path}.whole")
    Path(path).replace(whole)

    def copy(name, item):
        if isinstance(item, h5py.Group):
            new.require_group(name).attrs.update(item.attrs)
        else:
            new[name] = item[()].astype("float16") if item.ndim > 1 else item[()]

    with h5py.File(whole) as old, h5py.File(path, "w") as new:
        new.attrs.update(old.attrs)
        old.visititems(copy)
    whole.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with train and test folders")
    parser.add_argument("--out", required=True, help="folder of the run")
    parser.add_argument("--epochs", type=int, default=20)
    asked = parser.parse_args()
    data = recipes.load_data(asked.data, image_size=32, valid=0.02)
    result = train("small_resnet", data, asked.epochs)
    curves, settings, seconds = result.report.curves, result.report.settings, result.report.seconds
    in_halves(result.model)
    result = dataclasses.replace(result, report=result.evaluate(data))
    result.save(asked.out)
    target = Path(asked.out).with_name("small_resnet_cifar10")
    save_base(result.model, f"{target}.weights.h5")
    figures = {
        "machine": describe_machine(),
        "test_images": len(data.test),
        "scores": result.report.scores,
        "curves": curves,
        "settings": settings,
        "seconds": seconds,
    }
    Path(f"{target}.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
