"""TensorFlow Serving's REST bodies to arrays and back, with no server around them."""

import base64

import numpy as np
import orjson
import pybase64
import tensorflow as tf
from google.protobuf.message import DecodeError

from recipes.data.headers import MOST_PIXELS, examine

FILE_INPUT, EXAMPLES_INPUT = "image_bytes", "inputs"
_MOST_PIXELS = 4 * MOST_PIXELS  # of all images of a request
_TEXT_OF_FILES = ("/9j/", "iVBOR", "R0lGOD", "UklGR", "Qk0")  # how JPEG, PNG, GIF, WebP and BMP begin in base64


class BadRequestError(ValueError):
    """What is wrong with a request, for its sender."""


def parse(body):
    """The JSON object of a request's body."""
    try:
        request = orjson.loads(body)
    except ValueError as error:
        raise BadRequestError(f"JSON Parse error: {str(error)[:200]}") from None
    if not isinstance(request, dict):
        raise BadRequestError(f"the body must be a JSON object, not {type(request).__name__}")
    return request


def predict_inputs(request, specs):
    """Arrays for a signature out of the body of a Predict call.

    Args:
        request: the JSON object, with `instances` (one element per image) or `inputs` (one array per name).
        specs: `{name: tf.TensorSpec}` of the signature.

    Returns:
        `({name: array}, reasons, whether by rows)`; reasons are `{row: why an image cannot be used}`, by its header
        alone, and its bytes are left out.

    Raises:
        BadRequestError: the body does not fit the signature.
    """
    if ("instances" in request) == ("inputs" in request):
        raise BadRequestError("the body must have either 'instances' or 'inputs'")
    by_rows = "instances" in request
    values = _by_rows(request["instances"], specs) if by_rows else _by_names(request["inputs"], specs)
    look = _Look()
    inputs = {name: _array(name, value, specs[name], look) for name, value in values.items()}
    counts = {len(value) for value in inputs.values()}
    if len(counts) > 1:
        raise BadRequestError(f"all inputs must have as many rows; they have {sorted(counts)}")
    if counts == {0}:
        raise BadRequestError("there must be an image")
    return inputs, look.reasons, by_rows


def predict_answer(outputs, reasons, by_rows):
    """The JSON object that answers a Predict call, from `{name: array}`."""
    columns = {name: _listed(name, values) for name, values in outputs.items()}
    for row, reason in reasons.items():
        if "error" in columns:
            columns["error"][row] = reason
    if not by_rows:
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def classify_inputs(request):
    """Serialized `tf.Example`s out of the body of a Classify call: `examples`, and `context` that all of them share."""
    examples, context = request.get("examples"), request.get("context", {})
    if not isinstance(examples, list) or not examples:
        raise BadRequestError("the body must have 'examples', a list with something in it")
    if not all(isinstance(example, dict) for example in (context, *examples)):
        raise BadRequestError("each example, and the context, must be an object of features")
    look = _Look()
    rows = [_example({**context, **example}, row, look) for row, example in enumerate(examples)]
    return {EXAMPLES_INPUT: np.array(rows, object)}


def classify_answer(outputs):
    """The JSON object that answers a Classify call: for each example, pairs of class and score."""
    names, scores = _listed("classes", outputs["classes"]), outputs["scores"].tolist()
    return {"results": [[list(pair) for pair in zip(*row, strict=True)] for row in zip(names, scores, strict=True)]}


def _by_rows(instances, specs):
    if not isinstance(instances, list):
        raise BadRequestError(f"'instances' must be a list, not {type(instances).__name__}")
    columns = {name: [] for name in specs}
    for number, instance in enumerate(instances):
        if not isinstance(instance, dict) or set(instance) == {"b64"}:
            if len(specs) > 1:
                raise BadRequestError(f"instance {number} must be an object with {', '.join(specs)}")
            instance = dict.fromkeys(specs, instance)
        if set(instance) != set(specs):
            raise BadRequestError(
                f"instance {number} has {', '.join(instance)}; the signature takes {', '.join(specs)}"
            )
        for name, value in instance.items():
            columns[name].append(value)
    return columns


def _by_names(inputs, specs):
    if not isinstance(inputs, dict) or set(inputs) == {"b64"}:
        if len(specs) > 1:
            raise BadRequestError(f"'inputs' must be an object with {', '.join(specs)}")
        inputs = dict.fromkeys(specs, inputs)
    if set(inputs) != set(specs):
        raise BadRequestError(f"'inputs' has {', '.join(inputs)}; the signature takes {', '.join(specs)}")
    return inputs


def _array(name, value, spec, look):
    if spec.dtype == tf.string:
        values = value if isinstance(value, list) else [value]
        contents = [_bytes(name, one) for one in values]
        if name == FILE_INPUT:
            contents = [look.at_file(content, row) for row, content in enumerate(contents)]
        if name == EXAMPLES_INPUT:
            contents = [look.at_example(content, row) for row, content in enumerate(contents)]
        return np.array(contents, object)
    try:
        array = np.array(value)
    except ValueError as error:
        raise BadRequestError(f"{name!r} must hold numbers in a regular array: {str(error)[:200]}") from None
    if array.dtype.kind not in "iuf":
        raise BadRequestError(f"{name!r} must hold numbers")
    with np.errstate(over="ignore"):
        array = array.astype(spec.dtype.as_numpy_dtype)
    if not np.isfinite(array).all():
        raise BadRequestError(f"{name!r} must hold finite numbers")
    if not spec.shape.is_compatible_with(array.shape):
        raise BadRequestError(f"{name!r} has shape {array.shape}; the signature takes {spec.shape}")
    return array


def _bytes(name, value):
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, dict) or set(value) != {"b64"} or not isinstance(value["b64"], str):
        raise BadRequestError(f'{name!r} takes {{"b64": "…"}} or strings, not {type(value).__name__}')
    text = value["b64"]
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:  # broken into lines, or not filled up at its end
        text = "".join(text.split())
    try:
        return pybase64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise BadRequestError(f"{name!r} holds bad base64: {error}") from None


class _Look:
    """Looks at the headers of a request's images; `reasons` are `{row: why one cannot be used}`."""

    def __init__(self):
        self.reasons, self._pixels = {}, 0

    def at_file(self, content, row):
        """The bytes of an image, or none where its header says that they are of no use."""
        reason, pixels = examine(content)
        self._pixels += pixels
        if self._pixels > _MOST_PIXELS:
            raise BadRequestError(f"the images of a request may have {_MOST_PIXELS:,} pixels together")
        if reason is None:
            return content
        if content[:6].decode(errors="replace").startswith(_TEXT_OF_FILES):
            reason = 'base64 as plain text; send it as {"b64": "…"}'
        self.reasons[row] = reason
        return b""

    def at_example(self, content, row):
        """A serialized `tf.Example`, its image left out where that is of no use."""
        try:
            example = tf.train.Example.FromString(content)
        except DecodeError:
            raise BadRequestError(f"row {row} is no tf.Example") from None
        files = example.features.feature[FILE_INPUT].bytes_list
        files.value[:] = [self.at_file(one, row) for one in files.value]
        return example.SerializeToString()


def _example(features, row, look):
    example = tf.train.Example()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        feature = example.features.feature[name]
        if all(isinstance(one, (str, dict)) for one in values):
            contents = [_bytes(name, one) for one in values]
            feature.bytes_list.value.extend(look.at_file(one, row) if name == FILE_INPUT else one for one in contents)
        elif all(isinstance(one, (int, float)) for one in values):
            feature.float_list.value.extend(values)
        else:
            raise BadRequestError(f"feature {name!r} must hold numbers, strings or bytes, of one kind")
    return example.SerializeToString()


def _listed(name, values):
    """A JSON-able list; bytes of outputs called `…_bytes` in base64, as TensorFlow Serving has it."""
    if values.dtype != object:
        return values.tolist()
    if values.ndim > 1:
        return [_listed(name, row) for row in values]
    if name.endswith("_bytes"):
        return [{"b64": base64.b64encode(value).decode()} for value in values]
    return [value.decode(errors="replace") for value in values]
