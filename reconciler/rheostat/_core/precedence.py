"""Who decides: the brakes, the strongest first, and the flags where none of them keeps profiling off."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from rheostat._contract.flagsource import Reading
from rheostat._contract.values import Value
from rheostat._core.budget import Budget, Spending, look_again, spent
from rheostat._core.desired import NO_SETTINGS, OFF, Adjustment, Desired
from rheostat._core.fleet import place
from rheostat._core.knowledge import NEVER_READ, Knowledge, overlay
from rheostat._core.policy import Policy
from rheostat._core.rules import ENABLED, Resolution, Rules, resolve, resolve_setting
from rheostat._core.transition import Cause

_BURST: Final = 10.0
"""Seconds, where there is a budget and nothing is said."""
_WHOLE: Final = 100.0
"""Percent."""


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


class Memory(NamedTuple):
    """The part of a decision that the next one needs: `held` is the last good value of each setting.

    `enabled_since` is the moment (monotonic seconds) from which on the flags have said on, for the `session_id` that
    they said. `spending` is what has been used of the budget.
    """

    held: Mapping[str, Value] = NO_SETTINGS
    enabled_since: float | None = None
    session_id: Value | None = None
    spending: Spending | None = None


class Verdict(NamedTuple):
    """The session that ought to run, and who says so: `decided_by` is the word of a brake, None where the flags decide.

    Of the same facts nothing else can come before `until` (monotonic seconds). `asked` is a printable rendition of each
    flag's raw value, so that a change can be named. The session ends at `session_ends_at` by itself.
    """

    desired: Desired = OFF
    adjustments: tuple[Adjustment, ...] = ()
    decided_by: Cause | None = None
    until: float = math.inf
    memory: Memory = Memory()
    asked: Mapping[str, bool | int | float | str | None] = NO_SETTINGS
    session_ends_at: float = math.inf


class Case(NamedTuple):
    """All that a brake may look at; `flags` is what the flags alone come to."""

    rules: Rules
    policy: Policy
    facts: Facts
    memory: Memory
    flags: Resolution

    def seconds(self, name: str) -> float:
        """The value of one of the policy's settings that is a span of time, or a share."""
        value = self.flags.tuned.get(name, 0.0)
        return float(value) if isinstance(value, int | float) else 0.0

    @property
    def budget(self) -> Budget | None:
        """None if there is none."""
        share = self.seconds("budget.cpu") / _WHOLE
        return Budget(share, self.seconds("budget.burst") or _BURST) if share else None


class Brake(NamedTuple):
    """Something that keeps profiling off whatever the flags say, as long as `word` gives why.

    `until` gives the moment at which that may change though nothing new is seen.
    """

    name: str
    word: Callable[[Case], Cause | None]
    until: Callable[[Case], float] = lambda case: math.inf


def decide(rules: Rules, policy: Policy, facts: Facts, memory: Memory) -> Verdict:
    """The session that ought to run. The first brake that keeps profiling off decides, else the flags.

    A layer that never answered, or whose lease has expired, is passed over, but that never turns profiling on: not
    while the layer has only just begun, not if its last word was off, and not if no other layer knows the switch.
    """
    case = considered(rules, policy, facts, memory)
    flags = case.flags
    word = next((word for _, word in brakes(case) if word is not None), None)
    return Verdict(
        desired=flags.desired if word is None else OFF,
        adjustments=flags.adjustments if word is None else (),
        decided_by=word,
        until=min(each.until(case) for each in PRECEDENCE),
        memory=case.memory,
        asked=flags.asked,
        session_ends_at=_session_ends_at(case),
    )


def considered(rules: Rules, policy: Policy, facts: Facts, memory: Memory) -> Case:
    """The case that these facts make, with the memory brought up to them."""
    lease = policy.hold_last_good
    reading = overlay([each for each in facts.layers if each.holds(lease, facts.now)] or facts.layers)
    held = memory.held
    flags = Resolution(OFF, held=held) if reading is None else resolve(rules, reading, held)
    case = Case(rules, policy, facts, Memory(flags.held), flags)
    spending = None
    if (budget := case.budget) is not None and facts.used is not None:
        spending = spent(memory.spending, budget, facts.now, facts.used, facts.rate)
        if policy.budget.action == "stop":
            was_spent = memory.spending is not None and memory.spending.is_spent
            stays_off = flags.desired.on and (was_spent or spending.is_spent)
            spending = spending._replace(is_spent=stays_off, cap=math.inf)
        elif not spending.used:
            spending = spending._replace(cap=_guessed(rules, flags, facts, budget))
        flags = _capped(rules, flags, spending)
    if "session.max" not in flags.tuned:
        return case._replace(memory=Memory(flags.held, spending=spending), flags=flags)
    session_id = flags.tuned.get("session.id")
    goes_on = memory.enabled_since is not None and memory.session_id == session_id
    since = memory.enabled_since if goes_on else facts.now
    known = Memory(flags.held, since if flags.desired.on else None, session_id, spending)
    return case._replace(memory=known, flags=flags)


def _guessed(rules: Rules, flags: Resolution, facts: Facts, budget: Budget) -> float:
    """The rate that the budget may have room for, before anything has been measured."""
    asked = flags.desired.settings.get(rules.rate)
    if rules.estimate is None or not isinstance(asked, int | float):
        return math.inf
    try:
        cost = float(rules.estimate(flags.desired.settings, facts.threads))
    # Third-party code, and no more than a guess.
    except Exception:
        return math.inf
    return asked * budget.share / cost if cost > budget.share else math.inf


def _capped(rules: Rules, flags: Resolution, spending: Spending) -> Resolution:
    """The settings, with the rate that the budget has room for."""
    asked = flags.desired.settings.get(rules.rate)
    if not isinstance(asked, int | float) or asked <= spending.cap:
        return flags
    setting = next(each for each in rules.settings if each.name == rules.rate)
    least = max((each.min for each in setting.limits if each.min is not None), default=0)
    given = max(least, int(spending.cap) if setting.kind is int else spending.cap)
    adjusted = Adjustment(rules.rate, asked, given, "budget")
    others = tuple(each for each in flags.adjustments if each.setting != rules.rate)
    return flags._replace(
        desired=flags.desired._replace(settings=MappingProxyType({**flags.desired.settings, rules.rate: given})),
        adjustments=(*others, adjusted),
    )


def brakes(case: Case) -> Iterator[tuple[Brake, Cause | None]]:
    """Each brake in order, with its word: None where it does not keep profiling off."""
    for each in PRECEDENCE:
        yield each, each.word(case)


def _kill_switch(case: Case) -> Cause | None:
    return Cause("kill_switch", detail="the kill switch is set") if case.facts.killed else None


def _beginning(case: Case) -> Cause | None:
    """A layer that has only just been opened may be about to say off."""
    begins = next((each for each in _silent(case) if each.is_beginning), None)
    return None if begins is None else Cause("source", detail=begins.trouble)


def _lease(case: Case) -> Cause | None:
    """Of the layers that know the switch the first fresh one decides, unless one before it ended with off."""
    rules, facts, held = case.rules, case.facts, case.memory.held
    lease = case.policy.hold_last_good
    for layer in facts.layers:
        if not _knows_switch(rules, layer):
            continue
        if layer.holds(lease, facts.now):
            return None
        assert layer.reading is not None
        if rules.enabled.flag is not None and resolve_setting(rules.enabled, layer.reading, held).value is not True:
            return _expiry(layer, lease)
    expired = next((each for each in _silent(case) if each.reading is not None), None)
    return None if expired is None else _expiry(expired, lease)


def _silence(case: Case) -> Cause | None:
    """A layer that never answered might say off, as long as no other knows the switch."""
    fresh = (each for each in case.facts.layers if each.holds(case.policy.hold_last_good, case.facts.now))
    silent = _silent(case)
    if not silent or any(_knows_switch(case.rules, each) for each in fresh):
        return None
    return Cause("source", detail=silent[0].trouble)


def _silent(case: Case) -> list[Knowledge]:
    lease, now = case.policy.hold_last_good, case.facts.now
    return [each for each in case.facts.layers if not each.holds(lease, now)]


def _knows_switch(rules: Rules, layer: Knowledge) -> bool:
    """It has answered, and its answer says whether profiling is on."""
    flag = rules.enabled.flag
    reading: Reading | None = layer.reading
    return reading is not None and (flag is None or flag in reading.values or flag in reading.errors)


def _expiry(layer: Knowledge, lease: float) -> Cause:
    return Cause("lease", detail=f"no fresh flags for {lease:g} s: {layer.trouble}")


def _first_expiry(case: Case) -> float:
    lease = case.policy.hold_last_good
    stale = (each.stale_since for each in case.facts.layers if each.holds(lease, case.facts.now))
    return min((since + lease for since in stale if since is not None), default=math.inf)


def _session(case: Case) -> Cause | None:
    """A session ends by itself."""
    if case.facts.now < _session_ends_at(case):
        return None
    longest = case.seconds("session.max")
    return Cause("session", detail=f"the session has had its {longest:g} s; off and on again begins another")


def _session_ends_at(case: Case) -> float:
    longest, since = case.seconds("session.max"), case.memory.enabled_since
    return math.inf if since is None or not longest else since + longest


def _session_until(case: Case) -> float:
    ends_at = _session_ends_at(case)
    return ends_at if ends_at > case.facts.now else math.inf


def _rollout(case: Case) -> Cause | None:
    """This instance is not in the part of the fleet that is to profile."""
    percent = case.seconds("rollout.percent")
    # Not asked for, it costs nothing.
    if "rollout.percent" not in case.flags.tuned or percent >= _WHOLE:
        return None
    own = place(case.facts.instance, case.policy.rollout.salt) * _WHOLE
    if own < percent:
        return None
    return Cause("rollout", detail=f"this instance is in at {own:.2f} % of the fleet, the rollout is at {percent:g} %")


def _duty_cycle(case: Case) -> Cause | None:
    """It is other instances' turn."""
    into, on, every = _turn(case)
    if into < on:
        return None
    return Cause("duty_cycle", detail=f"other instances' turn: {on:g} s of {every:g} s each")


def _next_turn(case: Case) -> float:
    into, on, every = _turn(case)
    return case.facts.now + ((on if into < on else every) - into)


def _turn(case: Case) -> tuple[float, float, float]:
    """Seconds into the cycle, its part that is on, and all of it; without a cycle it is on for ever."""
    on, every = case.seconds("duty_cycle.on"), case.seconds("duty_cycle.every")
    if not every or on >= every:
        return 0.0, math.inf, math.inf
    phase = place(case.facts.instance, case.policy.duty_cycle.salt) * every
    return (case.facts.wall - phase) % every, on, every


def _budget(case: Case) -> Cause | None:
    """Profiling has used its part of the processor time."""
    budget, spending = case.budget, case.memory.spending
    if budget is None or spending is None or not spending.is_spent:
        return None
    stops = case.policy.budget.action == "stop"
    again = "off and on again begins anew" if stops else "it goes on when it is there again"
    return Cause("budget", detail=f"the budget of {budget.share:.3g} of a core is used up; {again}")


def _next_reckoning(case: Case) -> float:
    budget, spending = case.budget, case.memory.spending
    if budget is None or spending is None:
        return math.inf
    if spending.is_spent and case.policy.budget.action == "stop":
        return math.inf
    return look_again(spending, budget, runs=case.facts.runs)


PRECEDENCE: Final = (
    Brake("kill switch", _kill_switch),
    Brake("new source", _beginning),
    Brake("lease", _lease, _first_expiry),
    Brake("silent source", _silence),
    Brake("session", _session, _session_until),
    Brake("rollout", _rollout),
    Brake("duty cycle", _duty_cycle, _next_turn),
    Brake("budget", _budget, _next_reckoning),
)
"""The strongest first."""

INITIAL: Final = Verdict(decided_by=Cause("source", detail=NEVER_READ.reason))


_RELEASED: Final = {
    "kill_switch": "the kill switch is gone",
    "lease": "the source answers again",
    "session": "another session begins",
    "rollout": "the rollout has reached this instance",
    "duty_cycle": "it is this instance's turn",
    "budget": "the budget is there again",
}


def explain(rules: Rules, before: Verdict, after: Verdict) -> Cause:
    """Why `after` differs from `before`: the brake that decides now, else the flag that changed and mattered first."""
    if after.decided_by is not None:
        return after.decided_by
    released = before.decided_by
    if released is not None and released.kind != "source":
        return Cause(released.kind, detail=_RELEASED[released.kind])
    old, new = before.asked, after.asked
    changed = [s for s in rules.all if s.flag is not None and old.get(s.flag) != new.get(s.flag)]
    if not changed:
        return Cause("flag", detail="as the configuration says")
    switched = before.desired.on != after.desired.on
    first = next((s for s in changed if (s.name == ENABLED) == switched), changed[0])
    also = ", ".join(f"{s.flag} too" for s in changed if s is not first and not switched)
    assert first.flag is not None
    return Cause("flag", first.flag, old.get(first.flag), new.get(first.flag), also)
