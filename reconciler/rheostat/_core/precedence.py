"""Who decides: the brakes, the strongest first, and the flags where none of them keeps profiling off."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from rheostat._contract.flagsource import Reading
from rheostat._contract.values import Value
from rheostat._core.desired import NO_SETTINGS, OFF, Adjustment, Desired
from rheostat._core.knowledge import NEVER_READ, Knowledge, overlay
from rheostat._core.policy import Policy
from rheostat._core.rules import ENABLED, Resolution, Rules, resolve, resolve_setting
from rheostat._core.transition import Cause


class Facts(NamedTuple):
    """The observations that a decision rests on, and nothing else.

    `layers` are what is known of each source, the strongest first; `now` is in monotonic seconds.
    """

    layers: Sequence[Knowledge]
    killed: bool
    now: float


class Verdict(NamedTuple):
    """The session that ought to run, and who says so: `decided_by` is the word of a brake, None where the flags decide.

    Of the same facts nothing else can come before `until` (monotonic seconds). `held` is the last good value of each
    setting, for the next time; `asked` a printable rendition of each flag's raw value, so that a change can be named.
    """

    desired: Desired = OFF
    adjustments: tuple[Adjustment, ...] = ()
    decided_by: Cause | None = None
    until: float = math.inf
    held: Mapping[str, Value] = NO_SETTINGS
    asked: Mapping[str, bool | int | float | str | None] = NO_SETTINGS


class Brake(NamedTuple):
    """Something that keeps profiling off whatever the flags say, as long as `word` gives why.

    `until` gives the moment at which that may change though nothing new is seen.
    """

    name: str
    word: Callable[[Rules, Policy, Facts, Mapping[str, Value]], Cause | None]
    until: Callable[[Policy, Facts], float] = lambda policy, facts: math.inf


def decide(rules: Rules, policy: Policy, facts: Facts, held: Mapping[str, Value]) -> Verdict:
    """The session that ought to run. The first brake that keeps profiling off decides, else the flags.

    A layer that never answered, or whose lease has expired, is passed over, but that never turns profiling on: not
    while the layer has only just begun, not if its last word was off, and not if no other layer knows the switch.
    """
    lease = policy.hold_last_good
    reading = overlay([each for each in facts.layers if each.holds(lease, facts.now)] or facts.layers)
    flags = Resolution(OFF, held=held) if reading is None else resolve(rules, reading, held)
    word = next((word for _, word in brakes(rules, policy, facts, held) if word is not None), None)
    return Verdict(
        desired=flags.desired if word is None else OFF,
        adjustments=flags.adjustments if word is None else (),
        decided_by=word,
        until=min(each.until(policy, facts) for each in PRECEDENCE),
        held=flags.held,
        asked=flags.asked,
    )


def brakes(
    rules: Rules, policy: Policy, facts: Facts, held: Mapping[str, Value]
) -> Iterator[tuple[Brake, Cause | None]]:
    """Each brake in order, with its word: None where it does not keep profiling off."""
    for each in PRECEDENCE:
        yield each, each.word(rules, policy, facts, held)


def _kill_switch(rules: Rules, policy: Policy, facts: Facts, held: Mapping[str, Value]) -> Cause | None:
    return Cause("kill_switch", detail="the kill switch is set") if facts.killed else None


def _beginning(rules: Rules, policy: Policy, facts: Facts, held: Mapping[str, Value]) -> Cause | None:
    """A layer that has only just been opened may be about to say off."""
    begins = next((each for each in _silent(policy, facts) if each.is_beginning), None)
    return None if begins is None else Cause("source", detail=begins.trouble)


def _lease(rules: Rules, policy: Policy, facts: Facts, held: Mapping[str, Value]) -> Cause | None:
    """Of the layers that know the switch the first fresh one decides, unless one before it ended with off."""
    lease = policy.hold_last_good
    for layer in facts.layers:
        if not _knows_switch(rules, layer):
            continue
        if layer.holds(lease, facts.now):
            return None
        assert layer.reading is not None
        if rules.enabled.flag is not None and resolve_setting(rules.enabled, layer.reading, held).value is not True:
            return _expiry(layer, lease)
    expired = next((each for each in _silent(policy, facts) if each.reading is not None), None)
    return None if expired is None else _expiry(expired, lease)


def _silence(rules: Rules, policy: Policy, facts: Facts, held: Mapping[str, Value]) -> Cause | None:
    """A layer that never answered might say off, as long as no other knows the switch."""
    fresh = (each for each in facts.layers if each.holds(policy.hold_last_good, facts.now))
    silent = _silent(policy, facts)
    if not silent or any(_knows_switch(rules, each) for each in fresh):
        return None
    return Cause("source", detail=silent[0].trouble)


def _silent(policy: Policy, facts: Facts) -> list[Knowledge]:
    return [each for each in facts.layers if not each.holds(policy.hold_last_good, facts.now)]


def _knows_switch(rules: Rules, layer: Knowledge) -> bool:
    """It has answered, and its answer says whether profiling is on."""
    flag = rules.enabled.flag
    reading: Reading | None = layer.reading
    return reading is not None and (flag is None or flag in reading.values or flag in reading.errors)


def _expiry(layer: Knowledge, lease: float) -> Cause:
    return Cause("lease", detail=f"no fresh flags for {lease:g} s: {layer.trouble}")


def _first_expiry(policy: Policy, facts: Facts) -> float:
    lease = policy.hold_last_good
    stale = (each.stale_since for each in facts.layers if each.holds(lease, facts.now))
    return min((since + lease for since in stale if since is not None), default=math.inf)


PRECEDENCE: Final = (
    Brake("kill switch", _kill_switch),
    Brake("new source", _beginning),
    Brake("lease", _lease, _first_expiry),
    Brake("silent source", _silence),
)
"""The strongest first."""

INITIAL: Final = Verdict(decided_by=Cause("source", detail=NEVER_READ.reason))


def explain(rules: Rules, before: Verdict, after: Verdict) -> Cause:
    """Why `after` differs from `before`: the brake that decides now, else the flag that changed and mattered first."""
    if after.decided_by is not None:
        return after.decided_by
    released = before.decided_by
    if released is not None and released.kind != "source":
        over = "the kill switch is gone" if released.kind == "kill_switch" else "the source answers again"
        return Cause(released.kind, detail=over)
    old, new = before.asked, after.asked
    changed = [s for s in rules.all if s.flag is not None and old.get(s.flag) != new.get(s.flag)]
    if not changed:
        return Cause("flag", detail="as the configuration says")
    switched = before.desired.on != after.desired.on
    first = next((s for s in changed if (s.name == ENABLED) == switched), changed[0])
    also = ", ".join(f"{s.flag} too" for s in changed if s is not first and not switched)
    assert first.flag is not None
    return Cause("flag", first.flag, old.get(first.flag), new.get(first.flag), also)
