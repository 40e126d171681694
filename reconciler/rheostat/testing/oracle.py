"""The contract's word on values, worked out exactly and without the code that it judges."""

import math
import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import Final, NamedTuple, Protocol

from rheostat import Value

_MOST: Final = Fraction(sys.float_info.max)
_LONGEST_NUMBER: Final = 100
_LONGEST_TEXT: Final = 1024


class Limited(Protocol):
    """Bounds or choices."""

    @property
    def min(self) -> int | float | None: ...
    @property
    def max(self) -> int | float | None: ...
    @property
    def choices(self) -> tuple[Value, ...] | None: ...


class Ruled(Protocol):
    """A setting with its limits."""

    @property
    def kind(self) -> type | None: ...
    @property
    def default(self) -> Value | None: ...
    @property
    def limits(self) -> Sequence[Limited]: ...
    @property
    def otherwise(self) -> str: ...


def keeps(value: Value, *limits: Limited) -> bool:
    """Whether a value keeps all of these limits."""
    number = Fraction(value) if type(value) in (int, float) else None
    return all(
        (each.choices is None or (type(value), value) in [(type(choice), choice) for choice in each.choices])
        and (number is None or each.min is None or Fraction(each.min) <= number)
        and (number is None or each.max is None or number <= Fraction(each.max))
        for each in limits
    )


def lossless(kind: type | None, raw: object) -> Fraction | bool | str | None:
    """The exact meaning of a raw value, or None if it is not of the kind; numbers as fractions."""
    if type(raw) is str and kind is not str:
        return _from_text(kind, raw.strip())
    if kind in (int, float) and (type(raw) is int or (type(raw) is float and math.isfinite(raw))):
        exact = Fraction(raw)
        return exact if kind is float or exact.denominator == 1 else None
    if kind is bool and type(raw) is bool:
        return raw
    if kind is str and type(raw) is str:
        unusable = len(raw) > _LONGEST_TEXT or any(c == "\0" or "\ud800" <= c <= "\udfff" for c in raw)
        return None if unusable else raw
    return None


def _from_text(kind: type | None, text: str) -> Fraction | bool | None:
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower())
    whole, dot, decimals = text.lstrip("+-").partition(".")
    written = [whole, decimals] if dot else [whole]
    plain = len(text) - len(text.lstrip("+-")) <= 1 and all(part.isascii() and part.isdigit() for part in written)
    leading_zero = whole.startswith("0") and whole != "0"
    if not plain or leading_zero or len(text) > _LONGEST_NUMBER or (dot and kind is int):
        return None
    return Fraction(text)


def good_value(setting: Ruled, raw: object) -> Value | None:
    """A usable raw value, moved to the nearest bound; None if it is not usable."""
    said = lossless(setting.kind, raw)
    if said is None:
        return None
    for each in setting.limits:
        if each.choices is not None and said not in each.choices:
            return None
    if type(said) is Fraction:
        for each in setting.limits:
            if each.min is not None:
                said = max(said, Fraction(each.min))
            if each.max is not None:
                said = min(said, Fraction(each.max))
        if abs(said) > _MOST:
            return None
        value: Value = int(said) if setting.kind is int else float(said)
        return value if keeps(value, *setting.limits) else None
    assert isinstance(said, bool | str)
    return said


class Verdict(NamedTuple):
    """The fate of a flag: `value` is given, or profiling is turned `off`; `good` values are held for later."""

    value: Value | None
    off: bool = False
    good: bool = False


def judge(setting: Ruled, raw: object, held: Value | None, *, defined: bool = True, wrong: bool = False) -> Verdict:
    """The fate of a setting; `held` is its last good value, `wrong` if the source says that the flag is."""
    if not defined and not wrong:
        return Verdict(setting.default)
    good = None if wrong else good_value(setting, raw)
    if good is not None:
        return Verdict(good, good=True)
    if setting.otherwise == "off":
        return Verdict(None, off=True)
    return Verdict(held if setting.otherwise == "hold" and held is not None else setting.default)
