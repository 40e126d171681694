"""The invariants of a simulated process: the contract's invariants, from what happened alone."""

import binascii
import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rheostat import State, Status, Transition, Value
from rheostat.plugins import PermanentError

from .faulty_backend import BackendCall
from .oracle import judge
from .scenario import SWITCH, Scenario
from .simulation import Ended, Step

_ROUNDING = 1e-6
_NONE: Mapping[str, Value] = {}

MOVES = {
    ("started", "stopped", "running"),
    ("started", "restarting", "running"),
    ("retune", "running", "restarting"),
    ("stopped", "running", "stopped"),
    ("stopped", "restarting", "stopped"),
    ("failed", "restarting", "stopped"),
    ("died", "running", "stopped"),
    ("forked", "running", "stopped"),
    ("forked", "restarting", "stopped"),
}


_JUST_FULL = 0.999
"""The part of a budget's bucket from which on it counts as full."""
_RESERVE = 0.15
"""The part of it that is left for a stop and the next start."""
_LATEST = 1.0
"""Seconds between looks at what a session uses, at most a core of them."""


class World(NamedTuple):
    """The findings of a look: the flags, or None where the source fails; since when they are stale; the kill switch;
    and the seconds of processor time that sessions have used."""

    flags: Mapping[str, Any] | None
    stale_since: float | None
    killed: bool
    used: float = 0.0


class Wanted(NamedTuple):
    """The desired state."""

    on: bool
    settings: Mapping[str, Value]


_OFF = Wanted(False, _NONE)


class Bucket:
    """Owns a budget's law: at most the share that it gives, a burst of it, and what falls between two looks."""

    def __init__(self, share: float, burst: float) -> None:
        self._share = share
        self._most = self._level = share * burst
        self._at: float | None = None
        self._began = self._used = self._exempt = 0.0
        self._is_exempt = False
        self.is_empty = False

    def look(self, used: float, now: float, *, exempt: bool) -> None:
        """`exempt`: from now on a call is in flight, or what runs refuses to stop. Raises AssertionError."""
        if not self._share:
            return
        if self._at is None:
            self._at, self._began = now, now
        spent = used - self._used
        self._exempt += spent if self._is_exempt else 0.0
        self._level = min(self._most, self._level + self._share * (now - self._at) - spent)
        self._at, self._used, self._is_exempt = now, used, exempt
        self.is_empty = self._level <= self._most * (_JUST_FULL if self.is_empty else _RESERVE)
        law = self._share * (now - self._began) + self._most + _LATEST
        assert used - self._exempt <= law + _ROUNDING, f"{used} s are used of a budget of {law} s"

    def full_at(self) -> float:
        assert self._at is not None
        return self._at + (self._most - self._level) / self._share


class Model:
    """Owns what is true of one process, and holds each step that it made against that.

    It shares no code with the loop, the rules or the machine.
    """

    def __init__(
        self,
        scenario: Scenario,
        luck: float,
        *,
        forked_from: State = State.STOPPED,
        enabled_since: float | None = None,
    ) -> None:
        """`enabled_since` is what the process before this one knew."""
        self._scenario = scenario
        self._luck = luck
        share = binascii.crc32(scenario.instance.encode()) / 2**32
        self._own_splay = self._splay = share * scenario.splay
        self._waited = False
        self._is_splayed = True

        digest = hashlib.sha256(b"\0" + scenario.instance.encode()).hexdigest()
        self._place = int(digest[:16], 16) // 2**11 / 2**53
        self.enabled_since = enabled_since
        self._bucket = Bucket(scenario.budget / 100, scenario.burst)

        self._known: Mapping[str, Any] | None = None
        self._stale_since: float | None = None
        self._held: dict[str, Value] = {}
        self.wanted = _OFF
        self.closing = False

        self._wanted_since = 0.0
        self._last_start = -math.inf
        self._start_failures = 0
        self._start_failed_at = -math.inf
        self._refused: Mapping[str, Value] | None = None
        self._stop_failures = 0
        self._stop_failed_at = -math.inf
        self._off_is_news = False

        self.session: Mapping[str, Value] | None = None
        """The settings of the session that was started, and not stopped."""
        self.call: BackendCall | None = None
        self._called_at = 0.0
        self._restarts = False
        self._was_restarting = False
        self._is_dead = False
        self._probe_due = math.inf
        self._forked_from = forked_from

    @property
    def doubtful(self) -> bool:
        """The last stop failed: nobody knows what runs."""
        return self._stop_failures > 0

    @property
    def refused(self) -> bool:
        """The desired settings were refused for good."""
        return self.wanted.on and self.wanted.settings == self._refused

    def took(self, step: Step, world: World) -> None:
        """The process has made a step while the world was like this. Raises AssertionError."""
        if step.ended is not None:
            self._ended(step.ended, step.at)
        if not self.closing:
            self._look(world, step.at)
        else:
            self._want(_OFF, step.at)
        assert len(step.made) <= 1, f"more than one call in a step: {step.made}"
        for call in step.made:
            self._made(call, step.at)
        longest = math.inf if self.closing else self._scenario.resync + _ROUNDING
        assert 0.0 <= step.rest <= longest, f"no look for {step.rest} s"
        if self.session is None and self.call is None:
            self._restarts = False
        self._nothing_is_neglected(step.at)
        if not self.closing:
            self._nothing_is_slept_over(step)

    def _look(self, world: World, now: float) -> None:
        if world.flags is not None and world.stale_since is None:
            self._known, self._stale_since = dict(world.flags), None
        elif world.flags is not None:
            # Stale values leave the last fresh ones, and one that goes on being stale cannot prolong the lease.
            moments = (world.stale_since, self._stale_since, now)
            self._stale_since = min(each for each in moments if each is not None)
        elif self._stale_since is None:
            self._stale_since = now
        expired = self._stale_since is not None and now >= self._stale_since + self._scenario.lease
        wanted = _OFF
        if self._known is not None:
            wanted = self._resolved(self._known)
            since = now if self.enabled_since is None else self.enabled_since
            self.enabled_since = since if wanted.on else None
        self._bucket.look(world.used, now, exempt=self.call is not None or self.doubtful)
        is_unknown = self._known is None or world.killed or expired
        is_over = now >= self._session_ends_at() or self._place * 100 >= self._scenario.rollout
        waits = not self._has_turn(now) or self._bucket.is_empty
        # What lets go of each process at a moment of its own is not spread over a fleet once more.
        self._is_splayed = not self._waited
        self._want(_OFF if is_unknown or is_over or waits else wanted, now)
        self._waited = waits and not is_unknown and not is_over

    def _session_ends_at(self) -> float:
        longest = self._scenario.session
        return self.enabled_since + longest if longest and self.enabled_since is not None else math.inf

    def _has_turn(self, now: float) -> bool:
        return self._scenario.turn is None or self._into_turn(now) < self._scenario.turn[0]

    def _into_turn(self, now: float) -> float:
        assert self._scenario.turn is not None
        every = self._scenario.turn[1]
        return (now - self._place * every) % every

    def _resolved(self, flags: Mapping[str, Any]) -> Wanted:
        verdicts = {}
        for each in self._scenario.flags:
            defined = each.flag in flags
            verdict = judge(each, flags.get(each.flag), self._held.get(each.name), defined=defined)
            if verdict.good and verdict.value is not None:
                self._held[each.name] = verdict.value
            verdicts[each.name] = verdict
        switch = verdicts.pop(SWITCH)
        if switch.value is not True or switch.off or any(each.off for each in verdicts.values()):
            return _OFF
        return Wanted(True, {name: each.value for name, each in verdicts.items() if each.value is not None})

    def _want(self, wanted: Wanted, now: float) -> None:
        if wanted == self.wanted:
            return
        self._off_is_news = self.wanted.on and not wanted.on
        self.wanted = wanted
        self._wanted_since = now
        self._splay = self._own_splay if self._is_splayed or not wanted.on else 0.0
        self._refused = None

    def gate_opens_at(self) -> float:
        """From when a start may be tried."""
        return max(
            self._last_start + self._scenario.cooldown,
            self._start_failed_at + self._backoff(self._start_failures),
            self._wanted_since + self._splay,
        )

    def _stop_may_be_tried_at(self) -> float:
        """Off is exempt from backoff, once; so is the end of the process."""
        return -math.inf if self._off_is_news else self._stop_failed_at + self._backoff(self._stop_failures)

    def _backoff(self, failures: int) -> float:
        scenario = self._scenario
        return (
            min(scenario.backoff * 2 ** (failures - 1), scenario.backoff_max) * (1 - self._luck / 2)
            if failures
            else 0.0
        )

    def may_start(self, now: float) -> bool:
        return self.wanted.on and self.wanted.settings != self._refused and now >= self.gate_opens_at()

    def _made(self, call: BackendCall, now: float) -> None:
        assert self.call is None, f"{call.name} while {self.call} is in flight"
        self.call, self._called_at = call, now
        {"start": self._starts, "stop": self._stops, "probe": self._probes}[call.name](call, now)

    def _starts(self, call: BackendCall, now: float) -> None:
        assert self.session is None, "a start before the previous stop returned"
        assert not self.doubtful, "a start although the last stop failed"
        assert self.wanted.on, "a start although off is wanted"
        assert self.wanted.settings != self._refused, "a start of what was refused for good"
        assert self._restarts or now >= self.gate_opens_at(), "a start ahead of cooldown, backoff or splay"
        assert self.wanted.settings == call.settings, "a start with other settings than are wanted"
        for declared in self._scenario.settings:
            assert declared.kind is type(call.settings[declared.name]), "a setting of the wrong type"
        self._last_start = now

    def _stops(self, call: BackendCall, now: float) -> None:
        assert self.session is not None, "a stop without a session"
        self._restarts = False
        if self.doubtful:
            assert self.closing or now >= self._stop_may_be_tried_at(), "a stop ahead of its backoff"
            self._restarts = self._was_restarting
        elif self.wanted.on and not self._is_dead:
            assert self.wanted.settings != self.session, "a stop although what runs is what is wanted"
            assert now >= self.gate_opens_at(), "a restart ahead of cooldown or splay"
            self._restarts = True
        self._was_restarting = self._restarts
        self._off_is_news = False

    def _probes(self, call: BackendCall, now: float) -> None:
        assert self._scenario.probes
        assert self.session is not None, "a probe without a session"
        assert now >= self._probe_due, "a probe ahead of its time"

    def _ended(self, ended: Ended, now: float) -> None:
        assert ended.call is self.call, "a call returned that was not made"
        self.call = None
        {"start": self._start_ended, "stop": self._stop_ended, "probe": self._probe_ended}[ended.call.name](ended, now)

    def _start_ended(self, ended: Ended, now: float) -> None:
        self._restarts = False
        if ended.error is None:
            self.session, self._is_dead = ended.call.settings, False
            self._probe_due = now + 1.0 if self._scenario.probes else math.inf
            if not self._scenario.probes:
                self._start_failures, self._start_failed_at = 0, -math.inf
            return
        self._failed(now)
        if isinstance(ended.error, PermanentError):
            self._refused = ended.call.settings

    def _failed(self, now: float) -> None:
        self._start_failures += 1
        self._start_failed_at = now

    def _stop_ended(self, ended: Ended, now: float) -> None:
        if ended.error is not None:
            self._stop_failures += 1
            self._stop_failed_at = now
            return
        self.session, self._stop_failures, self._is_dead = None, 0, False
        self._probe_due = math.inf

    def _probe_ended(self, ended: Ended, now: float) -> None:
        self._probe_due = now + self._scenario.resync
        status = getattr(ended.result, "status", None) if ended.error is None else None
        if status == "healthy":
            self._start_failures, self._start_failed_at = 0, -math.inf
        elif status == "failed":
            self._failed(now)
            self._is_dead = True

    def _nothing_is_neglected(self, now: float) -> None:
        """Everything due has been begun: nothing waits for another look."""
        if self.call is not None:
            return
        if self.session is None:
            assert not self.may_start(now), "a start is due, and nothing happens"
        elif self.doubtful:
            assert now < self._stop_may_be_tried_at() or self.closing, "a stop is due again, and nothing happens"
        else:
            assert self.wanted.on, "off is wanted, and nothing is stopped"
            assert not self._is_dead, "the session is dead, and nothing is stopped"
            if self.wanted.settings != self.session:
                assert now < self.gate_opens_at(), "a restart is due, and nothing happens"
            else:
                assert now < self._probe_due, "a probe is due, and nothing happens"

    def _nothing_is_slept_over(self, step: Step) -> None:
        """It wakes by itself when the next thing is due."""
        due = min(self._dues(step.at), default=math.inf)
        assert step.at + step.rest <= due + _ROUNDING, f"it sleeps until {step.at + step.rest}, but {due} is due"

    def _dues(self, now: float) -> Iterator[float]:
        scenario = self._scenario
        if self._known is not None and self._stale_since is not None and now < self._stale_since + scenario.lease:
            yield self._stale_since + scenario.lease
        if now < self._session_ends_at():
            yield self._session_ends_at()
        if scenario.turn is not None:
            on, every = scenario.turn
            into = self._into_turn(now)
            yield now + ((on if into < on else every) - into)
        if self._bucket.is_empty:
            yield self._bucket.full_at()
        if self.call is not None:
            limit = scenario.stop_deadline if self.call.name == "stop" else scenario.start_deadline
            if now < self._called_at + limit:
                yield self._called_at + limit
        elif self.session is None:
            if self.wanted.on and not self.refused:
                yield self.gate_opens_at()
        elif self.doubtful:
            yield self._stop_may_be_tried_at()
        elif self.wanted.settings != self.session:
            yield self.gate_opens_at()
        else:
            yield self._probe_due

    def tells(self, status: Status, now: float) -> None:
        """The status is the truth. Raises AssertionError."""
        assert self.wanted == Wanted(status.desired.on, dict(status.desired.settings))
        operation = status.operation
        assert (None if self.call is None else self.call.name) == (None if operation is None else operation.name)
        if operation is not None:
            limit = self._scenario.stop_deadline if operation.name == "stop" else self._scenario.start_deadline
            # As a sum, as deadlines are: a difference may come out a rounding short.
            assert (now >= self._called_at + limit) == operation.stuck
        if self.call is not None and self.call.name == "stop" and self._restarts:
            assert State.RESTARTING is status.state, "a restart that is not told of"
        if self.call is None and not self.doubtful:
            assert (self.session is not None) == (status.state is State.RUNNING), "running means a session"
            assert (self.session or _NONE) == status.settings, "what is said to run runs"

    def chains(self, seen: list[Transition], status: Status) -> None:
        """Sequence numbers have no gaps, the moves are the table's, and each begins where the last ended."""
        assert list(range(1, len(seen) + 1)) == [each.seq for each in seen]
        state = self._forked_from
        for each in seen:
            assert (str(each.trigger), str(each.from_state), str(each.to_state)) in MOVES
            assert state == each.from_state
            state = each.to_state
        assert state == status.state
        assert len(seen) == status.seq
