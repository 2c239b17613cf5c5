"""Ctrl-C and the request to terminate, heard between two steps."""

import signal
import threading

_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Interrupt:
    """Within `with`, a signal asks the run to stop; a second one stops it where it stands.

    An exception that Python raises wherever it happens to be is lost when that is a finalizer, and training goes on.

    Args:
        terminates: whether to hear SIGTERM too, which else ends the process at once.

    Attributes:
        asked: number of the signal that came, or None.
        is_forced: whether a second one has stopped the run where it stood.
    """

    def __init__(self, terminates=False):
        self._signals = (signal.SIGINT, signal.SIGTERM) if terminates else (signal.SIGINT,)
        self._before = {}
        self.asked, self.is_forced = None, False

    def __enter__(self):
        # Whoever has set a handler of their own, or trains in a thread, where there are no signals, has their way.
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                if signal.getsignal(number) is _DEFAULTS[number]:
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None:
            self.check()

    def _ask(self, number, frame):
        if self.asked is not None:
            self.is_forced = True
            raise KeyboardInterrupt
        self.asked = number

    def check(self):
        """Raise KeyboardInterrupt after Ctrl-C, SystemExit with the shell's code after SIGTERM."""
        if self.asked == signal.SIGTERM:
            code = 128 + signal.SIGTERM
            raise SystemExit(code)
        if self.asked is not None:
            raise KeyboardInterrupt
