"""Where the flags lie, as commands and as names of channels."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Final

from rheostat.plugins import SourceUnavailable

_MOST_NAMES: Final = 1000
_MOST_SCANS: Final = 20
"""Of `_MOST_NAMES` keys each: a database may have millions."""
_LONGEST_NAMES: Final = 256 * _MOST_NAMES
"""Bytes."""


class Layout(ABC):
    """One hash, or keys of their own."""

    @abstractmethod
    def measure(self, flag: str) -> tuple[str, ...]:
        """The command that gives a value's length in bytes, and 0 if there is none."""

    @abstractmethod
    def get(self, flag: str) -> tuple[str, ...]:
        """The command that gives a value."""

    @abstractmethod
    def keys(self, flags: Iterable[str]) -> list[str]:
        """Those that have to be followed for these flags."""

    @abstractmethod
    def known(self, link: Any) -> Iterator[bytes]:
        """The names of the flags that there are, where they are not too many to be asked for."""

    def wrong_type(self) -> str:
        """The trouble with one flag, if a key is none of a type that it should be. Raises if it is with all of them."""
        return "found another type than a string"


class Hash(Layout):
    """Its fields are the flags."""

    def __init__(self, key: str) -> None:
        self._key = key

    def measure(self, flag: str) -> tuple[str, ...]:
        return ("HSTRLEN", self._key, flag)

    def get(self, flag: str) -> tuple[str, ...]:
        return ("HGET", self._key, flag)

    def keys(self, flags: Iterable[str]) -> list[str]:
        return [self._key]

    def known(self, link: Any) -> Iterator[bytes]:
        (count,) = link.exchange([("HLEN", self._key)])
        if isinstance(count, int) and count <= _MOST_NAMES:
            yield from link.exchange([("HKEYS", self._key)], _LONGEST_NAMES)[0]

    def wrong_type(self) -> str:
        raise SourceUnavailable(f"the key {self._key} is no hash")


class Prefix(Layout):
    """Each key that begins with it is a flag, by the rest of its name."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def measure(self, flag: str) -> tuple[str, ...]:
        return ("STRLEN", self._prefix + flag)

    def get(self, flag: str) -> tuple[str, ...]:
        return ("GET", self._prefix + flag)

    def keys(self, flags: Iterable[str]) -> list[str]:
        return [self._prefix + flag for flag in flags]

    def known(self, link: Any) -> Iterator[bytes]:
        pattern = "".join(f"\\{each}" if each in "*?[]^-\\" else each for each in self._prefix) + "*"
        begins = len(self._prefix.encode())
        cursor = "0"
        for _ in range(_MOST_SCANS):
            scan = ("SCAN", cursor, "MATCH", pattern, "COUNT", str(_MOST_NAMES))
            ((cursor, found),) = link.exchange([scan], _LONGEST_NAMES)
            yield from (key[begins:] for key in found)
            if cursor == b"0":
                return
