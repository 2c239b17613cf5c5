"""TensorFlow Serving's REST interface over the versions of one classifier, and a page to try it on."""

import asyncio
import contextlib
import functools
import html
import time
import zlib
from pathlib import Path

import tensorflow as tf
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from recipes.serving import rest
from recipes.serving.batching import Batcher, FullError

_LARGE = 1 << 20  # bytes of a body from which on it is read in a thread, so that others need not wait
_BODIES = 16  # of the largest size, that may be held at once
_PAGE = Path(__file__).with_name("page.html")
_DEFAULT = "serving_default"


class _RefusedError(Exception):
    """An answer other than 200, with its reason."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


def make_app(versions, name, *, batch_size, queue_size, max_bytes, timeout):
    """The application.

    Args:
        versions: Versions.
        name: of the model, as it stands in the addresses.
        batch_size: most images that are run together.
        queue_size: most images that wait; beyond, requests are refused with 503.
        max_bytes: of a request's body; beyond, it is refused with 413.
        timeout: seconds for a body to come (408 after that) and for an answer to be computed (504).

    Returns:
        `starlette.applications.Starlette`.
    """
    meters, budget = _Meters(versions), _Budget(_BODIES * max_bytes)
    batcher = Batcher(batch_size, queue_size, meters.batches.observe)
    meters.waiting.set_function(lambda: batcher.waiting)

    def served(request):
        """The version that a request asks for."""
        asked = request.path_params
        if asked["name"] != name:
            raise _RefusedError(404, f"Servable not found for request: Latest({asked['name']}); this is {name}")
        current = versions.current
        if current is None:
            raise _RefusedError(503, "no version is loaded")
        if asked.get("version", current.number) != current.number:
            wanted = f"Specific({name}, {asked['version']})"
            raise _RefusedError(404, f"Servable not found for request: {wanted}; {current.number} is served")
        return current

    async def body_of(request, held):
        told = request.headers.get("content-length", "")
        too_long = _RefusedError(413, f"the body may have at most {max_bytes:,} bytes")
        if told.isdecimal() and int(told) > max_bytes:
            raise too_long
        parts, size = [], 0
        try:
            async with asyncio.timeout(timeout):
                async for part in request.stream():
                    size += len(part)
                    if size > max_bytes:
                        raise too_long
                    held.take(len(part))
                    parts.append(part)
        except TimeoutError:
            raise _RefusedError(408, f"the body did not come within {timeout:g} seconds") from None
        except ClientDisconnect:
            raise _RefusedError(499, "the client has gone") from None
        body = b"".join(parts)
        return _unpacked(body, max_bytes, too_long) if request.headers.get("content-encoding") == "gzip" else body

    async def compute(function, kind, inputs):
        try:
            future = batcher.submit(function, kind, inputs)
        except FullError:
            raise _RefusedError(503, f"{batcher.waiting} images wait already; try again later") from None
        meters.images.inc(len(next(iter(inputs.values()))))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout)
        except TimeoutError:
            future.is_given_up = True
            raise _RefusedError(504, f"no answer within {timeout:g} seconds") from None
        except tf.errors.InvalidArgumentError as error:
            raise _RefusedError(400, str(error)[:500]) from None

    async def predict(request, held):
        current, body = served(request), await body_of(request, held)
        asked = await _aside(len(body), rest.parse, body)
        function, specs = _signature(current, asked, _DEFAULT)
        inputs, reasons, by_rows = await _aside(len(body), rest.predict_inputs, asked, specs)
        del body, asked  # the same bytes twice
        kind = tuple((key, value.shape[1:], value.dtype) for key, value in inputs.items())
        outputs = await compute(function, kind, inputs)
        answer = rest.predict_answer(outputs, reasons, by_rows)
        meters.errors.inc(sum(bool(text) for text in outputs.get("error", ())))
        return JSONResponse(answer)

    async def classify(request, held):
        current, body = served(request), await body_of(request, held)
        asked = await _aside(len(body), rest.parse, body)
        function, specs = _signature(current, asked, "classify")
        if set(specs) != {"inputs"}:
            raise _RefusedError(400, "Expected a signature for Classify calls, which takes 'inputs'; 'classify' does")
        inputs = await _aside(len(body), rest.classify_inputs, asked)
        del body, asked
        return JSONResponse(rest.classify_answer(await compute(function, "examples", inputs)))

    async def status(request):
        if request.path_params["name"] != name:
            raise _RefusedError(404, f"Could not find any versions of model {request.path_params['name']}")
        wanted = request.path_params.get("version")
        states = {number: state for number, state in dict(versions.states).items() if wanted in (None, number)}
        if not states:
            raise _RefusedError(404, f"Could not find version {wanted} of model {name}")
        return JSONResponse({"model_version_status": [_state(*pair) for pair in sorted(states.items(), reverse=True)]})

    async def metadata(request):
        current = served(request)
        spec = {"name": name, "signature_name": "", "version": str(current.number)}
        return JSONResponse({"model_spec": spec, "metadata": current.metadata})

    async def health(_):
        if versions.current is None:
            raise _RefusedError(503, "no version is loaded")
        return JSONResponse({"status": "ok", "version": str(versions.current.number)})

    async def metrics(_):
        return Response(generate_latest(meters.registry), media_type="text/plain; version=0.0.4")

    async def page(_):
        return HTMLResponse(_PAGE.read_text(encoding="utf-8").replace("MODEL", html.escape(name)))

    async def card(request):
        return JSONResponse(served(request).card)

    async def no_regression(*_):
        raise _RefusedError(400, "this is a classifier; it has no signature for Regress calls")

    model, versioned = "/v1/models/{name}", "/v1/models/{name}/versions/{version:int}"
    calls = {"predict": predict, "classify": classify, "regress": no_regression}
    routes = [
        Route(f"{path}:{call}", meters.counted(call, answer, budget), methods=["POST"])
        for path in (versioned, model)
        for call, answer in calls.items()
    ]
    for path in (versioned, model):
        routes += [Route(f"{path}/metadata", metadata), Route(f"{path}/card", card), Route(path, status)]
    routes += [Route("/health", health), Route("/metrics", metrics), Route("/monitoring/prometheus/metrics", metrics)]

    @contextlib.asynccontextmanager
    async def lifespan(_):
        versions.start()
        yield
        await asyncio.to_thread(versions.close)
        await asyncio.to_thread(batcher.close)

    handlers = {_RefusedError: _refuse, rest.BadRequestError: _refuse, Exception: _refuse, 404: _refuse, 405: _refuse}
    return Starlette(routes=[*routes, Route("/", page)], exception_handlers=handlers, lifespan=lifespan)


class _Budget:
    """Bytes that all bodies together may have."""

    def __init__(self, most):
        self.left = most


class _Held:
    """What one request has of a budget."""

    def __init__(self, budget):
        self._budget, self._size = budget, 0

    def take(self, size):
        """Take some more; refuse the request where nothing is left."""
        if size > self._budget.left:
            raise _RefusedError(503, "too many large requests at once; try again later")
        self._budget.left -= size
        self._size += size

    def release(self):
        """Give all back."""
        self._budget.left += self._size
        self._size = 0


def _unpacked(body, most, too_long):
    """A gzipped body, of which no more is unpacked than it may have."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        whole = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise _RefusedError(400, f"the body is no gzip: {error}") from None
    if len(whole) > most:
        raise too_long
    return whole


class _Meters:
    """What Prometheus is told."""

    def __init__(self, versions):
        self.registry = CollectorRegistry()
        new = functools.partial(self._make, self.registry)
        self.requests = new(Counter, "requests_total", "Requests by call and status.", ["call", "status"])
        self.seconds = new(Histogram, "request_seconds", "Seconds from a request to its answer.", ["call"])
        self.images = new(Counter, "images_total", "Images taken in.")
        self.errors = new(Counter, "image_errors_total", "Images that could not be read.")
        self.batches = new(Histogram, "batch_images", "Images run together.", buckets=(1, 2, 4, 8, 16, 32, 64, 128))
        self.waiting = new(Gauge, "waiting_images", "Images that wait.")
        version = new(Gauge, "version", "Number of the version that is served.")
        version.set_function(lambda: versions.current.number if versions.current is not None else 0)

    @staticmethod
    def _make(registry, kind, name, text, labels=(), **options):
        return kind(f"recipes_{name}", text, labels, registry=registry, **options)

    def counted(self, call, answer, budget):
        """A handler whose answers are counted and timed, and whose bodies are held within a budget."""
        self.seconds.labels(call)  # there from the start, as Prometheus would have it

        async def handle(request):
            begin, status = time.monotonic(), 500
            held = _Held(budget)
            try:
                response = await answer(request, held)
                status = response.status_code
                return response
            except _RefusedError as error:
                status = error.status
                raise
            except rest.BadRequestError:
                status = 400
                raise
            finally:
                held.release()
                self.requests.labels(call, status).inc()
                self.seconds.labels(call).observe(time.monotonic() - begin)

        return handle


async def _aside(size, function, *arguments):
    """`function(*arguments)`, in a thread where that takes long."""
    if size < _LARGE:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


def _signature(current, asked, default):
    name = asked.get("signature_name") or default
    if not isinstance(name, str) or name not in current.functions:
        raise _RefusedError(
            400, f"signature_name {name!r} is not known; there are {', '.join(sorted(current.functions))}"
        )
    return current.functions[name]


def _state(number, state):
    word, message = state
    code = "UNKNOWN" if message else "OK"
    return {"version": str(number), "state": word, "status": {"error_code": code, "error_message": message}}


async def _refuse(_, error):
    status = getattr(error, "status", None) or getattr(error, "status_code", None)
    if isinstance(error, rest.BadRequestError):
        status = 400
    reason = getattr(error, "detail", None) or str(error) or type(error).__name__
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": reason}, status or 500, headers)
