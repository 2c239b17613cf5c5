"""Sub-layers in a row: built, called and shaped by one description, the tuple of the layers."""


def build_chain(layers, input_shape):
    """Build each layer on what the one before it gives; the shape of what comes out."""
    shape = tuple(input_shape)
    for layer in layers:
        if not layer.built:
            layer.build(shape)
        shape = layer.compute_output_shape(shape)
    return shape


def call_chain(layers, inputs):
    """Call each layer on what the one before it gives. Whether this is training, Keras hands down by itself."""
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    return outputs


def chain_shape(layers, input_shape):
    """The shape of what the last layer gives."""
    shape = tuple(input_shape)
    for layer in layers:
        shape = layer.compute_output_shape(shape)
    return shape
