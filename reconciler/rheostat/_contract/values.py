"""The values that a flag may have, read without losing anything."""

import math
from typing import Final

from rheostat._contract.options import parse_duration

Value = bool | int | float | str

LONGEST_TEXT: Final = 1024
"""Characters a text value may have. Longer ones are an accident, and every profile would carry them."""


class Bytes(int):
    """The kind of a value that is a size: a number of bytes, or one with a unit, like 50MiB; of an option, too."""

    @classmethod
    def from_text(cls, text: str) -> "Bytes":
        """Raises ValueError with what was expected."""
        try:
            return cls(_read_bytes(int(text) if is_whole(text.strip(), _MOST_DIGITS) else text))
        except Unreadable:
            raise ValueError(_WORDS[cls]) from None


Bytes.__module__ = "rheostat.plugins"


class Percent(float):
    """The kind of a value that is a share: a number of percent, with or without the sign."""


class Seconds(float):
    """The kind of a value that is a span of time: written as a duration, or as seconds."""


_MOST_DIGITS: Final = 100
_UNITS: Final = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9, "B": 1}
_BOOLS: Final = {"true": True, "false": False}
_WORDS: Final[dict[type | None, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Percent: "a number of percent, like 2 or 2%",
    Bytes: "a size like 512KiB, 50MiB or 1GiB, or a number of bytes",
    Seconds: "a duration like 90s or 15m, or seconds",
    None: "a plain value",
}


def in_words(kind: type | None) -> str:
    """A type of value in the words of the person who writes it; None is any of them."""
    return _WORDS[kind]


class Unreadable(ValueError):
    """A raw value that is not, without loss, of the type that is wanted."""


def read_as(kind: type | None, raw: object) -> Value:
    """Read a flag's raw value as `kind` (bool, int, float, str, `Seconds`; None: any of the plain ones), without loss.

    Only the plain types count, not their subclasses, so that no foreign ``__eq__`` or ``__int__`` runs.
    An int is given back for a float when it is too large to be one: bounds are compared exactly.

    >>> read_as(int, " 97 "), read_as(int, 10.0), read_as(bool, "true")
    (97, 10, True)

    Raises `Unreadable`.
    """
    if kind is None:
        kind = type(raw)
    if kind is bool:
        return _read_bool(raw)
    if kind is int:
        return _read_int(raw)
    if kind is float:
        return _read_float(raw)
    if kind is str and type(raw) is str:
        return _read_text(raw)
    if kind is Seconds:
        return _read_seconds(raw)
    if kind is Bytes:
        return _read_bytes(raw)
    if kind is Percent:
        return _read_float(raw.strip().removesuffix("%") if type(raw) is str else raw)
    raise Unreadable


def is_whole(text: str, most_digits: int) -> bool:
    """A whole number as people write it: a sign, and decimal digits without leading zeros or underscores."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    return _are_digits(digits, most_digits) and (digits == "0" or digits[0] != "0")


def _is_decimal(text: str) -> bool:
    whole, point, fraction = text.partition(".")
    return is_whole(whole, _MOST_DIGITS) and (not point or _are_digits(fraction, _MOST_DIGITS))


def _are_digits(text: str, most: int) -> bool:
    return len(text) <= most and text.isascii() and text.isdigit()


def _read_bool(raw: object) -> bool:
    if type(raw) is bool:
        return raw
    if type(raw) is str and len(raw) <= LONGEST_TEXT:
        found = _BOOLS.get(raw.strip().lower())
        if found is not None:
            return found
    raise Unreadable


def _read_int(raw: object) -> int:
    if type(raw) is int:
        return raw
    if type(raw) is float and math.isfinite(raw) and raw.is_integer():
        return int(raw)
    if type(raw) is str and len(raw) <= LONGEST_TEXT and is_whole(raw.strip(), _MOST_DIGITS):
        return int(raw.strip())
    raise Unreadable


def _read_float(raw: object) -> float | int:
    if type(raw) is float and math.isfinite(raw):
        return raw
    if type(raw) is int:
        return raw if abs(raw) > 2**1000 else float(raw)
    if type(raw) is str and len(raw) <= LONGEST_TEXT and _is_decimal(raw.strip()):
        return float(raw.strip())
    raise Unreadable


def _read_seconds(raw: object) -> float | int:
    if type(raw) is not str or _is_decimal(raw.strip()):
        return _read_float(raw)
    try:
        return parse_duration(raw)
    except ValueError:
        raise Unreadable from None


def _read_bytes(raw: object) -> int:
    if type(raw) is str and len(raw) <= LONGEST_TEXT:
        text = raw.strip()
        unit = next((each for each in _UNITS if text.endswith(each)), "")
        if unit:
            size = _read_float(text.removesuffix(unit)) * _UNITS[unit]
            return _read_int(size)
    return _read_int(raw)


def _read_text(raw: str) -> str:
    if len(raw) > LONGEST_TEXT or "\0" in raw:
        raise Unreadable
    try:
        raw.encode()
    except UnicodeEncodeError:
        raise Unreadable from None
    return raw
