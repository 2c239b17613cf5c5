"""CropAverage: a classifier's answer averaged over crops of the image."""

import keras
from keras import ops

from layers._arguments import check_choice, complaint
from layers.augmentation._resample import resample

CROPS = (1, 2, 5, 10, "resnet")
AVERAGES = ("probabilities", "logits")
SCALES = (1.0, 256 / 224, 384 / 224, 480 / 224, 640 / 224)
_LEAST = 1e-7  # of a probability, before its logarithm


@keras.saving.register_keras_serializable("keras_recipes")
class CropAverage(keras.layers.Layer):
    """The mean of what a classifier says of several crops of each image.

    crops of the classifier's size: the centre; with 2 its mirror image too; with 5 the centre and the four corners;
    with 10 those five and their mirror images. They run as one batch of crops × batch, and the outputs are averaged.
    With `"resnet"`: the image at five scales, 224, 256, 384, 480 and 640 for a classifier of 224 or as many times its
    own size, and mirrored. A classifier that takes larger images, as those that end in global pooling do, runs over
    each scale as a whole; any other takes ten crops of each. Each scale counts as much as the others.

    Args:
        model: keras.Model from `(batch, height, width, channels)`, sides known, to `(batch, classes)`.
        crops: 1, 2, 5, 10 or `"resnet"`.
        average: of `"probabilities"`, or of `"logits"`: those are the logarithms of the probabilities up to a constant,
            and softmax makes probabilities of their mean.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Attributes:
        passes: how many times as many pixels the classifier sees as in one crop.
        is_whole: whether, with `"resnet"`, it runs over each scale as a whole.

    Input shape:
        `(batch, height, width, channels)`, sides at least as long as those of the classifier; for `"resnet"` best 20/7
        times as long, the largest scale.

    Output shape:
        That of the classifier, `(batch, classes)`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or none of those, or images are smaller than a crop.

    Reference:
        Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 4.1: ten
        crops of 224 from images of 256. He et al. 2015, "Deep residual learning for image recognition", section 3.4:
        fully convolutional at five scales; mirrored as in Simonyan and Zisserman 2014, section 3.2.

    Example:
        >>> import keras, layers
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
        >>> layers.CropAverage(model, crops=10)(keras.ops.ones((2, 12, 10, 3))).shape
        TensorShape([2, 4])
    """

    def __init__(self, model, crops=10, average="probabilities", **kwargs):
        super().__init__(**kwargs)
        where = "CropAverage"
        if isinstance(crops, bool) or crops not in CROPS:
            rule = f"crops must be one of {', '.join(map(str, CROPS))}"
            raise ValueError(complaint(where, rule, f"crops={crops!r}", "Pass crops=10, say."))
        check_choice(where, "average", average, AVERAGES)
        shape = getattr(model, "input_shape", None)
        if not isinstance(model, keras.Model) or len(shape) != 4 or None in shape[1:]:
            rule = "model must be a keras.Model of images of known sides"
            raise TypeError(
                complaint(where, rule, f"model={model!r}", "Build it with keras.Input((height, width, 3)).")
            )
        self.model = model
        self.crops = crops
        self.average = average
        self.is_whole = crops == "resnet" and self._takes(SCALES[1])

    @property
    def passes(self):
        """How many times as many pixels the classifier sees as in one crop."""
        if self.crops != "resnet":
            return float(self.crops)
        if not self.is_whole:
            return 2.0 + 10.0 * (len(SCALES) - 1)
        tall, wide = self.model.input_shape[1:3]
        sizes = [self._size(scale) for scale in SCALES]
        return sum(2.0 * height * width / (tall * wide) for height, width in sizes)

    def build(self, input_shape):
        for side, least in zip(input_shape[1:3], self.model.input_shape[1:3], strict=True):
            if side is not None and side < least:
                rule = f"images must be at least as large as a crop, {self.model.input_shape[1:3]}"
                raise ValueError(complaint("CropAverage", rule, input_shape, "Pass larger images."))
        self.built = True

    def call(self, inputs, training=None):
        if self.crops != "resnet":
            return self._end(self._mean(self._cut(inputs, self.crops), training))
        means = []
        for scale in SCALES:
            size = self._size(scale)
            images = inputs if tuple(inputs.shape[1:3]) == size else resample(ops.cast(inputs, "float32"), size)
            if self.is_whole:
                means.append(self._mean([images, ops.flip(images, axis=2)], training, is_whole=scale != 1))
            else:
                means.append(self._mean(self._cut(images, 2 if scale == 1 else 10), training))
        return self._end(sum(means) / len(means))

    def _mean(self, views, training, is_whole=False):
        """Mean of what the classifier says of views of one size; of its logarithms, where those are averaged."""
        number, views = len(views), ops.concatenate(views, axis=0)
        # A model that is called checks the sides it was built for; its layers know whether they need to.
        answers = (self.model.call if is_whole else self.model)(views, training=training)
        if self.average == "logits":
            answers = ops.log(ops.maximum(ops.cast(answers, "float32"), _LEAST))
        return ops.mean(ops.reshape(answers, (number, -1, *self.model.output_shape[1:])), axis=0)

    def _cut(self, images, crops):
        height, width = self.model.input_shape[1:3]
        tall, wide = ops.shape(images)[1:3]
        top, left = (tall - height) // 2, (wide - width) // 2
        views = [images[:, top : top + height, left : left + width]]
        if crops >= 5:
            bottom, right = tall - height, wide - width
            corners = ((0, 0), (0, right), (bottom, 0), (bottom, right))
            views += [images[:, top : top + height, left : left + width] for top, left in corners]
        if crops in (2, 10):
            views += [ops.flip(view, axis=2) for view in views]
        return views

    def _size(self, scale):
        return tuple(round(side * scale) for side in self.model.input_shape[1:3])

    def _takes(self, scale):
        """Whether the classifier answers images of another size, tried on one."""
        image = ops.zeros((1, *self._size(scale), self.model.input_shape[-1]))
        try:
            answer = self.model.call(image, training=False)
        except Exception:  # each backend has its own for shapes that do not fit
            return False
        return tuple(answer.shape) == (1, *self.model.output_shape[1:])

    def _end(self, mean):
        return ops.cast(ops.softmax(mean), self.compute_dtype) if self.average == "logits" else mean

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.model.output_shape[1:])

    def get_config(self):
        model = keras.saving.serialize_keras_object(self.model)
        return {**super().get_config(), "model": model, "crops": self.crops, "average": self.average}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "model": keras.saving.deserialize_keras_object(config["model"])})
