"""A port on loopback at which what a profiler uploads comes back to its own process."""

import os
import time
from _socket import AF_INET, SHUT_RDWR, SOCK_STREAM
from _socket import socket as Socket  # noqa: N812  # that of `socket` may be a green one
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from rheostat._host.execution import start_native

_LONGEST_HEAD: Final = 16 * 1024
_LARGEST: Final = 64 * 2**20
"""Bytes of an upload, packed or not."""
_PATIENCE: Final = 5.0
"""Seconds in which an upload has to be there."""
_BELL: Final = 1.0


class Upload(NamedTuple):
    """One request: the path below the address, its headers with names in lower case, and its body as it was sent."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    def unpacked(self) -> bytes:
        """The body without gzip. Raises ValueError if it is cut off, or too large."""
        if self.headers.get("content-encoding") != "gzip":
            return self.body
        import zlib

        stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            plain = stream.decompress(self.body, _LARGEST)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if not stream.eof:
            raise ValueError("an upload that is cut off, or too large")
        return plain


Upload.__module__ = "rheostat.plugins"


class Loopback:
    """Takes one upload after the other, in a thread that is native whatever the application's are.

    `deliver` is called in that thread with each, before it is answered: what a profiler flushes at its end is delivered
    when it has ended, and what `deliver` raises is answered as a failure. With `answers_first` it is called after the
    answer, and raises nothing: for a profiler that bears no wait.
    """

    def __init__(self, deliver: Callable[[Upload], None], name: str, *, answers_first: bool = False) -> None:
        """`name` is the thread's."""
        self._deliver = deliver
        self._name = name
        self._answers_first = answers_first
        # Other processes of the host can reach the port, but do not know the path.
        self._secret = f"/{os.urandom(24).hex()}"
        self._closing = False
        self.taken = 0
        """The uploads so far."""
        self.sockets: set[Socket] = set()
        """Those that are open."""
        self._port = 0
        self._ended: Callable[[float], bool] = lambda seconds: True

    def open(self) -> str:
        """The address to upload to. Raises OSError without a port, RuntimeError without a thread to be had."""
        listening = Socket(AF_INET, SOCK_STREAM)
        self.sockets.add(listening)
        _LEFT_IN_CHILDREN.add(self)
        try:
            listening.bind(("127.0.0.1", 0))
            listening.listen(16)
            self._port = listening.getsockname()[1]
            self._ended = start_native(lambda: self._serve(listening), self._name)
        except BaseException:
            self._drop(listening)
            _LEFT_IN_CHILDREN.discard(self)
            raise
        return f"http://127.0.0.1:{self._port}{self._secret}"

    @property
    def serves(self) -> bool:
        return not self._ended(0.0)

    def close(self, patience: float = 1.0) -> None:
        """Take nothing more. What is being delivered is waited for, `patience` seconds at most."""
        self._closing = True
        # Whoever waits for a connection gets one, where a shutdown alone does not wake it.
        bell = Socket(AF_INET, SOCK_STREAM)
        bell.settimeout(_BELL)
        with suppress(OSError):
            bell.connect(("127.0.0.1", self._port))
        bell.close()
        # The thread itself closes them: a number that is free may be another file's in the next moment.
        for each in tuple(self.sockets):
            _shut(each)
        self._ended(patience)

    def _serve(self, listening: Socket) -> None:
        try:
            while not self._closing:
                self._take_one(listening)
        except OSError:
            # Too many files, say: who probes finds that nobody serves, and another session has another port.
            return
        finally:
            self._drop(listening)
            _LEFT_IN_CHILDREN.discard(self)

    def _take_one(self, listening: Socket) -> None:
        descriptor, _ = listening._accept()  # type: ignore[attr-defined]  # what `socket.accept` is made of
        connection = Socket(fileno=descriptor)
        self.sockets.add(connection)
        taken = None
        try:
            taken = self._answered(connection)
        # Whoever is connected may send anything, or go away; and the thread has to live.
        except Exception:
            return
        finally:
            self._drop(connection)
        if taken is not None and self._answers_first:
            self._deliver(taken)

    def _answered(self, connection: Socket) -> Upload | None:
        request = _Request(connection, time.monotonic() + _PATIENCE)
        lines = request.until(b"\r\n\r\n", _LONGEST_HEAD).decode("latin-1").split("\r\n")
        method, _, path = lines[0].removesuffix(" HTTP/1.1").partition(" ")
        if method != "POST" or not path.startswith(f"{self._secret}/"):
            connection.sendall(_reply("404 Not Found"))
            return None
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        try:
            upload = Upload(path.removeprefix(self._secret), headers, request.body(headers))
        except ValueError:
            connection.sendall(_reply("413 Content Too Large"))
            return None
        # Whoever waits for the answer may look at once.
        self.taken += 1
        if not self._answers_first:
            try:
                self._deliver(upload)
            except Exception:
                connection.sendall(_reply("500 Internal Server Error"))
                return None
        connection.sendall(_reply("200 OK"))
        return upload

    def _drop(self, each: Socket) -> None:
        _shut(each)
        each.close()
        self.sockets.discard(each)


Loopback.__module__ = "rheostat.plugins"


class _Request:
    """What a connection has to say until a moment. Raises OSError, and ValueError if that is no sound request."""

    def __init__(self, connection: Socket, until: float) -> None:
        self._connection = connection
        self._until = until
        self._unread = bytearray()

    def until(self, end: bytes, most: int) -> bytes:
        """The bytes before the next `end`, which is read, too."""
        while (at := self._unread.find(end)) < 0:
            if len(self._unread) > most:
                raise ValueError("it has no end")
            self._receive()
        found = bytes(self._unread[:at])
        del self._unread[: at + len(end)]
        return found

    def body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self._exactly(int(headers.get("content-length", "0")))
        body = bytearray()
        while size := int(self.until(b"\r\n", 32), 16):
            body += self._exactly(size)
            if len(body) > _LARGEST:
                raise ValueError("it is too large")
            self._exactly(2)
        return bytes(body)

    def _exactly(self, size: int) -> bytes:
        if not 0 <= size <= _LARGEST:
            raise ValueError("it is too large")
        while len(self._unread) < size:
            self._receive()
        found = bytes(self._unread[:size])
        del self._unread[:size]
        return found

    def _receive(self) -> None:
        self._connection.settimeout(max(0.001, self._until - time.monotonic()))
        if not (piece := self._connection.recv(64 * 1024)):
            raise ConnectionError("the connection ended in the midst of a request")
        self._unread += piece


def _shut(each: Socket) -> None:
    """For every process that has it open."""
    with suppress(OSError):
        each.shutdown(SHUT_RDWR)


def _reply(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


_LEFT_IN_CHILDREN: Final[set[Loopback]] = set()


def _leave() -> None:
    """A forked child has no thread that would serve them."""
    for loopback in _LEFT_IN_CHILDREN:
        for each in loopback.sockets:
            each.close()
    _LEFT_IN_CHILDREN.clear()


os.register_at_fork(after_in_child=_leave)
