"""PCALighting: each image in a light of another colour."""

import keras
import numpy as np
from keras import ops

from layers._arguments import check_number, complaint
from layers.augmentation._images import as_batch, check_images, sides

# Of RGB pixels of ImageNet; the covariance in units of 0–1, its eigenvalues times 255.
IMAGENET_EIGENVALUES = (55.4625, 4.794, 1.1475)
IMAGENET_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


@keras.saving.register_keras_serializable("keras_recipes")
class PCALighting(keras.layers.Layer):
    """Add a random colour along the principal components of the training set's colours, one colour an image.

    colour = Σ αᵢ λᵢ pᵢ, with αᵢ ~ N(0, `sigma`), drawn once an image; λᵢ and pᵢ eigenvalues and eigenvectors of the
    covariance of the colours. The formula is not free of the unit: λ is a variance, so it is taken of pixels in 0–1, as
    implementations do, and multiplied by 255 for images in 0–255. The result is not clipped. At inference the image is
    unchanged.

    Args:
        sigma: standard deviation of α, 0 or more.
        eigenvalues: λ in the unit above, one a channel; None for ImageNet's, or for what `adapt` finds.
        eigenvectors: rows of channels, columns of components, pᵢ the column i; None likewise.
        seed: whole number for the same draws each time, None for others.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)` or `(height, width, channels)` in 0–255, any numeric type.

    Output shape:
        That of the input, in the layer's dtype.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range, or the channels do not match.

    Reference:
        Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 4.1;
        ImageNet's values from fb.resnet.torch.

    Example:
        >>> import keras, layers
        >>> layers.PCALighting()(keras.ops.ones((2, 20, 30, 3)), training=True).shape
        TensorShape([2, 20, 30, 3])
    """

    def __init__(self, sigma=0.1, *, eigenvalues=None, eigenvectors=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        check_number("PCALighting", "sigma", sigma, 0)
        self._check_components(eigenvalues, eigenvectors)
        self.sigma = sigma
        self.eigenvalues = eigenvalues
        self.eigenvectors = eigenvectors
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def _check_components(self, values, vectors):
        if values is None and vectors is None:
            return
        shapes = np.shape(values if values is not None else ()), np.shape(vectors if vectors is not None else ())
        if len(shapes[0]) != 1 or shapes[1] != shapes[0] * 2:
            rule = "eigenvalues and eigenvectors must be n and n × n numbers"
            received = f"eigenvalues of shape {shapes[0]}, eigenvectors of shape {shapes[1]}"
            raise ValueError(complaint("PCALighting", rule, received, "Pass both, or neither and call adapt."))
        for value in values:
            check_number("PCALighting", "eigenvalues", value, 0)

    def build(self, input_shape):
        check_images("PCALighting", input_shape, needs_channels=True)
        channels = input_shape[-1]
        values, vectors = IMAGENET_EIGENVALUES, IMAGENET_EIGENVECTORS
        if self.eigenvalues is not None:
            values, vectors = self.eigenvalues, self.eigenvectors
        if channels != len(values):
            rule, mend = f"inputs must have {len(values)} channels", "Pass eigenvalues and eigenvectors of that size."
            raise ValueError(complaint("PCALighting", rule, f"inputs of {channels} channels", mend))
        self.amplitudes = self._component("amplitudes", values)
        self.directions = self._component("directions", vectors)
        self.built = True

    def _component(self, name, value):
        value = np.asarray(value, "float32")
        start = keras.initializers.Zeros()
        weight = self.add_weight(name=name, shape=value.shape, initializer=start, trainable=False, autocast=False)
        weight.assign(value)
        return weight

    def adapt(self, images):
        """Take the components of these images' colours, in place of those given.

        Args:
            images: `(images, height, width, channels)` in 0–255, or an iterable of such batches.
        """
        count, total, products = 0, 0.0, 0.0
        for batch in [images] if hasattr(images, "shape") else images:
            pixels = np.asarray(ops.convert_to_numpy(batch), "float64")
            check_images("PCALighting", pixels.shape, needs_channels=True)
            if not self.built:
                self.build(pixels.shape)
            pixels = pixels.reshape(-1, pixels.shape[-1]) / 255.0
            count, total, products = count + len(pixels), total + pixels.sum(axis=0), products + pixels.T @ pixels
        if not count:
            raise ValueError(complaint("PCALighting", "images must not be empty", "images without one", "Pass some."))
        mean = total / count
        values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
        self.amplitudes.assign(255.0 * np.maximum(values[::-1], 0).astype("float32"))
        self.directions.assign(vectors[:, ::-1].astype("float32"))

    def call(self, inputs, training=None):
        if not training:
            return ops.cast(inputs, self.compute_dtype)

        def light(images):
            batch = sides(images)[0]
            shape = (batch, 1, 1, images.shape[-1])
            drawn = keras.random.normal(shape, stddev=self.sigma, dtype="float32", seed=self.generator)
            return images + ops.matmul(drawn * self.amplitudes, ops.transpose(self.directions))

        return as_batch(light, inputs, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "sigma": self.sigma,
            "eigenvalues": self.eigenvalues,
            "eigenvectors": self.eigenvectors,
            "seed": self.seed,
        }
