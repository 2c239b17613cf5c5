"""WinogradConv2D: a 3×3 convolution with up to four times fewer multiplications, exactly the same."""

import keras

from layers._arguments import check_choice, check_whole, complaint
from layers.convolutions._exact import (
    check_applies,
    check_built,
    check_sizes,
    check_transformed,
    has_sides,
    is_float32,
    plain_conv2d,
)
from layers.convolutions._winograd import PRODUCTS, convolve, plain_kernel, transform_kernel

_TILES = (2, 3, 4, 5, 6)


@keras.saving.register_keras_serializable("keras_recipes")
class WinogradConv2D(keras.layers.Conv2D):
    """A 3×3 convolution by Winograd's minimal filtering: the weights and, up to rounding, outputs of a Conv2D.

    Tiles of outputs → the (tile + 2)² pixels they need, in another basis → one matrix product over channels per place
    → back, bias, activation. `tile=2` takes 16 products for 4 outputs instead of 36, `tile=4` 36 for 16 instead of
    144. Under TensorFlow the layer is compiled by XLA, for each shape that comes. In half precision and where height or
    width are unknown when the graph is made it convolves directly.

    Args:
        filters: channels of the output, 1 or more.
        kernel_size: 3 or (3, 3), the only one there is.
        strides: 1 or (1, 1), the only one there is.
        padding: `"valid"` or `"same"`.
        tile: outputs of a tile in each direction, 2–6. F(2×2, 3×3) rounds like a Conv2D, F(4×4, 3×3) about ten times
            worse (1e-5 of the largest output); beyond, rounding grows and little is gained.
        rows: rows of tiles made at once; None makes all. With few, what is in between stays in the processor's cache.
        images: images made at once; None makes all of the batch. With a number, XLA compiles once and serves every size
            of batch: those left over are made one at a time.
        products: how the products over channels are computed: `"batched"`, all in one product of the backend;
            `"single"`, one for each place in a tile, which several cores share better; `"compiled"`, by XLA in one
            program for the whole layer, the strips in a loop. The outputs are the same; `recipes.accelerate` times all.
        is_transformed: whether the layer holds its kernel transformed, for serving: that is (tile + 2)² / 9 times as
            large, is not trained, and fits no Conv2D; `transformed` makes such layers.
        **kwargs: the other arguments of `keras.layers.Conv2D`, and `name`, `dtype` and so on.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, filters)`, each side 2 less with `padding="valid"`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or asks for what this algorithm cannot do (another
            kernel, strides, dilation, groups, channels first).

    Reference:
        Lavin and Gray 2016, "Fast algorithms for convolutional neural networks"; Winograd 1980.

    Example:
        >>> import keras, layers
        >>> layers.WinogradConv2D(16, 3, padding="same")(keras.ops.ones((1, 14, 14, 32))).shape
        TensorShape([1, 14, 14, 16])
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        strides=1,
        padding="valid",
        *,
        tile=4,
        rows=None,
        images=None,
        products="batched",
        is_transformed=False,
        **kwargs,
    ):
        check_sizes("WinogradConv2D", filters, kernel_size, padding)
        super().__init__(filters, kernel_size, strides, padding, **kwargs)
        where = "WinogradConv2D"
        if tuple(self.kernel_size) != (3, 3):
            mend = "Use keras.layers.Conv2D, or layers.FFTConv2D for large kernels."
            raise ValueError(complaint(where, "kernel_size must be 3", f"kernel_size={kernel_size!r}", mend))
        check_applies(self, because="tiles are made of neighbouring pixels of all channels")
        check_choice(where, "tile", tile, _TILES)
        check_choice(where, "products", products, PRODUCTS)
        for name, value in (("rows", rows), ("images", images)):
            if value is not None:
                check_whole(where, name, value)
        check_transformed(self, is_transformed)
        self.tile = tile
        self.rows = rows
        self.images = images
        self.products = products
        self.is_transformed = is_transformed

    def build(self, input_shape):
        if not self.is_transformed:
            super().build(input_shape)
            return
        if None in input_shape[1:3]:
            rule, mend = "is_transformed needs a known height and width", "Build it with the size of your images."
            raise ValueError(complaint("WinogradConv2D", rule, f"input_shape={tuple(input_shape)}", mend))
        shape = ((self.tile + 2) ** 2, input_shape[-1], self.filters)
        self._kernel = self.add_weight(name="kernel", shape=shape, initializer="zeros", trainable=False)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros", trainable=False)
        self.built = True

    def call(self, inputs):
        if not self._applies(inputs):
            return super().call(inputs)
        relu = self.activation is keras.activations.relu
        outputs = self._convolved(inputs, self.kernel, self.bias, relu)
        return outputs if relu or self.activation is None else self.activation(outputs)

    def convolution_op(self, inputs, kernel):
        return self._convolved(inputs, kernel) if self._applies(inputs) else super().convolution_op(inputs, kernel)

    def _applies(self, inputs):
        return has_sides(inputs) and is_float32(self)

    def _convolved(self, inputs, kernel, bias=None, relu=False):
        how = {"tile": self.tile, "rows": self.rows, "at_once": self.images, "products": self.products}
        how |= {"border": int(self.padding == "same"), "relu": relu, "is_transformed": self.is_transformed}
        return convolve(inputs, kernel, bias, **how)

    def transformed(self):
        """A built layer that computes the same and holds its kernel transformed, to serve, not to be trained.

        Raises:
            ValueError: this layer is not built, or computes in half precision.
        """
        check_built(self)
        other = type(self).from_config(self.get_config() | {"is_transformed": True, "trainable": False})
        kernel = keras.ops.cast(self.kernel, "float64")  # rounded once, at the end
        other.build((None, 3, 3, self.kernel.shape[2]))
        bias = [] if self.bias is None else [self.bias]
        other.set_weights([keras.ops.convert_to_numpy(value) for value in (transform_kernel(kernel, self.tile), *bias)])
        return other

    def plain(self):
        """A built `keras.layers.Conv2D` that computes the same; a transformed kernel, up to rounding, trains again.

        Raises:
            ValueError: this layer is not built.
        """
        check_built(self)
        return plain_conv2d(self, plain_kernel(self.kernel, self.tile) if self.is_transformed else self.kernel)

    def get_config(self):
        return {
            **super().get_config(),
            "tile": self.tile,
            "rows": self.rows,
            "images": self.images,
            "products": self.products,
            "is_transformed": self.is_transformed,
        }
