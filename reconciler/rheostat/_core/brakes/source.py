"""Whether the flags can be relied on at all: the kill switch, and sources that have nothing to say (any more)."""

import math
from typing import Final

from rheostat._contract.flagsource import Reading
from rheostat._core.case import Brake, Case
from rheostat._core.knowledge import Knowledge
from rheostat._core.rules import Rules, resolve_setting


def _kill_switch(case: Case) -> str | None:
    return "the kill switch is set" if case.facts.killed else None


def _beginning(case: Case) -> str | None:
    """A layer that has only just been opened may be about to say off."""
    begins = next((each for each in _silent(case) if each.is_beginning), None)
    return None if begins is None else begins.trouble


def _lease(case: Case) -> str | None:
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


def _silence(case: Case) -> str | None:
    """A layer that never answered might say off, as long as no other knows the switch."""
    fresh = (each for each in case.facts.layers if each.holds(case.policy.hold_last_good, case.facts.now))
    silent = _silent(case)
    if not silent or any(_knows_switch(case.rules, each) for each in fresh):
        return None
    return silent[0].trouble


def _silent(case: Case) -> list[Knowledge]:
    lease, now = case.policy.hold_last_good, case.facts.now
    return [each for each in case.facts.layers if not each.holds(lease, now)]


def _knows_switch(rules: Rules, layer: Knowledge) -> bool:
    """It has answered, and its answer says whether profiling is on."""
    flag = rules.enabled.flag
    reading: Reading | None = layer.reading
    return reading is not None and (flag is None or flag in reading.values or flag in reading.errors)


def _expiry(layer: Knowledge, lease: float) -> str:
    return f"no fresh flags for {lease:g} s: {layer.trouble}"


def _first_expiry(case: Case) -> float:
    lease = case.policy.hold_last_good
    stale = (each.stale_since for each in case.facts.layers if each.holds(lease, case.facts.now))
    return min((since + lease for since in stale if since is not None), default=math.inf)


def _has_kill_switch(case: Case) -> bool:
    return case.policy.kill_switch is not None


KILL_SWITCH: Final = Brake(
    "kill_switch", "kill switch", _kill_switch, "the kill switch is gone", is_used=_has_kill_switch
)
BEGINNING: Final = Brake("source", "new source", _beginning)
LEASE: Final = Brake("lease", "lease", _lease, "the source answers again", _first_expiry)
SILENCE: Final = Brake("source", "silent source", _silence)
