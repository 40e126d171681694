"""Looking at the process and its host."""

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from rheostat._contract.identity import Identity
from rheostat._contract.values import Value
from rheostat._control.watch import Seen
from rheostat._core.brakes.budget import measured
from rheostat._core.budget import look_again
from rheostat._core.case import Facts, Memory, Permit
from rheostat._core.policy import BUDGET, CRASHES, MEMORY, PER_HOST, SESSION, Policy
from rheostat._core.precedence import Verdict
from rheostat._host import native
from rheostat._host.meter import Metering
from rheostat._host.scribe import Scribe
from rheostat._host.state_folder import StateFolder
from rheostat._report.journal import Journal

if TYPE_CHECKING:
    from rheostat._control.crash_record import CrashRecord
    from rheostat._control.session_record import SessionRecord
    from rheostat._host.permits import Permits

_TRY_AGAIN: Final = 30.0
"""Seconds until permits that could not be had are asked for again."""

_SETTLING: Final = 1.0
"""Seconds between looks at how much memory a session has brought, until that is known."""

_Result = TypeVar("_Result")


class Means(NamedTuple):
    """What a survey looks with: `used` are the settings of the policy that are used.

    `wall` gives seconds of the wall clock. `meter` measures what sessions use, `folder` is where word is left, by a
    `scribe` (None: a thread of its own).
    """

    used: Collection[str]
    policy: Policy
    wall: Callable[[], float]
    meter: Metering | None = None
    folder: StateFolder | None = None
    scribe: Scribe | None = None


class Survey:
    """Owns the observations that a decision rests on beside the flags; of each only what the policy needs."""

    def __init__(self, means: Means, identity: Identity, journal: Journal) -> None:
        used, folder = means.used, means.folder
        self._wall = means.wall
        self._instance = identity.instance
        self._journal = journal
        self._meter = means.meter if BUDGET in used or MEMORY in used else None
        self._scribe = means.scribe or Scribe()
        self._sessions = _session_record(folder, identity, self._scribe) if folder and SESSION in used else None
        self._crashes = _crash_record(folder, identity, self._scribe) if folder and CRASHES in used else None
        self._permits = _permits(folder, means) if folder and PER_HOST in used else None
        self._known: tuple[Mapping[str, Value], ...] = ()
        self._settings: Mapping[str, Value] = {}
        self._settles_at = math.inf
        self._may_forget = True
        self._stops = means.policy.budget.action == "stop"
        self._grown: int | None = None

    def measured(self, verdict: Verdict, now: float, *, runs: bool, rate: Value | None) -> Verdict | None:
        """The verdict with what has been used since; None if that, or what there is to see, has to be decided anew."""
        meter = self._meter
        if meter is None:
            return verdict
        if (meter.grown if runs else None) != self._grown:
            return None
        used = self._used()
        stays_off = verdict.memory.spending is None or (verdict.memory.spending.is_spent and self._stops)
        if used is None or stays_off:
            return verdict
        memory = measured(verdict.memory, now, used, _as_rate(rate))
        return None if memory is None else verdict._replace(memory=memory)

    def look_at(self, verdict: Verdict, now: float, *, runs: bool) -> float:
        """Monotonic seconds at which to look at what the session uses."""
        if self._meter is None or not runs:
            return math.inf
        spending = verdict.memory.spending
        at = math.inf if spending is None or spending.is_spent else look_again(spending, runs=True)
        return at if self._meter.grown is not None else min(at, now + _SETTLING)

    @property
    def follows_sessions(self) -> bool:
        """Whether the facts change with the beginning and the end of a session."""
        return self._meter is not None or self._permits is not None

    @property
    def is_idle(self) -> bool:
        """No file is being written."""
        return self._scribe.is_idle

    @property
    def due_at(self) -> float:
        """Monotonic seconds at which there is something to be done."""
        return self._settles_at

    def remembered(self, now: float) -> Memory:
        """What the processes before this one have left."""
        if self._sessions is None:
            return Memory()
        try:
            since = self._sessions.load()
        except OSError as error:
            self._complain("a session's end is forgotten when the process ends", error)
            return Memory()
        if since is None or not math.isfinite(since.wall):
            return Memory()
        return Memory(enabled_since=now - max(0.0, self._wall() - since.wall), session_id=since.session_id)

    def facts(self, seen: Seen, now: float, *, runs: bool, rate: Value | None) -> Facts:
        """`runs` tells whether there is a session, `rate` is its rate, if its cost grows with one."""
        if self._crashes is not None and not runs:
            self._known = self._known_crashes(self._crashes)
        used = self._used()
        self._grown = self._meter.grown if self._meter is not None and runs else None
        return Facts(
            layers=seen.layers,
            killed=seen.killed,
            now=now,
            wall=self._wall(),
            instance=self._instance,
            used=used,
            runs=runs,
            threads=1 if self._meter is None else len(native.known_threads()),
            rate=_as_rate(rate),
            grown=self._grown,
            crashes=self._known,
        )

    def permit(self, verdict: Verdict, now: float, *, runs: bool) -> Permit | None:
        """This process's permit, if one is needed; while a session `runs`, what it has is not given back."""
        permits = self._permits
        if permits is None:
            return None
        if not verdict.permits:
            if not runs:
                permits.renounce()
            return None
        turn = verdict.tuned.get("per_host.turn", 0.0)
        try:
            held, until = permits.ask(verdict.permits, float(turn), now, runs=runs)
        except OSError as error:
            self._complain("no process can be permitted to profile, so this one does not", error)
            return Permit(held=False, until=now + _TRY_AGAIN, trouble=self._journal.describe(error))
        return Permit(held, until)

    def decided(self, before: Verdict, verdict: Verdict, now: float) -> None:
        """Leave word of it."""
        since, session_id = verdict.memory.enabled_since, verdict.memory.session_id
        is_news = (since, session_id) != (before.memory.enabled_since, before.memory.session_id)
        if self._sessions is not None and is_news:
            self._sessions.keep(None if since is None else self._wall() - (now - since), session_id)
        is_known = verdict.decided_by is None or verdict.decided_by.kind not in ("source", "lease")
        if self._crashes is not None and self._may_forget and is_known and not verdict.flags_say_on:
            self._crashes.forget()
        self._may_forget = (self._may_forget and not is_known) or verdict.flags_say_on
        self._say_trouble()

    def starting(self, start: Callable[[], _Result], settings: Mapping[str, Value]) -> Callable[[], _Result]:
        """The call that starts a session, with what has to be done in its thread."""
        if self._crashes is not None:
            start = self._crashes.starting(start, settings)
        return start if self._meter is None else self._meter.started(start)

    def stopping(self, stop: Callable[[], _Result], *, closing: bool) -> Callable[[], _Result]:
        """The same of one that stops a session; `closing` at the end of the process, which may not wait for it."""
        if closing:
            self.ended()
        return stop if self._meter is None else self._meter.stopped(stop)

    def began(self, settings: Mapping[str, Value], within: float, now: float) -> None:
        """A session has begun, and will have lasted in `within` seconds."""
        if self._crashes is not None:
            self._settings, self._settles_at = settings, now + within
            self._say_trouble()

    def step(self, now: float) -> None:
        if now >= self._settles_at and self._crashes is not None:
            self.ended()
            self._crashes.forget(self._settings)

    def ended(self) -> None:
        """There is no session that the process could die of."""
        self._settles_at = math.inf
        if self._crashes is not None:
            self._crashes.close()

    def close(self) -> None:
        if self._permits is not None:
            self._permits.renounce()

    def _used(self) -> float | None:
        if self._meter is None:
            return None
        used = self._meter.used()
        if self._meter.measures:
            return used
        text = (
            "the session has no thread of its own that could be told from others, so what it uses of the processor is "
            "not known: the service is not affected, and the budget is not kept"
        )
        self._journal.once("not_measured", text, about="budget")
        return None

    def _known_crashes(self, record: "CrashRecord") -> tuple[Mapping[str, Value], ...]:
        try:
            return tuple(record.crashes())
        except OSError as error:
            self._complain("starts that processes have not survived are not known", error)
            return ()

    def _say_trouble(self) -> None:
        """Where more than the rows of `rheostat status` depends on the folder."""
        if self._sessions is None and self._crashes is None:
            return
        trouble = self._scribe.trouble or (None if self._crashes is None else self._crashes.trouble)
        if trouble is not None:
            self._complain("what happens is not known to the processes that come after this one", trouble)

    def _complain(self, outcome: str, error: BaseException) -> None:
        why = self._journal.describe(error)
        text = f"the state folder cannot be used: {why}; {outcome}; the service is not affected"
        self._journal.complain("state_unusable", text, about=f"state: {outcome}")


def _as_rate(value: Value | None) -> float | None:
    return float(value) if isinstance(value, int | float) else None


# Only who uses them pays for the imports.


def _session_record(folder: StateFolder, identity: Identity, scribe: Scribe) -> "SessionRecord":
    from rheostat._control.session_record import SessionRecord

    return SessionRecord(folder, identity, scribe)


def _crash_record(folder: StateFolder, identity: Identity, scribe: Scribe) -> "CrashRecord":
    from rheostat._control.crash_record import CrashRecord

    return CrashRecord(folder, identity, scribe)


def _permits(folder: StateFolder, means: Means) -> "Permits":
    from rheostat._host.permits import FILE, Permits, opened_for_all

    shared = means.policy.per_host.dir
    # One that belongs to somebody else is refused, unless it is shared on purpose.
    opens = partial(folder.opened_for_locks, FILE) if shared is None else partial(opened_for_all, shared)
    return Permits(opens, means.wall)
