"""Whether the pixels are what they should be: those of the data, and those that the first weights take in."""

import keras
import numpy as np

from recipes.advising.inputs import CENTRED, LARGEST_DEVIATION, LEAST_DEVIATION, is_normalized
from recipes.bases.preprocessing import CAFFE_MEAN, TORCH_DEVIATION, TORCH_MEAN
from recipes.sanity.checkup import failed, passed, skipped

LOOKED_AT = 256  # images of the data
_RUN = 48  # of them that go through the network
_TOGETHER = 16  # of these
_DARK = 16  # of 255: the brightest pixels of nearly all images
_FLAT = 2  # of 255: from the darkest to the brightest pixel
_FLAT_SHARE = 0.05
_GAIN = 0.5  # another preprocessing must bring the statistics nearer than half of the distance
_LEAST_DISTANCE = 0.02

# What might be done to images that the pipeline does not do, or has done once too often.
OTHERWISE = {
    "with red and blue exchanged": (
        lambda x: x[..., ::-1],
        "The images are BGR where the network expects RGB (OpenCV reads them so), or the reverse.",
        "Exchange them where they are read (x[..., ::-1]): recipes take RGB.",
    ),
    "multiplied by 255": (
        lambda x: x * 255,
        "The images are scaled twice: the model holds its own scaling, or holds it two times.",
        "Pass RGB 0–255 and scale once, in the model.",
    ),
    "divided by 255": (
        lambda x: x / 255,
        "The model expects 0–1 and holds no scaling.",
        "Put keras.layers.Rescaling(1 / 255) before it, or pass the base by its name.",
    ),
    "scaled to -1–1": (
        lambda x: x / 127.5 - 1,
        "The model expects -1–1 and holds no scaling.",
        "Put keras.layers.Rescaling(1 / 127.5, offset=-1) before it, or pass the base by its name.",
    ),
    "by ImageNet's mean and deviation": (
        lambda x: (x / 255 - np.array(TORCH_MEAN)) / np.array(TORCH_DEVIATION),
        "The model expects images that are normalized by ImageNet's mean and deviation, and does not do so itself.",
        "Put keras.layers.Normalization with these before it, or pass the base by its name.",
    ),
    "as BGR less ImageNet's mean": (
        lambda x: (x - np.array(CAFFE_MEAN))[..., ::-1],
        "The model expects BGR less ImageNet's mean (Caffe's way), and does not make it itself.",
        "Pass the base by its name, which puts that in, or build it in with Keras' own layers.",
    ),
}


def check_pixels(subject):
    """The Finding about the images of the data: range, brightness, and whether anything is on them."""
    images, _ = subject.pick(LOOKED_AT)
    low, high = images.min((1, 2)).astype(int), images.max((1, 2)).astype(int)
    brightest = int(np.quantile(high.max(1), 0.95))
    constant = float(np.mean((high - low).max(1) <= _FLAT))
    told = f"{len(images)} images of {low.min()}–{high.max()}, mean {images.mean():.0f}, deviation {images.std():.0f}"
    if brightest <= _DARK and high.max() > low.min():
        return failed(
            "pixels",
            f"{told}: nearly black, no pixel of 95 % of them is above {brightest} of 255",
            "Images that were scaled to 0–1 already, or of 16 bits, or masks whose pixels are numbers of classes.",
            "Pass RGB 0–255: undo the scaling where the images are made (x * 255).",
        )
    if constant > _FLAT_SHARE:
        return failed(
            "pixels",
            f"{told}; {constant:.0%} of one colour",
            "Files that could be opened and hold nothing, a crop beside the object, or an export that went wrong.",
            "Look at them (recipes.plot_check) and leave them out.",
        )
    grey = images.shape[-1] == 3 and (images[..., :1] == images).all()
    told += ", all grey" if grey else ""
    return passed("pixels", told + (f"; {constant:.1%} of one colour" if constant else ""))


def check_preprocessing(subject):
    """The Finding about what the first weights take in: its scale, and, where BatchNormalization remembers what the
    network was trained on, whether the statistics would fit better had the images been prepared otherwise.

    The distance is the mean over channels of ln(1 + the Kullback–Leibler divergence of the normal distributions).
    """
    preprocessing = subject.preprocessing()
    if preprocessing is None:
        return skipped("preprocessing", "The network has no weights.")
    shape = (2, *subject.model.input_shape[1:])
    noise = np.random.default_rng(0).integers(0, 256, shape).astype("float32")
    taken = keras.ops.convert_to_numpy(preprocessing(noise, training=False)).astype("float64")
    mean, deviation = taken.mean(), taken.std()
    told = f"Noise of 0–255 reaches the first weights with mean {mean:.3g} and deviation {deviation:.3g}"
    normalization = _remembering(subject.model)
    if normalization is None:
        if is_normalized(mean, deviation) or _normalizes_itself(subject.model):
            return passed("preprocessing", told)
        return _badly_scaled(told, deviation)
    images = subject.pick(_RUN)[0].astype("float32")
    probe = keras.Model(subject.model.input, normalization.input)
    own = _distance(probe, normalization, images)
    told = f"{told}; behind {normalization.name!r}, images are {own:.2g} from what it remembers"
    others = {name: _distance(probe, normalization, change(images)) for name, (change, *_) in _changes(images).items()}
    best = min(others, key=others.get)
    if own > _LEAST_DISTANCE and others[best] < _GAIN * own:
        _, cause, mend = OTHERWISE[best]
        return failed("preprocessing", f"{told}, and {others[best]:.2g} {best}", cause, mend)
    return passed("preprocessing", told)


def _badly_scaled(told, deviation):
    if deviation < LEAST_DEVIATION:
        cause, mend = OTHERWISE["multiplied by 255"][1:]
        return failed("preprocessing", told, cause, mend)
    return failed(
        "preprocessing",
        f"{told}: above {LARGEST_DEVIATION}, and not within {CENTRED} deviations of 0",
        "The model holds no preprocessing, and takes in pixels of 0–255 as they are.",
        "Put keras.layers.Rescaling(1 / 127.5, offset=-1) before it, or pass the base by its name.",
    )


def _changes(images):
    """Those of OTHERWISE that the images allow."""
    return OTHERWISE if images.shape[-1] == 3 else {name: OTHERWISE[name] for name in list(OTHERWISE)[1:4]}


def _remembering(model):
    """The first BatchNormalization whose statistics are not those that it starts from; None where there is none."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            mean, variance = (keras.ops.convert_to_numpy(layer.weights[-2 + place]) for place in range(2))
            return layer if np.any(mean != 0) and np.any(variance != 1) else None
    return None


def _normalizes_itself(model):
    """Whether a normalization takes in the images, which is then left to it."""
    kinds = (keras.layers.BatchNormalization, keras.layers.LayerNormalization, keras.layers.GroupNormalization)
    first = next((layer for layer in model.layers if layer.weights), None)
    return isinstance(first, kinds)


def _distance(probe, normalization, images):
    values = probe.predict(images, batch_size=_TOGETHER, verbose=0).astype("float64")
    values = values.reshape(-1, values.shape[-1])
    mean, variance = (keras.ops.convert_to_numpy(weight).astype("float64") for weight in normalization.weights[-2:])
    variance, here = variance + normalization.epsilon, values.var(0) + normalization.epsilon
    divergence = (here / variance + (values.mean(0) - mean) ** 2 / variance - 1 - np.log(here / variance)) / 2
    return float(np.mean(np.log1p(divergence)))
