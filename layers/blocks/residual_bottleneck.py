"""ResidualBottleneck: the residual unit of ResNets, in its three versions."""

import keras

from layers._arguments import check_choice, check_whole, complaint
from layers._chain import build_chain, call_chain, chain_shape

VERSIONS = ("v1", "v1.5", "v2")
SHORTCUTS = ("auto", "projection", "identity", "padded")
EXPANSION = 4


@keras.saving.register_keras_serializable("keras_recipes")
class ResidualBottleneck(keras.layers.Layer):
    """A residual unit: the input, through a shortcut, plus what a few convolutions make of it.

    Bottleneck: 1×1 convolution to `filters` → 3×3 → 1×1 to 4 × `filters`; basic: 3×3 → 3×3. Convolutions have no bias.
    Version 1: each is followed by BatchNormalization, and by ReLU except the last, whose ReLU comes after the sum.
    Version 2: each is preceded by BatchNormalization and ReLU, and nothing follows the sum; the network needs both
    once at its end.

    Args:
        filters: channels of the 3×3 convolutions.
        version: `"v1"` (strides on the first convolution), `"v1.5"` (strides on the 3×3) or `"v2"` (pre-activation,
            strides on the 3×3).
        bottleneck: whether 1×1 convolutions surround a single 3×3; False for the basic unit of two 3×3, where v1 and
            v1.5 are the same.
        strides: step in pixels along height and width.
        shortcut: `"auto"` (identity where the shapes agree, else projection: the paper's option B), `"projection"`
            (1×1 convolution, normalized in v1 and v1.5: option C), `"padded"` (every `strides`-th pixel, missing
            channels zero, no weights: option A) or `"identity"` (the shapes must agree).
        kernel_initializer: start of all kernels.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height / strides, width / strides, new channels)`, sides rounded up; new channels are 4 × `filters`
        for a bottleneck and `filters` else.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range.
        ValueError: on the first call, where the shortcut's shape does not match for the sum.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition", figure 5 (v1); He et al. 2016, "Identity
        mappings in deep residual networks", figure 4e (v2; the projection sees the pre-activated input). Version 1.5
        is that of torchvision. Keras' ResNet50 is v1, and its ResNet50V2 is v2, both with biases.

    Example:
        >>> import keras, layers
        >>> unit = layers.ResidualBottleneck(64, version="v1.5", strides=2)
        >>> tuple(unit(keras.ops.ones((1, 56, 56, 256))).shape)
        (1, 28, 28, 256)
    """

    def __init__(
        self,
        filters,
        *,
        version="v1.5",
        bottleneck=True,
        strides=1,
        shortcut="auto",
        kernel_initializer="he_normal",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_whole("ResidualBottleneck", "filters", filters)
        check_choice("ResidualBottleneck", "version", version, VERSIONS)
        check_whole("ResidualBottleneck", "strides", strides)
        check_choice("ResidualBottleneck", "shortcut", shortcut, SHORTCUTS)
        self.filters = filters
        self.version = version
        self.bottleneck = bottleneck
        self.strides = strides
        self.shortcut = shortcut
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.preactivation = self._activation("first") if version == "v2" else []
        self.residual = self._make_residual()
        self.projection = []

    def _make_residual(self):
        """The convolutions with what stands before, between and after them, as a chain."""
        names, sizes = (("first", "second", "third"), (1, 3, 1)) if self.bottleneck else (("first", "second"), (3, 3))
        strided = 1 if self.bottleneck and self.version != "v1" else 0
        chain = []
        for index, (name, size) in enumerate(zip(names, sizes, strict=True)):
            filters = self._channels() if name == names[-1] else self.filters
            if index:
                chain += self._activation(name if self.version == "v2" else names[index - 1])
            chain.append(self._convolution(name, filters, size, self.strides if index == strided else 1))
        return chain if self.version == "v2" else [*chain, self._normalization(names[-1])]

    def _make_projection(self):
        convolution = self._convolution("shortcut", self._channels(), 1, self.strides)
        return [convolution] if self.version == "v2" else [convolution, self._normalization("shortcut")]

    def _convolution(self, name, filters, kernel_size, strides):
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer=self.kernel_initializer.clone(),  # one that is shared would draw alike
            dtype=self.dtype_policy,
            name=name,
        )

    def _normalization(self, name):
        return keras.layers.BatchNormalization(dtype=self.dtype_policy, name=f"{name}_normalization")

    def _activation(self, name):
        return [self._normalization(name), keras.layers.ReLU(dtype=self.dtype_policy, name=f"{name}_relu")]

    def _channels(self):
        """Channels of the output."""
        return self.filters * EXPANSION if self.bottleneck else self.filters

    def build(self, input_shape):
        self._check_sum(input_shape[-1])
        agrees = self.strides == 1 and input_shape[-1] == self._channels()
        if self.shortcut == "projection" or (self.shortcut == "auto" and not agrees):
            self.projection = self._make_projection()
        build_chain([*self.preactivation, *self.residual], input_shape)
        build_chain(self.projection, input_shape)
        self.built = True

    def _check_sum(self, channels):
        """Raise where a shortcut without weights cannot match the output."""
        ours = self._channels()
        fits = {"identity": self.strides == 1 and channels == ours, "padded": channels <= ours}
        if not fits.get(self.shortcut, True):
            rule = f'shortcut="{self.shortcut}" must match the output, {ours} channels at strides={self.strides}'
            mend = 'Pass shortcut="auto", or other filters.'
            raise ValueError(complaint("ResidualBottleneck", rule, f"an input of {channels} channels", mend))

    def call(self, inputs):
        activated = call_chain(self.preactivation, inputs)
        residual = call_chain(self.residual, activated)
        if self.projection:
            shortcut = call_chain(self.projection, activated)
        else:
            missing = self._channels() - inputs.shape[-1]
            shortcut = inputs[:, :: self.strides, :: self.strides]
            shortcut = keras.ops.pad(shortcut, [(0, 0), (0, 0), (0, 0), (0, missing)]) if missing else shortcut
        total = residual + shortcut
        return total if self.version == "v2" else keras.ops.relu(total)

    def compute_output_shape(self, input_shape):
        return chain_shape(self.residual, input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "version": self.version,
            "bottleneck": self.bottleneck,
            "strides": self.strides,
            "shortcut": self.shortcut,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
