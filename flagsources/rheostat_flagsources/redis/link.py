"""One connection to a server: each exchange is bounded in time and size, whatever answers."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from redis import connection as connections
from redis.exceptions import ConnectionError, ResponseError

from rheostat.plugins import SourceUnavailable, tls_context
from rheostat_flagsources.redis.server import Address, Server
from rheostat_flagsources.redis.trouble import CLOSED, too_long, trouble_with

NAME: Final = "rheostat"
"""Of the connections, in the server's CLIENT LIST."""

LARGEST: Final = 64 * 1024
"""Bytes that an exchange may bring, beside those that are asked for."""

_LONGEST: Final = 3
"""Times `timeout`: how long an exchange may take that goes on bit by bit."""
_PIECE: Final = 8 * 1024

Command = tuple[str, ...]


class _Bounded:
    """A socket that gives up what takes too long or brings too much: the client's timeout is one of each piece."""

    def __init__(self, whole: socket.socket, timeout: float) -> None:
        self._socket: Any = whole
        self._timeout = timeout
        self._until = 0.0
        self._left = 0

    def limit(self, until: float, most: int) -> None:
        """From now on: no more than so many bytes, and none after this moment (monotonic seconds)."""
        self._until, self._left = until, most

    def recv(self, *args: Any) -> bytes:
        data: bytes = self._socket.recv(*args)
        self._count(len(data))
        return data

    def recv_into(self, *args: Any) -> int:
        size: int = self._socket.recv_into(*args)
        self._count(size)
        return size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise SourceUnavailable(f"found an answer of more than {LARGEST // 1024} KiB, expected flags only")
        if time.monotonic() > self._until:
            raise too_long(self._timeout)


class _Connection(connections.Connection):
    """The client's, but for its socket: older versions leave that of a server that cannot be reached open."""

    opened: Callable[[], _Bounded]

    def _connect(self) -> Any:
        return self.opened()


class Link:
    """Connects for the first exchange, and keeps the connection. Only `shut` may be called by another thread.

    The client's pools and its retries have no part in it: what fails is told, and tried again when Rheostat says so.
    """

    def __init__(self, server: Server, ended: threading.Event) -> None:
        """Once it has `ended`, which another thread may say, it no longer connects."""
        self._server = server
        self._ended = ended
        self._connection: Any = None
        self._socket: _Bounded | None = None
        self._has_answered = False

    def exchange(self, commands: Sequence[Command], most: int = 0) -> list[Any]:
        """The replies, which may have `most` bytes; an error that is one reply's is that reply.

        Raises `SourceUnavailable`. A connection that broke since the last exchange is replaced by another.
        """
        was_kept = self._has_answered
        try:
            try:
                return self._exchanged(commands, most)
            except ConnectionError:
                self.close()
                if not was_kept:
                    raise
            return self._exchanged(commands, most)
        except Exception as error:
            self.close()
            raise self._trouble(error) from None

    def send(self, commands: Sequence[Command]) -> None:
        """Without waiting for replies. Raises `SourceUnavailable`."""
        try:
            self._send(commands)
        except Exception as error:
            self.close()
            raise self._trouble(error) from None

    def reply(self) -> Any:
        """The next thing that the server says. Raises `SourceUnavailable`."""
        try:
            self._limit()
            return self._reply()
        except Exception as error:
            self.close()
            raise self._trouble(error) from None

    def has_more(self, seconds: float) -> bool:
        """Whether the server says something within so many seconds. Raises `SourceUnavailable`."""
        try:
            self._limit(seconds)
            return bool(self._connection.can_read(seconds))
        except Exception as error:
            self.close()
            raise self._trouble(error) from None

    def shut(self) -> None:
        """Wake whoever waits for the server; that thread, or another after it, closes the connection."""
        bounded = self._socket
        if bounded is not None:
            with suppress(OSError):
                bounded.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._socket, self._has_answered = None, False
        if connection is not None:
            connection.disconnect()

    def _exchanged(self, commands: Sequence[Command], most: int) -> list[Any]:
        self._send(commands)
        self._limit(most=most)
        replies = [self._reply() for _ in commands]
        self._has_answered = True
        return replies

    def _send(self, commands: Sequence[Command]) -> None:
        if self._connection is None:
            self._open()
        self._connection.send_packed_command(self._connection.pack_commands(commands))

    def _reply(self) -> Any:
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error.with_traceback(None)

    def _limit(self, seconds: float = 0.0, most: int = 0) -> None:
        if self._socket is None:
            raise SourceUnavailable(CLOSED)
        self._socket.limit(time.monotonic() + seconds + _LONGEST * self._server.timeout, LARGEST + most)

    def _open(self) -> None:
        tls = self._context() if self._server.address.tls else None
        self._connection = connection = self._made()
        connection.opened = lambda: self._opened(tls)
        connection.connect()
        # By itself, as not every user may do it.
        connection.send_command("CLIENT", "SETNAME", NAME)
        self._reply()

    def _made(self) -> Any:
        server = self._server
        # Typed in part, and not in all versions.
        kind: Any = _Connection
        connection = kind(
            host=server.address.host or server.address.path,
            port=server.address.port,
            db=server.address.database,
            username=server.username,
            password=None if server.password is None else server.password.reveal(),
            socket_timeout=server.timeout,
            socket_read_size=_PIECE,
            protocol=2,
            # hiredis makes room for as many members as an answer says that it has: for 10**9 that is 8 GB of addresses,
            # and letting go of it holds the interpreter's lock for seconds.
            parser_class=getattr(connections, "_RESP2Parser", connections.DefaultParser),
        )
        # By whichever name this version has it: the library's name is nothing that is asked of older servers.
        connection.lib_name = connection.lib_version = connection.driver_info = None
        return connection

    def _opened(self, tls: ssl.SSLContext | None) -> _Bounded:
        bare = _reached(self._server.address, self._server.timeout)
        try:
            whole = bare if tls is None else tls.wrap_socket(bare, server_hostname=self._server.address.host)
        except BaseException:
            bare.close()
            raise
        self._socket = bounded = _Bounded(whole, self._server.timeout)
        self._limit()
        if self._ended.is_set():
            whole.close()
            raise SourceUnavailable("the source is closed")
        return bounded

    def _context(self) -> ssl.SSLContext:
        """Made anew for each connection: certificates are replaced while a service runs."""
        server = self._server
        try:
            return tls_context(server.ca, server.cert, server.key)
        except ValueError as error:
            raise SourceUnavailable(str(error)) from None

    def _trouble(self, error: Exception) -> SourceUnavailable:
        return trouble_with(error, self._server.timeout, has_password=self._server.password is not None)


def _reached(address: Address, timeout: float) -> socket.socket:
    if not address.path:
        reached = socket.create_connection((address.host, address.port), timeout)
        reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return reached
    reached = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        reached.settimeout(timeout)
        reached.connect(address.path)
    except BaseException:
        reached.close()
        raise
    return reached
