"""An endpoint on loopback that gives flags with an ETag, and can be made to misbehave."""

import json
import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

_LONGEST = 20.0
"""Seconds for which it says nothing, if nobody mends it before."""


class Handler(BaseHTTPRequestHandler):
    """One request, answered as the endpoint wants it."""

    server: "Endpoint"

    def do_GET(self) -> None:
        self.server.asked.append(self.headers)
        self.server.answer(self)

    def give(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class Endpoint(ThreadingHTTPServer):
    """Serves from the entry to the exit of a `with` block; `asked` has the headers of each request."""

    answer: Callable[[Handler], None]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[Message] = []
        self._flags: object = {}
        self._mended = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="endpoint", daemon=True)
        self.mend()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mended.set()
        self.shutdown()
        self._thread.join(_LONGEST)
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that has given up is none."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/flags.json"

    def say(self, flags: object) -> None:
        """From now on the document is this one; its tag is made of what is in it."""
        self._flags = flags

    def misbehave(self, answer: Callable[[Handler], None]) -> None:
        """Answer like this instead."""
        self._mended.clear()
        self.answer = answer

    def hang(self, handler: Handler) -> None:
        """No answer until it is mended."""
        self._mended.wait(_LONGEST)

    def drip(self, handler: Handler) -> None:
        """An answer that comes bit by bit, and has no end until it is mended."""
        self._drip_after(b"HTTP/1.0 200 OK\r\n\r\n", handler)

    def drip_headers(self, handler: Handler) -> None:
        """One whose headers do."""
        self._drip_after(b"HTTP/1.0 200 OK\r\nX-Long: ", handler)

    def _drip_after(self, begin: bytes, handler: Handler) -> None:
        handler.wfile.write(begin)
        while not self._mended.wait(0.02):
            handler.wfile.write(b" ")

    def mend(self) -> None:
        """Be well, and say what was said last."""
        self.answer = self._give_flags
        self._mended.set()

    def _give_flags(self, handler: Handler) -> None:
        body = json.dumps(self._flags).encode()
        etag = f'"{hash(body):x}"'
        if handler.headers["If-None-Match"] == etag:
            handler.give(304, ETag=etag)
        else:
            handler.give(200, body, ETag=etag)
