"""The Datadog agent, by HTTP over TCP or a Unix socket: each exchange is bounded, and bypasses any proxy."""

import json
import re
import socket
import time
from _socket import getaddrinfo
from _socket import socket as Socket  # noqa: N812  # that of `socket` may be a green one
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from rheostat.plugins import PermanentError, TemporaryError, Upload, Url

_LARGEST: Final = 256 * 1024
"""Bytes of an answer."""
_INPUT: Final = "/profiling/v1/input"
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b")
_NOT_PASSED_ON: Final = frozenset({"connection", "content-length", "host", "transfer-encoding"})


class Agent:
    """Keeps no connection between two exchanges."""

    def __init__(self, url: Url) -> None:
        self._url = url
        parts = urlsplit(url.reveal())
        self._path = parts.path if parts.scheme == "unix" else ""
        self._prefix = "" if self._path else parts.path.rstrip("/")
        self._host = parts.hostname or "localhost"
        self._port = parts.port or 80
        self._name = "localhost" if self._path else parts.netloc

    def take(self, upload: Upload, timeout: float) -> None:
        """Raises BackendError if it does not take it."""
        headers = {name: value for name, value in upload.headers.items() if name not in _NOT_PASSED_ON}
        self._exchange("POST", upload.path, headers, upload.body, timeout)

    def ask(self, timeout: float) -> None:
        """Raises BackendError unless an agent answers that takes profiles."""
        body = self._exchange("GET", "/info", {}, b"", timeout)
        try:
            endpoints = json.loads(body)["endpoints"]
        except (ValueError, LookupError, TypeError):
            raise PermanentError(f"{self._url}: what answers there is no Datadog agent") from None
        if _INPUT not in endpoints:
            raise PermanentError(f"{self._url}: the agent takes no profiles; expected {_INPUT} among its endpoints")

    def _exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes, timeout: float) -> bytes:
        try:
            answer = self._answer(method, path, headers, body, time.monotonic() + timeout)
        except TimeoutError:
            raise TemporaryError(f"{self._url}: no answer within {timeout:g} s") from None
        except OSError as error:
            raise TemporaryError(f"{self._url}: {error.strerror or type(error).__name__}") from None
        head, _, content = answer.partition(b"\r\n\r\n")
        status = _STATUS.match(head)
        if status is None:
            raise TemporaryError(f"{self._url}: what answers there does not speak HTTP")
        if not 200 <= int(status[1]) < 300:
            refused = 400 <= int(status[1]) < 500 and int(status[1]) != 429
            hint = ": is it a Datadog agent that takes profiles?" if refused else ""
            raise (PermanentError if refused else TemporaryError)(f"{self._url}: HTTP {int(status[1])}{hint}")
        return content

    def _answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes, until: float) -> bytes:
        sent = {"Host": self._name, **headers, "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"{method} {self._prefix}{path} HTTP/1.0", *(f"{name}: {value}" for name, value in sent.items())]
        connection = self._connected(until)
        try:
            self._send(connection, "\r\n".join([*lines, "", ""]).encode("latin-1") + body, until)
            return self._received(connection, until)
        finally:
            connection.close()

    def _connected(self, until: float) -> Socket:
        if self._path:
            return _connect(socket.AF_UNIX, self._path, until)
        error = OSError("no address")
        for family, _, _, _, address in getaddrinfo(self._host, self._port, 0, socket.SOCK_STREAM):
            try:
                return _connect(family, address, until)
            except OSError as refusal:
                error = refusal
        raise error

    def _send(self, connection: Socket, request: bytes, until: float) -> None:
        view = memoryview(request)
        # It may refuse before it has read all, and go away.
        with suppress(BrokenPipeError, ConnectionResetError):
            while view:
                connection.settimeout(_left(until))
                view = view[connection.send(view) :]

    def _received(self, connection: Socket, until: float) -> bytes:
        answer = bytearray()
        while len(answer) <= _LARGEST:
            connection.settimeout(_left(until))
            if not (piece := connection.recv(64 * 1024)):
                break
            answer += piece
        return bytes(answer)


def _connect(family: int, address: Any, until: float) -> Socket:
    connection = Socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(_left(until))
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _left(until: float) -> float:
    """Raises TimeoutError if nothing is left."""
    if (left := until - time.monotonic()) <= 0:
        raise TimeoutError
    return left
