"""PatchConv2D: a convolution as one matrix product over patches (im2col)."""

import keras

from layers.convolutions._exact import check_applies, check_built, check_sizes, has_sides, plain_conv2d


@keras.saving.register_keras_serializable("keras_recipes")
class PatchConv2D(keras.layers.Conv2D):
    """A convolution as one matrix product: the weights and, up to rounding, outputs of a Conv2D.

    Every patch of the image as a row (im2col) → times the kernel as a matrix → bias, activation. It takes kernel height
    × kernel width times the memory of the image, and shows what libraries did before they had direct convolutions.
    Where height or width are unknown when the graph is made it convolves directly.

    Args:
        filters: channels of the output, 1 or more.
        kernel_size: height and width of the kernel, a whole number or a pair.
        strides: steps of the kernel, a whole number or a pair.
        padding: `"valid"` or `"same"`.
        **kwargs: the other arguments of `keras.layers.Conv2D`, and `name`, `dtype` and so on.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, new height, new width, filters)`, as of a Conv2D.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or asks for what this algorithm cannot do (groups,
            channels first, strides together with dilation).

    Reference:
        Chellapilla et al. 2006, "High performance convolutional neural networks for document processing".

    Example:
        >>> import keras, layers
        >>> layers.PatchConv2D(8, 5, strides=2)(keras.ops.ones((1, 32, 32, 4))).shape
        TensorShape([1, 14, 14, 8])
    """

    def __init__(self, filters, kernel_size, strides=1, padding="valid", **kwargs):
        check_sizes("PatchConv2D", filters, kernel_size, padding)
        super().__init__(filters, kernel_size, strides, padding, **kwargs)
        check_applies(self, strides=None, dilation_rate=None, because="a patch holds all channels")

    def convolution_op(self, inputs, kernel):
        if not has_sides(inputs):
            return super().convolution_op(inputs, kernel)
        patches = keras.ops.image.extract_patches(
            inputs,
            self.kernel_size,
            strides=self.strides,
            dilation_rate=self.dilation_rate,
            padding=self.padding,
            data_format="channels_last",
        )
        return keras.ops.matmul(patches, keras.ops.reshape(kernel, (-1, self.filters)))

    def plain(self):
        """A built `keras.layers.Conv2D` that computes the same.

        Raises:
            ValueError: this layer is not built.
        """
        check_built(self)
        return plain_conv2d(self, self.kernel)
