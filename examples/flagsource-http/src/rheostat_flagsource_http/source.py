"""The flag source as Rheostat sees it: one thread asks the endpoint, the latest answer is kept for `read`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from rheostat.plugins import Duration, Identity, InvalidOptions, Reading, Secret, SourceUnavailable, ThreadedSource, Url

from .document import flags_in
from .endpoint import LONGEST, Endpoint
from .trouble import trouble_with

_LEAST: Final = 0.01


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


class HttpSource(ThreadedSource):
    """Gives the members of a JSON object as flags."""

    Options: ClassVar[type] = HttpOptions

    def __init__(self, options: HttpOptions, identity: Identity) -> None:
        patience = (LONGEST + 1) * options.timeout
        super().__init__("http", about=str(options.url), interval=options.poll_interval, patience=patience)
        self._options = options
        self._endpoint = Endpoint(
            options.url.reveal(), None if options.token is None else options.token.reveal(), options.timeout
        )
        self._etag = ""
        self._known = Reading({})

    def ask(self) -> Reading:
        """The endpoint's flags, those of last time where it says that nothing has changed."""
        try:
            document = self._endpoint.get(self._etag)
            if document is not None:
                self._keep(flags_in(document.body, self._options.pointer), document.etag)
        # An address or a token may be in the client's texts.
        except Exception as error:
            raise SourceUnavailable(str(trouble_with(error, self._options.timeout))) from None
        return self._known

    def _keep(self, flags: Mapping[str, object], etag: str) -> None:
        """The tag is one of flags that are known: what cannot be used is asked for in full again."""
        self._known = Reading(flags, reasons=dict.fromkeys(flags, "HTTP"))
        self._etag = etag


def _is_address(url: str) -> bool:
    try:
        parts = parse_url(url)
    except LocationParseError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host) and parts.auth is None


def _fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and text != ""
