"""A small client for `recipes serve` and TensorFlow Serving."""

import base64
import io
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np

from recipes.checks import complaint
from recipes.values import Prediction


class Client:
    """Asks a server over TensorFlow Serving's REST interface what is in images.

    Args:
        name: name of the model; `recipes serve` takes that of the folder.
        url: where the server is.
        timeout: seconds to wait for an answer, above 0.

    Example:
        >>> from recipes.serving import Client
        >>> Client("flowers").predict("rose.jpg")  # doctest: +SKIP
        Prediction(label='rose', probability=0.98...)
    """

    def __init__(self, name, url="http://127.0.0.1:8501", *, timeout=60.0):
        self.name = name
        self.url = url.rstrip("/")
        self.timeout = timeout
        is_near = urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
        self._opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_near else []))

    def predict(self, images):
        """Say what is in images.

        Args:
            images: one image or a list of them: a path, the bytes of an encoded file, or a uint8 array `(height,
                width)` or `(height, width, channels)` of 1 or 3 channels, which is sent as PNG.

        Returns:
            A `Prediction` for one image, a list of them for several.

        Raises:
            FileNotFoundError: a path does not exist.
            ValueError: the server cannot read an image, or refuses the request.
            ConnectionError: no server answers at the address.
        """
        is_one = isinstance(images, (str, os.PathLike, bytes)) or getattr(images, "ndim", 4) < 4
        listed = [images] if is_one else list(images)
        if not listed:
            return []
        instances = [{"b64": base64.b64encode(_content(image)).decode()} for image in listed]
        name = urllib.parse.quote(self.name, safe="")
        answers = self._ask(f"/v1/models/{name}:predict", {"instances": instances})["predictions"]
        for number, answer in enumerate(answers):
            if answer["error"]:
                rule, mend = "the server must be able to read every image", "Send JPEG, PNG, WebP, GIF or BMP files."
                raise ValueError(complaint("predict", rule, f"image {number}: {answer['error']}", mend))
        predictions = [
            Prediction(
                answer["classes"][0],
                answer["probabilities"][0],
                dict(zip(answer["classes"], answer["probabilities"], strict=True)),
            )
            for answer in answers
        ]
        return predictions[0] if is_one else predictions

    def _ask(self, path, body):
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            rule = f"the server refuses the request (status {error.code})"
            raise ValueError(
                complaint("predict", rule, said[:500], "Look at the server's address and limits.")
            ) from error
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            rule = "a server must answer"
            mend = f'Start one: "recipes serve --folder served/{self.name}", or pass url=.'
            raise ConnectionError(complaint("predict", rule, f"{error} from {self.url}", mend)) from error


def _content(image):
    """The bytes of an encoded image."""
    from PIL import Image

    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, os.PathLike)):
        return Path(image).expanduser().read_bytes()
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        rule = "an array must hold uint8 pixels, (height, width) or (height, width, channels)"
        raise ValueError(complaint("predict", rule, f"{pixels.dtype} of shape {pixels.shape}", "Convert it."))
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
