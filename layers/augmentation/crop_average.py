"""CropAverage: a classifier's answer averaged over crops of the image."""

import keras
from keras import ops

from layers._arguments import complaint

_CROPS = (1, 2, 5, 10)


@keras.saving.register_keras_serializable("keras_recipes")
class CropAverage(keras.layers.Layer):
    """The mean of what a classifier says of several crops of each image.

    crops of the classifier's size: the centre; with 2 its mirror image too; with 5 the centre and the four corners;
    with 10 those five and their mirror images. They run as one batch of crops × batch, and the outputs are averaged.

    Args:
        model: keras.Model from `(batch, height, width, channels)`, sides known, to `(batch, classes)`.
        crops: 1, 2, 5 or 10.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)`, sides at least as long as those of the classifier.

    Output shape:
        That of the classifier, `(batch, classes)`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or none of those, or images are smaller than a crop.

    Reference:
        Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 4.1: ten
        crops of 224 from images of 256.

    Example:
        >>> import keras, layers
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
        >>> layers.CropAverage(model, crops=10)(keras.ops.ones((2, 12, 10, 3))).shape
        TensorShape([2, 4])
    """

    def __init__(self, model, crops=10, **kwargs):
        super().__init__(**kwargs)
        where = "CropAverage"
        if isinstance(crops, bool) or crops not in _CROPS:
            rule = f"crops must be one of {', '.join(map(str, _CROPS))}"
            raise ValueError(complaint(where, rule, f"crops={crops!r}", "Pass crops=10, say."))
        shape = getattr(model, "input_shape", None)
        if not isinstance(model, keras.Model) or len(shape) != 4 or None in shape[1:]:
            rule = "model must be a keras.Model of images of known sides"
            raise TypeError(
                complaint(where, rule, f"model={model!r}", "Build it with keras.Input((height, width, 3)).")
            )
        self.model = model
        self.crops = crops

    def build(self, input_shape):
        for side, least in zip(input_shape[1:3], self.model.input_shape[1:3], strict=True):
            if side is not None and side < least:
                rule = f"images must be at least as large as a crop, {self.model.input_shape[1:3]}"
                raise ValueError(complaint("CropAverage", rule, input_shape, "Pass larger images."))
        self.built = True

    def call(self, inputs, training=None):
        crops = self._cut(inputs)
        answers = self.model(ops.concatenate(crops, axis=0), training=training)
        return ops.mean(ops.reshape(answers, (len(crops), -1, *self.model.output_shape[1:])), axis=0)

    def _cut(self, images):
        height, width = self.model.input_shape[1:3]
        tall, wide = ops.shape(images)[1:3]
        top, left = (tall - height) // 2, (wide - width) // 2
        crops = [images[:, top : top + height, left : left + width]]
        if self.crops >= 5:
            bottom, right = tall - height, wide - width
            corners = ((0, 0), (0, right), (bottom, 0), (bottom, right))
            crops += [images[:, top : top + height, left : left + width] for top, left in corners]
        if self.crops in (2, 10):
            crops += [ops.flip(crop, axis=2) for crop in crops]
        return crops

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.model.output_shape[1:])

    def get_config(self):
        model = keras.saving.serialize_keras_object(self.model)
        return {**super().get_config(), "model": model, "crops": self.crops}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "model": keras.saving.deserialize_keras_object(config["model"])})
