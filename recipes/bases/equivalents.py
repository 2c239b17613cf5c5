"""Public Keras layers in place of what keras.applications holds beside them: bare operations and private layers."""

import numbers

import keras


def stand_in(operation, name, args):
    """A function of the same arguments that calls public layers and computes the same; None where none is needed.

    A model of public layers alone can be cut, walked through and loaded with `model.layers` as the whole truth.
    """
    kind = type(operation).__name__
    if getattr(keras.layers, kind, None) is type(operation) or not type(operation).__module__.startswith("keras."):
        return None
    if kind == "LayerScale":
        return _layer_scale(operation, name, args[0])
    if kind == "CustomScaleLayer":
        return _scaled_sum(operation, name)
    if kind in ("Add", "Multiply", "Subtract"):
        return _merge_or_rescaling(kind, name, args)
    if kind == "Concatenate":
        return keras.layers.Concatenate(operation.axis, dtype=args[0][0].dtype, name=name)
    if kind == "Relu":
        return keras.layers.ReLU(dtype=args[0].dtype, name=name)
    return None


def _layer_scale(operation, name, tensor):
    """One trainable factor per channel: a Dense layer that keeps to the diagonal, its kernel of shape `(channels,)`."""
    return keras.layers.EinsumDense(
        "abcd,d->abcd",
        output_shape=tensor.shape[1:],
        kernel_initializer=keras.initializers.Constant(operation.init_values),
        dtype=operation.dtype_policy,
        name=name,
    )


def _scaled_sum(operation, name):
    """`first + scale * second`, the residual connection of Inception-ResNet."""

    scale = keras.layers.Rescaling(operation.scale, dtype=operation.dtype_policy, name=f"{name}_scaled")
    add = keras.layers.Add(dtype=operation.dtype_policy, name=name)
    return lambda inputs: add([inputs[0], scale(inputs[1])])


def _merge_or_rescaling(kind, name, args):
    """Two tensors: the merging layer of that name. A tensor and a number: Rescaling. Anything else: as it is."""
    tensors = [value for value in args if isinstance(value, keras.KerasTensor)]
    values = [value for value in args if isinstance(value, numbers.Real)]
    if len(args) != 2 or any(tensor.dtype != tensors[0].dtype for tensor in tensors):
        return None
    # Merging layers transpose inputs of unequal rank, which the operations do not.
    if len(tensors) == 2 and len(tensors[0].shape) == len(tensors[1].shape):
        layer = getattr(keras.layers, kind)(dtype=tensors[0].dtype, name=name)
        return lambda *both: layer(list(both))
    if len(tensors) == len(values) == 1:
        number = values[0]
        reflected = not isinstance(args[0], keras.KerasTensor)
        scale, offset = {
            "Add": (1.0, number),
            "Multiply": (number, 0.0),
            "Subtract": (-1.0, number) if reflected else (1.0, -number),
        }[kind]
        dtype = keras.backend.result_type(tensors[0].dtype, type(number))
        if not keras.backend.is_float_dtype(dtype):
            return None  # Rescaling has no whole numbers that wrap around
        layer = keras.layers.Rescaling(scale, offset, dtype=dtype, name=name)
        return lambda *both: layer(both[1] if reflected else both[0])
    return None
