"""TransposedDense: a dense layer that reads its weights once, however few inputs come."""

import keras

from layers._arguments import check_whole, complaint
from layers._compiling import compiled
from layers.convolutions._exact import check_built

ops = keras.ops


@keras.saving.register_keras_serializable("keras_recipes")
class TransposedDense(keras.layers.Layer):
    """The outputs of a `keras.layers.Dense`, from a kernel that lies transposed: a row for each unit.

    Kernel · inputsᵀ → transposed → bias, activation. For a few inputs and many weights the product is bound by reading
    the weights, which a product from this side does once and in order, where TensorFlow's own copies them first. Under
    TensorFlow it is compiled by XLA, for each number of inputs that comes. `recipes.accelerate` takes it where it is
    faster; `from_dense` makes one of a layer that is there.

    Args:
        units: size of the output, 1 or more.
        activation: what is applied at the end.
        use_bias: whether a bias is added.
        kernel_initializer: start of the weights.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, ..., features)`.

    Output shape:
        `(batch, ..., units)`: the input's with the last axis replaced.

    Raises:
        TypeError, ValueError: `units` is no whole number of 1 or more, or the features are not known.

    Reference:
        Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication": what the copies are for, which
        few rows do not repay.

    Example:
        >>> import keras, layers
        >>> layers.TransposedDense(10, activation="softmax")(keras.ops.ones((1, 64))).shape
        TensorShape([1, 10])
    """

    def __init__(
        self,
        units,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_whole("TransposedDense", "units", units)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.supports_masking = True

    def build(self, input_shape):
        features = input_shape[-1]
        if features is None:
            rule, mend = "the size of the last axis must be known", "Give it to keras.Input."
            raise ValueError(complaint("TransposedDense", rule, f"input_shape={tuple(input_shape)}", mend))
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.units, features),
            # Drawn as a Dense draws it: initializers tell the two sides apart.
            initializer=lambda shape, dtype: ops.transpose(self.kernel_initializer(shape[::-1], dtype=dtype)),
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: features})
        self.built = True

    def call(self, inputs):
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))
        relu = self.activation is keras.activations.relu
        bias = ops.zeros((self.units,), self.compute_dtype) if self.bias is None else self.bias
        outputs = _outputs(rows, self.kernel, bias, relu=relu)
        outputs = ops.reshape(outputs, (*ops.shape(inputs)[:-1], self.units))
        return outputs if relu else self.activation(outputs)

    @classmethod
    def from_dense(cls, dense, **changes):
        """A built layer that computes what a built `keras.layers.Dense` computes, with copies of its weights.

        Args:
            dense: keras.layers.Dense without LoRA and not quantized.
            **changes: arguments that differ from its own, such as `activation`.
        """
        config = dense.get_config()
        config = {name: config[name] for name in ("name", "trainable", "dtype", "units", "activation", "use_bias")}
        layer = cls.from_config(config | {"kernel_initializer": "zeros"} | changes)
        layer.build((None, dense.kernel.shape[0]))
        layer.kernel.assign(ops.transpose(dense.kernel))
        if dense.use_bias:
            layer.bias.assign(dense.bias)
        return layer

    def plain(self):
        """A built `keras.layers.Dense` that computes the same, with copies of the weights.

        Raises:
            ValueError: this layer is not built.
        """
        check_built(self)
        dense = keras.layers.Dense.from_config(self.get_config())
        dense.build((None, self.kernel.shape[1]))
        dense.kernel.assign(ops.transpose(self.kernel))
        if self.use_bias:
            dense.bias.assign(self.bias)
        return dense

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@compiled
def _outputs(rows, kernel, bias, *, relu):
    """`(count, features)`, `(units, features)` → `(count, units)`."""
    outputs = ops.add(ops.transpose(ops.matmul(kernel, ops.transpose(rows))), bias)
    return ops.relu(outputs) if relu else outputs
