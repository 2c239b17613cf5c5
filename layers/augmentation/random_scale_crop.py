"""RandomScaleCrop: each image at a random scale, and a random crop of it."""

import keras
from keras import ops

from layers._arguments import complaint, pair
from layers.augmentation._images import as_batch, check_images, draw, resized_shape, sides, span_of
from layers.augmentation._resample import resample_windows


@keras.saving.register_keras_serializable("keras_recipes")
class RandomScaleCrop(keras.layers.Layer):
    """Resize each image to a random short side, its aspect kept, and crop at a random place.

    short side ~ U(`short_side`) in pixels, the place uniform, each image on its own. At inference: short side
    `short_side[0]`, central crop. Both are done in one bilinear resampling, which averages where it shrinks.

    Args:
        size: height and width of the output in pixels, a whole number or a pair.
        short_side: (least, most) pixels of the shorter side after resizing; at least the larger side of `size`.
        seed: whole number for the same draws each time, None for others.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)` or `(height, width, channels)`, any numeric type.

    Output shape:
        The same with `size` for height and width, in the layer's dtype.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition", section 3.4, and Simonyan and Zisserman 2014,
        section 3.1: short side 256–480 or 256–512, crop 224. Not rounded to whole pixels here.

    Example:
        >>> import keras, layers
        >>> layers.RandomScaleCrop(32, short_side=(36, 60))(keras.ops.ones((2, 60, 40, 3)), training=True).shape
        TensorShape([2, 32, 32, 3])
    """

    def __init__(self, size, *, short_side=(256, 480), seed=None, **kwargs):
        super().__init__(**kwargs)
        larger = max(pair("RandomScaleCrop", "size", size))
        span_of("RandomScaleCrop", "short_side", short_side, 1)
        if short_side[0] < larger:
            rule, mend = f"short_side must be at least {larger}, as size is", f"Pass short_side=({larger}, ...)."
            raise ValueError(complaint("RandomScaleCrop", rule, f"short_side={short_side}", mend))
        self.size = size
        self.short_side = short_side
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        check_images("RandomScaleCrop", input_shape)
        self.built = True

    def call(self, inputs, training=None):
        size = pair("RandomScaleCrop", "size", self.size)

        def crop(images):
            return resample_windows(images, *self.draw_windows(images, training), size)

        return as_batch(crop, inputs, self.compute_dtype)

    def draw_windows(self, images, training=True):
        """(top, left, height, width), each `(batch,)` in pixels, of a window for each image of a batch."""
        height, width = pair("RandomScaleCrop", "size", self.size)
        batch, tall, wide = sides(images)
        each = ops.zeros_like(images[:, 0, 0, 0])
        short, place = self.short_side[0] + each, 0.5 + ops.stack([each, each], axis=1)
        if training:
            short = draw((batch,), self.short_side, self.generator)
            place = draw((batch, 2), (0.0, 1.0), self.generator)
        pixel = ops.minimum(tall, wide) / short  # side of an output pixel, in pixels of the image
        height, width = height * pixel, width * pixel
        return place[:, 0] * (tall - height), place[:, 1] * (wide - width), height, width

    def compute_output_shape(self, input_shape):
        return resized_shape(input_shape, pair("RandomScaleCrop", "size", self.size))

    def get_config(self):
        return {**super().get_config(), "size": self.size, "short_side": self.short_side, "seed": self.seed}
