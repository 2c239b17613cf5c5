"""RandomResizedCrop: a random part of each image, at a fixed size."""

import keras
from keras import ops

from layers._arguments import pair
from layers.augmentation._images import as_batch, check_images, draw, resized_shape, sides, span_of
from layers.augmentation._resample import resample_windows

TRIES = 10


@keras.saving.register_keras_serializable("keras_recipes")
class RandomResizedCrop(keras.layers.Layer):
    """A window of random area and aspect, cut out of each image on its own and resized.

    area ~ U(`scale`) of the image's, width/height with uniform logarithm in `aspect`, the place uniform; of 10 draws
    the first that fits is taken, and if none does the largest central window of an aspect in the range. At inference:
    the largest central window of the output's aspect, resized. Resizing is bilinear and averages where it shrinks.

    Args:
        size: height and width of the output in pixels, a whole number or a pair.
        scale: (least, most) share of the image's area, above 0 and at most 1.
        aspect: (least, most) width divided by height, above 0.
        seed: whole number for the same draws each time, None for others.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)` or `(height, width, channels)`, any numeric type.

    Output shape:
        The same with `size` for height and width, in the layer's dtype.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        Szegedy et al. 2014, "Going deeper with convolutions", section 6: area 8–100 %, aspect 3/4–4/3; drawn as in
        common implementations since.

    Example:
        >>> import keras, layers
        >>> layers.RandomResizedCrop(32)(keras.ops.ones((2, 60, 40, 3)), training=True).shape
        TensorShape([2, 32, 32, 3])
    """

    def __init__(self, size, *, scale=(0.08, 1.0), aspect=(3 / 4, 4 / 3), seed=None, **kwargs):
        super().__init__(**kwargs)
        pair("RandomResizedCrop", "size", size)
        span_of("RandomResizedCrop", "scale", scale, 0, 1, above=True)
        span_of("RandomResizedCrop", "aspect", aspect, 0, above=True)
        self.size = size
        self.scale = scale
        self.aspect = aspect
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        check_images("RandomResizedCrop", input_shape)
        self.built = True

    def call(self, inputs, training=None):
        size = pair("RandomResizedCrop", "size", self.size)

        def crop(images):
            window = self.draw_windows(images) if training else central_windows(images, size[1] / size[0])
            return resample_windows(images, *window, size)

        return as_batch(crop, inputs, self.compute_dtype)

    def draw_windows(self, images):
        """(top, left, height, width), each `(batch,)` in pixels, of a window for each image of a batch."""
        batch, tall, wide = sides(images)
        area = draw((batch, TRIES), self.scale, self.generator) * tall * wide
        aspect = draw((batch, TRIES), self.aspect, self.generator, logarithmic=True)
        widths, heights = ops.sqrt(area * aspect), ops.sqrt(area / aspect)
        # Rounding must not keep out the whole image.
        fits = ops.logical_and(widths <= wide * 1.000001, heights <= tall * 1.000001)
        first = ops.cast(ops.argmax(ops.cast(fits, "int32"), axis=1), "int32")[:, None]
        any_fits = ops.any(fits, axis=1)
        fallback = ops.clip(wide / tall, *self.aspect)
        height = ops.take_along_axis(heights, first, axis=1)[:, 0]
        height = ops.where(any_fits, height, ops.minimum(tall, wide / fallback))
        width = ops.take_along_axis(widths, first, axis=1)[:, 0]
        width = ops.where(any_fits, width, ops.minimum(wide, tall * fallback))
        place = draw((batch, 2), (0.0, 1.0), self.generator)
        place = ops.where(any_fits[:, None], place, 0.5)
        return place[:, 0] * (tall - height), place[:, 1] * (wide - width), height, width

    def compute_output_shape(self, input_shape):
        return resized_shape(input_shape, pair("RandomResizedCrop", "size", self.size))

    def get_config(self):
        config = {"size": self.size, "scale": self.scale, "aspect": self.aspect, "seed": self.seed}
        return {**super().get_config(), **config}


def central_windows(images, aspect):
    """(top, left, height, width), each `(batch,)`, of the largest central window whose width/height is `aspect`."""
    _, tall, wide = sides(images)
    each = ops.zeros_like(images[:, 0, 0, 0])
    height = ops.minimum(tall, wide / aspect) + each
    width = ops.minimum(wide, tall * aspect) + each
    return 0.5 * (tall - height), 0.5 * (wide - width), height, width
