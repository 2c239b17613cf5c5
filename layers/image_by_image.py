"""ImageByImage: a network, or its first part, run on one image at a time."""

import keras

from layers._arguments import complaint


@keras.saving.register_keras_serializable("keras_recipes")
class ImageByImage(keras.layers.Layer):
    """What a network gives, one image at a time instead of the whole batch layer by layer.

    For large maps on a CPU: those of one image stay in the processor's cache from layer to layer, and small enough for
    the C library to keep their memory, where each tensor of a batch would be of new pages. In a graph, TensorFlow runs
    as many images at once as there are cores, up to ten. `recipes.accelerate` puts the first layers of a network into
    one where that is faster.
    In training the whole batch goes through at once, as BatchNormalization needs it.

    Args:
        model: keras.Model from one batch of images to one output.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        That of the model, `(batch, height, width, channels)`.

    Output shape:
        That of the model, `(batch, ...)`.

    Raises:
        TypeError, ValueError: `model` is of another kind, or takes images of another size.

    Reference:
        Alwani et al. 2016, "Fused-layer CNN accelerators": as a whole image, not a tile of it.

    Example:
        >>> import keras, layers
        >>> image = keras.Input((8, 8, 3))
        >>> part = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
        >>> layers.ImageByImage(part)(keras.ops.ones((2, 8, 8, 3))).shape
        TensorShape([2, 6, 6, 4])
    """

    def __init__(self, model, **kwargs):
        is_built = isinstance(model, keras.Model) and model.built and hasattr(model, "outputs")
        if not is_built or not len(model.inputs) == len(model.outputs) == 1:
            rule = "model must be a functional or sequential keras.Model from one batch of images to one output"
            mend = "Build it with keras.Model(image, output)."
            raise TypeError(complaint("ImageByImage", rule, f"model={model!r}", mend))
        # The layers of the model know what they take; what they give is of this type.
        super().__init__(**{"dtype": model.outputs[0].dtype, "autocast": False, **kwargs})
        self.model = model

    def build(self, input_shape):
        own, came = tuple(self.model.input_shape[1:]), tuple(input_shape[1:])
        if len(own) != len(came) or any(side not in (None, other) for side, other in zip(own, came, strict=True)):
            rule = f"images must be those of the model, {own}"
            raise ValueError(complaint("ImageByImage", rule, tuple(input_shape), "Resize them before."))
        self.built = True

    def call(self, inputs, training=None):
        if training or inputs.shape[0] in (0, 1):
            return self.model(inputs, training=training)
        return keras.ops.map(lambda image: self.model(image[None], training=False)[0], inputs)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.model.compute_output_shape(input_shape)[1:])

    def get_config(self):
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "model": keras.saving.deserialize_keras_object(config["model"])})
