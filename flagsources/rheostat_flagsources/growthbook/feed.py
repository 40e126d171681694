"""The newest payload of GrowthBook's API, kept in the background."""

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from rheostat.plugins import hold_off_forks, import_vendor

from .payload import Payload, Unusable, read_payload

REQUIREMENT: Final = "rheostat[growthbook]"

THREAD_NAME: Final = "rheostat-growthbook"
STREAM_THREAD_NAME: Final = "rheostat-growthbook-stream"

_LARGEST: Final = 64 * 1024 * 1024
_LEAST_DISTANCE: Final = 0.1
"""Seconds between two fetches, however often the stream says that something has changed."""
_FIRST_RETRY: Final = 1.0
_LONGEST_RETRY: Final = 60.0
_HOPELESS_RETRY: Final = 300.0
"""Seconds until a stream that the server refuses is asked for again: polling goes on meanwhile."""
_SILENCE: Final = 300.0
"""Seconds without a byte after which a stream is dead."""
_LONGEST_ANSWER: Final = 4
"""Times `timeout`: how long an answer may take that comes bit by bit."""
_PIECE: Final = 64 * 1024
_CACHED: Final = 300.0
"""Seconds for which the API may say less than the stream did. What it goes on saying after that is the truth."""
_STEADY: Final = 30.0
"""Seconds that a stream has to last for the next reconnect to be quick."""

_HINTS: Final = {
    # Of the official proxy, to a key that it does not know.
    400: "is client_key right?",
    401: "is client_key right?",
    403: "is client_key right?",
    404: "are api_host and client_key right?",
}

# The host's generator may be seeded: it is left alone.
_RANDOM: Final = random.SystemRandom()

# Without one of ours each SSE client would add one more handler to a logger that they all share.
_UNHEARD: Final = logging.Logger("rheostat.growthbook.stream")  # noqa: LOG001
_UNHEARD.disabled = True


class Server(NamedTuple):
    """Where the features are; times in seconds."""

    api_host: str
    client_key: str
    decryption_key: str
    streaming: bool
    poll_interval: float
    timeout: float

    @property
    def features_url(self) -> str:
        return f"{self.api_host}/api/features/{self.client_key}"

    @property
    def stream_url(self) -> str:
        return f"{self.api_host}/sub/{self.client_key}"


class Feed:
    """Owns the newest payload: one thread fetches it, another reads the stream; `heard` is called when it is another.

    `trouble` says why the last fetch failed, and is empty while fetching works; `retry_at` (monotonic seconds) is when
    it is tried again. `stream_trouble` says the same of the stream, whose failure only makes changes arrive later.
    `asked_at` (monotonic seconds) is when it was asked first: what has to be imported for that takes seconds in a busy
    process.
    """

    def __init__(self, server: Server, heard: Callable[[], None]) -> None:
        self._server = server
        self._heard = heard
        self._closed = threading.Event()
        self._fetch_now = threading.Event()
        self._lock = threading.Lock()
        self._etag = ""
        self._streamed = 0
        self._sse: Any = None
        self._stream: _Stream | None = None
        self._pool: Any = None
        self._tls: Any = None
        self._proxy: str | None = None
        self._not_before = 0.0
        self._older_since: float | None = None
        self._threads: list[threading.Thread] = []
        self.newest: Payload | None = None
        self.trouble = ""
        self.retry_at: float | None = None
        self.stream_trouble = ""
        self.asked_at: float | None = None

    def open(self) -> None:
        """Begin; nothing is imported or connected in the caller's thread."""
        self._begin(self._keep_fetching, THREAD_NAME)

    def close(self) -> None:
        """Tell the threads to end and wait for them a moment; one that hangs in a connect ends at its timeout."""
        self._closed.set()
        self._fetch_now.set()
        with self._lock:
            threads = list(self._threads)
        self._end_stream()
        until = time.monotonic() + 0.2
        for thread in threads:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))

    def owns(self, thread: threading.Thread) -> bool:
        return thread in self._threads

    def _begin(self, function: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=function, name=name, daemon=True)
        with self._lock:
            self._threads.append(thread)
        # None can be started any more while the interpreter exits.
        with suppress(RuntimeError):
            thread.start()

    def _keep_fetching(self) -> None:
        try:
            self._prepare()
        except Exception as error:
            # A package that is missing now will be missing until the process is started again.
            self.trouble = str(error)
            self._heard()
            return
        self.asked_at = time.monotonic()
        if self._server.streaming:
            self._begin(self._keep_streaming, STREAM_THREAD_NAME)
        backoff = self._backoff(_LONGEST_RETRY)
        retries = backoff
        pause, told = 0.0, True
        while not self._closed.is_set():
            self._fetch_now.clear()
            try:
                if self._fetch() and not told:
                    # The stream should have told of the change: it is dead, and another takes its place.
                    self._end_stream()
                self._record("", None)
                retries = backoff
                # Not all processes of a fleet at the same moment.
                pause = self._server.poll_interval * _RANDOM.uniform(0.9, 1.0)
            except Exception as error:
                delay, retries = retries.apply(_FIRST_RETRY)
                retry_after = getattr(error, "retry_after", 0.0)
                self._not_before = time.monotonic() + retry_after
                pause = max(delay, retry_after)
                self._record(self._in_words(error), time.monotonic() + pause)
            self._closed.wait(_LEAST_DISTANCE)
            told = self._fetch_now.wait(max(0.0, pause - _LEAST_DISTANCE))
            self._wait_as_told()
        self._pool.clear()

    def _wait_as_told(self) -> None:
        """The server may have said for how long it is not to be asked."""
        self._closed.wait(max(0.0, self._not_before - time.monotonic()))

    def _prepare(self) -> None:
        self._urllib3 = import_vendor("urllib3", REQUIREMENT)
        self._sse_library = import_vendor("ld_eventsource", REQUIREMENT)
        self._actions = import_vendor("ld_eventsource.actions", REQUIREMENT)
        self._sse_config = import_vendor("ld_eventsource.config", REQUIREMENT)
        self._decrypt = import_vendor("growthbook", REQUIREMENT).decrypt
        if self._server.api_host.startswith("https:"):
            # One for all connections. A process that ends while certificates are loaded crashes.
            with hold_off_forks():
                self._tls = self._urllib3.util.create_urllib3_context()
                self._tls.load_default_certs()
        self._proxy = _proxy_for(self._server.api_host)
        self._pool = self._new_pool()

    def _new_pool(self) -> Any:
        timeout = self._urllib3.Timeout(connect=self._server.timeout, read=self._server.timeout)
        options = {"timeout": timeout, "retries": False, "maxsize": 1, "ssl_context": self._tls}
        if self._proxy:
            return self._urllib3.ProxyManager(self._proxy, **options)
        return self._urllib3.PoolManager(**options)

    def _backoff(self, longest: float) -> Any:
        return self._sse_config.RetryDelayStrategy.default(longest, jitter_multiplier=0.5)

    def _record(self, trouble: str, retry_at: float | None) -> None:
        changed = trouble != self.trouble
        self.trouble, self.retry_at = trouble, retry_at
        if changed:
            self._heard()

    def _fetch(self) -> bool:
        """Ask the API; tells whether it said something new."""
        streamed = self._streamed
        headers = {"Accept-Encoding": "gzip", **({"If-None-Match": self._etag} if self._etag else {})}
        response = self._pool.request("GET", self._server.features_url, headers=headers, preload_content=False)
        try:
            if response.status == 304:
                return False
            if response.status != 200:
                raise _Refused(response.status, response.headers.get("Retry-After", ""))
            data = self._body(response)
        finally:
            # Kept until the next poll it would be the server's to close, maybe in that very moment.
            response.close()
            response.release_conn()
        payload = read_payload(data, self._server.decryption_key, self._decrypt)
        return self._take(payload, response.headers.get("ETag", ""), streamed)

    def _body(self, response: Any) -> bytes:
        """The body that the server sends, piece by piece: its timeout is one of each piece."""
        until = time.monotonic() + _LONGEST_ANSWER * self._server.timeout
        data = bytearray()
        while piece := response.read1(_PIECE):
            data += piece
            if self._closed.is_set() or time.monotonic() > until or len(data) > _LARGEST:
                raise Unusable(
                    f"the answer was not complete after {len(data)} bytes and {_LONGEST_ANSWER} times the timeout"
                )
        return bytes(data)

    def _take(self, payload: Payload, etag: str, streamed: int) -> bool:
        with self._lock:
            # The stream may have been quicker.
            if streamed != self._streamed or self._is_overtaken(payload):
                return False
            self._etag = etag
            changed = self._replace(payload)
        if changed:
            self._heard()
        return changed

    def _is_overtaken(self, payload: Payload) -> bool:
        """It is older than what is known, and may come from a cache."""
        now = time.monotonic()
        if self.newest is None or not payload.is_older_than(self.newest):
            self._older_since = None
            return False
        self._older_since = now if self._older_since is None else self._older_since
        return now - self._older_since < _CACHED

    def _end_stream(self) -> None:
        with self._lock:
            sse, stream = self._sse, self._stream
        if sse is not None and stream is not None:
            stream.cut()
            sse.close()

    def _replace(self, payload: Payload) -> bool:
        if self.newest is not None and payload.says_the_same_as(self.newest):
            return False
        self.newest = payload
        return True

    def _keep_streaming(self) -> None:
        backoff = self._backoff(_LONGEST_RETRY / 2)
        retries = backoff
        while not self._closed.is_set():
            began = time.monotonic()
            longest = 0.0
            try:
                self._read_stream()
                self.stream_trouble = "the server ended the stream"
            except Exception as error:
                silence = _SILENCE if self._stream is not None and self._stream.is_open else self._server.timeout
                self.stream_trouble = self._in_words(error, silence)
                # What ails the stream may ail the API: that is to be known before the next poll.
                self._fetch_now.set()
                status = getattr(error, "status", None)
                longest = _HOPELESS_RETRY * _RANDOM.uniform(0.5, 1.0) if _is_hopeless(status) else 0.0
            if time.monotonic() - began >= _STEADY:
                retries = backoff
            delay, retries = retries.apply(_FIRST_RETRY)
            self._closed.wait(max(delay, longest))
            self._wait_as_told()

    def _read_stream(self) -> None:
        # One for each stream: what is left of a broken one goes back to its pool at some later time, in any thread, and
        # a pool that has another connection by then would complain in the host's log.
        stream = _Stream(self._new_pool())
        connect = self._sse_config.ConnectStrategy.http(self._server.stream_url, pool=stream)
        sse = self._sse_library.SSEClient(connect, logger=_UNHEARD)
        with self._lock:
            self._sse, self._stream = sse, stream
        try:
            if self._closed.is_set():
                return
            for action in sse.all:
                # Closed while it connected, the client goes on as if nothing had happened.
                if self._closed.is_set():
                    return
                self._react(action)
        finally:
            sse.close()
            stream.clear()

    def _react(self, action: Any) -> None:
        if isinstance(action, self._actions.Start):
            self.stream_trouble = ""
            # Nothing is sent on connect, and what has changed since the last stream ended would be missed.
            self._fetch_now.set()
        elif isinstance(action, self._actions.Event) and action.event == "features":
            self._take_streamed(action.data)
        elif isinstance(action, self._actions.Event) and action.event == "features-updated":
            self._fetch_now.set()

    def _take_streamed(self, data: str) -> None:
        try:
            payload = read_payload(data, self._server.decryption_key, self._decrypt)
        except Unusable:
            # Something has changed; what it is the API has to say.
            self._fetch_now.set()
            return
        with self._lock:
            if self.newest is not None and payload.is_older_than(self.newest):
                return
            self._streamed += 1
            changed = self._replace(payload)
        if changed:
            self._heard()

    def _in_words(self, error: BaseException, silence: float | None = None) -> str:
        """Without what differs from one try to the next, such as the addresses of objects; `silence` (seconds) is what
        a timeout was one of, if not of an answer."""
        host = self._server.api_host
        if isinstance(error, Unusable | _Refused):
            return f"{host}: {error}"
        status = getattr(error, "status", None)
        if status is not None:
            return f"{host}: HTTP {status}"
        strerror = next((each.strerror for each in _causes(error) if isinstance(each, OSError) and each.strerror), None)
        if strerror is not None:
            return f"{host}: {strerror}"
        if isinstance(error, self._urllib3.exceptions.ConnectTimeoutError):
            return f"{host}: no connection within {self._server.timeout:g} s"
        if isinstance(error, self._urllib3.exceptions.TimeoutError):
            return f"{host}: no answer within {silence or self._server.timeout:g} s"
        return f"{host}: the connection broke ({type(error).__name__})"


class _Stream:
    """One connection of the stream: a pool whose response begins as soon as any, and may then be silent for long."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._socket: Any = None
        self.is_open = False

    def request(self, method: str, url: str, **options: Any) -> Any:
        response = self._pool.request(method, url, **options)
        self._socket = _socket_of(response)
        if self._socket is not None:
            self._socket.settimeout(_SILENCE)
        self.is_open = True
        return response

    def cut(self) -> None:
        """Wake who reads it: not every version of the SSE client can."""
        with suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    def clear(self) -> None:
        self._pool.clear()


class _Refused(Exception):
    """The API answered with another status than 200; `retry_after` is in seconds."""

    def __init__(self, status: int, retry_after: str) -> None:
        super().__init__(f"HTTP {status}" + (f": {_HINTS[status]}" if status in _HINTS else ""))
        self.retry_after = min(float(retry_after), _HOPELESS_RETRY) if retry_after.isdecimal() else 0.0


def _is_hopeless(status: int | None) -> bool:
    return status is not None and 400 <= status < 500 and status not in (408, 429)


def _socket_of(response: Any) -> Any:
    """Of one that ends with its connection, only the body's reader still knows the socket."""
    sock = getattr(response.connection, "sock", None)
    if sock is None:
        sock = response
        for name in ("_fp", "fp", "raw", "_sock"):
            sock = getattr(sock, name, None)
    return sock


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, each once: they may refer to each other in a circle."""
    seen: list[BaseException] = []
    left: list[object] = [error]
    while left:
        each = left.pop()
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            # urllib3 puts some causes among the arguments.
            left += [each.__context__, each.__cause__, *each.args]
            yield each


def _proxy_for(url: str) -> str | None:
    """The environment's proxy, as for any other program."""
    # Too much for the host's start-up.
    import urllib.request

    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)
