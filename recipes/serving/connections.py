"""Connections that must say what they want within a time and a length."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MOST_HEAD = 65_536  # bytes until the headers are complete
_SECONDS = 20.0


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which itself waits for ever for headers, and takes them at any length."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self._bytes, self._deadline = 0, None
        self._wait_for_headers()

    def connection_lost(self, exc):
        self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data):
        self._bytes += len(data)
        super().data_received(data)
        if self._bytes > _MOST_HEAD and self._deadline is not None and not self._deadline.cancelled():
            self.transport.close()

    def on_message_begin(self):
        self._wait_for_headers()
        super().on_message_begin()

    def on_headers_complete(self):
        self._deadline.cancel()
        super().on_headers_complete()

    def _wait_for_headers(self):
        if self._deadline is not None:
            self._deadline.cancel()
        self._bytes, self._deadline = 0, self.loop.call_later(_SECONDS, self.transport.close)
