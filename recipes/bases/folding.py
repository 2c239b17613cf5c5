"""BatchNormalization made part of the convolution before it, for running a network without training it."""

import keras

from recipes.bases.flattening import accepted, call_arguments, needed, ordered_calls, references

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def folded(model):
    """A function that gives what `model(images, training=False)` gives, up to rounding, in fewer operations.

    Where a BatchNormalization follows a convolution, the convolution's kernel is multiplied by the factors per channel
    and its bias takes the offsets: one pass over the outputs instead of three. The weights are read at every call.

    Args:
        model: flat functional model with one input and one output.

    Returns:
        function of a tensor `(batch, …)` of any type.
    """
    config = model.get_config()
    operations = {operation.name: operation for operation in model.operations}
    calls = list(ordered_calls(config))
    (source,), (target,) = references(config["input_layers"]), references(config["output_layers"])
    folds = _folds(operations, calls, target)
    absorbed = {normalization.name for normalization in folds.values()}

    def run(images):
        tensors = {source: keras.ops.cast(images, model.input.dtype)}
        for name, index, node in calls:
            args, kwargs = call_arguments(operations[name], node, tensors)
            if name in folds:
                outputs = _convolve(operations[name], folds[name], *args)
            elif name in absorbed:
                (outputs,) = args
            else:
                outputs = operations[name](*args, **accepted(operations[name], kwargs | {"training": False}))
            tensors.update({(name, index, place): x for place, x in enumerate(keras.tree.flatten(outputs))})
        return tensors[target]

    return run


def _folds(operations, calls, target):
    """`{name of a convolution: the BatchNormalization that is all that follows it}`."""
    uses, made = {}, {}
    for name, _, node in calls:
        made[name] = made.get(name, 0) + 1
        for reference in needed(node):
            uses.setdefault(reference[0], []).append(name)
    uses.setdefault(target[0], []).append(None)
    folds = {}
    for name, users in uses.items():
        layer, normalization = operations[name], operations.get(users[0])
        # A subclass may compute anything.
        is_pair = type(layer) in CONVOLUTIONS and type(normalization) is keras.layers.BatchNormalization
        if is_pair and len(users) == made[name] == made[normalization.name] == 1 and _is_plain(layer, normalization):
            folds[name] = normalization
    return folds


def _is_plain(convolution, normalization):
    is_last = convolution.data_format == "channels_last" and normalization.axis in (-1, 3)
    is_exact = convolution.dtype_policy.name == normalization.dtype_policy.name == "float32"
    return is_last and is_exact and convolution.activation is keras.activations.linear


def _convolve(convolution, normalization, images):
    factors = keras.ops.rsqrt(normalization.moving_variance + normalization.epsilon)
    if normalization.gamma is not None:
        factors = factors * normalization.gamma
    offsets = (0 if convolution.bias is None else convolution.bias) - normalization.moving_mean
    offsets = offsets * factors + (0 if normalization.beta is None else normalization.beta)
    is_depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
    shape = (1, 1, -1, convolution.depth_multiplier) if is_depthwise else (1, 1, 1, -1)
    convolve = keras.ops.depthwise_conv if is_depthwise else keras.ops.conv
    outputs = convolve(
        keras.ops.cast(images, convolution.compute_dtype),
        convolution.kernel * keras.ops.reshape(factors, shape),
        strides=convolution.strides,
        padding=convolution.padding,
        data_format="channels_last",
        dilation_rate=convolution.dilation_rate,
    )
    return keras.ops.add(outputs, offsets)
