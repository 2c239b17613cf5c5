"""The one place of the layers that knows which backend runs: TensorFlow compiles only what it is told to."""

import functools

import keras


def compiled(function):
    """`function` as one kernel of XLA under TensorFlow; itself elsewhere, where the whole step is compiled or nothing.

    Args:
        function: of tensors and, by keyword, plain values, made of `keras.ops`. XLA compiles for fixed shapes: once for
            each that comes.

    Returns:
        function of the same arguments.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    made = {}

    @functools.wraps(function)
    def run(*tensors, **plain):
        import tensorflow

        tensors = [tensorflow.convert_to_tensor(tensor) for tensor in tensors]
        # One function per shape: TensorFlow warns of a function that is traced again and again.
        key = (tuple((tuple(tensor.shape), str(tensor.dtype)) for tensor in tensors), tuple(sorted(plain.items())))
        if key not in made:
            bound = functools.partial(function, **plain)
            made[key] = tensorflow.function(bound, jit_compile=True, autograph=False)
        return made[key](*tensors)

    return run
