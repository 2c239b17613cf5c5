"""RandomStretch: each image longer or wider, within its frame."""

import keras
from keras import ops

from layers.augmentation._images import as_batch, check_images, draw, sides, span_of
from layers.augmentation._resample import resample_windows


@keras.saving.register_keras_serializable("keras_recipes")
class RandomStretch(keras.layers.Layer):
    """Stretch each image along one axis about its center, and cut off what leaves the frame.

    a with uniform logarithm in `aspect`, each image on its own; above 1 the width is stretched by a, below 1 the height
    by 1/a. Nothing is ever shrunk, so that no empty border comes in. Bilinear. At inference the image is unchanged.

    Args:
        aspect: (least, most) stretch of the width relative to the height, above 0.
        seed: whole number for the same draws each time, None for others.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)` or `(height, width, channels)`, any numeric type.

    Output shape:
        That of the input, in the layer's dtype.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        Wu et al. 2015, "Deep Image: scaling up image recognition", section 3.3 (vertical and horizontal stretch).

    Example:
        >>> import keras, layers
        >>> layers.RandomStretch()(keras.ops.ones((2, 20, 30, 3)), training=True).shape
        TensorShape([2, 20, 30, 3])
    """

    def __init__(self, aspect=(3 / 4, 4 / 3), *, seed=None, **kwargs):
        super().__init__(**kwargs)
        span_of("RandomStretch", "aspect", aspect, 0, above=True)
        self.aspect = aspect
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        check_images("RandomStretch", input_shape)
        self.built = True

    def call(self, inputs, training=None):
        if not training:
            return ops.cast(inputs, self.compute_dtype)

        def stretch(images):
            size = ops.shape(images)[1:3]
            return resample_windows(images, *self.draw_windows(images), size)

        return as_batch(stretch, inputs, self.compute_dtype)

    def draw_windows(self, images):
        """(top, left, height, width), each `(batch,)` in pixels, of a window for each image of a batch."""
        batch, tall, wide = sides(images)
        aspect = draw((batch,), self.aspect, self.generator, logarithmic=True)
        height, width = tall * ops.minimum(aspect, 1.0), wide / ops.maximum(aspect, 1.0)
        return 0.5 * (tall - height), 0.5 * (wide - width), height, width

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "aspect": self.aspect, "seed": self.seed}
