"""The record of one change of state."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from rheostat._contract.text import printable
from rheostat._contract.values import Value
from rheostat._core.desired import Adjustment
from rheostat._core.state import State, Trigger

CauseKind = Literal[
    "flag",
    "kill_switch",
    "crash_guard",
    "lease",
    "source",
    "session",
    "rollout",
    "duty_cycle",
    "per_host",
    "budget",
    "backend",
    "fork",
    "close",
]


class Cause(NamedTuple):
    """Why the desired state, or the session, changed. `old` and `new` are printable renditions of a flag's values."""

    kind: CauseKind
    flag: str | None = None
    old: bool | int | float | str | None = None
    new: bool | int | float | str | None = None
    detail: str = ""

    def __str__(self) -> str:
        if self.flag is None:
            return self.detail or self.kind.replace("_", " ")
        change = f"{self.flag} {_word(self.old)} -> {_word(self.new)}"
        return f"{change}, {self.detail}" if self.detail else change


Cause.__module__ = "rheostat"


def _word(value: object) -> str:
    if value is None:
        return "unset"
    return str(value).lower() if isinstance(value, bool) else str(value)


class Transition(NamedTuple):
    """One change of state. `seq` counts from 1 without gaps in each process.

    `settings` is what runs afterwards, empty when stopped. `duration_ms` is how long the backend's call took,
    None where the transition did not wait for one.
    """

    seq: int
    from_state: State
    to_state: State
    trigger: Trigger
    cause: Cause
    settings: Mapping[str, Value]
    adjustments: tuple[Adjustment, ...]
    duration_ms: float | None

    def __str__(self) -> str:
        took = "" if self.duration_ms is None else f" ({self.duration_ms:.0f} ms)"
        runs = " ".join(f"{name}={printable(value)}" for name, value in self.settings.items())
        return f"{self.from_state} -> {self.to_state}{took}: {self.cause}" + (f"; {runs}" if runs else "")


Transition.__module__ = "rheostat"


Observer = Callable[[Transition], None]
"""Called in the control thread after each transition. What it raises is logged once and goes no further."""
