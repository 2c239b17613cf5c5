"""The settings of a run as plain JSON, such that equal ones mean an equal run."""

import dataclasses
import hashlib
import os
import re
from pathlib import Path

import keras
import numpy as np

from recipes.checks import complaint

_UNREPEATABLE = "not repeatable: "


def describe_settings(arguments, ignored=()):
    """The arguments of a verb as JSON: models by a digest of their weights, files by one of their content."""
    described = {name: _describe(value) for name, value in arguments.items() if name not in ignored}
    for name in ("base", "weights"):
        value = arguments[name]
        if isinstance(value, (str, os.PathLike)) and Path(value).is_file():
            described[f"{name}_digest"] = _digest(Path(value).read_bytes())
    # What the images are, their fingerprint says; here stands only where they came from.
    described["data"] = str(described["data"]).replace(_UNREPEATABLE, "")[:1000]
    return described


def is_repeatable(described):
    """Whether a described argument can be made again from what its description says."""
    return _UNREPEATABLE not in repr(described)


def check_repeatable(settings, where):
    """Raise ValueError when settings hold something that nobody could find again in a file."""
    for name, value in settings.items():
        if name != "data" and not is_repeatable(value):
            mend = f"Leave out away, or give {name} by name or as a Keras object."
            raise ValueError(complaint(where, f"with out=, {name} must be something that a file can say", value, mend))


def _describe(value):
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return {str(key): _uncounted(part) if key == "name" else _describe(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)) and len(value) < 100:
        return [_describe(part) for part in value]
    if isinstance(value, keras.Model):
        weights = b"".join(np.ascontiguousarray(weight).tobytes() for weight in value.get_weights())
        # Keras numbers layers on: the same code gives other names the second time.
        form = re.sub(r'_\d+"|"shared_object_id": \d+', '"', value.to_json())
        return f"{type(value).__name__} {_uncounted(value.name)} {_digest(form.encode() + weights)}"
    if isinstance(value, (keras.layers.Layer, keras.optimizers.Optimizer, keras.losses.Loss)):
        # Names are counted on through a process; seeds give way to the run's.
        config = {key: part for key, part in value.get_config().items() if key not in ("name", "seed")}
        return {"class": type(value).__name__, **_describe(config)}
    if dataclasses.is_dataclass(value) and hasattr(value, "learning_rate"):
        return dataclasses.asdict(value)
    name = getattr(value, "__qualname__", None)
    return f"{_UNREPEATABLE}{name if isinstance(name, str) else type(value).__name__}"


def _uncounted(name):
    """A name without the number that Keras counts it by."""
    return re.sub(r"_\d+$", "", name) if isinstance(name, str) else _describe(name)


def _digest(content):
    return hashlib.blake2b(content, digest_size=16).hexdigest()
