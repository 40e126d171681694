"""A loopback stand-in for a Pyroscope server: it decodes the profiles that a real agent pushes to it.

It needs the `protobuf` package, and answers `POST /push.v1.PusherService/Push` only:

    with Receiver() as receiver:
        pyroscope.configure(application_name="app", server_address=receiver.address, upload_interval=1)
        profile = receiver.wait_for(lambda profile: profile.sample_rate == 100, timeout=10)
"""

import functools
import socketserver
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from google.protobuf.message import DecodeError

from rheostat._host.pprof import Messages, parse_pprof

CPU = "cpu/nanoseconds"
PUSH_PATH = "/push.v1.PusherService/Push"

Pages = Callable[[str], tuple[str, bytes] | None]
"""The media type and the content for a path; None if there is none."""
_Answer = Callable[[str, Mapping[str, str], bytes], tuple[int, str]]
_MAX_BYTES = 64 * 2**20
_MALFORMED = (DecodeError, LookupError, ValueError, zlib.error)
# Pyroscope's push.proto.
_PUSH = {
    "Push": "series=1:*Series",
    "Series": "labels=1:*LabelPair samples=2:*RawProfile",
    "LabelPair": "name=1:string value=2:string",
    "RawProfile": "raw_profile=1:bytes",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One stack and what was measured there.

    `stack`: function names, leaf first. `values`: one for each of the profile's `sample_types`, in its unit.
    `labels`: the sample's own, such as `thread_name` under `report_thread_name=True`; numbers become text.
    """

    stack: tuple[str, ...]
    values: tuple[int, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Profile:
    """The samples of one of an agent's profilers in one upload interval.

    `labels`: of the series: `__name__` (`process_cpu` or `memory`), `service_name`, the agent's tags, ...
    `sample_types`: "type/unit", like "cpu/nanoseconds". `period_ns`: nanoseconds from one sample to the next,
    0 where the period is not a time (a memory profile's is in bytes). `headers`: the request's, with keys in
    lower case.
    `pprof`: as it came, gzip and all. `ended_at`: seconds of the wall clock, and how many `seconds` it covers.
    """

    labels: Mapping[str, str]
    sample_types: tuple[str, ...]
    period_ns: int
    samples: tuple[Sample, ...]
    headers: Mapping[str, str]
    pprof: bytes = b""
    ended_at: float = 0.0
    seconds: float = 0.0

    @property
    def sample_rate(self) -> float | None:
        """Hz, not quite whole at some rates as the period is in whole ns; None if this is no CPU profile."""
        return 1e9 / self.period_ns if CPU in self.sample_types and self.period_ns > 0 else None


def hottest(profiles: Iterable[Profile], count: int, sample_type: str = CPU) -> list[tuple[str, float]]:
    """Return the `count` functions with the largest self time (value at the leaf), largest first.

    Each comes with its share of the total, 0..1. Profiles that lack `sample_type` do not count.
    """
    own: Counter[str] = Counter()
    for profile in profiles:
        if sample_type in profile.sample_types:
            column = profile.sample_types.index(sample_type)
            for sample in profile.samples:
                own[sample.stack[0] if sample.stack else "[unknown]"] += sample.values[column]
    total = own.total()
    return [(name, value / total) for name, value in own.most_common(count)] if total else []


class Receiver:
    """Accept pushes on 127.0.0.1 while the `with` block lasts, and keep every profile until `clear()`.

    `port`: TCP port, 0 for a free one. `address`: what the agent calls `server_address`, set on entry.
    `status`: HTTP status to answer with; unless it is 2xx, what is pushed is lost, as with a real server.
    A malformed push gets a 400 that says why. One thread serves one request after the other; leaving the
    block takes up to 0.1 s, and 2 s if a client is connected but silent.
    """

    address: str

    def __init__(
        self,
        port: int = 0,
        *,
        pages: Pages | None = None,
        arrived: Callable[[Profile], object] | None = None,
        remembers: bool = True,
    ) -> None:
        """`pages` answers what is got by GET; then each request has a thread, as a browser keeps its connections.

        `arrived` is called with each profile. One that does not `remember` has none to give.
        """
        self.status = 200
        self._pages = pages
        self._keep = arrived
        self._remembers = remembers
        self._port = port
        self._arrived = threading.Condition()
        self._profiles: tuple[Profile, ...] = ()
        self._refused: Counter[str] = Counter()

    def __enter__(self) -> Self:
        made = _Server if self._pages is None else _ThreadedServer
        self._server = made(("127.0.0.1", self._port), functools.partial(_Handler, self._answer, self._pages))
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        serve = functools.partial(self._server.serve_forever, poll_interval=0.1)
        self._thread = threading.Thread(target=serve, name="rheostat-receiver", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def profiles(self) -> tuple[Profile, ...]:
        """Return what was received since the last `clear()`, oldest first."""
        with self._arrived:
            return self._profiles

    def clear(self) -> None:
        """Forget what was received so far: indices start at 0 again."""
        with self._arrived:
            self._profiles = ()
            self._refused.clear()

    def wait_for(self, predicate: Callable[[Profile], bool], timeout: float, since: int = 0) -> Profile:
        """Return the first of `profiles()[since:]` that satisfies `predicate`, once there is one.

        Raises TimeoutError after `timeout` seconds, and says what did arrive. It may judge a profile twice.
        """
        deadline = time.monotonic() + timeout
        profiles = self.profiles()
        while (found := next(filter(predicate, profiles[since:]), None)) is None:
            profiles = self._wait_for_change(profiles, deadline, since)
        return found

    def wait_for_refusal(self, timeout: float) -> None:
        """Wait until a push was refused; raises TimeoutError if there is none within `timeout` seconds."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._refused, timeout):
                raise TimeoutError("no push was refused")

    def _wait_for_change(self, known: tuple[Profile, ...], deadline: float, since: int) -> tuple[Profile, ...]:
        with self._arrived:
            if self._arrived.wait_for(lambda: self._profiles is not known, deadline - time.monotonic()):
                return self._profiles
            arrived = Counter(f"{dict(profile.labels)} at {profile.sample_rate} Hz" for profile in known[since:])
            refused = dict(self._refused) or "nothing"
            raise TimeoutError(f"no such profile; arrived: {dict(arrived) or 'nothing'}; refused: {refused}")

    def _answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        status, text = (self.status, "") if path == PUSH_PATH else (404, f"only {PUSH_PATH} is served")
        profiles: tuple[Profile, ...] = ()
        if 200 <= status < 300:
            try:
                profiles = _decode_push(headers, body)
            except _MALFORMED as error:
                status, text = 400, f"malformed push: {error!r}"
        if self._keep is not None:
            for each in profiles:
                self._keep(each)
        profiles = profiles if self._remembers else ()
        with self._arrived:
            self._profiles += profiles
            if not 200 <= status < 300:
                self._refused[f"{status} {text}".rstrip()] += 1
            self._arrived.notify_all()
        return status, text


class _Server(socketserver.TCPServer):
    # Not HTTPServer: its bind looks the host name up in the DNS.
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that goes away in the middle of a request is no news.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _ThreadedServer(socketserver.ThreadingMixIn, _Server):
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    timeout = 2

    def __init__(self, answer: _Answer, pages: Pages | None, *rest: Any) -> None:
        self._answer = answer
        self._pages = pages
        super().__init__(*rest)

    def do_GET(self) -> None:
        # Another site's page must not read this one by a name of its own that leads here.
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
        found = None
        if self._pages is not None and host in ("127.0.0.1", "localhost", "[::1]"):
            found = self._pages(self.path.partition("?")[0])
        kind, body = found or ("text/plain", b"there is no such page")
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > _MAX_BYTES:
            self._say(413, f"more than {_MAX_BYTES} bytes")
            return
        body = self.rfile.read(int(length)) if length.isdecimal() else b""
        # Kept before it is answered: what shutdown() flushes is there when shutdown() returns.
        self._say(*self._answer(self.path, headers, body))

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def _decode_push(headers: Mapping[str, str], body: bytes) -> tuple[Profile, ...]:
    if str(len(body)) != headers.get("content-length"):
        raise ValueError(f"Content-Length is {headers.get('content-length')}, got {len(body)} bytes")
    push = _push_messages().parse("Push", _gunzip(body) if headers.get("content-encoding") == "gzip" else body)
    return tuple(
        _decode_profile(headers, {label.name: label.value for label in series.labels}, raw.raw_profile)
        for series in push.series
        for raw in series.samples
    )


def _decode_profile(headers: Mapping[str, str], labels: Mapping[str, str], raw: bytes) -> Profile:
    pprof = parse_pprof(_gunzip(raw) if raw.startswith(b"\x1f\x8b") else raw)
    # A dict and not a list: an index below 0 is malformed and must not count from the end.
    text = dict(enumerate(pprof.string_table))
    functions = {function.id: text[function.name] for function in pprof.function}
    frames = {place.id: [functions[line.function_id] for line in place.line] for place in pprof.location}
    sample_types = tuple(f"{text[kind.type]}/{text[kind.unit]}" for kind in pprof.sample_type)
    samples = tuple(
        Sample(
            stack=tuple(name for place in sample.location_id for name in frames[place]),
            values=tuple(value for _, value in zip(sample_types, sample.value, strict=True)),
            labels={text[label.key]: text[label.str] if label.str else str(label.num) for label in sample.label},
        )
        for sample in pprof.sample
    )
    period_ns = pprof.period if text[pprof.period_type.unit] == "nanoseconds" else 0
    seconds = max(0, pprof.duration_nanos) / 1e9
    ended_at = pprof.time_nanos / 1e9 + seconds if pprof.time_nanos > 0 else time.time()
    return Profile(labels, sample_types, period_ns, samples, headers, raw, ended_at, seconds)


def decode(labels: Mapping[str, str], pprof: bytes) -> Profile:
    """One that was kept. Raises ValueError if it is malformed."""
    try:
        return _decode_profile({}, labels, pprof)
    except _MALFORMED as error:
        raise ValueError(repr(error)) from error


def _gunzip(data: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    plain = stream.decompress(data, _MAX_BYTES)
    if not stream.eof:
        raise ValueError(f"gzip data that is cut off, or larger than {_MAX_BYTES} bytes")
    return plain


@functools.cache
def _push_messages() -> Messages:
    return Messages(_PUSH)
