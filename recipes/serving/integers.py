"""ONNX files whose weights have fewer bits."""

import os

import numpy as np

_AXES = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": 1}
_LEAST = 1e-20  # a scale for channels of nothing but zeros
# They give values that they were given.
_PASSING = ("Flatten", "Identity", "MaxPool", "Pad", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "AveragePool")


def in_half(path):
    """Store the weights in float16; they are computed with in float32, as before."""
    import onnx

    model = onnx.load(os.fspath(path))
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 2:
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, os.fspath(path))


def in_integers(path):
    """Store the kernels in int8, with a scale per channel of the output.

    Where the input of a kernel is quantized, its bias becomes int32 beside, so that the product runs in integers.
    """
    import onnx

    model = onnx.load(os.fspath(path))
    graph = model.graph
    _join_biases(graph, _ranks(model))
    rewriting = _Rewriting(graph)
    nodes = [new for node in graph.node for new in rewriting.rewritten(node)]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, os.fspath(path))


class _Rewriting:
    """Kernels of one graph, node by node."""

    def __init__(self, graph):
        from onnx import numpy_helper

        self._graph = graph
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}

    def rewritten(self, node):
        """The nodes that take the place of a node."""
        kernel = self._constants.get(node.input[1]) if node.op_type in _AXES else None
        if kernel is None or kernel.ndim < 2 or kernel.dtype != np.float32:
            return [node]
        axis = _AXES[node.op_type] % kernel.ndim
        given = self._quantizer(node.input[0])
        bias = self._constants[node.input[2]].astype(np.float64) if given is not None and len(node.input) > 2 else None
        step = None if given is None else float(self._constants[given.input[1]])
        scales = _scales(kernel, axis, 0.0 if bias is None else np.abs(bias) / step)
        shape = [-1 if place == axis else 1 for place in range(kernel.ndim)]
        before = self._again(node, given) if given is not None and given.output[0] != node.input[0] else []
        integers = np.round(kernel / scales.reshape(shape)).astype(np.int8)
        before.append(self._dequantized(node, 1, integers, scales, axis))
        if bias is not None:
            steps = (step * scales.astype(np.float64)).astype(np.float32)
            before.append(self._dequantized(node, 2, np.round(bias / steps).astype(np.int32), steps, 0))
        return [*before, node]

    def _quantizer(self, name):
        """The DequantizeLinear whose values a tensor holds, None where there is none."""
        maker = self._makers.get(name)
        while maker is not None and maker.op_type in _PASSING:
            maker = self._makers.get(maker.input[0])
        return maker if maker is not None and maker.op_type == "DequantizeLinear" else None

    def _again(self, node, given):
        """Quantized as before right before a node, where runtimes look for it."""
        from onnx import helper

        names = [f"{node.output[0]}_input_{kind}" for kind in ("int8", "float")]
        first = helper.make_node("QuantizeLinear", [node.input[0], *given.input[1:]], names[:1])
        second = helper.make_node("DequantizeLinear", [names[0], *given.input[1:]], names[1:])
        node.input[0] = names[1]
        return [first, second]

    def _dequantized(self, node, place, integers, scales, axis):
        """Integers in the place of a constant."""
        from onnx import helper, numpy_helper

        name = f"{node.output[0]}_{('input', 'kernel', 'bias')[place]}"
        parts = {"int": integers, "scale": scales, "zero": np.zeros(scales.shape, integers.dtype)}
        self._graph.initializer.extend(
            numpy_helper.from_array(values, f"{name}_{kind}") for kind, values in parts.items()
        )
        node.input[place] = f"{name}_float"
        return helper.make_node("DequantizeLinear", [f"{name}_{kind}" for kind in parts], [f"{name}_float"], axis=axis)


def _scales(kernel, axis, bias):
    """float32, one per channel: the largest weight becomes 127, unless a bias would then be beyond int32."""
    others = tuple(place for place in range(kernel.ndim) if place != axis)
    return np.maximum(np.maximum(np.abs(kernel).max(others) / 127, bias / 2**30), _LEAST).astype(np.float32)


def _ranks(model):
    """`{name of a tensor: number of its axes}`, as far as it is known."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in values
        if value.type.tensor_type.HasField("shape")
    }


def _join_biases(graph, ranks):
    """Make one Gemm of each product with a constant matrix, and the sum with a bias that is all that follows."""
    from onnx import helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    users = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    joined = {}
    for node in graph.node:
        following = users.get(node.output[0], [])
        if node.op_type != "MatMul" or len(following) != 1 or node.output[0] in outputs:
            continue
        kernel, bias = constants.get(node.input[1]), [name for name in following[0].input if name in constants]
        is_sum = following[0].op_type == "Add" and len(bias) == 1 and len(constants[bias[0]].dims) == 1
        if kernel is not None and len(kernel.dims) == ranks.get(node.input[0]) == 2 and is_sum:
            joined[id(node)] = None
            joined[id(following[0])] = helper.make_node("Gemm", [*node.input, bias[0]], following[0].output)
    nodes = [joined.get(id(node), node) for node in graph.node]
    nodes = [node for node in nodes if node is not None]
    del graph.node[:]
    graph.node.extend(nodes)
