"""BatchNormalization that does not train made part of the convolution before it, which may."""

import functools

import keras

from recipes.bases.absorbing import by_output, factors_and_offsets, why_not_before
from recipes.bases.rewiring import Wiring

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def folded(model, is_trained=False, algorithms=None):
    """A function that gives what `model(images)` gives, up to rounding, in fewer operations.

    Where a BatchNormalization follows a convolution, the convolution's kernel is multiplied by the factors per channel
    and its bias takes the offsets: one pass over the outputs instead of three. What is folded is read now.

    Args:
        model: flat functional model with one input and one output.
        is_trained: whether the function also runs in training. Then only BatchNormalization that is frozen now is
            folded; the convolutions' weights are read at every call, and gradients reach them through the product.
        algorithms: `{name of a convolution: function}` for those that are computed otherwise: each takes a kernel, and
            whether it stays, and returns a function of images to their convolution by it.

    Returns:
        function of a tensor `(batch, …)` of any type and, optionally, `training`.
    """
    wiring = Wiring(model)
    folds = {
        name: normalization
        for name, normalization in find_folds(wiring, is_trained).items()
        if normalization.compute_dtype == "float32"  # in half precision what trains behind would see other numbers
    }
    absorbed = {normalization.name for normalization in folds.values()}
    replaced = {
        name: _computed(wiring.operations[name], folds.get(name), is_trained, (algorithms or {}).get(name))
        for name in {*folds, *(algorithms or {})}
    }

    def compute(images, training):
        images = keras.ops.cast(images, model.input.dtype)
        return wiring.follow(images, replaced=replaced, passed=absorbed, training=training)

    # Within the call of one layer, `training` reaches what is nested in others, and the losses of all calls count.
    whole = _Whole(compute, [operation for operation in model.operations if isinstance(operation, keras.layers.Layer)])

    def run(images, training=False):
        return whole(images, training=training)

    return run


class _Whole(keras.layers.Layer):
    """All layers of a model as one, which computes its outputs by a function."""

    def __init__(self, compute, inner):
        super().__init__(name="whole", autocast=False, dtype="float32")
        self.compute = compute
        self.inner = inner
        self.built = True

    def call(self, images, training=False):
        return self.compute(images, training)


def find_folds(wiring, is_trained=False, kinds=CONVOLUTIONS):
    """`{name of a layer: the BatchNormalization that is all that follows it}` of a flat functional model.

    Args:
        wiring: Wiring of the model.
        is_trained: whether those that are not frozen are left out.
        kinds: classes of layers that are looked at.
    """
    folds = {}
    for name, layer in wiring.operations.items():
        normalization = wiring.next_alone(name) if type(layer) in kinds else None
        if type(normalization) is not keras.layers.BatchNormalization or (is_trained and normalization.trainable):
            continue
        if normalization.name not in wiring.always_training and not why_not_before(layer, normalization):
            folds[name] = normalization
    return folds


def _computed(convolution, normalization, is_trained, algorithm):
    """A function of images to what a convolution, and the normalization after it, make of them."""
    factors, offsets = (None, None) if normalization is None else factors_and_offsets(normalization, _read)

    def product():
        """(kernel, what is added at the end or None)."""
        if normalization is None:
            return convolution.kernel, convolution.bias
        shift = offsets if convolution.bias is None else offsets + convolution.bias * factors
        return convolution.kernel * by_output(convolution, factors), shift

    def made():
        kernel, shift = product()
        return algorithm(kernel, not is_trained) if algorithm else _directly(convolution, kernel), shift

    fixed = None if is_trained else made()

    def run(images):
        convolve, shift = fixed or made()
        outputs = convolve(keras.ops.cast(images, convolution.compute_dtype))
        outputs = outputs if shift is None else keras.ops.add(outputs, shift)
        return convolution.activation(outputs)

    return run


def _read(variable):
    return keras.ops.convert_to_tensor(variable)


def _directly(convolution, kernel):
    is_depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
    return functools.partial(
        keras.ops.depthwise_conv if is_depthwise else keras.ops.conv,
        kernel=kernel,
        strides=convolution.strides,
        padding=convolution.padding,
        data_format="channels_last",
        dilation_rate=convolution.dilation_rate,
    )
