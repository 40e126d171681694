"""The status, for people and dashboards."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from rheostat._contract.backend import UNKNOWN_HEALTH, Health
from rheostat._contract.values import Value
from rheostat._core.desired import NO_SETTINGS, OFF, Adjustment, Desired
from rheostat._core.state import State
from rheostat._core.transition import Transition

OperationName = Literal["start", "stop", "probe"]


class Operation(NamedTuple):
    """A backend call in flight, for `age` seconds by now; `stuck` once that is past its deadline."""

    name: OperationName
    age: float
    stuck: bool


Operation.__module__ = "rheostat"


class SourceStatus(NamedTuple):
    """Whether the flags are fresh, those of every layer. `reason` says why they are not.

    `stale_for` is for how many seconds they have not been; `retry_in` in how many the source tries again, where it
    knows.
    """

    available: bool
    reason: str = ""
    stale_for: float | None = None
    retry_in: float | None = None


SourceStatus.__module__ = "rheostat"


class BudgetStatus(NamedTuple):
    """What profiling may use and uses: `share` and `cost` are of one core, `left` is a part of the burst.

    `cost` is None as long as it is not known, `used` is in seconds of processor time, of all sessions.
    As of the last look, some seconds ago at most.
    """

    share: float
    cost: float | None
    left: float
    used: float = 0.0


BudgetStatus.__module__ = "rheostat"


class Status(NamedTuple):
    """An immutable snapshot: what is wanted, what runs, and what stands between the two.

    `desired` is what the flags come to, `settings` what really runs (empty when stopped). `waiting` says what the
    next start waits for, in words. `error` is the last failure that has not been overcome. `closed` is True once
    Rheostat has let go of the profiler for good. `health` says whether the session samples, `delivery` whether
    what it delivers is taken. `session_left` is for how many seconds the flags' on holds yet, where
    `session.max` bounds it; `budget` what a budget of processor time leaves, if there is one.
    """

    state: State
    pid: int
    seq: int
    desired: Desired
    settings: Mapping[str, Value]
    adjustments: tuple[Adjustment, ...]
    source: SourceStatus
    operation: Operation | None = None
    last_transition: Transition | None = None
    health: Health = UNKNOWN_HEALTH
    waiting: str = ""
    error: str = ""
    closed: bool = False
    delivery: Health = UNKNOWN_HEALTH
    session_left: float | None = None
    budget: BudgetStatus | None = None


Status.__module__ = "rheostat"


class Snapshot(NamedTuple):
    """The control thread's knowledge, with moments (monotonic seconds) instead of ages.

    Published whole after each change, so that readers need no lock and see ages of their own moment.
    """

    state: State = State.STOPPED
    pid: int = 0
    seq: int = 0
    desired: Desired = OFF
    settings: Mapping[str, Value] = NO_SETTINGS
    adjustments: tuple[Adjustment, ...] = ()
    source_reason: str = ""
    stale_since: float | None = None
    retry_at: float | None = None
    call: tuple[OperationName, float, float] | None = None
    """Of the call in flight: its name, since when, and its deadline."""
    waits_for: str = ""
    waits_until: float = 0.0
    last_transition: Transition | None = None
    health: Health = UNKNOWN_HEALTH
    error: str = ""
    closed: bool = False
    delivery: Health = UNKNOWN_HEALTH
    session_ends_at: float = math.inf
    budget: BudgetStatus | None = None
    moved_at: float | None = None
    """Of the last transition."""
    flags_say_on: bool = False
    words: Sequence[tuple[str, str | None]] = ()
    """Each brake that is used, the strongest first, and why it keeps profiling off, if it does."""

    def at(self, now: float) -> Status:
        return Status(
            state=self.state,
            pid=self.pid,
            seq=self.seq,
            desired=self.desired,
            settings=self.settings,
            adjustments=self.adjustments,
            source=SourceStatus(
                available=not self.source_reason,
                reason=self.source_reason,
                stale_for=None if self.stale_since is None else now - self.stale_since,
                retry_in=None if self.retry_at is None else max(0.0, self.retry_at - now),
            ),
            operation=None if self.call is None else _operation(*self.call, now),
            last_transition=self.last_transition,
            health=self.health,
            waiting=self._waiting(now),
            error=self.error,
            closed=self.closed,
            delivery=self.delivery,
            session_left=None if math.isinf(self.session_ends_at) else max(0.0, self.session_ends_at - now),
            budget=self.budget,
        )

    def _waiting(self, now: float) -> str:
        left = self.waits_until - now
        return f"{self.waits_for}, {left:.1f} s more" if self.waits_for and left > 0 else ""


def _operation(name: OperationName, since: float, deadline: float, now: float) -> Operation:
    return Operation(name, now - since, now >= deadline)
