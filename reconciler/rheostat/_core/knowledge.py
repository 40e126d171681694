"""Knowledge of the flags, and for how long it may be relied on."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from rheostat._contract.flagsource import Reading
from rheostat._contract.text import shorten


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


NEVER_READ: Final = Knowledge(reason="the source has not answered yet", is_beginning=True)


def learn(
    reading: Reading,
    wanted: Collection[str],
    now: float,
    before: Knowledge = NEVER_READ,
    clean: Callable[[str], str] = shorten,
) -> Knowledge:
    """The knowledge that a source's reading adds to what was known before; `clean` makes its texts fit to show.

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
    """The knowledge that is left when a source cannot answer: the last good values, with the lease running."""
    since = now if known.stale_since is None else known.stale_since
    return known._replace(
        stale_since=since,
        reason=reason,
        retry_at=retry_at,
        is_beginning=is_beginning and known.reading is None,
    )


def overlay(layers: Sequence[Knowledge]) -> Reading | None:
    """The layers as one: of each flag the word of the first that defines it. None if none has ever answered.

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
