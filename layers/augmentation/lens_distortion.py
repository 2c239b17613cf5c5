"""LensDistortion: each image as a poor lens would show it."""

import keras
import numpy as np
from keras import ops

from layers._arguments import check_choice, complaint
from layers.augmentation._images import as_batch, check_images, draw, sides, span_of
from layers.augmentation._warp import FILL_MODES, read_at


@keras.saving.register_keras_serializable("keras_recipes")
class LensDistortion(keras.layers.Layer):
    """Barrel and pincushion distortion by a radial polynomial, drawn for each image on its own.

    The pixel at radius r from the center, 1 at the corners, shows what was at radius r (1 + k₁ r² + k₂ r⁴): with
    positive coefficients the border draws in, a barrel; with negative ones it is pulled out, a pincushion. Bilinear. At
    inference the image is unchanged.

    Args:
        factor: (least, most) of k₁.
        quartic_factor: (least, most) of k₂.
        fill_mode: what shows from outside the image: `"reflect"`, `"nearest"`, or `"constant"` for 0.
        seed: whole number for the same draws each time, None for others.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)` or `(height, width, channels)`, any numeric type.

    Output shape:
        That of the input, in the layer's dtype.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, or so negative that the image would fold over itself,
            which is where 1 + 3 k₁ r² + 5 k₂ r⁴ reaches 0 for an r in 0–1.

    Reference:
        Brown 1966, "Decentering distortion of lenses" (the radial terms); Wu et al. 2015, "Deep Image", section 3.3
        (as augmentation, there with a single coefficient).

    Example:
        >>> import keras, layers
        >>> layers.LensDistortion((0.1, 0.3))(keras.ops.ones((2, 20, 30, 3)), training=True).shape
        TensorShape([2, 20, 30, 3])
    """

    def __init__(self, factor=(-0.2, 0.2), *, quartic_factor=(0.0, 0.0), fill_mode="reflect", seed=None, **kwargs):
        super().__init__(**kwargs)
        where = "LensDistortion"
        span_of(where, "factor", factor, -np.inf)
        span_of(where, "quartic_factor", quartic_factor, -np.inf)
        check_choice(where, "fill_mode", fill_mode, FILL_MODES)
        squares = np.linspace(0, 1, 1001)
        if np.min(1 + 3 * factor[0] * squares + 5 * quartic_factor[0] * squares**2) <= 0:
            received = f"factor={factor}, quartic_factor={quartic_factor}"
            mend = "Raise the lower ends, factor above -1/3 with quartic_factor 0."
            raise ValueError(complaint(where, "factor must not fold the image over itself", received, mend))
        self.factor = factor
        self.quartic_factor = quartic_factor
        self.fill_mode = fill_mode
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        check_images("LensDistortion", input_shape)
        self.built = True

    def call(self, inputs, training=None):
        if not training:
            return ops.cast(inputs, self.compute_dtype)
        return as_batch(self._distort, inputs, self.compute_dtype)

    def _distort(self, images):
        batch, tall, wide = sides(images)
        factor = draw((batch, 1, 1), self.factor, self.generator)
        quartic = draw((batch, 1, 1), self.quartic_factor, self.generator)
        middle_row, middle_column = 0.5 * (tall - 1), 0.5 * (wide - 1)
        down = ops.cast(ops.arange(ops.shape(images)[1]), "float32")[None, :, None] - middle_row
        right = ops.cast(ops.arange(ops.shape(images)[2]), "float32")[None, None, :] - middle_column
        corner = ops.maximum(middle_row**2 + middle_column**2, 1e-6)
        square = (down**2 + right**2) / corner
        stretch = 1 + factor * square + quartic * square**2
        return read_at(images, middle_row + down * stretch, middle_column + right * stretch, self.fill_mode)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "factor": self.factor,
            "quartic_factor": self.quartic_factor,
            "fill_mode": self.fill_mode,
            "seed": self.seed,
        }
