"""The desired state, and the adjustments of what was asked for."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from rheostat._contract.values import Value

NO_SETTINGS: Mapping[str, Value] = MappingProxyType({})


class Desired(NamedTuple):
    """The state to converge to: a session with exactly these settings, or none."""

    on: bool
    settings: Mapping[str, Value] = NO_SETTINGS


Desired.__module__ = "rheostat"


def same_settings(one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
    """Equal, and of equal types: to Python ``True`` and ``1`` are the same, to a profiler they may not be."""
    return one == other and all(type(value) is type(other[name]) for name, value in one.items())


OFF = Desired(on=False)


class Adjustment(NamedTuple):
    """A flag that asked for something else than it was given, and the rule that decided.

    `asked` is a printable rendition of the raw value. `given` is ``"off"`` where the rule turned profiling
    off, and None where the setting was left out.
    """

    setting: str
    asked: bool | int | float | str | None
    given: Value | None
    rule: str

    def __str__(self) -> str:
        return f"{self.setting}: asked {self.asked!r}, given {self.given!r} ({self.rule})"


Adjustment.__module__ = "rheostat"
