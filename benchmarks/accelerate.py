"""Whole networks as Keras runs them, through `recipes.accelerate`, and by other runtimes, on the same cores.

    pip install torch onnx onnxruntime openvino
    python benchmarks/accelerate.py --network VGG16 --batches 1 4 16
    python benchmarks/accelerate.py --network ResNet50 --batches 1 8 --no-peers

Forward passes at 224 pixels (InceptionV3 at 299), random weights, the ways alternating in one run: medians with
quartiles, in images a second, and the median of the ratios to Keras. VGG16 also runs in PyTorch (`torch.nn`, under
`torch.inference_mode`) and, written as an ONNX file, in ONNX Runtime and OpenVINO, channels first; those that are not
installed are left out. OpenVINO runs in single precision as all others do, and as it would by itself, which on
processors with matrix units is bfloat16: other outputs, in the third digit. `simplified` is what folding and the other
exact rewrites bring without other algorithms.
`difference` is the largest difference of the accelerated outputs on photographs, relative to the largest output.
`image_by_image` names the last layer of the part that runs on one image at a time. Expect five minutes a network on 2
cores, VGG16 with all batches and runtimes fifteen.
"""

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from machine import print_json

import layers
import recipes
from recipes.acceleration.samples import sample_photos
from recipes.bases.simplifying import simplified
from recipes.timing import alternating

# VGG16, as the other runtimes get it.
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
DENSE = ((25088, 4096), (4096, 4096), (4096, 1000))


def in_graph(model, images):
    images = tf.constant(images)
    signature = [tf.TensorSpec((None, *images.shape[1:]), images.dtype)]
    call = tf.function(lambda x: model(x, training=False), input_signature=signature, autograph=False)
    return lambda: call(images)


def by_pytorch(images):
    """VGG16 in PyTorch, its own layout and kernels."""
    import torch

    modules, channels = [], 3
    for width, depth in BLOCKS:
        for _ in range(depth):
            modules += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU(inplace=True)]
            channels = width
        modules.append(torch.nn.MaxPool2d(2))
    modules.append(torch.nn.Flatten())
    for inputs, outputs in DENSE:
        modules += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    network = torch.nn.Sequential(*modules[:-1], torch.nn.Softmax(dim=1)).eval()
    batch = torch.from_numpy(images)
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    def run():
        with torch.inference_mode():
            return network(batch)

    return run


def as_onnx(folder):
    """VGG16 as an ONNX file, written node by node: the converters take more memory than the machine has."""
    import onnx

    random = np.random.default_rng(0)
    nodes, weights, last = [], [], "images"

    def add(kind, *shapes, **attributes):
        nonlocal last
        names = [f"weight_{len(weights) + number}" for number in range(len(shapes))]
        for name, shape in zip(names, shapes, strict=True):
            values = random.normal(scale=0.05, size=shape).astype("float32")
            weights.append(onnx.numpy_helper.from_array(values, name))
        outputs = f"tensor_{len(nodes)}"
        nodes.append(onnx.helper.make_node(kind, [last, *names], [outputs], **attributes))
        last = outputs

    channels = 3
    for width, depth in BLOCKS:
        for _ in range(depth):
            add("Conv", (width, channels, 3, 3), (width,), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            add("Relu")
            channels = width
        add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    add("Flatten")
    for number, (inputs, outputs) in enumerate(DENSE):
        add("Gemm", (inputs, outputs), (outputs,))
        add("Softmax" if number == 2 else "Relu")
    tensors = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("images", ["batch", 3, 224, 224]), (last, ["batch", 1000]))
    ]
    graph = onnx.helper.make_graph(nodes, "vgg16", tensors[:1], tensors[1:], weights)
    opset = [onnx.helper.make_opsetid("", 17)]
    path = str(Path(folder) / "vgg16.onnx")
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def by_onnxruntime(path, images):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"images": images})


def by_openvino(path, images, precision):
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda: compiled([images])


def peers(images, folder):
    """Those that are installed, on images with the channels first."""
    runs = {"pytorch": by_pytorch(images)} if importlib.util.find_spec("torch") else {}
    if importlib.util.find_spec("onnx"):
        path = as_onnx(folder)
        if importlib.util.find_spec("onnxruntime"):
            runs["onnxruntime"] = by_onnxruntime(path, images)
        if importlib.util.find_spec("openvino"):
            runs["openvino"] = by_openvino(path, images, "f32")
            runs["openvino, its own precision"] = by_openvino(path, images, None)
    return runs


def measure(name, batch, rounds, has_peers, folder):
    network = getattr(keras.applications, name)(weights=None)
    shape = network.input_shape[1:]
    images = sample_photos(batch, shape[:2], 3)
    start = time.monotonic()
    faster = recipes.accelerate(network, batch_size=batch)
    took = time.monotonic() - start
    runs = {"keras": in_graph(network, images), "accelerated": in_graph(faster, images)}
    if (simple := simplified(network)) is not network:
        runs["simplified"] = in_graph(simple, images)
    if has_peers and name == "VGG16":
        runs |= peers(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), folder)
    seconds = alternating(runs, rounds=rounds, rest=0.3)
    ways = {}
    for way, taken in seconds.items():
        quartiles = statistics.quantiles(taken, n=4)
        ratios = [one / other for one, other in zip(seconds["keras"], taken, strict=True)]
        ways[way] = {
            "images_a_second": round(batch / statistics.median(taken), 2),
            "quartiles": [round(batch / quartiles[2], 2), round(batch / quartiles[0], 2)],
            "ratio_to_keras": round(statistics.median(ratios), 3),
        }
    expected, outputs = (model.predict(images, verbose=0) for model in (network, faster))
    kinds = [type(layer).__name__ for layer in layers.inner_layers(faster)]
    by_image = next((layer.model.layers[-1].name for layer in faster.layers if hasattr(layer, "model")), None)
    return {
        "batch": batch,
        "accelerate_seconds": round(took, 1),
        "winograd_layers": kinds.count("WinogradConv2D"),
        "transposed_layers": kinds.count("TransposedDense"),
        "image_by_image": by_image,
        "difference": float(np.abs(outputs - expected).max() / np.abs(expected).max()),
        "ways": ways,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="VGG16")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # choices of other versions are no matter
        rows = [
            measure(arguments.network, batch, arguments.rounds, arguments.peers, folder) for batch in arguments.batches
        ]
    print_json({"network": arguments.network, "rows": rows})


if __name__ == "__main__":
    main()
