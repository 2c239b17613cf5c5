"""InceptionBlock: convolutions of several sizes and a pooling, side by side."""

import keras

from layers._arguments import check_choice, check_whole, complaint
from layers._chain import build_chain, call_chain, chain_shape

POOLS = ("max", "average", None)


@keras.saving.register_keras_serializable("keras_recipes")
class InceptionBlock(keras.layers.Layer):
    """Parallel branches over one image, whose channels are put side by side.

    Each branch: (1×1 convolution to its reduction → ReLU) → n×n convolution → ReLU. The last branch: 3×3 pooling with
    stride 1 → (1×1 convolution to `pool_projection` → ReLU). The branches' outputs are concatenated in this order. With
    `factored=True` each n×n is 1×n → ReLU → n×1, where the first gives the channels of the branch's reduction.

    Args:
        filters: channels that each branch gives, one whole number for each of `kernel_sizes`.
        kernel_sizes: side of each branch's kernel, odd.
        reductions: channels after the 1×1 convolution that precedes each branch, None for a branch without one; None
            for no reductions at all, as in the naive block.
        pool: `"max"` as in GoogLeNet, `"average"` as in Inception v3, None for no such branch.
        pool_projection: channels after the pooling; None passes all of the input's.
        factored: whether kernels above 1×1 are factored along width and height.
        normalization: whether each convolution, then without bias, is followed by BatchNormalization as in Inception
            v3; GoogLeNet has biases instead.
        kernel_initializer: start of all kernels.
        **kwargs: `name`, `dtype` and so on, as every Keras layer takes them.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, new channels)`: the sum of `filters` and of `pool_projection`, in whose place stand the
        input's channels where it is None, and nothing where there is no pooling.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range, or there is not one per branch.

    Reference:
        Szegedy et al. 2014, "Going deeper with convolutions", figure 2 and table 1; Szegedy et al. 2015, "Rethinking
        the Inception architecture", figure 6 (factored; its branch with two factored pairs in a row is not covered).

    Example:
        The block 3a of GoogLeNet.

        >>> import keras, layers
        >>> block = layers.InceptionBlock((64, 128, 32), reductions=(None, 96, 16), pool_projection=32)
        >>> tuple(block(keras.ops.ones((1, 28, 28, 192))).shape)
        (1, 28, 28, 256)
        >>> block.count_params()
        163696
    """

    def __init__(
        self,
        filters,
        *,
        kernel_sizes=(1, 3, 5),
        reductions=None,
        pool="max",
        pool_projection=None,
        factored=False,
        normalization=False,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_each("kernel_sizes", kernel_sizes, odd=True)
        _check_each("filters", filters, count=len(kernel_sizes))
        if reductions is not None:
            _check_each("reductions", reductions, count=len(kernel_sizes), none=True)
        check_choice("InceptionBlock", "pool", pool, POOLS)
        if pool_projection is not None:
            check_whole("InceptionBlock", "pool_projection", pool_projection)
            if pool is None:
                rule, mend = "pool_projection needs a pooling", 'Pass pool="max" or pool_projection=None.'
                raise ValueError(
                    complaint("InceptionBlock", rule, f"pool_projection={pool_projection}, pool=None", mend)
                )
        self.filters = filters
        self.kernel_sizes = kernel_sizes
        self.reductions = reductions
        self.pool = pool
        self.pool_projection = pool_projection
        self.factored = factored
        self.normalization = normalization
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.branches = [self._make_branch(index) for index in range(len(kernel_sizes))]
        if pool is not None:
            self.branches.append(self._make_pooling())

    def _make_branch(self, index):
        name, filters, size = f"branch{index}", self.filters[index], self.kernel_sizes[index]
        reduction = self.reductions[index] if self.reductions else None
        chain = self._convolution(f"{name}_reduction", reduction, 1) if reduction else []
        if self.factored and size > 1:
            chain += self._convolution(f"{name}_horizontal", reduction or filters, (1, size))
            return chain + self._convolution(f"{name}_vertical", filters, (size, 1))
        return chain + self._convolution(f"{name}_convolution", filters, size)

    def _make_pooling(self):
        pooling = keras.layers.MaxPooling2D if self.pool == "max" else keras.layers.AveragePooling2D
        chain = [pooling(3, strides=1, padding="same", dtype=self.dtype_policy, name="pool")]
        return chain + (self._convolution("pool_projection", self.pool_projection, 1) if self.pool_projection else [])

    def _convolution(self, name, filters, kernel_size):
        """A convolution with what always follows it, as a chain."""
        chain = [
            keras.layers.Conv2D(
                filters,
                kernel_size,
                padding="same",
                use_bias=not self.normalization,
                kernel_initializer=self.kernel_initializer.clone(),  # one that is shared would draw alike
                dtype=self.dtype_policy,
                name=name,
            )
        ]
        if self.normalization:
            chain.append(keras.layers.BatchNormalization(dtype=self.dtype_policy, name=f"{name}_normalization"))
        return [*chain, keras.layers.ReLU(dtype=self.dtype_policy, name=f"{name}_relu")]

    def build(self, input_shape):
        for branch in self.branches:
            build_chain(branch, input_shape)
        self.built = True

    def call(self, inputs):
        return keras.ops.concatenate([call_chain(branch, inputs) for branch in self.branches], axis=-1)

    def compute_output_shape(self, input_shape):
        shapes = [chain_shape(branch, input_shape) for branch in self.branches]
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_sizes": self.kernel_sizes,
            "reductions": self.reductions,
            "pool": self.pool,
            "pool_projection": self.pool_projection,
            "factored": self.factored,
            "normalization": self.normalization,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _check_each(name, values, count=None, none=False, odd=False):
    """Raise unless `values` is a list of whole numbers, as many as there are branches."""
    where = "InceptionBlock"
    if not isinstance(values, (tuple, list)):
        rule, mend = f"{name} must be a tuple with one entry per branch", f"Pass {name}=(1, 3, 5), say."
        raise TypeError(complaint(where, rule, f"{name}={values!r}", mend))
    if len(values) != (count or len(values) or 1):
        rule = f"{name} must have {count or 'at least 1'} entries, one per branch"
        raise ValueError(complaint(where, rule, f"{name}={values!r}", "Give filters and kernel_sizes of one length."))
    for value in values:
        if value is not None or not none:
            check_whole(where, name, value, odd=odd)
