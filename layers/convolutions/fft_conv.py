"""FFTConv2D: a convolution with a large kernel by the fast Fourier transform."""

import keras

from layers._arguments import check_whole, complaint
from layers.convolutions._exact import (
    check_applies,
    check_built,
    check_sizes,
    check_transformed,
    has_sides,
    is_float32,
    plain_conv2d,
)
from layers.convolutions._fourier import best_size, convolve_transformed, plain_kernel, transform_kernel


@keras.saving.register_keras_serializable("keras_recipes")
class FFTConv2D(keras.layers.Conv2D):
    """A convolution by the fast Fourier transform: the weights and, up to rounding, outputs of a Conv2D.

    Overlapping tiles of pixels → their spectra → one matrix product over channels per frequency → back, bias,
    activation. A Conv2D costs kernel height × kernel width per pixel; this costs about the same for every kernel, and
    wins from 7×7 to 11×11 on (`benchmarks/fft_conv.py`). In half precision and where height or width are unknown when
    the graph is made it convolves directly.

    Args:
        filters: channels of the output, 1 or more.
        kernel_size: height and width of the kernel, a whole number or a pair.
        strides: 1 or (1, 1), the only one there is.
        padding: `"valid"` or `"same"`.
        size: side of the tiles in pixels, larger than the kernel; None takes the one with the least work.
        is_transformed: whether the layer holds the spectrum of its kernel, for serving: that is larger than the kernel,
            is not trained, and fits no Conv2D; `transformed` makes such layers.
        **kwargs: the other arguments of `keras.layers.Conv2D`, and `name`, `dtype` and so on.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, filters)`; with `padding="valid"` each side less that of the kernel, plus 1.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or asks for what this algorithm cannot do (strides,
            dilation, groups, channels first).

    Reference:
        Mathieu et al. 2014, "Fast training of convolutional networks through FFTs"; tiles as in Zlateski et al. 2019.

    Example:
        >>> import keras, layers
        >>> layers.FFTConv2D(8, 15, padding="same")(keras.ops.ones((1, 32, 32, 4))).shape
        TensorShape([1, 32, 32, 8])
    """

    def __init__(self, filters, kernel_size, strides=1, padding="valid", *, size=None, is_transformed=False, **kwargs):
        check_sizes("FFTConv2D", filters, kernel_size, padding)
        super().__init__(filters, kernel_size, strides, padding, **kwargs)
        where = "FFTConv2D"
        check_applies(self, because="a spectrum holds every pixel")
        if size is not None:
            check_whole(where, "size", size)
            if size <= max(self.kernel_size):
                rule = f"size must be larger than kernel_size={self.kernel_size}"
                mend = f"Pass size={2 * max(self.kernel_size)}, say, or None."
                raise ValueError(complaint(where, rule, f"size={size}", mend))
        check_transformed(self, is_transformed)
        self.size = size
        self.is_transformed = is_transformed

    def build(self, input_shape):
        if not self.is_transformed:
            super().build(input_shape)
            return
        if None in input_shape[1:3] and self.size is None:
            rule, mend = "is_transformed needs a known height and width", "Pass size=, or build it with known sides."
            raise ValueError(complaint("FFTConv2D", rule, f"input_shape={tuple(input_shape)}", mend))
        size = self._size(input_shape)
        shape = (3, size // 2 + 1, size, input_shape[-1], self.filters)
        self._kernel = self.add_weight(name="kernel", shape=shape, initializer="zeros", trainable=False)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros", trainable=False)
        self.built = True

    def convolution_op(self, inputs, kernel):
        if not (has_sides(inputs) and is_float32(self)):
            return super().convolution_op(inputs, kernel)
        size = self._size(inputs.shape)
        spectrum = kernel if self.is_transformed else transform_kernel(kernel, size)
        return convolve_transformed(inputs, spectrum, self.kernel_size, size=size, padding=self.padding)

    def _size(self, input_shape):
        sides = self.compute_output_shape(input_shape)[1:3]
        return self.size or best_size(self.kernel_size, sides, input_shape[-1], self.filters)

    def transformed(self, input_shape):
        """A built layer that computes the same and holds the spectrum of its kernel, to serve, not to be trained.

        Args:
            input_shape: of the images it will see, `(batch, height, width, channels)`.

        Raises:
            ValueError: this layer is not built, or computes in half precision.
        """
        check_built(self)
        size = self._size(input_shape)
        other = type(self).from_config(self.get_config() | {"size": size, "is_transformed": True, "trainable": False})
        other.build((None, None, None, self.kernel.shape[2]))
        spectrum = transform_kernel(keras.ops.cast(self.kernel, "float32"), size)
        bias = [] if self.bias is None else [self.bias]
        other.set_weights([keras.ops.convert_to_numpy(value) for value in (spectrum, *bias)])
        return other

    def plain(self):
        """A built `keras.layers.Conv2D` that computes the same; a transformed kernel, up to rounding, trains again.

        Raises:
            ValueError: this layer is not built.
        """
        check_built(self)
        return plain_conv2d(self, plain_kernel(self.kernel, self.kernel_size) if self.is_transformed else self.kernel)

    def get_config(self):
        return {**super().get_config(), "size": self.size, "is_transformed": self.is_transformed}
