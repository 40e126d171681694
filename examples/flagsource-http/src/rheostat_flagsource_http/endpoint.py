"""One JSON document over HTTP: each request is bounded in time and size, and goes where the configuration says."""

import time
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Timeout

from .trouble import Refused, TooLong, Trouble

LARGEST: Final = 64 * 1024
"""Bytes of an answer."""

LONGEST: Final = 3
"""Times `timeout`: connecting, waiting for the answer, and reading it may take `timeout` each."""


class Document(NamedTuple):
    """The answer of an endpoint, and the tag of this version; empty if it has none."""

    body: bytes
    etag: str


class Endpoint:
    """Makes no request before the first `get`, and keeps no connection between two of them."""

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        # One that is kept until the next poll is the server's to close, maybe in that very moment.
        self._headers = {"Accept": "application/json", "Connection": "close"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._pool: PoolManager | None = None

    def get(self, etag: str = "") -> Document | None:
        """The document, or None if it still is the version with this tag.

        Raises `Trouble`, or whatever the client does, whose texts nobody is to see.
        """
        until = time.monotonic() + LONGEST * self._timeout
        headers = {**self._headers, "If-None-Match": etag} if etag else self._headers
        self._pool = self._pool or _new_pool(self._url, self._timeout)
        # Neither retried nor redirected: the token is for this address only.
        answer = self._pool.request(
            "GET", self._url, headers=headers, retries=False, redirect=False, preload_content=False
        )
        with answer:
            if answer.status == 304 and etag:
                return None
            if answer.status != 200:
                raise Refused(answer.status)
            return Document(self._body(answer, until), answer.headers.get("ETag", ""))

    def _body(self, answer: BaseHTTPResponse, until: float) -> bytes:
        """Piece by piece: the client's timeout is one of each piece."""
        body = bytearray()
        while piece := answer.read1(LARGEST):
            body += piece
            if len(body) > LARGEST:
                raise Trouble(f"found an answer of more than {LARGEST} bytes, expected flags only")
            if time.monotonic() > until:
                raise TooLong(self._timeout)
        return bytes(body)


def _new_pool(url: str, timeout: float) -> PoolManager:
    """By way of the environment's proxy, as any other program."""
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    limits = Timeout(connect=timeout, read=timeout)
    return ProxyManager(proxy, timeout=limits) if proxy else PoolManager(timeout=limits)
