"""Whole networks as Keras runs them, through `recipes.accelerate`, and by other runtimes, on the same cores.

    pip install torch onnxruntime tf2onnx onnx openvino
    python benchmarks/accelerate.py --network VGG16 --batches 1 4 16
    python benchmarks/accelerate.py --network ResNet50 --batches 1 8 --peers

Forward passes at 224 pixels (InceptionV3 at 299), random weights, the ways alternating in one run: medians with
quartiles, in images a second, and the median of the ratios to Keras. ONNX Runtime and OpenVINO run the network that
tf2onnx makes of the Keras model; PyTorch runs VGG16 written in `torch.nn`, under `torch.inference_mode`. `simplified`
is what folding and the other exact rewrites bring without other algorithms. `difference` is the largest difference of
the accelerated outputs on photographs, relative to the largest output. Peers that are not installed are left out.
Expect five minutes a network on 2 cores.
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

import recipes
from recipes.acceleration.samples import sample_photos
from recipes.bases.simplifying import simplified
from recipes.timing import alternating


def in_graph(model, images):
    images = tf.constant(images)
    signature = [tf.TensorSpec((None, *images.shape[1:]), images.dtype)]
    call = tf.function(lambda x: model(x, training=False), input_signature=signature, autograph=False)
    return lambda: call(images)


def by_pytorch(images):
    """VGG16 in PyTorch, its own layout and kernels."""
    import torch

    layers, channels = [], 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU(inplace=True)]
            channels = width
        layers.append(torch.nn.MaxPool2d(2))
    layers.append(torch.nn.Flatten())
    for inputs, outputs in ((25088, 4096), (4096, 4096), (4096, 1000)):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1], torch.nn.Softmax(dim=1)).eval()
    batch = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    def run():
        with torch.inference_mode():
            return network(batch)

    return run


def as_onnx(model, folder):
    import tf2onnx

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="images")]
    function = tf.function(lambda images: model(images, training=False), input_signature=signature)
    path = str(Path(folder) / "model.onnx")
    tf2onnx.convert.from_function(function, input_signature=signature, output_path=path)
    return path


def by_onnxruntime(path, images):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"images": images})


def by_openvino(path, images):
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU")
    return lambda: compiled([images])


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
    if has_peers:
        if importlib.util.find_spec("torch") and name == "VGG16":
            runs["pytorch"] = by_pytorch(images)
        path = as_onnx(network, folder) if importlib.util.find_spec("tf2onnx") else None
        if path and importlib.util.find_spec("onnxruntime"):
            runs["onnxruntime"] = by_onnxruntime(path, images)
        if path and importlib.util.find_spec("openvino"):
            runs["openvino"] = by_openvino(path, images)
    seconds = alternating(runs, rounds=rounds)
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
    kinds = [type(layer).__name__ for layer in faster.layers]
    return {
        "batch": batch,
        "accelerate_seconds": round(took, 1),
        "winograd_layers": kinds.count("WinogradConv2D"),
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
