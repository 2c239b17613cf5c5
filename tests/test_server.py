"""The server speaks TensorFlow Serving's REST interface, and nothing that is sent to it hurts it."""

import base64
import concurrent.futures
import contextlib
import functools
import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import uvicorn

import recipes
from recipes.serving import Client, batching, connections, rest
from recipes.serving.app import make_app
from recipes.serving.batching import Batcher, FullError
from recipes.serving.connections import Connection
from recipes.serving.versions import Versions

README = Path(__file__).parents[1] / "README.md"
LIMITS = {"batch_size": 32, "queue_size": 256, "max_bytes": 1_000_000, "timeout": 30.0}


@contextlib.contextmanager
def serving(versions, **limits):
    """A server in a thread; its port."""
    app = make_app(versions, "photos", **LIMITS | limits)
    server = uvicorn.Server(uvicorn.Config(app, http=Connection, log_level="error", timeout_graceful_shutdown=10))
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def exported(classifier, tmp_path_factory):
    return classifier.export(tmp_path_factory.mktemp("served") / "photos")


@pytest.fixture(scope="module")
def port(exported):
    versions = Versions(exported.parent, seconds=0.1)
    versions.look()
    with serving(versions) as port:
        yield port


def ask(port, path, body=None):
    """(status, JSON) of a GET, or of a POST where there is a body: an object or bytes."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


PREDICT, CLASSIFY = "/v1/models/photos:predict", "/v1/models/photos:classify"


def encoded(path):
    return {"b64": base64.b64encode(Path(path).read_bytes()).decode()}


# Answers


def test_files_by_rows_and_by_columns_are_answered_as_they_are_predicted(classifier, port, photo_data):
    files = photo_data.test.files[:5]
    expected = classifier.predict(list(files))
    for instances in ([encoded(file) for file in files], [{"image_bytes": encoded(file)} for file in files]):
        status, said = ask(port, PREDICT, {"instances": instances})
        assert status == 200
        for answer, prediction in zip(said["predictions"], expected, strict=True):
            assert answer["classes"] == list(prediction.probabilities) and answer["error"] == ""
            assert answer["probabilities"] == pytest.approx(list(prediction.probabilities.values()), abs=1e-5)
    for inputs in ([encoded(file) for file in files], {"image_bytes": [encoded(file) for file in files]}):
        status, said = ask(port, PREDICT, {"inputs": inputs, "signature_name": "serving_default"})
        assert status == 200 and set(said["outputs"]) == {"classes", "probabilities", "error"}
        assert [names[0] for names in said["outputs"]["classes"]] == [prediction.label for prediction in expected]


def test_arrays_and_the_order_of_the_classes(classifier, port, photo_data):
    images = photo_data.test.images(0, 3)
    expected = classifier.model.predict(images, verbose=0)
    body = {"signature_name": "probabilities", "instances": images.tolist()}
    status, said = ask(port, "/v1/models/photos/versions/1:predict", body)
    assert status == 200  # one output: its name is left out
    np.testing.assert_allclose(said["predictions"], expected, atol=1e-5)
    status, said = ask(port, PREDICT, {"signature_name": "pixels", "instances": images.tolist()})
    assert [answer["classes"][0] for answer in said["predictions"]] == [
        classifier.class_names[i] for i in expected.argmax(1)
    ]


def test_classify(classifier, port, photo_data):
    files = photo_data.test.files[:2]
    body = {"examples": [{"image_bytes": encoded(file)} for file in files]}
    status, said = ask(port, CLASSIFY, body)
    assert status == 200
    for pairs, prediction in zip(said["results"], classifier.predict(list(files)), strict=True):
        assert [label for label, _ in pairs] == list(prediction.probabilities)
        assert [score for _, score in pairs] == pytest.approx(list(prediction.probabilities.values()), abs=1e-5)
    shared = {"context": {"image_bytes": [encoded(files[0])]}, "examples": [{}, {"other": [1.5, 2]}]}
    for pairs in ask(port, CLASSIFY, shared)[1]["results"]:  # one image or two at once: equal up to rounding
        assert [label for label, _ in pairs] == [label for label, _ in said["results"][0]]
        assert [score for _, score in pairs] == pytest.approx([score for _, score in said["results"][0]], abs=1e-5)


def test_status_metadata_health_and_metrics(port):
    state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/photos", "/v1/models/photos/versions/1"):
        assert ask(port, path) == (200, {"model_version_status": [state]})
    status, said = ask(port, "/v1/models/photos/metadata")
    assert status == 200 and said["model_spec"] == {"name": "photos", "signature_name": "", "version": "1"}
    signature = said["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert ask(port, "/health") == (200, {"status": "ok", "version": "1"})
    assert ask(port, "/v1/models/photos/card")[1]["classes"] == ["blue", "green", "red"]
    for path in ("/metrics", "/monitoring/prometheus/metrics"):
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").read().decode()
        assert "recipes_version 1.0" in text and 'recipes_request_seconds_count{call="predict"}' in text


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/v1/models/other", 404, "other"),
        ("/v1/models/photos/versions/7", 404, "version 7"),
        ("/v1/models/other/metadata", 404, "Servable not found"),
        ("/nothing", 404, "Not Found"),
        (PREDICT, 404, "photos:predict"),
    ],
)
def test_what_is_not_there(port, path, status, said):
    came, answer = ask(port, path)
    assert came == status and said in answer["error"]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (PREDICT, b"{", "JSON Parse error"),
        (PREDICT, b"", "JSON Parse error"),
        (PREDICT, b"[" * 100_000, "JSON Parse error"),
        (PREDICT, b"\xff\xfe", "JSON Parse error"),
        (PREDICT, [1], "must be a JSON object"),
        (PREDICT, {}, "either 'instances' or 'inputs'"),
        (PREDICT, {"instances": [], "inputs": []}, "either 'instances' or 'inputs'"),
        (PREDICT, {"instances": {}}, "must be a list"),
        (PREDICT, {"instances": []}, "there must be an image"),
        (PREDICT, {"instances": [{"b64": "?"}]}, "bad base64"),
        (PREDICT, {"instances": [{"b64": 3}]}, "takes"),
        (PREDICT, {"instances": [3]}, "takes"),
        (PREDICT, {"instances": [{"picture": {"b64": ""}}]}, "the signature takes image_bytes"),
        (PREDICT, {"inputs": {"picture": []}}, "the signature takes image_bytes"),
        (PREDICT, {"instances": [{"b64": ""}], "signature_name": "other"}, "signature_name 'other' is not known"),
        (PREDICT, {"instances": [{"b64": ""}], "signature_name": [1]}, "is not known"),
        (PREDICT, {"instances": [[1, 2], [3]], "signature_name": "pixels"}, "regular array"),
        (PREDICT, {"instances": [[1, 2]], "signature_name": "pixels"}, "has shape"),
        (PREDICT, {"instances": [["a"]], "signature_name": "pixels"}, "must hold numbers"),
        (PREDICT, {"instances": [[[[None] * 3]]], "signature_name": "pixels"}, "must hold numbers"),
        (PREDICT, {"instances": [[[["7"] * 3]]], "signature_name": "pixels"}, "must hold numbers"),
        (PREDICT, {"instances": [[[[1e39] * 3]]], "signature_name": "pixels"}, "finite numbers"),
        (PREDICT, {"instances": [{"b64": "AAAA"}], "signature_name": "classify"}, "no tf.Example"),
        (CLASSIFY, {"examples": []}, "'examples'"),
        (CLASSIFY, {"examples": [3]}, "object of features"),
        (CLASSIFY, {"examples": [{"x": [1, "a"]}]}, "of one kind"),
        (CLASSIFY, {"examples": [{}], "signature_name": "pixels"}, "takes 'inputs'"),
        ("/v1/models/photos:regress", {"examples": []}, "no signature for Regress"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(port, path, body, said):
    status, answer = ask(port, path, body)
    assert status == 400 and said in answer["error"]
    assert ask(port, "/health")[0] == 200


@functools.cache
def bomb(side=20_000):
    """A small PNG of 400 megapixels, whole and black."""

    def part(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + -(-side // 8)) * side))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")


def test_bad_images_have_reasons_of_their_own_and_spoil_no_other(classifier, port, photo_data):
    file = photo_data.test.files[0]
    content = Path(file).read_bytes()
    wrong = {
        bomb(): "decompression bomb: its header claims more than 100,000,000 pixels",
        content[:-30]: "cannot be decoded",
        b"no image": "not an image",
        b"": "empty file",
        base64.b64encode(content): "send it as",
    }
    bodies = [{"b64": base64.b64encode(one).decode()} for one in wrong]
    status, said = ask(port, PREDICT, {"instances": [encoded(file), *bodies, encoded(file)]})
    assert status == 200
    first, *others, last = said["predictions"]
    assert first["error"] == last["error"] == "" and first["classes"][0] == classifier.predict(file).label
    for answer, reason in zip(others, wrong.values(), strict=True):
        assert (
            re.search(reason, answer["error"]) and set(answer["classes"]) == {""} and not any(answer["probabilities"])
        )


def test_the_line_in_the_readme_answers(classifier, port, photo_data, tmp_path):
    """As it stands, but for the port, the name and the file."""
    if shutil.which("curl") is None:
        pytest.skip("curl is missing")
    (line,) = re.findall(r"^.*curl .*$", README.read_text(encoding="utf-8"), re.MULTILINE)
    shutil.copy(photo_data.test.files[0], tmp_path / "photo.jpg")
    line = line.replace("8501", str(port)).replace("digits", "photos")
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    (answer,) = json.loads(done.stdout)["predictions"]
    assert answer["classes"][0] == classifier.predict(photo_data.test.files[0]).label


def test_bombs_are_found_on_every_way_in(port):
    content = base64.b64encode(bomb()).decode()
    example = tf.train.Example()
    example.features.feature["image_bytes"].bytes_list.value.append(bomb())
    serialized = base64.b64encode(example.SerializeToString()).decode()
    begin = time.monotonic()
    ways = (
        (PREDICT, {"instances": [{"b64": content}]}),
        (PREDICT, {"inputs": {"image_bytes": [{"b64": content}]}}),
        (PREDICT, {"instances": [{"b64": serialized}], "signature_name": "classify"}),
        (CLASSIFY, {"examples": [{"image_bytes": {"b64": content}}]}),
        (CLASSIFY, {"context": {"image_bytes": [{"b64": content}]}, "examples": [{}]}),
    )
    for path, body in ways:
        status, said = ask(port, path, body)
        assert status == 200 and "blue" not in json.dumps(said)
    assert time.monotonic() - begin < 20  # a second at most; unpacked, they would take gigabytes
    large = {"b64": base64.b64encode(bomb(9_000)).decode()}
    status, said = ask(port, PREDICT, {"instances": [large] * 5})
    assert status == 400 and "400,000,000 pixels together" in said["error"]


def test_base64_may_be_broken_into_lines_and_not_filled_up(classifier, port, photo_data):
    content = Path(photo_data.test.files[0]).read_bytes() + b"\0"  # so that it would be filled up
    texts = base64.encodebytes(content).decode(), base64.b64encode(content).decode().rstrip("=")
    answers = ask(port, PREDICT, {"instances": [{"b64": text} for text in texts]})[1]["predictions"]
    assert [answer["classes"][0] for answer in answers] == [classifier.predict(content).label] * 2


# The client


def test_the_client_takes_paths_bytes_and_arrays(classifier, port, photo_data):
    client = Client("photos", f"http://127.0.0.1:{port}")
    file = photo_data.test.files[0]
    expected = classifier.predict(file)
    for image in (file, Path(file), Path(file).read_bytes()):
        found = client.predict(image)
        assert found.label == expected.label and found.probability == pytest.approx(expected.probability, abs=1e-5)
        assert list(found.probabilities) == list(expected.probabilities)
    pixels = photo_data.test.images(0, 2)
    for found, expected in zip(client.predict(list(pixels)), classifier.predict(pixels), strict=True):
        assert found.label == expected.label and found.probability == pytest.approx(expected.probability, abs=1e-5)
    assert client.predict(pixels[0]).label == client.predict(pixels)[0].label
    assert client.predict([]) == []


def test_the_client_says_what_went_wrong(port, photo_data):
    client = Client("photos", f"http://127.0.0.1:{port}")
    with pytest.raises(ValueError, match="image 1: not an image"):
        client.predict([photo_data.test.files[0], b"no image"])
    with pytest.raises(FileNotFoundError):
        client.predict("missing.jpg")
    with pytest.raises(ValueError, match="uint8 pixels"):
        client.predict(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"status 404.*Servable not found"):
        Client("other", f"http://127.0.0.1:{port}").predict(photo_data.test.files[0])
    with pytest.raises(ConnectionError, match="recipes serve"):
        Client("photos", "http://127.0.0.1:1").predict(photo_data.test.files[0])


# Limits


class Stub:
    """In the place of Versions: one version whose signature is a function of arrays."""

    def __init__(self, function):
        self.current, self.states, self.number, self.card, self.metadata = self, {1: ("AVAILABLE", "")}, 1, {}, {}
        self.functions = {"serving_default": (function, {"x": tf.TensorSpec([None], tf.float32)})}

    def start(self):
        pass

    def close(self):
        pass


def doubled(x):
    return {"y": tf.constant(x) * 2}


def test_too_large_bodies_are_refused_whether_or_not_they_say_how_large_they_are():
    with serving(Stub(doubled), max_bytes=1000) as port:
        assert ask(port, PREDICT, {"instances": [1.0]}) == (200, {"predictions": [2.0]})
        with contextlib.suppress(urllib.error.URLError, ConnectionError):  # it need not wait for all of it
            assert ask(port, PREDICT, b" " * 100_000)[0] == 413
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.putrequest("POST", PREDICT)
        connection.putheader("Content-Length", str(2 * 10**9))
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == 413 and "1,000 bytes" in json.load(response)["error"]
        connection.close()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(
                "POST", PREDICT, iter([b" " * 600] * 4), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
            )
        assert connection.getresponse().status == 413
        connection.close()
        assert ask(port, PREDICT, {"instances": [1.0]})[0] == 200


def test_slow_clients_are_given_up_and_hold_up_nobody(monkeypatch):
    monkeypatch.setattr(connections, "_SECONDS", 3.0)
    with serving(Stub(doubled), timeout=3.0) as port, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(50)]
        for one in slow[:25]:
            one.sendall(b"POST /v1/models/photos:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        for one in slow[25:]:
            one.sendall(b"POST /v1/mod")
        endless = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            endless.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 10_000_000)
        assert ask(port, PREDICT, {"instances": [1.0]})[0] == 200
        for one in slow[:25]:
            one.settimeout(30)
            assert b" 408 " in one.recv(100)
        for one in slow[25:]:
            one.settimeout(30)
            assert one.recv(100) == b""
        assert ask(port, PREDICT, {"instances": [1.0]})[0] == 200


def test_beyond_the_queue_requests_are_refused_and_late_ones_given_up(monkeypatch):
    monkeypatch.setattr(batching, "_AT_ONCE", 1)
    gate = threading.Event()

    def slow(x):
        gate.wait(30)
        return doubled(x)

    with serving(Stub(slow), queue_size=4, timeout=5.0) as port, concurrent.futures.ThreadPoolExecutor(12) as pool:
        first = pool.submit(ask, port, PREDICT, {"instances": [1.0]})
        time.sleep(0.5)  # it is computed now, and all others wait
        asked = [pool.submit(ask, port, PREDICT, {"instances": [1.0, 2.0]}) for _ in range(5)]
        concurrent.futures.wait(asked, 3.0)
        refused = [one.result() for one in asked if one.done()]
        assert len(refused) == 3 and all(status == 503 and "wait already" in said["error"] for status, said in refused)
        statuses = [one.result()[0] for one in (first, *asked)]
        assert sorted(statuses) == [503] * 3 + [504] * 3
        gate.set()
        assert ask(port, PREDICT, {"instances": [1.0]}) == (200, {"predictions": [2.0]})


# Batches


def test_what_waits_runs_together_and_everyone_gets_their_own():
    gate, sizes = threading.Event(), []

    def function(x):
        gate.wait(30)
        return doubled(x)

    batcher = Batcher(8, 100, sizes.append)
    asked = [(np.arange(rows) + 10 * number, rows) for number, rows in enumerate([1, 3, 2, 5, 1, 20, 2])]
    futures = [batcher.submit(function, "k", {"x": values}) for values, _ in asked]
    other = batcher.submit(doubled, "k", {"x": np.arange(2)})
    gate.set()
    for (values, _), future in zip(asked, futures, strict=True):
        np.testing.assert_array_equal(future.result(30)["y"], values * 2)
    np.testing.assert_array_equal(other.result(30)["y"], [0, 2])
    batcher.close()
    assert max(sizes) == 8 and len(sizes) < len(asked) + 3 and batcher.waiting == 0


def test_one_bad_request_does_not_spoil_its_batch():
    gate = threading.Event()

    def function(x):
        gate.wait(30)
        if 13 in x:
            raise tf.errors.InvalidArgumentError(None, None, "thirteen")
        return doubled(x)

    batcher = Batcher(8, 100)
    futures = [batcher.submit(function, "k", {"x": np.array([value])}) for value in (1, 2, 13, 4)]
    gate.set()
    assert [futures[index].result(30)["y"][0] for index in (0, 1, 3)] == [2, 4, 8]
    with pytest.raises(tf.errors.InvalidArgumentError, match="thirteen"):
        futures[2].result(30)
    batcher.close()


def test_a_queue_that_is_full_refuses(monkeypatch):
    monkeypatch.setattr(batching, "_AT_ONCE", 1)
    gate = threading.Event()
    batcher = Batcher(4, 6)
    first = batcher.submit(lambda x: gate.wait(30) and doubled(x), "k", {"x": np.arange(5)})
    while batcher.waiting:
        time.sleep(0.01)
    batcher.submit(doubled, "k", {"x": np.arange(6)})
    with pytest.raises(FullError):
        batcher.submit(doubled, "k", {"x": np.arange(1)})
    gate.set()
    np.testing.assert_array_equal(first.result(30)["y"], np.arange(5) * 2)
    with pytest.raises(FullError):
        batcher.submit(doubled, "k", {"x": np.arange(7)})  # too many for one request
    batcher.close()


def test_what_is_given_up_is_not_computed_to_its_end():
    gate, began, sizes = threading.Event(), threading.Event(), []

    def function(x):
        began.set()
        gate.wait(30)
        return doubled(x)

    batcher = Batcher(2, 100, sizes.append)
    future = batcher.submit(function, "k", {"x": np.arange(20)})
    began.wait(30)
    future.is_given_up = True
    gate.set()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(30)
    assert sizes == [2]
    batcher.close()


def test_bodies_are_held_within_a_budget(monkeypatch):
    monkeypatch.setattr("recipes.serving.app._BODIES", 2)
    body = b"POST /v1/models/photos:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n" + b" " * 900
    with serving(Stub(doubled), max_bytes=1000, timeout=3.0) as port, contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(body)
        time.sleep(0.5)
        status, said = ask(port, PREDICT, b" " * 300)
        assert status == 503 and "too many large requests" in said["error"]
        time.sleep(5)  # they are given up
        assert ask(port, PREDICT, {"instances": [1.0]})[0] == 200


def test_gzipped_bodies_are_unpacked_within_the_limit():
    with serving(Stub(doubled), max_bytes=1000) as port:

        def send(content):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{PREDICT}", content, {"Content-Encoding": "gzip"})
            try:
                return urllib.request.urlopen(request).status
            except urllib.error.HTTPError as error:
                return error.code

        assert send(gzip.compress(b'{"instances": [1]}')) == 200
        assert send(gzip.compress(b" " * 100_000)) == 413
        assert send(b"no gzip") == 400


def test_outputs_that_end_in_bytes_are_base64():
    outputs = {"some_bytes": np.array([b"\xff\x00"], object), "name": np.array(["ü".encode()], object)}
    assert rest.predict_answer(outputs, {}, True) == {"predictions": [{"some_bytes": {"b64": "/wA="}, "name": "ü"}]}


# Versions


def copied(version, number):
    """A further version, made visible at once."""
    hidden = version.parent / f".{number}"
    shutil.copytree(version, hidden)
    return hidden.rename(version.parent / str(number))


def wait_for(port, number):
    until = time.monotonic() + 60
    while ask(port, "/health")[1].get("version") != str(number):
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.filterwarnings("ignore:Version 5 cannot be loaded")
def test_versions_come_and_go_under_load_and_nothing_is_lost(classifier, exported, photo_data, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copytree(exported, folder / "1")
    versions = Versions(folder, seconds=0.05)
    versions.look()
    file, done = photo_data.test.files[0], threading.Event()
    body, expected = {"instances": [encoded(file)]}, classifier.predict(file)

    def hammer(port):
        answers = []
        while not done.is_set():
            answers.append(ask(port, PREDICT, body))
        return answers

    with serving(versions) as port, concurrent.futures.ThreadPoolExecutor(4) as pool:
        crowd = [pool.submit(hammer, port) for _ in range(4)]
        copied(folder / "1", 2)
        wait_for(port, 2)
        shutil.rmtree(folder / "1")
        (folder / "5").mkdir()
        (folder / "5" / "saved_model.pb").write_bytes(b"broken")
        copied(folder / "2", 4)
        wait_for(port, 4)
        assert ask(port, "/v1/models/photos/versions/2:predict", body)[0] == 404
        shutil.rmtree(folder / "4")
        wait_for(port, 2)
        shutil.rmtree(folder / "2")
        time.sleep(0.3)
        assert ask(port, "/health")[1] == {"status": "ok", "version": "2"}  # the last one stays in memory
        states = {one["version"]: one for one in ask(port, "/v1/models/photos")[1]["model_version_status"]}
        assert {number: one["state"] for number, one in states.items()} == {
            "1": "END",
            "2": "AVAILABLE",
            "4": "END",
            "5": "END",
        }
        assert states["5"]["status"]["error_code"] == "UNKNOWN"
        done.set()
        answers = [answer for one in crowd for answer in one.result()]
    assert len(answers) > 20
    for status, said in answers:
        assert status == 200 and said["predictions"][0]["classes"][0] == expected.label
        assert said["predictions"][0]["probabilities"][0] == pytest.approx(expected.probability, abs=1e-5)


# The command


def started(folder, port):
    words = [sys.executable, "-m", "recipes", "serve", str(folder), "--port", str(port)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if found := re.search(r"photos, version 1: http://127\.0\.0\.1:(\d+)/", line):
            return process, int(found[1])
    raise AssertionError(process.wait())


def test_killed_and_asked_to_stop_it_starts_again_and_answers_what_it_took(classifier, exported, photo_data):
    file = photo_data.test.files[0]
    expected, body = classifier.predict(file).label, {"instances": [encoded(file)] * 200}
    process, port = started(exported.parent, 0)
    process.kill()
    process.communicate()
    process, port = started(exported.parent, port)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, port, PREDICT, body) for _ in range(4)]
        while not any(one.done() for one in asked):
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        for one in asked:
            status, said = one.result()
            assert status == 200 and {answer["classes"][0] for answer in said["predictions"]} == {expected}
    process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)


def test_it_says_why_it_cannot_start(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match="must have a version that can be loaded"):
        recipes.serve(tmp_path)
    with pytest.raises(FileNotFoundError, match="must have a version"):
        recipes.serve(tmp_path / "missing")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken_port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot be listened on .*{taken_port}.*port=0"):
            recipes.serve(exported.parent, port=taken_port)
    for options, said in (({"port": -1}, "port"), ({"batch_size": 0}, "batch_size"), ({"timeout": 0}, "timeout")):
        with pytest.raises(ValueError, match=said):
            recipes.serve(exported.parent, **options)


# The page


def browser():
    """A headless browser; skips where there is none."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is missing: pip install selenium")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("a browser is missing: install chromium and chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = program
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(word)
    return selenium.Chrome(options=options, service=selenium.ChromeService(driver))


DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), one => one.charCodeAt(0));
const dropped = new DataTransfer();
dropped.items.add(new File([bytes], "photo.jpg", {type: "image/jpeg"}));
document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: dropped, bubbles: true, cancelable: true}));
"""


def test_an_image_that_is_dropped_on_the_page_is_answered(classifier, port, photo_data, tmp_path):
    driver = browser()
    try:
        driver.get(f"http://127.0.0.1:{port}/")
        assert driver.title == "photos"

        def shown():
            until = time.monotonic() + 30
            while time.monotonic() < until:
                told = driver.find_element("id", "told").text
                if told not in ("", "…"):
                    return [row.text for row in driver.find_elements("css selector", "#answer tr")], told
                time.sleep(0.05)
            raise AssertionError("the page shows nothing")

        for way, file in (("chosen", photo_data.test.files[0]), ("dropped", photo_data.test.files[-1])):
            expected = classifier.predict(file)
            if way == "chosen":
                driver.find_element("id", "file").send_keys(os.path.abspath(file))
            else:
                driver.execute_script("document.getElementById('told').textContent = ''")
                driver.execute_script(DROP, encoded(file)["b64"])
            rows, told = shown()
            assert len(rows) == 3 and told.endswith("ms")
            assert rows[0] == f"{expected.label} {100 * expected.probability:.1f} %"
        (tmp_path / "bad.jpg").write_bytes(b"no image")
        driver.execute_script("document.getElementById('told').textContent = ''")
        driver.find_element("id", "file").send_keys(str(tmp_path / "bad.jpg"))
        rows, told = shown()
        assert rows == [] and "not an image" in told
    finally:
        driver.quit()
