"""Rows of the augmentation layers."""

import keras
import numpy as np
from layer_case import LayerCase

import layers


def unchanged(layer, images):
    return images


def small_classifier():
    convolution, norm = keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()
    pool, head = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")
    return keras.Sequential([keras.Input((6, 7, 3)), convolution, norm, pool, head])


def mean_over_crops(layer, images):
    """Windows by hand, one by one."""
    tall, wide = images.shape[1:3]
    places = [((tall - 6) // 2, (wide - 7) // 2)]
    if layer.crops >= 5:
        places += [(top, left) for top in (0, tall - 6) for left in (0, wide - 7)]
    answers = []
    for top, left in places:
        crop = images[:, top : top + 6, left : left + 7]
        answers.append(layer.model.predict(crop, verbose=0))
        if layer.crops in (2, 10):
            answers.append(layer.model.predict(crop[:, :, ::-1], verbose=0))
    return np.mean(answers, axis=0)


def mean_over_scales(layer, images):
    """Of a classifier without a bound on its images' size: the same layers built for any size, scale by scale."""
    image = x = keras.Input((None, None, 3))
    for inner in layer.model.layers:
        x = inner(x)
    anywhere, scores = keras.Model(image, x), []
    for scale in (224, 256, 384, 480, 640):
        size = round(6 * scale / 224), round(7 * scale / 224)
        resized = reference_resize(images, size)
        answers = [anywhere.predict(part, verbose=0) for part in (resized, resized[:, :, ::-1])]
        scores.append(np.mean(np.log(answers), axis=0))
    mean = np.exp(np.mean(scores, axis=0))
    return mean / mean.sum(-1, keepdims=True)


def reference_resize(images, size):
    """Bilinear, a triangle as wide as two pixels of the smaller image, one axis after the other."""
    for axis, count in enumerate(size, start=1):
        pixels = images.shape[axis]
        step = pixels / count
        images = np.moveaxis(images, axis, -1)
        made = []
        for place in range(count):
            center = min(max((place + 0.5) * step - 0.5, 0), pixels - 1)
            weights = np.maximum(0, 1 - np.abs(np.arange(pixels) - center) / max(step, 1))
            made.append(images @ (weights / weights.sum()))
        images = np.moveaxis(np.stack(made, axis=-1), -1, axis)
    return images.astype("float32")


AUGMENTATION = (
    LayerCase(
        "ImageByImage",
        lambda: layers.ImageByImage(small_classifier()),
        (6, 7, 3),
        lambda layer, images: layer.model.predict(images, verbose=0),
        bad=(({"model": 3}, "model=3"),),
        any_size=False,
    ),
    LayerCase(
        "CropAverage",
        lambda: layers.CropAverage(small_classifier()),
        (11, 9, 3),
        mean_over_crops,
        bad=(
            ({"model": 3}, "model=3"),
            ({"model": None, "crops": 3}, "crops=3"),
            ({"model": None, "average": "scores"}, "average='scores'"),
        ),
    ),
    LayerCase(
        "CropAverage over scales",
        lambda: layers.CropAverage(small_classifier(), "resnet", average="logits"),
        (17, 20, 3),
        mean_over_scales,
    ),
    LayerCase(
        "RandomResizedCrop",
        lambda: layers.RandomResizedCrop((6, 7), seed=1),
        (11, 9, 3),
        is_random=True,
        bad=(
            ({"size": 0}, "size=0"),
            ({"size": 8, "scale": (0, 1)}, "scale=0"),
            ({"size": 8, "scale": (0.1, 1.5)}, "scale=1.5"),
            ({"size": 8, "scale": 0.5}, "scale=0.5"),
            ({"size": 8, "aspect": (2.0, 1.0)}, "aspect=(2.0, 1.0)"),
        ),
    ),
    LayerCase(
        "RandomScaleCrop",
        lambda: layers.RandomScaleCrop(6, short_side=(7, 12), seed=1),
        (11, 9, 3),
        is_random=True,
        bad=(
            ({"size": 2.5}, "size"),
            ({"size": 300}, "short_side=(256, 480)"),
            ({"size": 8, "short_side": (20, 10)}, "short_side=(20, 10)"),
        ),
    ),
    LayerCase(
        "RandomStretch",
        lambda: layers.RandomStretch((0.5, 2.0), seed=1),
        (11, 9, 3),
        unchanged,
        is_random=True,
        bad=(({"aspect": (0, 1)}, "aspect=0"), ({"aspect": "wide"}, "aspect='wide'")),
    ),
    LayerCase(
        "LensDistortion",
        lambda: layers.LensDistortion((-0.2, 0.4), seed=1),
        (11, 9, 3),
        unchanged,
        is_random=True,
        bad=(
            ({"factor": (-0.5, 0.5)}, "factor=(-0.5, 0.5)"),
            ({"quartic_factor": 1}, "quartic_factor=1"),
            ({"fill_mode": "wrap"}, "fill_mode='wrap'"),
        ),
    ),
    LayerCase(
        "PCALighting",
        lambda: layers.PCALighting(1.0, seed=1),
        (11, 9, 3),
        unchanged,
        is_random=True,
        bad=(
            ({"sigma": -0.1}, "sigma=-0.1"),
            ({"eigenvalues": (1.0, 2.0)}, "eigenvalues of shape (2,)"),
            ({"eigenvalues": (1.0, -2.0), "eigenvectors": ((1, 0), (0, 1))}, "eigenvalues=-2.0"),
        ),
    ),
)
