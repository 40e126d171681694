"""What is known of the flags, and for how long it may be relied on."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from .desired import OFF
from .flagsource import Reading
from .rules import ENABLED, Resolution, Rules, resolve
from .transition import Cause
from .values import Value, shorten


class Knowledge(NamedTuple):
    """The last good reading, and whether it still holds.

    `stale_since` (monotonic seconds) is None while the source answers with fresh values; `reason` says why it
    does not; `retry_at` when it will try again, where it knows.
    """

    reading: Reading | None = None
    stale_since: float | None = None
    reason: str = ""
    retry_at: float | None = None


IGNORANCE: Final = Knowledge(reason="the source has not answered yet")


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
        return Knowledge(before.reading, since, "the source says that its values are stale")
    return Knowledge(
        Reading(
            values={flag: reading.values[flag] for flag in wanted if flag in reading.values},
            reasons={flag: clean(str(reading.reasons[flag])) for flag in wanted if flag in reading.reasons},
            errors={flag: clean(str(reading.errors[flag])) for flag in wanted if flag in reading.errors},
        )
    )


def lose(known: Knowledge, reason: str, retry_at: float | None, now: float) -> Knowledge:
    """What is left when the source cannot answer: the last good values, with the lease running."""
    since = now if known.stale_since is None else known.stale_since
    return Knowledge(known.reading, since, reason, retry_at)


class Intent(NamedTuple):
    """A resolution, and the reason if something stronger than the flags decided."""

    resolution: Resolution
    forced_by: Cause | None = None


def decide(
    rules: Rules, known: Knowledge, *, killed: bool, lease: float, now: float, held: Mapping[str, Value]
) -> Intent:
    """What ought to run. Off wins: the kill switch, then a source that never answered, then an expired lease."""
    resolution = Resolution(OFF, held=held) if known.reading is None else resolve(rules, known.reading, held)
    forced = _forced(known, killed=killed, lease=lease, now=now)
    if forced is not None:
        resolution = resolution._replace(desired=OFF, adjustments=())
    return Intent(resolution, forced)


def _forced(known: Knowledge, *, killed: bool, lease: float, now: float) -> Cause | None:
    if killed:
        return Cause("kill_switch", detail="the kill switch is set")
    if known.reading is None:
        return Cause("source", detail=known.reason)
    if known.stale_since is not None and now - known.stale_since >= lease:
        return Cause("lease", detail=f"no fresh flags for {lease:g} s: {known.reason}")
    return None


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
