"""Strings that must never be shown."""

from typing import Final, NoReturn

MASK: Final = "***"


class Secret:
    """A string that shows as ``***`` wherever it is printed, logged or put into an error.

    Ask for the text with `reveal()`, at the last moment and only to hand it to a vendor.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._text == self._text

    def __hash__(self) -> int:
        return hash((type(self), self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: its text would leave the process readable")


Secret.__module__ = "rheostat.plugins"


class Url(Secret):
    """A URL whose user part (``user:password@``) is secret; the rest is shown."""

    __slots__ = ()

    @property
    def credentials(self) -> str:
        """The user part as written, or an empty string."""
        return _split(self._text)[1]

    def __str__(self) -> str:
        before, credentials, after = _split(self._text)
        return f"{before}{MASK}@{after}" if credentials else self._text


Url.__module__ = "rheostat.plugins"


def _split(url: str) -> tuple[str, str, str]:
    """The text before the user part, the user part, and the text after its ``@``.

    Up to the last ``@`` of all: a password may hold a slash that should have been encoded.
    """
    before, separator, rest = url.partition("://")
    if not separator:
        before, rest = "", url
    credentials, _, after = rest.rpartition("@")
    return before + separator, credentials, after
