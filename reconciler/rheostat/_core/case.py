"""A case to be decided: the rules, the facts, and what the last decision left."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rheostat._contract.values import Value
from rheostat._core.budget import Spending
from rheostat._core.desired import NO_SETTINGS
from rheostat._core.knowledge import Knowledge
from rheostat._core.policy import Policy
from rheostat._core.rules import Resolution, Rules
from rheostat._core.transition import CauseKind


class Permit(NamedTuple):
    """Whether this process is one of those of its host that may profile.

    `until` (monotonic seconds) is from when on that has to be asked again; `trouble` says why it cannot be told.
    """

    held: bool
    until: float = math.inf
    trouble: str = ""


class Facts(NamedTuple):
    """The observations that a decision rests on, and nothing else.

    `layers` are what is known of each source, the strongest first; `now` is in monotonic seconds, `wall` in seconds of
    the wall clock.
    """

    layers: Sequence[Knowledge]
    killed: bool
    now: float
    wall: float = 0.0
    instance: str = ""
    used: float | None = None
    """Seconds of processor time that sessions have used; None where that is not measured."""
    runs: bool = False
    threads: int = 1
    rate: float | None = None
    """That of the session that runs, if its cost grows with one."""
    grown: int | None = None
    """Bytes of memory that the session that runs has brought into the process, once that is known."""
    crashes: Sequence[Mapping[str, Value]] = ()
    """The settings of each session soon after whose start its process died."""
    permit: Permit | None = None
    """None while it has not been asked for."""


class Memory(NamedTuple):
    """The part of a decision that the next one needs: `held` is the last good value of each setting.

    `enabled_since` is the moment (monotonic seconds) from which on the flags have said on, for the `session_id` that
    they said. `spending` is what has been used of the budget; `is_too_large` says that the session has brought more
    memory than it may.
    """

    held: Mapping[str, Value] = NO_SETTINGS
    enabled_since: float | None = None
    session_id: Value | None = None
    spending: Spending | None = None
    is_too_large: bool = False


class Case(NamedTuple):
    """All that a brake may look at; `flags` is what the flags alone come to."""

    rules: Rules
    policy: Policy
    facts: Facts
    memory: Memory
    flags: Resolution

    def number(self, name: str) -> float:
        """The value of one of the policy's settings that is a number; 0 if it is not used."""
        value = self.flags.tuned.get(name, 0.0)
        return float(value) if isinstance(value, int | float) else 0.0

    def uses(self, *names: str) -> bool:
        """Whether one of these settings of the policy is used."""
        return any(name in self.flags.tuned for name in names)


class Brake(NamedTuple):
    """Something that keeps profiling off whatever the flags say, as long as `word` gives why.

    `kind` is that of the causes it gives, `released` the cause in words once it lets go. `until` gives the moment at
    which its word may change though nothing new is seen. `consider` brings the case's memory, and what the flags come
    to, up to the facts. A brake that the configuration does not use need not be shown.
    """

    kind: CauseKind
    name: str
    word: Callable[[Case], str | None]
    released: str = ""
    until: Callable[[Case], float] = lambda case: math.inf
    consider: Callable[[Case], Case] = lambda case: case
    is_used: Callable[[Case], bool] = lambda case: True
