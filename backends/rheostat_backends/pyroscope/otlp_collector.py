"""The collector's profiles service over HTTP: each request is bounded, and goes where the configuration says."""

import gzip
import time
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceResponse
from urllib3 import PoolManager, ProxyManager, Timeout
from urllib3.exceptions import HTTPError

from rheostat.plugins import PermanentError, TemporaryError, Url, causes_of, tls_context

PATH: Final = "/v1development/profiles"
_LARGEST: Final = 64 * 1024
"""Bytes of an answer."""
_HINTS: Final = {
    **dict.fromkeys((401, 403), ": are the credentials right?"),
    **dict.fromkeys((400, 415), ": does it take the version of the profiles that opentelemetry-proto has?"),
    **dict.fromkeys((404, 405), ": does it have a receiver for OTLP, and a pipeline for profiles?"),
}


class Collector:
    """Makes no request before the first `send`, and keeps no connection between two of them."""

    def __init__(self, endpoint: Url, headers: Mapping[str, str], timeout: float, ca_file: str | None) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._ca_file = ca_file
        scheme, _, rest = endpoint.reveal().partition("://")
        self._url = f"{scheme}://{rest.rpartition('@')[2].rstrip('/')}{PATH}"
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
            # One that is kept until the next push is the server's to close, maybe in that very moment.
            "Connection": "close",
            **headers,
        }
        if endpoint.credentials:
            credentials = b64encode(unquote(endpoint.credentials).encode()).decode()
            self._headers["Authorization"] = f"Basic {credentials}"
        self._pool: PoolManager | None = None

    def send(self, request: bytes, timeout: float | None = None) -> None:
        """Raises BackendError if it is not taken, or not all of it."""
        timeout = self._timeout if timeout is None else min(timeout, self._timeout)
        try:
            status, body = self._posted(gzip.compress(request, 5), timeout)
        # An address or a credential may be in the client's texts.
        except (HTTPError, OSError) as error:
            raise TemporaryError(f"{self._endpoint}: {_in_words(error, timeout)}") from None
        except ValueError as error:
            raise TemporaryError(f"{self._endpoint}: {error}") from None
        if status != 200:
            kind = PermanentError if 400 <= status < 500 and status != 429 else TemporaryError
            raise kind(f"{self._endpoint}: HTTP {status}{_HINTS.get(status, '')}")
        self._refuse_partial(body)

    def _posted(self, content: bytes, timeout: float) -> tuple[int, bytes]:
        until = time.monotonic() + timeout
        self._pool = self._pool or self._new_pool()
        # Neither retried nor redirected: the credentials are for this address only.
        answer = self._pool.request(
            "POST",
            self._url,
            body=content,
            headers=self._headers,
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
            timeout=Timeout(total=timeout),
        )
        with answer:
            body = bytearray()
            while len(body) <= _LARGEST and (piece := answer.read1(8 * 1024)):
                body += piece
                if time.monotonic() > until:
                    raise TimeoutError
            return answer.status, bytes(body)

    def _refuse_partial(self, body: bytes) -> None:
        try:
            answer = ExportProfilesServiceResponse.FromString(body)
        except DecodeError:
            answer = None
        if answer is None or len(body) > _LARGEST:
            raise TemporaryError(f"{self._endpoint}: what answers there is no OTLP collector")
        if answer.partial_success.rejected_profiles:
            why = answer.partial_success.error_message or "it does not say why"
            raise TemporaryError(f"{self._endpoint}: the collector has rejected profiles: {why}")

    def _new_pool(self) -> PoolManager:
        """By way of the environment's proxy, as any other program."""
        parts = urlsplit(self._url)
        proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        options: dict[str, Any] = {}
        if parts.scheme == "https":
            options["ssl_context"] = tls_context(self._ca_file or "")
        return ProxyManager(proxy, **options) if proxy else PoolManager(**options)


def _in_words(error: BaseException, timeout: float) -> str:
    """The words of the operating system where it has any; else what kind of failure it was."""
    for each in causes_of(error):
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
        # The client's own have its name, too; a connection that is refused is one of them.
        if isinstance(each, TimeoutError):
            break
    is_late = any("Timeout" in type(each).__name__ for each in causes_of(error))
    return f"no answer within {timeout:g} s" if is_late else f"the connection broke ({type(error).__name__})"
