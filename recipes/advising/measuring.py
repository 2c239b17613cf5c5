"""What one step of a network is and costs: its kernel, activation, positions and multiply-adds."""

import math

import keras

CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
DENSE = (keras.layers.Dense, keras.layers.EinsumDense)
WITH_ACTIVATION = (*CONVOLUTIONS, *TRANSPOSED, *SEPARABLE, *DEPTHWISE, *DENSE, keras.layers.Activation)
# Keras' own layers for one activation each.
LAYERS_OF_ONE = {"ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu", "PReLU": "prelu", "Softmax": "softmax"}
# Bare operations, such as keras.ops.relu makes in a functional model.
OPERATIONS = {
    **{"Relu": "relu", "Relu6": "relu6", "LeakyRelu": "leaky_relu", "Elu": "elu", "Selu": "selu", "Gelu": "gelu"},
    **{"Silu": "silu", "Sigmoid": "sigmoid", "Tanh": "tanh", "HardSigmoid": "hard_sigmoid", "Softmax": "softmax"},
}
NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)


def activation_of(step):
    """The name of the activation in a step, `"linear"` for a layer that might have one, None for other steps."""
    operation = step.operation
    kind = type(operation).__name__
    if isinstance(operation, WITH_ACTIVATION):
        activation = operation.activation
        return getattr(activation, "__name__", type(activation).__name__.lower())
    if isinstance(operation, keras.layers.Layer):
        return LAYERS_OF_ONE.get(kind)
    return OPERATIONS.get(kind)


def kernels_of(step):
    """The kernels of a step: none, one, or the two of a separable convolution."""
    names = ("depthwise_kernel", "pointwise_kernel") if isinstance(step.operation, SEPARABLE) else ("kernel",)
    kernels = [getattr(step.operation, name, None) for name in names]
    return [kernel for kernel in kernels if hasattr(kernel, "shape")]


def size(tensor):
    """Numbers in a tensor, per image; None where its size is not known."""
    return None if None in tensor.shape[1:] else math.prod(tensor.shape[1:])


def sides(tensor, operation):
    """Height and width (or what stands in their place) of the maps in `tensor`."""
    is_first = getattr(operation, "data_format", None) == "channels_first"
    return tensor.shape[2:] if is_first else tensor.shape[1:-1]


def channels(tensor, operation):
    """Channels of the maps in `tensor`."""
    return tensor.shape[1] if getattr(operation, "data_format", None) == "channels_first" else tensor.shape[-1]


def positions(step):
    """How often a step's kernel is put down in one image; None where that is not known."""
    # A transposed convolution puts its kernel at every pixel that comes in.
    is_transposed = isinstance(step.operation, TRANSPOSED)
    placed = sides((step.inputs if is_transposed else step.outputs)[0], step.operation)
    return None if None in placed else math.prod(placed)


def multiply_adds(step):
    """Multiply-adds of a step per image, those of its kernels; None where its positions are not known."""
    numbers = sum(math.prod(kernel.shape) for kernel in kernels_of(step))
    if not numbers:
        return 0
    put = positions(step)
    return None if put is None else numbers * put


def is_square_convolution(step, least):
    """Whether this is a `keras.layers.Conv2D` of full channels with a square kernel of at least `least`×`least`."""
    operation = step.operation
    if not isinstance(operation, keras.layers.Conv2D):
        return False
    height, width = operation.kernel_size
    is_plain = operation.groups == 1 and tuple(operation.dilation_rate) == (1, 1)
    return is_plain and height == width >= least
