"""FakeQuantize: activations rounded to what a byte can hold."""

import keras
from keras import ops

from layers._arguments import check_number, check_whole, complaint


@keras.saving.register_keras_serializable("keras_recipes")
class FakeQuantize(keras.layers.Layer):
    """Rounds to the 256 values that an int8 tensor can hold, and cuts what lies beyond them.

    range → widened to hold 0 and moved so that 0 is one of the values → each input cut to the range and rounded to the
    nearest value. The gradient passes as if nothing had been rounded, and is zero where something was cut. In training,
    unless `trainable` is off, the ends of the range follow those of the batches by a moving average.

    LiteRT's converter takes the range from this layer: exported, the tensor is an int8 one of just these values.

    Args:
        minimum: lower end of the range to begin with, at most 0.
        maximum: upper end of the range to begin with, at least 0 and above `minimum`.
        momentum: share of the old range in the moving average, 0–1.
        bits: per value, 2–16; LiteRT knows 8.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        Any.

    Output shape:
        That of the inputs.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.

    Reference:
        Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only
        inference". The paper leaves activations alone for the first steps; here the range may be set beforehand, by
        images of calibration.

    Example:
        >>> import keras, layers
        >>> layers.FakeQuantize(maximum=255, bits=2)(keras.ops.array([[0.0, 100.0, 300.0]])).numpy()
        array([[  0.,  85., 255.]], dtype=float32)
    """

    def __init__(self, minimum=0.0, maximum=6.0, *, momentum=0.99, bits=8, **kwargs):
        super().__init__(**kwargs)
        where = "FakeQuantize"
        check_number(where, "minimum", minimum, most=0)
        check_number(where, "maximum", maximum, least=0)
        if minimum == maximum:
            rule, mend = "maximum must be above minimum", "Pass minimum=0.0, maximum=6.0, say."
            raise ValueError(complaint(where, rule, f"minimum={minimum}, maximum={maximum}", mend))
        check_number(where, "momentum", momentum, least=0, most=1)
        check_whole(where, "bits", bits, least=2)
        check_number(where, "bits", bits, most=16)
        self.minimum = minimum
        self.maximum = maximum
        self.momentum = momentum
        self.bits = bits

    def build(self, input_shape):
        self.lowest, self.highest = (
            self.add_weight(
                shape=(), initializer=keras.initializers.Constant(end), trainable=False, autocast=False, name=name
            )
            for name, end in (("lowest", self.minimum), ("highest", self.maximum))
        )
        self.built = True

    def call(self, inputs, training=False):
        if training and self.trainable:
            self._follow(ops.cast(inputs, self.lowest.dtype))
        return keras.quantizers.fake_quant_with_min_max_vars(inputs, self.lowest, self.highest, num_bits=self.bits)

    def _follow(self, inputs):
        """Move the range towards that of a batch."""
        for variable, end in (
            (self.lowest, ops.minimum(ops.min(inputs), 0.0)),
            (self.highest, ops.maximum(ops.max(inputs), 0.0)),
        ):
            variable.assign(self.momentum * variable + (1 - self.momentum) * ops.stop_gradient(end))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "minimum": self.minimum,
            "maximum": self.maximum,
            "momentum": self.momentum,
            "bits": self.bits,
        }
