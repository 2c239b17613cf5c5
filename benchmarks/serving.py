"""What serving costs: the answers, the load, the start.

    recipes finetune --base mobilenet_v2_035 --data hymenoptera_data/ --out runs/hymenoptera
    python benchmarks/serving.py --run runs/hymenoptera --data hymenoptera_data/val --hostile hostile_images/

`--data` has a folder per class with files that the run was not trained on. Three parts:

- parity: every file, and every hostile one that can be read, through the exported SavedModel and through
  `recipes.predict`; and the accuracy that two careless ways of feeding the same network would have: resizing by Pillow
  without cropping, and scaling to 0–1 what the model scales itself.
- load: 32 clients for a minute against `recipes serve`, each sending one file after the other, every answer compared;
  before and after it the SavedModel alone, in batches of 32 of the same bytes.
- start: seconds until the first answer, and the size of each format.

Expect five minutes on 2 cores.
"""

import argparse
import asyncio
import base64
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
from machine import print_json

ALONE = """
import random, sys, time
sys.modules["keras"] = None
import tensorflow as tf
began = time.monotonic()
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
contents = [open(path, "rb").read() for path in sys.argv[3:]]
draw = random.Random(0)
batch = lambda: tf.constant(draw.choices(contents, k=32))
serve(image_bytes=batch())
first = time.monotonic() - began
serve(image_bytes=batch())
begin, images = time.monotonic(), 0
while time.monotonic() < begin + float(sys.argv[2]):
    serve(image_bytes=batch())
    images += 32
print(images / (time.monotonic() - begin), first)
"""


def files_of(folder):
    """(path, class) of every file in class folders."""
    return [(str(path), path.parent.name) for path in sorted(Path(folder).glob("*/*")) if path.is_file()]


def parity(result, version, files, hostile):
    """How far the served answers are from the predicted ones, and what careless feeding would lose."""
    import tensorflow as tf
    from PIL import Image

    serve = tf.saved_model.load(str(version)).signatures["serving_default"]

    def compare(paths):
        same, worst, unread = 0, 0.0, []
        for path in paths:
            answer = serve(image_bytes=tf.constant([Path(path).read_bytes()]))
            try:
                expected = result.predict(path)
            except ValueError:
                expected = None
            if expected is None or answer["error"][0].numpy():
                unread.append((Path(path).name, expected is None, bool(answer["error"][0].numpy())))
                continue
            same += answer["classes"][0, 0].numpy().decode() == expected.label
            told = zip(answer["classes"][0].numpy(), answer["probabilities"][0].numpy(), strict=True)
            worst = max(worst, *(abs(expected.probabilities[name.decode()] - float(number)) for name, number in told))
        return {"same_first_class": same, "of": len(paths) - len(unread), "largest_difference": worst, "unread": unread}

    def accuracy(feed):
        images = np.stack([feed(Image.open(path).convert("RGB")) for path, _ in files])
        best = result.model.predict(images, verbose=0).argmax(1)
        return float(np.mean([result.class_names[index] == true for index, (_, true) in zip(best, files, strict=True)]))

    height, width = result.image_size
    squeezed = accuracy(lambda image: np.asarray(image.resize((width, height)), np.float32))
    scaled = accuracy(lambda image: np.asarray(image.resize((width, height)), np.float32) / 255)
    predictions = result.predict([path for path, _ in files])
    right = [prediction.label == true for prediction, (_, true) in zip(predictions, files, strict=True)]
    return {
        "files": compare([path for path, _ in files]),
        "hostile": compare(sorted(str(path) for path in Path(hostile).iterdir() if path.is_file()))
        if hostile
        else None,
        "accuracy": {"served": float(np.mean(right)), "resized by Pillow": squeezed, "and scaled to 0-1": scaled},
    }


def alone(version, files, seconds):
    """(images per second, seconds to load and answer once) of the SavedModel in batches of 32."""
    words = [sys.executable, "-c", ALONE, str(version), str(seconds), *(path for path, _ in files)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


class Server:
    """`recipes serve` as a process of its own."""

    def __init__(self, folder, *words):
        began = time.monotonic()
        command = [sys.executable, "-m", "recipes", "serve", str(folder), "--port", "0", *words]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(found[1])
                break
        self.name = Path(folder).name
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health").read()
        self.seconds_to_start = time.monotonic() - began

    def memory(self):
        """Resident megabytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1000

    def close(self):
        """Ask it to end, and wait."""
        self.process.terminate()
        self.process.wait()


async def ask_again_and_again(server, requests, expected, until, draw, seen):
    """One client: one request after the other on one connection; `seen` gets (seconds, what came)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    while time.monotonic() < until:
        number = draw.randrange(len(requests))
        begin = time.monotonic()
        writer.write(requests[number])
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = await reader.readexactly(int(re.search(r"content-length: (\d+)", head, re.IGNORECASE)[1]))
        seconds = time.monotonic() - begin
        if " 200 " not in head.split("\r\n")[0]:
            seen.append((seconds, "error"))
            continue
        answer = json.loads(body)["predictions"][0]
        is_right = (
            abs(
                dict(zip(answer["classes"], answer["probabilities"], strict=True))[expected[number][0]]
                - expected[number][1]
            )
            < 1e-3
        )
        seen.append((seconds, "right" if is_right else "wrong"))
    writer.close()


def load(result, folder, version, files, seconds, clients):
    """Throughput and latencies of the server, beside the SavedModel alone."""
    predictions = result.predict([path for path, _ in files])
    expected = [(prediction.label, prediction.probability) for prediction in predictions]
    server = Server(folder)
    requests = []
    for path, _ in files:
        body = json.dumps({"instances": [{"b64": base64.b64encode(Path(path).read_bytes()).decode()}]})
        head = f"POST /v1/models/{server.name}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        requests.append((head + body).encode())

    async def run(seconds):
        seen, until = [], time.monotonic() + seconds
        crowd = (
            ask_again_and_again(server, requests, expected, until, random.Random(number), seen)
            for number in range(clients)
        )
        await asyncio.gather(*crowd)
        return seen

    try:
        asyncio.run(run(5))
        alones = [alone(version, files, seconds / 3)[0]]
        start = server.memory()
        seen = asyncio.run(run(seconds))
        end = server.memory()
        alones.append(alone(version, files, seconds / 3)[0])
    finally:
        server.close()
    latencies = sorted(latency for latency, _ in seen)
    kinds = [kind for _, kind in seen]
    right = kinds.count("right") / seconds
    return {
        "clients": clients,
        "images_per_second": right,
        "alone": alones,
        "ratio": right / statistics.mean(alones),
        "p50_ms": 1e3 * latencies[len(latencies) // 2],
        "p99_ms": 1e3 * latencies[int(len(latencies) * 0.99)],
        "answers": {kind: kinds.count(kind) for kind in ("right", "wrong", "error")},
        "memory_mb": [start, end],
        "seconds_to_start": server.seconds_to_start,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="folder of a finished run")
    parser.add_argument("--data", required=True, help="folder with a folder per class, not trained on")
    parser.add_argument("--hostile", help="folder of odd files")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--formats", nargs="+", default=["saved_model", "keras", "onnx", "litert"])
    parser.add_argument("--simplify", action="store_true")
    asked = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import recipes

    result, files = recipes.load(asked.run), files_of(asked.data)
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder, "photos")
        begin = time.monotonic()
        version = recipes.export(result, served, formats=asked.formats, simplify=asked.simplify)
        seconds_to_export = time.monotonic() - begin
        figures = {
            "load": load(result, served, version, files, asked.seconds, asked.clients),
            "parity": parity(result, version, files, asked.hostile),
        }
        card = json.loads((version / "card.json").read_text())
        figures["start"] = {
            "seconds_to_export": seconds_to_export,
            "bytes": card["bytes"],
            "proof": card["proof"]["formats"],
            "seconds_to_first_batch": alone(version, files, 1)[1],
        }
    print_json(figures)


if __name__ == "__main__":
    main()
