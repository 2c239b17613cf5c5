"""Fetching published weights: at once when they are on disk, a clear error within ten seconds when they cannot come."""

import base64
import contextlib
import hashlib
import socket
import threading
import urllib.error
import urllib.request

import keras

# Together at most ten seconds until the first byte.
REACH_SECONDS = 5
READ_SECONDS = 5
# Keras knows the hashes of all its files but those of MobileNet and MobileNetV2. These were taken from the files; those
# of the others the host sends along.
_FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications"
_HASHES = {
    ("mobilenet_025", 224): (
        "mobilenet/mobilenet_2_5_224_tf_no_top.h5",
        "5583bfd0b6572d11fbb377a907299dc02bd1f6b461cdc93d2283f298146c7e46",
    ),
    ("mobilenet_v2_035", 224): (
        "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5",
        "7d28b6f83412bd7ea5e3c83ab3a834b08cf723e1d06a4847fe673d16d48a9d35",
    ),
}


def fetch_checked(name, shape):
    """Bring the published weights of a base, at a size, into Keras' folder where we know their hash and Keras does not.

    Raises:
        ValueError: what was fetched has another hash.
    """
    path, digest = _HASHES.get((name, shape[0] if shape[0] == shape[1] else None), (None, None))
    if path is not None:
        keras.utils.get_file(path.split("/")[-1], f"{_FOLDER}/{path}", cache_subdir="models", file_hash=digest)


@contextlib.contextmanager
def impatient_downloads():
    """Within, `urllib` gives up on a host that does not answer in 5 seconds or falls silent for 5, and compares what
    comes with the hash that the host sends with it (the header `x-goog-hash` of Google's storage, which has all of
    Keras' files).

    Python waits for a name server without limit and tries each address of a host in turn, so that a machine without
    a network may wait for minutes.
    """
    previous = getattr(urllib.request, "_opener", None)
    urllib.request.install_opener(urllib.request.build_opener(_ImpatientHandler))
    try:
        yield
    finally:
        urllib.request.install_opener(previous)


class _ImpatientHandler(urllib.request.HTTPSHandler):
    def https_open(self, request):
        _reach(request.host)
        request.timeout = READ_SECONDS
        response = super().https_open(request)
        _compare_at_the_end(response, request.full_url)
        return response


def _compare_at_the_end(response, url):
    """Let the read that comes to the end of a response raise URLError where the whole is not what the host said."""
    hashes = ",".join(response.headers.get_all("x-goog-hash", [])).split(",")
    told = dict(part.strip().split("=", 1) for part in hashes if "=" in part)
    if "md5" not in told or "Content-Encoding" in response.headers:
        return
    read, digest = response.read, hashlib.md5(usedforsecurity=False)

    def compared(amount=None):
        content = read(amount)
        digest.update(content)
        if not content or amount is None:
            came = base64.b64encode(digest.digest()).decode()
            if came != told["md5"]:
                reason = f"{url} came damaged: its MD5 is {came} where the host says {told['md5']}"
                raise urllib.error.URLError(reason)
        return content

    response.read = compared


def _reach(host):
    """Resolve and connect once in a thread that may be left behind; URLError unless that succeeds in time."""
    name, _, port = host.partition(":")
    failure = [TimeoutError(f"no answer from {name} within {REACH_SECONDS} seconds")]

    def connect():
        try:
            socket.create_connection((name, int(port or 443)), timeout=REACH_SECONDS).close()
            failure[0] = None
        except OSError as error:
            failure[0] = error

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    reason = failure[0]
    if reason is not None:
        raise urllib.error.URLError(reason)
