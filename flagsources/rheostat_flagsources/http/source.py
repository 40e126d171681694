"""A document of flags by HTTP: JSON or YAML, asked for as often as is said, or held back until it changes."""

from dataclasses import dataclass
from typing import ClassVar, Final

from rheostat.plugins import Duration, Identity, Reading, parse_flags
from rheostat_flagsources.http.asking import AskedOptions, AskingSource

_LONGEST_WAIT: Final = 600.0


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class HttpOptions(AskedOptions):
    """The ``source`` section.

    `path` are the keys, with dots between, that lead to the mapping of flags in the document. With `wait` a server that
    knows `?wait=` holds its answer back until there is another version.
    """

    path: str | None = None
    wait: Duration = Duration(0.0)

    def wrong(self) -> dict[str, str]:
        wrong = super().wrong()
        if self.path and not all(self.path.split(".")):
            wrong["path"] = "keys with dots between, like data.flags"
        if self.wait > _LONGEST_WAIT:
            wrong["wait"] = f"at most {_LONGEST_WAIT:g}s"
        return wrong


class HttpSource(AskingSource):
    """Gives the members of a mapping in the document as flags."""

    Options: ClassVar[type] = HttpOptions

    def __init__(self, options: HttpOptions, identity: Identity) -> None:
        super().__init__("http", options, wait=options.wait)
        self._keys = options.path.split(".") if options.path else ()

    def parsed(self, body: bytes, name: str) -> Reading:
        return parse_flags(body, name, None, self._keys)
