"""The common part of the flag servers: connections, streams, the record of both, and faults."""

import hashlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum, auto
from http import HTTPStatus
from typing import ClassVar, Final, Self

from .door import Door
from .faults import Fault
from .wire import (
    EVENT_STREAM,
    JSON,
    LAST_CHUNK,
    STREAM_HEAD,
    Connection,
    Page,
    Request,
    chunk,
    compact,
    half,
    head,
)

PATIENCE: Final = 10.0
"""Seconds after which a wait has failed, however slow the machine."""

TRICKLE_PAUSE: Final = 0.1
"""Seconds from one byte to the next under `Fault.TRICKLE`."""

STREAM_LIFETIME: Final = 1.0
"""Seconds that a stream lasts under `Fault.STREAM_ENDS_EVERY_SECOND`."""

GARBAGE: Final = b'{"flags": \xff\xfe\x00\x80 }}]'
LOGIN_PAGE: Final = b"<!doctype html><html><head><title>Sign in</title></head><body><form></form></body></html>"

_FALSE: Final = (Fault.GARBAGE, Fault.MALFORMED, Fault.ENCRYPTED_WRONG)


class _Next(Enum):
    """The moment after an answer."""

    REQUEST = auto()
    DEPARTURE = auto()
    TRICKLE = auto()
    CLOSE = auto()


class FlagServer(ABC):
    """A feature flag product on loopback, from the entry to the exit of a `with` block."""

    faults: ClassVar[tuple[Fault, ...]] = tuple(
        fault for fault in Fault if fault not in (Fault.ENCRYPTED_WRONG, Fault.TRICKLE)
    )
    """Those that make sense for this product."""

    def __init__(self) -> None:
        # Guards all below, and is notified of each request, stream opened and connection closed.
        self._changed = threading.Condition()
        self._fault: Fault | None = None
        self._requests: list[Request] = []
        self._stream_opens: list[float] = []
        self._threads: dict[Connection, threading.Thread] = {}
        self._streams: set[Connection] = set()
        # Connections on which nothing comes any more, and which the next change of fault drops.
        self._held: set[Connection] = set()
        self._door = Door(self._welcome)

    def __enter__(self) -> Self:
        self._door.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._door.port}"

    @property
    def requests(self) -> list[Request]:
        """All requests up to now, the earliest first."""
        with self._changed:
            return list(self._requests)

    @property
    def streams(self) -> int:
        """How many streams are open now."""
        with self._changed:
            return len(self._streams)

    @property
    def stream_opens(self) -> list[float]:
        """When each stream was opened, in monotonic seconds."""
        with self._changed:
            return list(self._stream_opens)

    def asked(self, path: str, since: float = 0.0) -> list[Request]:
        """The requests for a path that came after a moment in monotonic seconds."""
        return [request for request in self.requests if request.path == path and request.at > since]

    def wait_for(self, condition: Callable[[], object], timeout: float = PATIENCE) -> None:
        """Wait until this holds, judging at each request, stream opened and connection closed; or TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                paths = [request.path for request in self._requests]
                raise TimeoutError(f"not in {timeout} s; {len(self._streams)} streams open; requests: {paths}")

    @property
    def fault(self) -> Fault | None:
        """How it misbehaves. Setting it returns once the streams that this ends are closed."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        if fault is not None and fault not in self.faults:
            raise ValueError(f"{type(self).__name__} knows no fault {fault!r}")
        if fault is Fault.REFUSED:
            self._door.shut()
        with self._changed:
            was_refused = self._fault is Fault.REFUSED
            leaving = self._drop(self._held)
            lied, self._fault = self._fault in _FALSE, fault
            leaving |= self._disturb()
            if lied and fault is None:
                self._push(self._everything())
        if was_refused and fault is not Fault.REFUSED:
            self._door.open()
        self.wait_for(lambda: leaving.isdisjoint(self._threads))

    def mend(self) -> None:
        """Work again. What was held is dropped, and streams that were told something false are told the truth."""
        self.fault = None

    def beat(self) -> None:
        """Send what the product sends now and then to keep streams alive."""
        self._push(self._heartbeat())

    def close(self) -> None:
        """Drop all connections and end all threads."""
        self._door.close()
        with self._changed:
            threads = list(self._threads.values())
            self._drop(self._threads)
        for thread in threads:
            thread.join(PATIENCE)
        if any(thread.is_alive() for thread in threads):
            raise RuntimeError(f"connections of {type(self).__name__} outlive it")

    @abstractmethod
    def _denied(self, request: Request) -> Page | None:
        """The answer to a request that has the wrong key or path."""

    @abstractmethod
    def _wants_stream(self, request: Request) -> bool: ...

    @abstractmethod
    def _page(self) -> Page:
        """All flags, as an answer."""

    @abstractmethod
    def _greeting(self) -> bytes:
        """The beginning of a stream."""

    @abstractmethod
    def _everything(self) -> bytes:
        """All flags, as an event."""

    @abstractmethod
    def _garbage(self) -> bytes:
        """An event that makes no sense."""

    @abstractmethod
    def _heartbeat(self) -> bytes: ...

    def _push(self, events: bytes) -> None:
        """Hand events to the kernel for each open stream, except those that have fallen silent."""
        with self._changed:
            data = chunk(self._garbage() if self._fault is Fault.GARBAGE else events)
            for stream in self._streams - self._held:
                stream.send(data)

    def _welcome(self, connection: Connection) -> None:
        thread = threading.Thread(target=self._serve, args=(connection,), name="flag-server-connection", daemon=True)
        with self._changed:
            self._threads[connection] = thread
        thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            # The client may leave at any moment.
            with suppress(OSError):
                while (request := connection.next_request()) and self._answered(connection, request):
                    continue
        finally:
            connection.close()
            with self._changed:
                self._streams.discard(connection)
                self._held.discard(connection)
                del self._threads[connection]
                self._changed.notify_all()

    def _answered(self, connection: Connection, request: Request) -> bool:
        """Answer a request; False once the connection takes no other."""
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()
            follows = self._answer(connection, request)
            ends_soon = self._fault is Fault.STREAM_ENDS_EVERY_SECOND
        if follows is _Next.DEPARTURE:
            if ends_soon and not connection.left(STREAM_LIFETIME) and self._ended(connection):
                return False
            connection.left()
        while follows is _Next.TRICKLE and not connection.left(TRICKLE_PAUSE):
            connection.send(b" ")
        return follows is _Next.REQUEST

    def _ended(self, stream: Connection) -> bool:
        """End a stream whose time has come, unless the fault was mended."""
        with self._changed:
            if self._fault is not Fault.STREAM_ENDS_EVERY_SECOND:
                return False
            self._streams.discard(stream)
            stream.send(LAST_CHUNK)
            return True

    def _answer(self, connection: Connection, request: Request) -> _Next:
        if self._fault is Fault.HANG:
            self._held.add(connection)
            return _Next.DEPARTURE
        if self._fault is Fault.RESET:
            connection.reset()
            return _Next.CLOSE
        page = self._instead(request) or self._denied(request)
        if page is None and self._wants_stream(request):
            return self._stream(connection)
        page = page or self._tagged()
        if self._fault is Fault.TRICKLE:
            self._held.add(connection)
            connection.send(page.head)
            return _Next.TRICKLE
        if self._fault is Fault.BAD_HEADERS:
            connection.send(_spoiled(page.head) + page.body)
            return _Next.REQUEST
        if self._fault is Fault.CUT:
            connection.send(page.head + half(page.body))
            return _Next.CLOSE
        if "ETag" in page.headers and page.headers["ETag"] == request.headers.get("If-None-Match"):
            connection.send(head(304, page.headers))
        else:
            connection.send(page.head + page.body)
        return _Next.REQUEST

    def _instead(self, request: Request) -> Page | None:
        """The page that takes the place of every answer under some faults."""
        if self._fault is Fault.HTML:
            return Page(LOGIN_PAGE, content_type="text/html; charset=utf-8")
        if self._fault is Fault.EMPTY:
            return Page(content_type=EVENT_STREAM if self._wants_stream(request) else JSON)
        if self._fault is not None and self._fault.status:
            return error(self._fault.status)
        return None

    def _tagged(self) -> Page:
        """All flags, or what takes their place, with a tag that tells whether they are others."""
        if self._fault is Fault.GARBAGE:
            return Page(GARBAGE)
        page = self._page()
        tag = f'W/"{hashlib.sha256(page.body).hexdigest()[:16]}"'
        return Page(page.body, headers={**page.headers, "ETag": tag})

    def _stream(self, connection: Connection) -> _Next:
        self._stream_opens.append(time.monotonic())
        if self._fault is Fault.CUT:
            connection.send(STREAM_HEAD + chunk(half(self._everything())))
            return _Next.CLOSE
        if self._fault is Fault.STREAM_ENDS_AT_ONCE:
            connection.send(STREAM_HEAD + chunk(self._greeting()) + LAST_CHUNK)
            return _Next.CLOSE
        stream_head = _spoiled(STREAM_HEAD) if self._fault is Fault.BAD_HEADERS else STREAM_HEAD
        connection.send(stream_head + chunk(self._opening()))
        self._streams.add(connection)
        if self._fault is Fault.STREAM_SILENT:
            self._held.add(connection)
        return _Next.DEPARTURE

    def _opening(self) -> bytes:
        if self._fault is Fault.STREAM_SILENT:
            return b""
        return self._garbage() if self._fault is Fault.GARBAGE else self._greeting()

    def _disturb(self) -> set[Connection]:
        """Let open streams, and whoever is connected, feel the new fault. Returns those that it ends."""
        streams = self._streams - self._held
        match self._fault:
            case None | Fault.BAD_HEADERS | Fault.TRICKLE:
                return set()
            case Fault.HANG | Fault.STREAM_SILENT:
                self._held |= streams
                return set()
            case fault if fault in _FALSE:
                self._push(self._everything())
                return set()
            case Fault.RESET:
                for stream in streams:
                    stream.reset()
                return streams
            case Fault.REFUSED:
                return self._drop(self._threads)
            case fault:
                farewell = chunk(half(self._everything())) if fault is Fault.CUT else LAST_CHUNK
                for stream in streams:
                    stream.send(farewell)
                return self._drop(streams)

    def _drop(self, connections: Iterable[Connection]) -> set[Connection]:
        dropped = set(connections)
        for connection in dropped:
            connection.drop()
        self._streams -= dropped
        self._held -= dropped
        return dropped


def _spoiled(head: bytes) -> bytes:
    """With a last line that is no header: parsers ignore those that come after such a one."""
    return head.removesuffix(b"\r\n") + b"this is no header\r\n\r\n"


def error(status: int) -> Page:
    """The answer of a server that has a reason."""
    headers = {"Retry-After": "1"} if status == HTTPStatus.TOO_MANY_REQUESTS else {}
    body = {"status": status, "error": HTTPStatus(status).phrase}
    return Page(compact(body).encode(), status, headers=headers)
