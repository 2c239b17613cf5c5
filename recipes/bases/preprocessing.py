"""What comes before the base: RGB 0–255, or other channels, to what the base expects."""

import keras
import numpy as np

# Mean and deviation of ImageNet's pixels, RGB, as in keras.applications: of 0–1 for "torch", of 0–255 for "caffe".
TORCH_MEAN = (0.485, 0.456, 0.406)
TORCH_DEVIATION = (0.229, 0.224, 0.225)
CAFFE_MEAN = (123.68, 116.779, 103.939)


def preprocessing_model(kind, height, width, channels, base_channels):
    """A model from images of 0–255 to the input of a base with `base_channels` channels.

    Args:
        kind: `"tf"`, `"torch"`, `"caffe"` or `"inside"`, see `Base`.
        height: of the images, in pixels.
        width: of the images, in pixels.
        channels: of the images; a single one is repeated where the base takes more.
        base_channels: channels that the base is called on; those after the third get the mean of the constants.
    """
    image = keras.Input((height, width, channels))
    tensor = image
    if channels == 1 and base_channels > 1:
        tensor = keras.layers.Concatenate(dtype="float32")([image] * base_channels)
    # Kept in float32 under mixed precision too: float16 has steps of 1/8 near 255.
    if kind == "tf":
        tensor = keras.layers.Rescaling(1 / 127.5, -1.0, dtype="float32")(tensor)
    elif kind == "torch":
        scale = [1 / (255 * deviation) for deviation in TORCH_DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(TORCH_MEAN, TORCH_DEVIATION, strict=True)]
        scale, offset = widened_constants(scale, base_channels), widened_constants(offset, base_channels)
        tensor = keras.layers.Rescaling(scale, offset, dtype="float32")(tensor)
    elif kind == "caffe":
        tensor = _blue_first(tensor, base_channels)
        offset = widened_constants([-mean for mean in reversed(CAFFE_MEAN)], base_channels)
        tensor = keras.layers.Rescaling([1.0] * base_channels, offset, dtype="float32")(tensor)
    return keras.Model(image, tensor)


def widened_constants(constants, channels):
    """Three constants of red, green and blue, and their mean for every further channel."""
    constants = np.asarray(constants, "float64").tolist()
    return constants + [float(np.mean(constants))] * (channels - len(constants))


def _blue_first(tensor, channels):
    turned = tensor[..., 2::-1]
    return turned if channels == 3 else keras.layers.Concatenate(dtype="float32")([turned, tensor[..., 3:]])
