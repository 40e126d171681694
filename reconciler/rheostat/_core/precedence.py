"""Who decides: the flags, unless something stronger keeps profiling off."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from rheostat._contract.flagsource import Reading
from rheostat._contract.values import Value
from rheostat._core.desired import OFF
from rheostat._core.knowledge import IGNORANCE, Knowledge, overlay
from rheostat._core.rules import ENABLED, Resolution, Rules, resolve, settle
from rheostat._core.transition import Cause


class Intent(NamedTuple):
    """A resolution, and the reason if something stronger than the flags decided."""

    resolution: Resolution
    forced_by: Cause | None = None


def decide(
    rules: Rules, layers: Sequence[Knowledge], *, killed: bool, lease: float, now: float, held: Mapping[str, Value]
) -> Intent:
    """What ought to run. Off wins: the kill switch, then sources that never answered, then expired leases.

    A layer that never answered, or whose lease has expired, is passed over, but that never turns profiling on: not
    while the layer has only just begun, not if its last word was off, and not if no other layer knows the switch.
    """
    reading = overlay([each for each in layers if each.holds(lease, now)] or layers)
    resolution = Resolution(OFF, held=held) if reading is None else resolve(rules, reading, held)
    forced = _KILLED if killed else _silenced(rules, layers, lease, now, held)
    if forced is not None:
        resolution = resolution._replace(desired=OFF, adjustments=())
    return Intent(resolution, forced)


_KILLED: Final = Cause("kill_switch", detail="the kill switch is set")


def _silenced(
    rules: Rules, layers: Sequence[Knowledge], lease: float, now: float, held: Mapping[str, Value]
) -> Cause | None:
    """The silence of a layer, if it keeps profiling off."""
    switch = rules.enabled.flag
    silent = [each for each in layers if not each.holds(lease, now)]
    expired = [each for each in silent if each.reading is not None]
    begins = next((each for each in silent if each.is_beginning), None)
    if begins is not None:
        return Cause("source", detail=begins.trouble)
    for layer in layers:
        if layer.reading is None or not (switch is None or _defines(layer.reading, switch)):
            continue
        if layer not in expired:
            return None
        if switch is not None and settle(rules.enabled, layer.reading, held).value is not True:
            return _expiry(layer, lease)
    if expired:
        return _expiry(expired[0], lease)
    return Cause("source", detail=silent[0].trouble) if silent else None


def _defines(reading: Reading, flag: str) -> bool:
    return flag in reading.values or flag in reading.errors


def _expiry(layer: Knowledge, lease: float) -> Cause:
    return Cause("lease", detail=f"no fresh flags for {lease:g} s: {layer.trouble}")


UNDECIDED: Final = Intent(Resolution(OFF), Cause("source", detail=IGNORANCE.reason))


def explain(rules: Rules, before: Intent, after: Intent) -> Cause:
    """Why `after` differs from `before`: what forced it, else the flag that changed and mattered first."""
    if after.forced_by is not None:
        return after.forced_by
    released = before.forced_by
    if released is not None and released.kind != "source":
        over = "the kill switch is gone" if released.kind == "kill_switch" else "the source answers again"
        return Cause(released.kind, detail=over)
    old, new = before.resolution.asked, after.resolution.asked
    changed = [s for s in rules.all if s.flag is not None and old.get(s.flag) != new.get(s.flag)]
    if not changed:
        return Cause("flag", detail="as the configuration says")
    switched = before.resolution.desired.on != after.resolution.desired.on
    first = next((s for s in changed if (s.name == ENABLED) == switched), changed[0])
    also = ", ".join(f"{s.flag} too" for s in changed if s is not first and not switched)
    assert first.flag is not None
    return Cause("flag", first.flag, old.get(first.flag), new.get(first.flag), also)
