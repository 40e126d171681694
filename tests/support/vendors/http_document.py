"""A server on loopback that gives one document, with its version, and can be made to misbehave."""

import functools
import gzip
import json
import socket
import ssl
import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

_LONGEST = 20.0
"""Seconds for which it says nothing, if nobody mends it before."""


@functools.cache
def packed_bomb() -> bytes:
    """Made once: that takes longer than a client waits."""
    return gzip.compress(bytes(100 * 2**20))


class Handler(BaseHTTPRequestHandler):
    """One request, answered as the server wants it."""

    server: "DocumentServer"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers))
        self.server.answer(self)

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.do_GET()

    def give(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class DocumentServer(ThreadingHTTPServer):
    """Serves from the entry to the exit of a `with` block; `asked` has the path and the headers of each request."""

    daemon_threads = True
    answer: Callable[[Handler], None]

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.scheme = "http"
        if tls is not None:
            self.scheme = "https"
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.asked: list[tuple[str, Message]] = []
        self.bodies: list[bytes] = []
        """Those of requests that have one."""
        self.dated = False
        """Whether versions have a date instead of a tag."""
        self.index = 0
        """The version of one that may be waited for, as Consul has it; 0: none."""
        self._body = b"{}"
        self._changed = threading.Condition()
        self._mended = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="document", daemon=True)
        self.mend()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._mended.set()
        self.shutdown()
        self._thread.join(_LONGEST)
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that has given up is none."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}/flags"

    def say(self, document: object) -> None:
        self.give_text(json.dumps(document))

    def give_text(self, text: str) -> None:
        """From now on the document is this one."""
        with self._changed:
            self._body = text.encode()
            self.index += bool(self.index)
            self._changed.notify_all()

    def misbehave(self, answer: Callable[[Handler], None]) -> None:
        self._mended.clear()
        self.answer = answer

    def mend(self) -> None:
        self.answer = self._give_document
        self._mended.set()

    def hang(self, handler: Handler) -> None:
        """No answer until it is mended."""
        self._mended.wait(_LONGEST)

    def drip(self, handler: Handler) -> None:
        """An answer that comes bit by bit, and has no end until it is mended."""
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while not self._mended.wait(0.02):
            handler.wfile.write(b" ")

    def reset(self, handler: Handler) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        handler.connection.close()

    def cut(self, handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n{")

    def bomb(self, handler: Handler) -> None:
        """A small answer that unpacks to a hundred megabytes."""
        handler.give(200, packed_bomb(), Content_Encoding="gzip")

    def large(self, handler: Handler) -> None:
        handler.give(200, b" " * 2**20)

    def _give_document(self, handler: Handler) -> None:
        asked = parse_qs(urlsplit(handler.path).query)
        if self.index and asked.get("index") == [str(self.index)]:
            known = self.index
            with self._changed:
                self._changed.wait_for(lambda: self.index != known, float(asked["wait"][0].removesuffix("s")))
        body = self._body
        if self.index:
            handler.give(200, body, X_Consul_Index=str(self.index))
            return
        tag = f'"{hash(body):x}"'
        name, asked_by = ("Last-Modified", "If-Modified-Since") if self.dated else ("ETag", "If-None-Match")
        version: dict[str, Any] = {name.replace("-", "_"): tag}
        if handler.headers[asked_by] == tag:
            handler.give(304, **version)
        elif "gzip" in handler.headers.get("Accept-Encoding", ""):
            handler.give(200, gzip.compress(body), Content_Encoding="gzip", **version)
        else:
            handler.give(200, body, **version)
