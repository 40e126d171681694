"""One document over HTTP: each request is bounded in time and size, and goes where the configuration says."""

import ssl
import time
import zlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Timeout

from rheostat.plugins import tls_context
from rheostat_flagsources.http.trouble import Refused, TooLong, Trouble

LONGEST: Final = 3
"""Times `timeout`: connecting, waiting for the answer, and reading it may take `timeout` each."""

_INDEX: Final = "X-Consul-Index"
_PIECE: Final = 8 * 1024


class Tls(NamedTuple):
    """Paths of files in PEM form; empty ones are the system's, or none."""

    ca: str = ""
    cert: str = ""
    key: str = ""


class Version(NamedTuple):
    """What a server calls a version of its document by."""

    etag: str = ""
    modified: str = ""
    position: str = ""


class Document(NamedTuple):
    """The answer of an endpoint, and its version."""

    body: bytes
    version: Version


class Endpoint:
    """Makes no request before the first `get`, and keeps no connection between two of them."""

    def __init__(
        self, url: str, headers: Mapping[str, str], timeout: float, wait: float, tls: Tls, largest: int, question: bytes
    ) -> None:
        """`wait` is for how many seconds the server may hold an answer back until there is another version, `largest`
        how many bytes an answer may have, unpacked.

        With a `question`, a JSON document, the flags are asked for by POST.
        """
        self._url = url
        self._question = question
        self._largest = largest
        self._timeout = timeout
        self._wait = wait
        self._tls = tls
        # One that is kept until the next poll is the server's to close, maybe in that very moment.
        accepts = {"Accept": "application/json, application/yaml, */*;q=0.5", "Accept-Encoding": "gzip"}
        asks = {"Content-Type": "application/json"} if question else {}
        self._headers = {**accepts, **asks, "Connection": "close", **headers}
        self._pool: PoolManager | None = None

    def get(self, known: Version) -> Document | None:
        """The document, or None if it still is the version that is `known`.

        Raises `Trouble`, or whatever the client does, whose texts nobody is to see.
        """
        headers = dict(self._headers)
        if known.etag:
            headers["If-None-Match"] = known.etag
        if known.modified:
            headers["If-Modified-Since"] = known.modified
        # Only a server that has told of a version is asked to wait for the next.
        waits = self._wait if known != Version() else 0.0
        until = time.monotonic() + LONGEST * self._timeout + waits
        self._pool = self._pool or self._new_pool()
        # Neither retried nor redirected: the credentials are for this address only.
        answer = self._pool.request(
            "POST" if self._question else "GET",
            self._address(known, waits),
            body=self._question or None,
            headers=headers,
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
            # A server may spread the ends of those that wait.
            timeout=Timeout(connect=self._timeout, read=self._timeout + waits * 1.1),
        )
        with answer:
            if answer.status == 304 and known != Version():
                return None
            if answer.status != 200:
                raise Refused(answer.status, answer.headers.get("Retry-After", ""))
            headers_of = answer.headers
            version = Version(
                headers_of.get("ETag", ""), headers_of.get("Last-Modified", ""), headers_of.get(_INDEX, "")
            )
            return Document(self._body(answer, until), version)

    def _address(self, known: Version, waits: float) -> str:
        if not self._wait:
            return self._url
        asked = {"wait": f"{waits:g}s"} if waits else {}
        asked |= {"index": known.position} if known.position else {}
        parts = urlsplit(self._url)
        query = "&".join(filter(None, (parts.query, urlencode(asked))))
        return urlunsplit(parts._replace(query=query))

    def _body(self, answer: BaseHTTPResponse, until: float) -> bytes:
        """Piece by piece: the client's timeout is one of each piece, and a small answer may unpack to a large one."""
        packed = answer.headers.get("Content-Encoding", "") == "gzip"
        unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if packed else None
        body = bytearray()
        while piece := answer.read1(_PIECE):
            body += piece if unpacking is None else unpacking.decompress(piece, self._largest + 1 - len(body))
            if len(body) > self._largest:
                raise Trouble(f"found an answer of more than {self._largest // 1024} KiB, expected flags only")
            if time.monotonic() > until:
                raise TooLong(self._timeout)
        return bytes(body)

    def _new_pool(self) -> PoolManager:
        """By way of the environment's proxy, as any other program."""
        parts = urlsplit(self._url)
        proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        options: dict[str, Any] = {"ssl_context": self._context()} if parts.scheme == "https" else {}
        return ProxyManager(proxy, **options) if proxy else PoolManager(**options)

    def _context(self) -> ssl.SSLContext:
        try:
            return tls_context(*self._tls)
        except ValueError as error:
            raise Trouble(str(error)) from None
