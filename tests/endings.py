"""A run that ends anywhere, and what must be the same when it goes on."""

import hashlib

import keras
from cases import tiny_base


class Death(BaseException):
    """The end of a process, as near as a test can come to it in one: nobody handles it."""


def base():
    """Random layers and BatchNormalization that trains are in it."""
    plain = tiny_base()
    return keras.Sequential([*plain.layers[:-3], keras.layers.Dropout(0.2, name="drop"), *plain.layers[-3:]])


def outcome(result):
    """All that must be the same, bit by bit."""
    content = b"".join(weight.tobytes() for weight in result.model.get_weights())
    return hashlib.blake2b(content).hexdigest(), result.report.scores, result.report.curves, result.report.rows


def die_at(monkeypatch, owner, name, count, after=False):
    """Let the call number `count` of a method be the last thing that happens."""
    original, calls = getattr(owner, name), []

    def dying(*arguments, **options):
        calls.append(name)
        if len(calls) == count and not after:
            raise Death
        given = original(*arguments, **options)
        if len(calls) == count:
            raise Death
        return given

    monkeypatch.setattr(owner, name, dying)
    return calls
