"""The flag source as Rheostat sees it: one thread asks the endpoint, the latest answer is kept for `read`."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from rheostat.plugins import Duration, Identity, InvalidOptions, NotReady, Reading, Secret, SourceUnavailable, Url

from .document import flags_in
from .endpoint import LONGEST, Endpoint
from .trouble import TooLong, Trouble, trouble_with

_LEAST: Final = 0.01
_CLOSING: Final = 0.2
"""Seconds that `close` waits for the thread. One that waits for an answer ends soon after its timeout."""


@dataclass(frozen=True, kw_only=True)
class HttpOptions:
    """The ``source`` section: where the flags are, who asks, and how often and how long (seconds)."""

    url: Url
    token: Secret | None = None
    pointer: str = ""
    poll_interval: Duration = Duration(10.0)
    timeout: Duration = Duration(2.0)

    def __post_init__(self) -> None:
        wrong = {}
        if not _is_address(self.url.reveal()):
            wrong["url"] = "an address like https://flags.example.com/checkout.json; use token for secrets"
        if self.token is not None and not _fits_a_header(self.token.reveal()):
            wrong["token"] = "printable ASCII characters without spaces"
        if self.pointer and not self.pointer.startswith("/"):
            wrong["pointer"] = "a JSON pointer, like /data/flags"
        wrong.update({name: "10ms or more" for name in ("poll_interval", "timeout") if getattr(self, name) < _LEAST})
        if wrong:
            raise InvalidOptions(wrong)


class HttpSource:
    """Gives the members of a JSON object as flags."""

    Options: ClassVar[type] = HttpOptions

    def __init__(self, options: HttpOptions, identity: Identity) -> None:
        self._options = options
        self._endpoint = Endpoint(
            options.url.reveal(), None if options.token is None else options.token.reveal(), options.timeout
        )
        self._etag = ""
        self._known: Reading | None = None
        self._latest: Reading | Trouble | None = None
        self._asking_since: float | None = None
        self._ask_again_at: float | None = None
        self._changed: Callable[[], None] = lambda: None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_asking, name="rheostat-http", daemon=True)

    @property
    def poll_interval(self) -> float | None:
        """News come by `changed`; this is to notice a request that nothing ends, such as a look-up of the name."""
        return self._options.poll_interval

    def open(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._thread.start()

    def read(self, wanted: Mapping[str, type]) -> Reading:
        """The latest answer. Raises `SourceUnavailable` if it had no flags, or is overdue."""
        latest, since = self._latest, self._asking_since
        if since is not None and time.monotonic() - since > (LONGEST + 1) * self._options.timeout:
            latest = TooLong(self._options.timeout)
        if latest is None:
            raise NotReady(f"{self._options.url}: no answer yet")
        if isinstance(latest, Trouble):
            raise SourceUnavailable(f"{self._options.url}: {latest}", self._ask_again_at)
        return latest

    def known_flags(self) -> Iterable[str]:
        """For the nearest name to one that is misspelt."""
        return () if self._known is None else self._known.values

    def close(self) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSING)

    def _keep_asking(self) -> None:
        while not self._closed.is_set():
            self._asking_since = time.monotonic()
            latest = self._ask()
            self._ask_again_at = time.monotonic() + self._options.poll_interval
            is_news = not _same(latest, self._latest)
            self._latest, self._asking_since = latest, None
            if is_news and not self._closed.is_set():
                self._changed()
            self._closed.wait(self._options.poll_interval)

    def _ask(self) -> Reading | Trouble:
        try:
            document = self._endpoint.get(self._etag)
            if document is not None:
                self._keep(flags_in(document.body, self._options.pointer), document.etag)
        # Whatever it is, this thread has to live.
        except Exception as error:
            return trouble_with(error, self._options.timeout)
        assert self._known is not None
        return self._known

    def _keep(self, flags: Mapping[str, object], etag: str) -> None:
        """The tag is one of flags that are known: what cannot be used is asked for in full again."""
        reading = Reading(flags, reasons=dict.fromkeys(flags, "HTTP"))
        if self._known is None or not self._known.is_same_as(reading):
            self._known = reading
        self._etag = etag


def _same(one: Reading | Trouble, other: Reading | Trouble | None) -> bool:
    return one is other or (isinstance(one, Trouble) and isinstance(other, Trouble) and str(one) == str(other))


def _is_address(url: str) -> bool:
    try:
        parts = parse_url(url)
    except LocationParseError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host) and parts.auth is None


def _fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and text != ""
