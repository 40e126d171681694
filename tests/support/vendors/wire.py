"""HTTP/1.1 and server-sent events as bytes on a socket."""

import http.client
import json
import select
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from typing import Final

JSON: Final = "application/json; charset=utf-8"
EVENT_STREAM: Final = "text/event-stream"
LAST_CHUNK: Final = b"0\r\n\r\n"

_SECONDS_TO_TAKE_BYTES: Final = 2
"""After which a client that takes none is given up, so that a push never waits for one for ever."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: Message
    at: float
    """Monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Page:
    """A whole response."""

    body: bytes = b""
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def head(self) -> bytes:
        return head(self.status, {"Content-Type": self.content_type, "Content-Length": len(self.body), **self.headers})


def head(status: int, headers: Mapping[str, object]) -> bytes:
    """A response up to the blank line."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


# Closed at its end, so that a client never sends its next request into a connection that is going away.
STREAM_HEAD: Final = head(
    200,
    {
        "Content-Type": EVENT_STREAM,
        "Cache-Control": "no-cache",
        "Transfer-Encoding": "chunked",
        "Connection": "close",
    },
)


def compact(value: object) -> str:
    """A value as one line of JSON."""
    return json.dumps(value, separators=(",", ":"))


def chunk(data: bytes) -> bytes:
    """Data as one chunk of a chunked body; nothing for nothing, since an empty chunk would be the last."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def half(data: bytes) -> bytes:
    """The part of cut data that comes through."""
    return data[: len(data) // 2]


class Connection:
    """A client's connection. Its own thread reads from it and closes it; any thread may write to it or end it."""

    def __init__(self, accepted: socket.socket) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SECONDS_TO_TAKE_BYTES, 0))
        self._socket = accepted
        self._reader = accepted.makefile("rb")
        self._resetting = False

    def next_request(self) -> Request | None:
        """The next request with its body read; None if the client has left."""
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            return None
        at = time.monotonic()
        method, path, _ = line.decode("latin-1").split()
        headers = http.client.parse_headers(self._reader)
        self._reader.read(int(headers.get("Content-Length", 0)))
        return Request(method, path, headers, at)

    def send(self, data: bytes) -> None:
        """Hand all of it to the kernel. A client that has left, or does not read, is dropped."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.drop()

    def left(self, within: float | None = None) -> bool:
        """Wait until the client has left, or was dropped; False if the seconds went by."""
        deadline = None if within is None else time.monotonic() + within
        while True:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._socket], [], [], remaining)[0]:
                return False
            if not self._socket.recv(4096):
                return True

    def drop(self) -> None:
        """End it now, which also wakes the thread that reads from it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """End it with an RST, which goes out when its thread, woken by this, closes it."""
        self._resetting = True
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        if not self._resetting:
            # A forked child may hold the socket too: closing alone would leave the client connected.
            self.drop()
        self._reader.close()
        self._socket.close()
