"""Looking at the flag sources and at the kill switch."""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from rheostat._contract.flagsource import FlagSource, NotReady, Reading, SourceUnavailable
from rheostat._contract.options import FilePath
from rheostat._core.knowledge import NEVER_READ, Knowledge, learn, lose
from rheostat._report.journal import Journal

KILL_SWITCH_INTERVAL: Final = 1.0
"""Seconds between looks at the kill switch."""

SHORTEST_POLL: Final = 0.01
"""Seconds; a source that asks for less would take the host's CPU."""


class Seen(NamedTuple):
    """The findings of one look, of each layer in order; the same object as long as nothing has changed."""

    layers: tuple[Knowledge, ...]
    killed: bool

    @property
    def stale_since(self) -> float | None:
        return min((each.stale_since for each in self.layers if each.stale_since is not None), default=None)

    @property
    def retry_at(self) -> float | None:
        return min((each.retry_at for each in self.layers if each.retry_at is not None), default=None)

    @property
    def trouble(self) -> str:
        return "; ".join(each.trouble for each in self.layers if each.reason)


NOTHING_SEEN: Final = Seen((NEVER_READ,), killed=False)


class Watch:
    """Owns what is known of the flags. `sources` are the layers by name, the strongest first; a lone one has none."""

    def __init__(
        self,
        sources: Mapping[str, FlagSource],
        wanted: Mapping[str, type],
        kill_switch: FilePath | None,
        journal: Journal,
    ) -> None:
        self._layers = [_WatchedSource(name, source, wanted, journal) for name, source in sources.items()]
        self._kill_switch = kill_switch
        self._journal = journal
        self._seen = NOTHING_SEEN

    def look(self, now: float) -> Seen:
        killed = self._kill_switch is not None and self._exists(self._kill_switch)
        changed = killed != self._seen.killed or self._seen is NOTHING_SEEN
        for layer in self._layers:
            changed |= layer.look(now)
        if changed:
            self._seen = Seen(tuple(layer.known for layer in self._layers), killed)
        return self._seen

    def interval(self) -> float:
        """Seconds until it should look again, though nobody calls; infinite if that is never."""
        switch = float("inf") if self._kill_switch is None else KILL_SWITCH_INTERVAL
        return min(switch, *(layer.interval() for layer in self._layers))

    def may_answer_soon(self, patience: float) -> bool:
        """A layer that has not answered yet has only just begun, will call, or polls within `patience` seconds."""
        return any(
            layer.known.reading is None
            and (layer.known.is_beginning or not patience <= layer.interval() < float("inf"))
            for layer in self._layers
        )

    def _exists(self, path: FilePath) -> bool:
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError) as error:
            text = f"kill switch: {self._journal.describe(error)}; it counts as before"
            self._journal.once("kill_switch_unreadable", text, about="kill switch")
            return self._seen.killed
        return True


class _WatchedSource:
    """Owns what is known of one source's flags, whatever it gives, raises or returns."""

    def __init__(self, name: str, source: FlagSource, wanted: Mapping[str, type], journal: Journal) -> None:
        self._source = source
        self._wanted = wanted
        self._journal = journal
        self._last: Reading | None = None
        self._called = f"flag source {name}" if name else "flag source"
        self.known = NEVER_READ._replace(layer=name)

    def look(self, now: float) -> bool:
        """Ask the source; tells whether what is known has changed."""
        before = self.known
        try:
            reading = self._source.read(self._wanted)
            if reading is self._last and reading is not None:
                return False
            if not isinstance(reading, Reading):
                raise TypeError(f"read() gave {type(reading).__name__} instead of a Reading")
            self.known = learn(reading, self._wanted, now, before, self._journal.clean)
        except BaseException as error:
            self._lose(error, now)
            return self.known is not before
        self._last = reading
        self._tell()
        return self.known is not before

    def interval(self) -> float:
        try:
            interval = self._source.poll_interval
            return float("inf") if interval is None else max(SHORTEST_POLL, float(interval))
        except BaseException as error:
            text = f"{self._called}: poll_interval: {self._journal.describe(error)}"
            self._journal.once("source_unavailable", text, about=f"poll of {self._called}")
            return float("inf")

    def _lose(self, error: BaseException, now: float) -> None:
        self._last = None
        reason, retry_at = self._why(error)
        known = lose(self.known, reason, retry_at, now, is_beginning=isinstance(error, NotReady))
        if known != self.known:
            self.known = known
        if not known.is_beginning:
            self._tell()

    def _why(self, error: BaseException) -> tuple[str, float | None]:
        """The reason in one short line, and when it will try again; the exception is foreign, whatever it is."""
        with suppress(BaseException):
            if isinstance(error, SourceUnavailable):
                retry_at = None if error.retry_at is None else float(error.retry_at)
                return self._journal.clean(str(error.reason)), retry_at
        return self._journal.describe(error), None

    def _tell(self) -> None:
        known, about = self.known, self._called
        if known.stale_since is None:
            self._journal.recover("source_recovered", f"{self._called}: it answers again", about=about, flaps=True)
            return
        left = None if known.retry_at is None else max(0.0, known.retry_at - self._journal.clock())
        retry = "" if left is None else f"; it tries again in {left:.0f} s"
        text = f"{self._called}: {known.reason}"
        self._journal.complain("source_unavailable", text, about=about, also=retry, reason=known.reason)
