"""A small server that speaks TensorFlow Serving's REST interface."""

import importlib.util
import math
import os
import socket
import sys
from pathlib import Path

from recipes.checks import check_number, check_whole, complaint

_NEEDS = "starlette", "uvicorn", "prometheus_client", "orjson", "pybase64"
_MOST_CONNECTIONS = 1000


def serve(
    folder: str | os.PathLike,
    *,
    port: int = 8501,
    host: str = "127.0.0.1",
    name: str | None = None,
    batch_size: int = 32,
    queue_size: int = 1024,
    max_bytes: int = 32_000_000,
    timeout: float = 60.0,
):
    """Serve an exported classifier over HTTP, as TensorFlow Serving does.

    1. Load the newest version in the folder and run its warm-up requests.
    2. Answer: `POST /v1/models/NAME:predict` and `:classify`, `GET /v1/models/NAME` and `/metadata` (each also with
       `/versions/N`), `/health`, `/metrics` for Prometheus, and a page to try it on at `/`.
    3. Look for a newer version each second, and go over to it without losing a request.

    Requests that come at the same time run as one batch. It ends by Ctrl-C or SIGTERM, when what is under way is
    answered.

    Args:
        folder: path that `recipes.export` wrote versions to.
        port: to listen on, 1–65535; 0 for any that is free.
        host: address to listen on; "0.0.0.0" for all. By default nobody but this machine can reach it: there is no
            password.
        name: of the model in the addresses; by default that of the folder.
        batch_size: most images that are run together.
        queue_size: most images that wait, and most of one request; beyond it, requests are refused with status 503.
        max_bytes: of a request's body; larger ones are refused with status 413. Bodies of 16 times this size are held
            at once; beyond it, requests are refused with 503.
        timeout: seconds for a body to come, and for its answer to be computed.

    Raises:
        FileNotFoundError: there is no version in the folder.
        ImportError: the packages of `pip install "keras-recipes[serve]"` are missing.
        OSError: the port is taken.

    Example:
        >>> import recipes
        >>> recipes.serve("served/flowers")  # doctest: +SKIP
    """
    where = "serve"
    check_whole(where, "port", port, least=0)
    for argument, value in (("batch_size", batch_size), ("queue_size", queue_size), ("max_bytes", max_bytes)):
        check_whole(where, argument, value)
    check_number(where, "timeout", timeout, above=True)
    missing = [package for package in _NEEDS if importlib.util.find_spec(package) is None]
    if missing:
        mend = 'Install it: pip install "keras-recipes[serve]".'
        raise ImportError(complaint(where, "the server needs some packages", f"no {', '.join(missing)}", mend))
    versions = _open(folder, where)
    name = name or versions.folder.name
    _run(versions, name, host, port, batch_size=batch_size, queue_size=queue_size, max_bytes=max_bytes, timeout=timeout)


def _open(folder, where):
    """Versions with one loaded."""
    from recipes.serving.versions import Versions

    folder = Path(folder).expanduser().resolve()
    versions = Versions(folder)
    versions.look()
    if versions.current is None:
        told = "; ".join(f"version {number}: {message}" for number, (_, message) in versions.states.items())
        mend = "Pass the folder that recipes.export was given."
        rule = "the folder must have a version that can be loaded, such as 1/saved_model.pb"
        raise FileNotFoundError(complaint(where, rule, told or repr(str(folder)), mend))
    return versions


def _run(versions, name, host, port, **limits):
    import uvicorn

    from recipes.serving.app import make_app
    from recipes.serving.connections import Connection

    app = make_app(versions, name, **limits)
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        limit_concurrency=_MOST_CONNECTIONS,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=math.ceil(limits["timeout"]) + 5,
    )
    with _listen(host, port) as listening:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}/"
        sys.stderr.write(f"{name}, version {versions.current.number}: {address} (Ctrl-C ends)\n")
        sys.stderr.flush()
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        rule = f"the address cannot be listened on ({getattr(error, 'strerror', None) or error})"
        mend = "Pass another port=, or port=0 for any that is free."
        raise OSError(complaint("serve", rule, f"{host}:{port}", mend)) from error
