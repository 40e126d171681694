"""Looking at the flag source and at the kill switch."""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from .filepath import FilePath
from .flagsource import FlagSource, Reading, SourceUnavailable
from .lease import IGNORANCE, Knowledge, learn, lose
from .log import Journal

KILL_SWITCH_INTERVAL: Final = 1.0
"""Seconds between looks at the kill switch."""

SHORTEST_POLL: Final = 0.01
"""Seconds; a source that asks for less would take the host's CPU."""


class Seen(NamedTuple):
    """What one look found; the same object as long as nothing has changed."""

    known: Knowledge
    killed: bool


UNSEEN: Final = Seen(IGNORANCE, killed=False)


class Watch:
    """Owns what is known of the flags, whatever the source gives, raises or returns."""

    def __init__(
        self, source: FlagSource, wanted: Mapping[str, type], kill_switch: FilePath | None, journal: Journal
    ) -> None:
        self._source = source
        self._wanted = wanted
        self._kill_switch = kill_switch
        self._journal = journal
        self._last: Reading | None = None
        self._seen = UNSEEN

    def look(self, now: float) -> Seen:
        killed = self._kill_switch is not None and self._exists(self._kill_switch)
        known = self._ask(now)
        if known is not self._seen.known or killed != self._seen.killed:
            self._seen = Seen(known, killed)
        return self._seen

    def interval(self) -> float:
        """Seconds until it should look again, though nobody calls; infinite if that is never."""
        switch = float("inf") if self._kill_switch is None else KILL_SWITCH_INTERVAL
        try:
            interval = self._source.poll_interval
            return switch if interval is None else min(switch, max(SHORTEST_POLL, float(interval)))
        except BaseException as error:
            self._journal.once(
                "source_unavailable", f"flag source: poll_interval: {self._journal.describe(error)}", about="poll"
            )
            return switch

    def _exists(self, path: FilePath) -> bool:
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError):
            return self._seen.killed
        return True

    def _ask(self, now: float) -> Knowledge:
        try:
            reading = self._source.read(self._wanted)
            if reading is self._last and reading is not None:
                return self._seen.known
            if not isinstance(reading, Reading):
                raise TypeError(f"read() gave {type(reading).__name__} instead of a Reading")
            known = learn(reading, self._wanted, now, self._seen.known, self._journal.clean)
        except BaseException as error:
            return self._lost(error, now)
        self._last = reading
        self._tell(known)
        return known

    def _lost(self, error: BaseException, now: float) -> Knowledge:
        self._last = None
        reason, retry_at = self._why(error)
        known = lose(self._seen.known, reason, retry_at, now)
        self._tell(known)
        return self._seen.known if known == self._seen.known else known

    def _why(self, error: BaseException) -> tuple[str, float | None]:
        """The reason in one short line, and when it will try again; the exception is a stranger's, whatever it is."""
        with suppress(BaseException):
            if isinstance(error, SourceUnavailable):
                retry_at = None if error.retry_at is None else float(error.retry_at)
                return self._journal.clean(str(error.reason)), retry_at
        return self._journal.describe(error), None

    def _tell(self, known: Knowledge) -> None:
        if known.stale_since is None:
            self._journal.recover("source_recovered", "flag source: it answers again", about="source")
        else:
            text = f"flag source: {known.reason}"
            self._journal.complain("source_unavailable", text, about="source", reason=known.reason)
