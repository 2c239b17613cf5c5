"""Concurrent requests run together: what waits while one batch is computed is the next."""

import collections
import concurrent.futures
import threading

import numpy as np

_AT_ONCE = 2  # batches, so that one is decoded while the other is computed


_LAST_SECONDS = 10.0


class FullError(Exception):
    """More waits than may."""


class Batcher:
    """A bounded queue of requests and the thread that runs them, those that fit together as one batch.

    Args:
        batch_size: most rows that are run together.
        queue_size: most rows that wait; a request beyond is refused.
        watch: function of (rows of a batch), called before each.
    """

    def __init__(self, batch_size, queue_size, watch=lambda rows: None):
        self.batch_size, self.queue_size, self._watch = batch_size, queue_size, watch
        self.waiting = 0  # rows
        self._queue, self._changed, self._is_closed = collections.deque(), threading.Condition(), False
        self._threads = [threading.Thread(target=self._work, name="batches", daemon=True) for _ in range(_AT_ONCE)]
        for thread in self._threads:
            thread.start()

    def submit(self, function, kind, inputs):
        """Have `function(**inputs)` run, together with others of the same function and kind.

        Args:
            function: from arrays to `{name: tensor}`, row by row.
            kind: hashable; equal where rows may be joined.
            inputs: `{name: array}`, the first axis the rows.

        Returns:
            `concurrent.futures.Future` of `{name: array}`. Who sets its `is_given_up` wants no more of it computed.

        Raises:
            FullError: as many rows wait as may.
        """
        rows, future = len(next(iter(inputs.values()))), concurrent.futures.Future()
        future.is_given_up = False
        with self._changed:
            if self.waiting + rows > self.queue_size:
                self._forget_cancelled()
            if self.waiting + rows > self.queue_size:
                raise FullError
            self.waiting += rows
            self._queue.append(_Request(function, (function, kind), inputs, rows, future))
            self._changed.notify()
        return future

    def close(self):
        """Run what waits, then end; what takes longer than some seconds is left behind."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_LAST_SECONDS)

    def _work(self):
        while (batch := self._next()) is not None:
            self._run([request for request in batch if request.future.set_running_or_notify_cancel()])

    def _next(self):
        """The first request, and those behind it that fit to it; None where nothing will come any more."""
        with self._changed:
            while not self._queue:
                if self._is_closed:
                    return None
                self._changed.wait()
            batch, others, rows = [], collections.deque(), 0
            while self._queue:
                request = self._queue.popleft()
                if not batch or (request.kind == batch[0].kind and rows + request.rows <= self.batch_size):
                    batch.append(request)
                    rows += request.rows
                else:
                    others.append(request)
            self._queue = others
            self.waiting -= rows
            return batch

    def _forget_cancelled(self):
        self._queue = collections.deque(request for request in self._queue if not request.future.cancelled())
        self.waiting = sum(request.rows for request in self._queue)

    def _run(self, batch):
        if not batch:
            return
        try:
            answers = self._compute(batch)
        except (Exception, concurrent.futures.CancelledError) as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for request in batch:  # so that one does not spoil it for the others
                self._run([request])
            return
        for request, answer in zip(batch, answers, strict=True):
            request.future.set_result(answer)

    def _compute(self, batch):
        joined = {name: np.concatenate([request.inputs[name] for request in batch]) for name in batch[0].inputs}
        rows, parts = sum(request.rows for request in batch), []
        for start in range(0, rows, self.batch_size):
            if all(request.future.is_given_up for request in batch):
                raise concurrent.futures.CancelledError
            self._watch(min(self.batch_size, rows - start))
            outputs = batch[0].function(
                **{name: value[start : start + self.batch_size] for name, value in joined.items()}
            )
            parts.append({name: output.numpy() for name, output in outputs.items()})
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        ends = np.cumsum([request.rows for request in batch])
        return [
            {name: values[end - request.rows : end] for name, values in whole.items()}
            for request, end in zip(batch, ends, strict=True)
        ]


_Request = collections.namedtuple("_Request", "function kind inputs rows future")
