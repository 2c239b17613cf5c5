"""Fetching published weights: at once when they are on disk, a clear error within ten seconds when they cannot come."""

import contextlib
import socket
import threading
import urllib.error
import urllib.request

# Together at most ten seconds until the first byte.
REACH_SECONDS = 5
READ_SECONDS = 5


@contextlib.contextmanager
def impatient_downloads():
    """Within, `urllib` gives up on a host that does not answer in 5 seconds or falls silent for 5.

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
        return super().https_open(request)


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
