"""How long functions take, side by side: in turn, so that a busy machine is unkind to all of them alike."""

import time

import tensorflow as tf


def alternating(functions, *, rounds=7, least_seconds=0.05, rest=0.0):
    """Wall seconds of one call of each function, measured in turn.

    The first call of each, which may compile, is not counted. Work on a device is waited for.

    Args:
        functions: `{name: function without arguments}`.
        rounds: how often all of them are measured, 1 or more.
        least_seconds: each measurement repeats the call for at least that long and takes the mean.
        rest: seconds to wait before each measurement, in which threads of other libraries that wait actively give up.

    Returns:
        `{name: [seconds of a call, one per round]}`.
    """
    repeats = {}
    for name, function in functions.items():
        _seconds(function, 1)
        repeats[name] = max(1, round(least_seconds / _seconds(function, 1)))
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            time.sleep(rest)
            seconds[name].append(_seconds(function, repeats[name]))
    return seconds


def _seconds(function, repeats):
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    tf.test.experimental.sync_devices()
    return (time.perf_counter() - start) / repeats
