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

import tensorflow as tf
from machine import describe_machine

import recipes
from recipes.bases import build_network, find_base
from recipes.bases.naming import named_layers

ZOOM = (0.85, 1.2)
SHIFT = 4  # pixels
LIGHT = 0.2


def vary(images, seed):
    """Mirror every second image, zoom and shift each over its own reflection, change its brightness and contrast."""
    count, side = tf.shape(images)[0], tf.cast(tf.shape(images)[1], tf.float32)
    draws = tf.random.stateless_uniform((6, count), seed)
    images = tf.where(draws[0, :, None, None, None] < 0.5, images[:, :, ::-1], images)
    scale = 1 / (ZOOM[0] + (ZOOM[1] - ZOOM[0]) * draws[1])
    left, top = ((1 - scale) * side / 2 + SHIFT * (2 * draw - 1) for draw in (draws[2], draws[3]))
    zeros = tf.zeros_like(scale)
    images = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([scale, zeros, left, zeros, scale, top, zeros, zeros], 1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    brightness, contrast = (1 + LIGHT * (2 * draw[:, None, None, None] - 1) for draw in (draws[4], draws[5]))
    mean = tf.reduce_mean(images, (1, 2), keepdims=True)
    return tf.clip_by_value((mean + contrast * (images - mean)) * brightness, 0.0, 255.0)


def in_float32(result):
    """The same classifier with float32 arithmetic, and its network."""
    network = build_network("small_resnet", weights=None, image_size=32, class_count=len(result.class_names))
    for layer in network.model.layers:
        layer.set_weights(result.model.get_layer(layer.name).get_weights())
    return dataclasses.replace(result, model=network.model)


def save_base(model, path):
    """The weights of the base alone, in the layout of the network that `recipes.bases` makes."""
    base = find_base("small_resnet").constructor(input_shape=(32, 32, 3))
    for name, layer in named_layers(base).items():
        if layer.weights:
            layer.set_weights(model.get_layer(name).get_weights())
    base.save_weights(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with train and test folders")
    parser.add_argument("--out", required=True, help="folder of the run")
    parser.add_argument("--epochs", type=int, default=26)
    parser.add_argument("--precision", default="mixed_bfloat16", help="of training; the report is of float32")
    asked = parser.parse_args()
    data = recipes.load_data(asked.data, image_size=32, valid=0.02)
    result = recipes.finetune(
        "small_resnet",
        data,
        weights=None,
        epochs=asked.epochs,
        batch_size=128,
        optimizer="sgd",
        learning_rate=0.1,
        weight_decay=5e-3,  # times the rate; with momentum 0.9 this is the L2 gradient 5e-4 * w of the literature
        augmentation=vary,
        patience=None,
        precision=asked.precision,
    )
    curves, settings, seconds = result.report.curves, result.report.settings, result.report.seconds
    result = in_float32(result)
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
