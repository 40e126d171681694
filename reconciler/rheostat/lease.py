"""What is known of the flags, and for how long it may be relied on."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from .desired import OFF
from .flagsource import Reading
from .rules import ENABLED, Resolution, Rules, resolve, settle
from .transition import Cause
from .values import Value, shorten


class Knowledge(NamedTuple):
    """The last good reading of one source, and whether it still holds.

    `stale_since` (monotonic seconds) is None while the source answers with fresh values; `reason` says why it
    does not; `retry_at` when it will try again, where it knows. `layer` names the source if there are several.
    `is_beginning` says that it has only just been opened.
    """

    reading: Reading | None = None
    stale_since: float | None = None
    reason: str = ""
    retry_at: float | None = None
    layer: str = ""
    is_beginning: bool = False

    def holds(self, lease: float, now: float) -> bool:
        """There are values, and they are fresh or within the lease (seconds)."""
        return self.reading is not None and (self.stale_since is None or now < self.stale_since + lease)

    @property
    def trouble(self) -> str:
        """The reason, with the layer's name; empty while the source answers."""
        return f"{self.layer}: {self.reason}" if self.layer and self.reason else self.reason


IGNORANCE: Final = Knowledge(reason="the source has not answered yet", is_beginning=True)


def learn(
    reading: Reading,
    wanted: Collection[str],
    now: float,
    before: Knowledge = IGNORANCE,
    clean: Callable[[str], str] = shorten,
) -> Knowledge:
    """What a reading that the source gave amounts to, after what was known before; `clean` makes its texts fit to show.

    Of a fresh one what is wanted is copied: its mappings are the source's own, may change or raise later, and may
    hold every flag of a company. A stale one leaves the last fresh values, if there are any, with the lease running.
    """
    if reading.stale_since is not None:
        moments = (float(reading.stale_since), now, before.stale_since)
        # Neither a date in the future nor a new one with each reading may prolong the lease.
        since = min(each for each in moments if each is not None and math.isfinite(each))
        return before._replace(
            stale_since=since,
            reason="the source says that its values are stale",
            retry_at=None,
            is_beginning=False,
        )
    return Knowledge(
        layer=before.layer,
        reading=Reading(
            values={flag: reading.values[flag] for flag in wanted if flag in reading.values},
            reasons={flag: clean(str(reading.reasons[flag])) for flag in wanted if flag in reading.reasons},
            errors={flag: clean(str(reading.errors[flag])) for flag in wanted if flag in reading.errors},
        ),
    )


def lose(known: Knowledge, reason: str, retry_at: float | None, now: float, *, is_beginning: bool = False) -> Knowledge:
    """What is left when the source cannot answer: the last good values, with the lease running."""
    since = now if known.stale_since is None else known.stale_since
    return known._replace(
        stale_since=since,
        reason=reason,
        retry_at=retry_at,
        is_beginning=is_beginning and known.reading is None,
    )


def overlay(layers: Sequence[Knowledge]) -> Reading | None:
    """What they say together: of each flag, what the first that defines it says. None if none has ever answered.

    A flag with an error is defined: falling through to another layer would hide the error.
    """
    readings = [(each.layer, each.reading) for each in layers if each.reading is not None]
    if len(readings) < 2 and not (readings and readings[0][0]):
        return readings[0][1] if readings else None
    values: dict[str, object] = {}
    reasons: dict[str, str] = {}
    errors: dict[str, str] = {}
    for layer, reading in readings:
        known = values.keys() | errors.keys()
        for flag in (reading.values.keys() | reading.errors.keys()) - known:
            if flag in reading.values:
                values[flag] = reading.values[flag]
            if flag in reading.errors:
                errors[flag] = f"{layer}: {reading.errors[flag]}"
            reasons[flag] = f"{layer}: {reading.reasons[flag]}" if reading.reasons.get(flag) else layer
    for layer, reading in readings:
        for flag in reading.reasons.keys() - reasons.keys():
            reasons[flag] = f"{layer}: {reading.reasons[flag]}"
    return Reading(values, reasons, errors)


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
