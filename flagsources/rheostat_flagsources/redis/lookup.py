"""Reading flags from a server, and judging what it says of each."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from redis.exceptions import ResponseError

from rheostat.plugins import SourceUnavailable
from rheostat_flagsources.redis.layout import Layout
from rheostat_flagsources.redis.link import Link
from rheostat_flagsources.redis.trouble import NO_ANSWER, code_of, words_for

LARGEST: Final = 4 * 1024
"""Bytes of a value: more than any that can be used."""

_NO_PERMISSION: Final = "NOPERM"


class Found(NamedTuple):
    """The values of flags, and what is wrong with others; those that are in neither are not defined."""

    values: dict[str, str]
    errors: dict[str, str]


def look_up(link: Link, layout: Layout, flags: Sequence[str]) -> Found:
    """Ask for these flags; what is too large is not fetched. Raises `SourceUnavailable`."""
    found = Found({}, {})
    # Without a flag, whether it answers at all.
    lengths = link.exchange([layout.measure(flag) for flag in flags] or [("PING",)])
    small = [flag for flag, length in zip(flags, lengths, strict=False) if _is_small(found, layout, flag, length)]
    # One that has grown meanwhile is the next time's.
    values = link.exchange([layout.get(flag) for flag in small], len(small) * LARGEST)
    for flag, value in zip(small, values, strict=True):
        _take(found, layout, flag, value)
    if flags and list(found.errors.values()) == [words_for(_NO_PERMISSION)] * len(flags):
        raise SourceUnavailable(words_for(_NO_PERMISSION))
    return found


def _is_small(found: Found, layout: Layout, flag: str, length: Any) -> bool:
    if isinstance(length, ResponseError):
        found.errors[flag] = _of_one_flag(layout, length)
        return False
    if type(length) is not int:
        raise SourceUnavailable(NO_ANSWER)
    if length > LARGEST:
        found.errors[flag] = f"found more than {LARGEST // 1024} KiB, expected a plain value"
    return length <= LARGEST


def _take(found: Found, layout: Layout, flag: str, value: Any) -> None:
    if isinstance(value, ResponseError):
        found.errors[flag] = _of_one_flag(layout, value)
    elif isinstance(value, bytes):
        try:
            found.values[flag] = value.decode()
        except UnicodeDecodeError:
            found.errors[flag] = "found bytes that are no UTF-8"
    elif value is not None:
        raise SourceUnavailable(NO_ANSWER)


def _of_one_flag(layout: Layout, error: ResponseError) -> str:
    """The trouble with a flag. Raises `SourceUnavailable` if it is one with all of them."""
    code = code_of(error)
    if code == "WRONGTYPE":
        return layout.wrong_type()
    if code == _NO_PERMISSION:
        return words_for(code)
    raise SourceUnavailable(words_for(code))
