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
    _replace_nodes(graph, [*casts, *graph.node])
    onnx.save(model, os.fspath(path))


def in_integers(path, is_whole):
    """Store the kernels in int8, with a scale per channel of the output.

    Args:
        path: of the file, which is replaced.
        is_whole: whether products run in integers too, where the activations that they take are quantized: then the
            bias becomes int32, and kernels that take others stay as they are. Else every kernel is brought back to
            float once, when the file is loaded.
    """
    import onnx

    model = onnx.load(os.fspath(path))
    graph = model.graph
    if is_whole:
        _join_biases(graph, _ranks(model))
    rewriting = _Rewriting(graph, is_whole)
    nodes = [new for node in graph.node for new in rewriting.rewritten(node)]
    _replace_nodes(graph, nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, os.fspath(path))


class _Rewriting:
    """Kernels of one graph, node by node."""

    def __init__(self, graph, is_whole):
        from onnx import numpy_helper

        self._graph = graph
        self._is_whole = is_whole
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}

    def rewritten(self, node):
        """The nodes that take the place of a node."""
        kernel = self._constants.get(node.input[1]) if node.op_type in _AXES else None
        if kernel is None or kernel.ndim < 2 or kernel.dtype != np.float32:
            return [node]
        axis = _AXES[node.op_type] % kernel.ndim
        if not self._is_whole:
            scales = _scales(kernel, axis, 0.0)
            return [*self._brought_back(node, _integers(kernel, scales, axis), scales, axis), node]
        given = self._quantizer(node.input[0])
        return [node] if given is None else self._in_integers(node, kernel, axis, given)

    def _in_integers(self, node, kernel, axis, given):
        step = float(self._constants[given.input[1]])
        bias = self._constants[node.input[2]].astype(np.float64) if len(node.input) > 2 else None
        scales = _scales(kernel, axis, 0.0 if bias is None else np.abs(bias) / step)
        before = [] if given.output[0] == node.input[0] else self._again(node, given)
        before.append(self._dequantized(node, 1, _integers(kernel, scales, axis), scales, axis))
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
        """Integers, and the node that runtimes fuse with the product, in the place of a constant."""
        from onnx import helper

        names = self._stored(node, place, int=integers, scale=scales, zero=np.zeros(scales.shape, integers.dtype))
        node.input[place] = f"{names[0]}_float"
        return helper.make_node("DequantizeLinear", names, [node.input[place]], axis=axis)

    def _brought_back(self, node, integers, scales, axis):
        """Integers, and nodes that runtimes compute when they load the file, in the place of a kernel."""
        from onnx import TensorProto, helper

        shape = [-1 if place == axis else 1 for place in range(integers.ndim)]
        names = self._stored(node, 1, int=integers, scale=scales.reshape(shape))
        node.input[1] = f"{names[0]}_float"
        cast = helper.make_node("Cast", names[:1], [f"{names[0]}_cast"], to=TensorProto.FLOAT)
        return [cast, helper.make_node("Mul", [cast.output[0], names[1]], [node.input[1]])]

    def _stored(self, node, place, **parts):
        """The names under which constants are stored."""
        from onnx import numpy_helper

        names = [f"{node.output[0]}_{('input', 'kernel', 'bias')[place]}_{kind}" for kind in parts]
        self._graph.initializer.extend(map(numpy_helper.from_array, parts.values(), names))
        return names


def _integers(kernel, scales, axis):
    shape = [-1 if place == axis else 1 for place in range(kernel.ndim)]
    return np.round(kernel / scales.reshape(shape)).astype(np.int8)


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
    nodes, users = list(graph.node), {}
    for number, node in enumerate(nodes):
        for name in node.input:
            users.setdefault(name, []).append(number)
    outputs = {value.name for value in graph.output}
    for number, node in enumerate(list(nodes)):
        following = users.get(node.output[0], [])
        if node.op_type != "MatMul" or len(following) != 1 or node.output[0] in outputs:
            continue
        addition = nodes[following[0]]
        kernel, bias = constants.get(node.input[1]), [name for name in addition.input if name in constants]
        is_sum = addition.op_type == "Add" and len(bias) == 1 and len(constants[bias[0]].dims) == 1
        if kernel is not None and len(kernel.dims) == ranks.get(node.input[0]) == 2 and is_sum:
            nodes[number] = None
            nodes[following[0]] = helper.make_node("Gemm", [*node.input, bias[0]], addition.output)
    _replace_nodes(graph, [node for node in nodes if node is not None])


def _replace_nodes(graph, nodes):
    del graph.node[:]
    graph.node.extend(nodes)
