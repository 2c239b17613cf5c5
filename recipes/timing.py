"""How long functions take, side by side: in turn, so that a busy machine is unkind to all of them alike."""

import time

import tensorflow as tf


def alternating(functions, *, rounds=7, least_seconds=0.05, rest=0.0, hopeless=float("inf")):
    """Wall seconds of one call of each function, measured in turn.

    The first call of each, which may compile, is not counted. Work on a device is waited for.

    Args:
        functions: `{name: function without arguments}`.
        rounds: how often all of them are measured, 1 or more.
        least_seconds: each measurement repeats the call for at least that long and takes the mean.
        rest: seconds to wait before each measurement, in which threads of other libraries that wait actively give up.
        hopeless: what takes so many times as long as the quickest in its second call, and longer than
            `least_seconds`, is not measured again.

    Returns:
        `{name: [seconds of a call, one per round]}`; of what is hopeless, those of the second call alone.
    """
    first = {}
    for name, function in functions.items():
        _seconds(function, 1)
        first[name] = _seconds(function, 1)
    limit = max(hopeless * min(first.values(), default=0.0), least_seconds)
    seconds = {name: [taken] if taken > limit else [] for name, taken in first.items()}
    rivals = [name for name, taken in seconds.items() if not taken]
    for _ in range(rounds):
        for name in rivals:
            time.sleep(rest)
            seconds[name].append(_seconds(functions[name], max(1, round(least_seconds / first[name]))))
    return seconds


def _seconds(function, repeats):
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    tf.test.experimental.sync_devices()
    return (time.perf_counter() - start) / repeats
