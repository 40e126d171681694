"""Sentry's ingest on loopback: takes envelopes as it does, and keeps the profile chunks that are in them."""

import gzip
import importlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

PATIENCE: Final = 15.0
"""Seconds after which a wait has failed, however slow the machine."""

KEY: Final = "0123456789abcdef0123456789abcdef"
PROJECT: Final = "42"

_HANGS: Final = 20.0
"""Seconds for which it says nothing, if nobody closes it before."""


@dataclass(frozen=True, slots=True)
class Item:
    """A part of an envelope."""

    type: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """A profile chunk, in Sentry's sample format (version 2)."""

    content: Mapping[str, Any]

    @property
    def session(self) -> str:
        """The one from a start to a stop that it is of."""
        return str(self.content["profiler_id"])

    @property
    def functions(self) -> set[str]:
        """The names of those in any stack of any sample."""
        profile = self.content["profile"]
        stacks = {sample["stack_id"] for sample in profile["samples"]}
        return {profile["frames"][frame]["function"] for stack in stacks for frame in profile["stacks"][stack]}

    @property
    def threads(self) -> set[str]:
        """The names of those that were sampled."""
        sampled = {sample["thread_id"] for sample in self.content["profile"]["samples"]}
        known = self.content["profile"]["thread_metadata"]
        return {known[each]["name"] for each in sampled if each in known}


def items_of(envelope: bytes) -> Iterator[Item]:
    """The items after the envelope's own header. Raises ValueError or KeyError if it is none."""
    _, _, rest = envelope.partition(b"\n")
    while rest.strip(b"\n"):
        line, _, rest = rest.partition(b"\n")
        header = json.loads(line)
        # Without a length it ends with its line.
        length = int(header.get("length", (rest + b"\n").index(b"\n")))
        yield Item(header["type"], rest[:length])
        rest = rest[length + 1 :]


class _Handler(BaseHTTPRequestHandler):
    server: "SentryIngest"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.answer(self, body)

    def give(self, status: int, content: Mapping[str, object], headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class SentryIngest(ThreadingHTTPServer):
    """Takes ``POST /api/<project>/envelope/`` from the entry to the exit of a `with` block."""

    daemon_threads = True
    answer: Callable[[_Handler, bytes], None]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._changed = threading.Condition()
        self._chunks: list[Chunk] = []
        self._others: list[Item] = []
        self.refused = 0
        """How many requests were not taken."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="sentry-ingest", daemon=True)
        self.mend()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self.shutdown()
        self._thread.join(PATIENCE)
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that has given up is none."""

    @property
    def dsn(self) -> str:
        return f"http://{KEY}@127.0.0.1:{self.server_port}/{PROJECT}"

    @property
    def chunks(self) -> list[Chunk]:
        """All profile chunks up to now, the earliest first."""
        with self._changed:
            return list(self._chunks)

    @property
    def others(self) -> list[Item]:
        """Whatever else has come."""
        with self._changed:
            return list(self._others)

    def wait_for(self, condition: Callable[[], object], timeout: float = PATIENCE) -> None:
        """Wait until this holds, judging at each request; or TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"not in {timeout} s; {len(self._chunks)} chunks, {self.refused} requests refused")

    def mend(self) -> None:
        """Take what comes."""
        self.answer = self._take

    def hang(self) -> None:
        """Read requests, and never answer."""
        self.answer = lambda handler, _: (self._refuse(), self._closed.wait(_HANGS), None)[-1]

    def limit(self, seconds: int) -> None:
        """Want no profile chunks for so long, as when the quota is used up."""
        headers = {"Retry-After": str(seconds), "X-Sentry-Rate-Limits": f"{seconds}:profile_chunk:organization:quota"}

        def refuse(handler: _Handler, _: bytes) -> None:
            handler.give(429, {"detail": "Sentry dropped data due to a quota"}, headers)
            self._refuse()

        self.answer = refuse

    def _refuse(self) -> None:
        with self._changed:
            self.refused += 1
            self._changed.notify_all()

    def _take(self, handler: _Handler, body: bytes) -> None:
        if handler.path != f"/api/{PROJECT}/envelope/" or f"sentry_key={KEY}" not in handler.headers["X-Sentry-Auth"]:
            handler.give(403, {"detail": "event submission rejected with_reason: ProjectId"})
            self._refuse()
            return
        found = list(items_of(_unpacked(body, handler.headers.get("Content-Encoding", ""))))
        with self._changed:
            for each in found:
                if each.type == "profile_chunk":
                    self._chunks.append(Chunk(json.loads(each.payload)))
                else:
                    self._others.append(each)
            self._changed.notify_all()
        handler.give(200, {})


def _unpacked(body: bytes, encoding: str) -> bytes:
    if encoding == "br":
        # The SDK has it only where it is installed.
        return bytes(importlib.import_module("brotli").decompress(body))
    return gzip.decompress(body) if encoding == "gzip" else body
