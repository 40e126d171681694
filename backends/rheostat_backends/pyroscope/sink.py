"""A port on loopback at which the agent's pushes come back to their own process."""

import os
import re
import secrets
import socket
import time
import zlib
from _socket import socket as Socket  # noqa: N812  # that of `socket` may be a green one
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from rheostat.plugins import start_native

_LONGEST_HEAD: Final = 16 * 1024
_LARGEST: Final = 64 * 2**20
"""Bytes of a push, unpacked."""
_PATIENCE: Final = 5.0
"""Seconds in which a request has to be there."""
_ENDING: Final = 1.0
"""Seconds that the end waits for a push that is being delivered."""
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,10})[ \t]*\r\n", re.IGNORECASE)
_GZIP = re.compile(rb"\r\ncontent-encoding:[ \t]*gzip[ \t]*\r\n", re.IGNORECASE)


class Sink:
    """Takes one push after the other, in a thread that is native whatever the application's are.

    `deliver` is called in it with each, unpacked, before it is answered: what the agent flushes at its end is delivered
    when it has ended. What it raises is for the sink's owner to tell; the agent is answered that it failed.
    """

    def __init__(self, deliver: Callable[[bytes], None]) -> None:
        self._deliver = deliver
        # Other processes of the host can reach the port, but do not know the path.
        self._path = f"/{secrets.token_urlsafe(24)}"
        self._closing = False
        self.sockets: set[Socket] = set()
        """Those that are open."""
        self._port = 0
        self._ended: Callable[[float], bool] = lambda seconds: True

    def open(self) -> str:
        """The address to push to. Raises OSError if there is no port, RuntimeError if there is no thread to be had."""
        listening = Socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sockets.add(listening)
        _LEFT_IN_CHILDREN.add(self)
        try:
            listening.bind(("127.0.0.1", 0))
            listening.listen(16)
            self._port = listening.getsockname()[1]
            self._ended = start_native(lambda: self._serve(listening), "rheostat-sink")
        except BaseException:
            self._drop(listening)
            _LEFT_IN_CHILDREN.discard(self)
            raise
        return f"http://127.0.0.1:{self._port}{self._path}"

    @property
    def serves(self) -> bool:
        return not self._ended(0.0)

    def close(self) -> None:
        """Take nothing more; bounded, though a push that is being delivered hangs: its thread ends when it returns."""
        self._closing = True
        # Whoever waits for a connection gets one, where a shutdown alone does not wake it.
        bell = Socket(socket.AF_INET, socket.SOCK_STREAM)
        bell.settimeout(_ENDING)
        with suppress(OSError):
            bell.connect(("127.0.0.1", self._port))
        bell.close()
        # The thread itself closes them: a number that is free may be another file's in the next moment.
        for each in tuple(self.sockets):
            _shut(each)
        self._ended(_ENDING)

    def _serve(self, listening: Socket) -> None:
        try:
            self._take(listening)
        finally:
            self._drop(listening)
            _LEFT_IN_CHILDREN.discard(self)

    def _take(self, listening: Socket) -> None:
        while not self._closing:
            try:
                descriptor, _ = listening._accept()  # type: ignore[attr-defined]  # what `socket.accept` is made of
            except OSError:
                # Too many files, say: who probes finds that nobody serves, and another session has another sink.
                return
            connection = Socket(fileno=descriptor)
            self.sockets.add(connection)
            try:
                self._answer(connection)
            # Whoever is connected may send anything, or go away; and the thread has to live.
            except Exception:
                continue
            finally:
                self._drop(connection)

    def _answer(self, connection: Socket) -> None:
        until = time.monotonic() + _PATIENCE
        head, _, begun = self._head(connection, until).partition(b"\r\n\r\n")
        if not head.startswith(f"POST {self._path}/".encode()):
            connection.sendall(_reply("404 Not Found"))
            return
        head += b"\r\n"
        length = _LENGTH.search(head)
        if length is None or int(length[1]) > _LARGEST:
            connection.sendall(_reply("413 Content Too Large"))
            return
        body = bytearray(begun)
        while len(body) < int(length[1]):
            body += _received(connection, until)
        try:
            self._deliver(_unpacked(bytes(body)) if _GZIP.search(head) else bytes(body))
        except Exception:
            connection.sendall(_reply("500 Internal Server Error"))
        else:
            connection.sendall(_reply("200 OK"))

    def _head(self, connection: Socket, until: float) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head:
            if len(head) > _LONGEST_HEAD:
                raise ConnectionError("the request's head has no end")
            head += _received(connection, until)
        return head

    def _drop(self, each: Socket) -> None:
        _shut(each)
        each.close()
        self.sockets.discard(each)


def _shut(each: Socket) -> None:
    """For every process that has it open."""
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


def _received(connection: Socket, until: float) -> bytes:
    connection.settimeout(max(0.001, until - time.monotonic()))
    if not (piece := connection.recv(64 * 1024)):
        raise ConnectionError("the connection ended in the midst of a request")
    return piece


def _unpacked(body: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    plain = stream.decompress(body, _LARGEST)
    if not stream.eof:
        raise ValueError("a push that is cut off, or too large")
    return plain


def _reply(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


_LEFT_IN_CHILDREN: Final[set[Sink]] = set()


def _leave() -> None:
    """A forked child has no thread that would serve them."""
    for sink in _LEFT_IN_CHILDREN:
        for each in sink.sockets:
            each.close()
    _LEFT_IN_CHILDREN.clear()


os.register_at_fork(after_in_child=_leave)
