"""Asking an address for a document of flags: what its sources have in common."""

import re
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote

from rheostat.plugins import (
    Duration,
    FilePath,
    InvalidOptions,
    Reading,
    Secret,
    SourceUnavailable,
    ThreadedSource,
    Url,
    import_vendor,
)

_REQUIREMENT: Final = "rheostat[http]"
_ADDRESS = re.compile(
    r"https?://(?:[!-.0-?A-~]*@)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?][!-~]*)?"
)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_LEAST: Final = 0.01
_LONGEST_BACKOFF: Final = 60.0
_LARGEST: Final = 64 * 1024


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class AskedOptions:
    """Where the flags are, who asks, how often and how long (seconds), and by which certificates."""

    url: Url
    headers: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}))
    poll_interval: Duration = Duration(10.0)
    timeout: Duration = Duration(2.0)
    ca_file: FilePath | None = None
    client_cert_file: FilePath | None = None
    client_key_file: FilePath | None = None

    def __post_init__(self) -> None:
        wrong = self.wrong()
        if wrong:
            raise InvalidOptions(wrong)

    def wrong(self) -> dict[str, str]:
        """By field, what was expected of it."""
        wrong = {}
        if not _ADDRESS.fullmatch(self.url.reveal()):
            wrong["url"] = "an address like https://flags.example.com/checkout.json"
        for name, value in self.headers.items():
            if not _HEADER.fullmatch(name):
                wrong["headers"] = "names of letters, digits and dashes"
            elif not (value.reveal().isascii() and value.reveal().isprintable()):
                wrong["headers"] = f"printable ASCII on one line as the value of {name}"
        wrong.update({name: "10ms or more" for name in ("poll_interval", "timeout") if getattr(self, name) < _LEAST})
        if self.client_key_file is not None and self.client_cert_file is None:
            wrong["client_key_file"] = "client_cert_file beside it"
        return wrong


class AskingSource(ThreadedSource):
    """Keeps the flags of the last version of a document; what it means says the subclass.

    `path` is put after the address, `wait` (seconds), `largest` (bytes) and `question` are those of the endpoint.
    """

    def __init__(
        self,
        name: str,
        options: AskedOptions,
        *,
        path: str = "",
        wait: float = 0.0,
        largest: int = _LARGEST,
        question: bytes = b"",
    ) -> None:
        patience = 4 * options.timeout + 1.2 * wait
        super().__init__(name, about=str(options.url), interval=options.poll_interval, patience=patience)
        self._options = options
        self._path = path
        self._wait = wait
        self._largest = largest
        self._question = question
        self._endpoint: Any = None
        self._known: Any = None
        self._flags = Reading({})
        self._failures = 0

    def parsed(self, body: bytes, name: str) -> Reading:
        """The flags of a document; `name` stands for it in errors. Raises `SourceUnavailable`."""
        raise NotImplementedError

    def ask(self) -> Reading:
        """The document's flags, those of last time where its server says that nothing has changed."""
        endpoint, trouble = (
            import_vendor(f"rheostat_flagsources.http.{each}", _REQUIREMENT) for each in ("endpoint", "trouble")
        )
        try:
            if self._endpoint is None:
                self._endpoint, self._known = self._made(endpoint), endpoint.Version()
            document = self._endpoint.get(self._known)
            if document is not None:
                self._flags = self.parsed(document.body, str(self._options.url))
                # Of what cannot be used no version is known: it is asked for in full again.
                self._known = document.version
        except SourceUnavailable as unavailable:
            raise self._backed_off(unavailable.reason.removeprefix(f"{self._options.url}: ")) from None
        # An address or a credential may be in the client's texts.
        except Exception as error:
            found = trouble.trouble_with(error, self._options.timeout)
            raise self._backed_off(str(found), found.retry_after) from None
        self._failures = 0
        return self._flags

    def _made(self, endpoint: Any) -> Any:
        options = self._options
        tls = endpoint.Tls(options.ca_file or "", options.client_cert_file or "", options.client_key_file or "")
        scheme, _, rest = options.url.reveal().partition("://")
        headers = {name: value.reveal() for name, value in options.headers.items()}
        credentials = options.url.credentials
        if credentials:
            headers["Authorization"] = f"Basic {b64encode(unquote(credentials).encode()).decode()}"
            rest = rest.partition("@")[2]
        address = f"{scheme}://{rest.rstrip('/') if self._path else rest}{self._path}"
        return endpoint.Endpoint(address, headers, options.timeout, self._wait, tls, self._largest, self._question)

    def _backed_off(self, reason: str, least: float = 0.0) -> SourceUnavailable:
        """Asked again twice as late each time, so that a server which comes up again is left to do so."""
        interval = self._options.poll_interval
        delay = min(interval * 2.0 ** min(self._failures, 10), max(interval, _LONGEST_BACKOFF))
        self._failures += 1
        return SourceUnavailable(reason, time.monotonic() + max(delay, least))
