"""The command ``rheostat mirror``: one client of a flag product for a host, whose processes read a file."""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from rheostat._config.config import Config
from rheostat._contract.flagsource import FlagSource, Reading
from rheostat._contract.text import LONGEST_LINE, shorten
from rheostat._control.watch import Seen, Watch
from rheostat._core.knowledge import overlay
from rheostat._host.native import Wake
from rheostat._lifecycle.assembly import open_sources
from rheostat._report.journal import Journal
from rheostat._report.sinks import Sink

_MODE: Final = 0o644


class Mirror:
    """Owns the file: the flags as they are, written anew when they change, touched while the source answers."""

    def __init__(self, path: str, heartbeat: float, journal: Journal) -> None:
        """`heartbeat` is in seconds."""
        self._path = path
        self._heartbeat = heartbeat
        self._journal = journal
        self._text = ""
        self._due = 0.0

    @property
    def due_at(self) -> float:
        """Monotonic seconds from which on the next heartbeat is due."""
        return self._due

    def keep(self, reading: Reading, wanted: Mapping[str, type], now: float) -> None:
        """The source has answered with this."""
        text = "".join(_lines(reading, wanted))
        if text == self._text and now < self._due:
            return
        try:
            if text != self._text or not os.path.exists(self._path):
                self._write(text)
                self._text = text
            os.utime(self._path)
        except OSError as error:
            reason = f"the file cannot be written: {error}; its readers keep what they have, for their max_age"
            self._journal.complain("source_unavailable", reason, about="mirror")
        else:
            self._journal.recover("source_recovered", "the file can be written again", about="mirror")
        self._due = now + self._heartbeat

    def _write(self, text: str) -> None:
        draft = f"{self._path}.{os.getpid()}.new"
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, _MODE), "w") as file:
                file.write(text)
            os.replace(draft, self._path)
        except OSError:
            with suppress(OSError):
                os.unlink(draft)
            raise


def mirror(config: Config, path: str, heartbeat: float, sink: Sink) -> None:
    """Keep the file at `path` as the configured sources say, until SIGTERM or SIGINT; `heartbeat` is in seconds.

    Raises `ConfigError`, and what a lone source raises when it is built.
    """
    bell, ends = Wake(), [False]

    def end(*_: Any) -> None:
        ends[0] = True
        bell.ring()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    wiring = config.wire()
    journal = Journal(sink, time.monotonic, config.secrets)
    wanted = wiring.rules.wanted
    sources: Mapping[str, FlagSource] = open_sources(wiring.sources, config.identity(), bell.ring, time.monotonic)
    try:
        watch, kept = Watch(sources, wanted, None, journal), Mirror(path, heartbeat, journal)
        while not ends[0]:
            now = time.monotonic()
            reading = _fresh(watch.look(now), config.policy.hold_last_good, now)
            if reading is not None:
                kept.keep(reading, wanted, now)
            bell.wait(max(0.0, min(watch.interval(), heartbeat if reading is None else kept.due_at - now)))
    finally:
        for source in sources.values():
            with suppress(BaseException):
                source.close()


def _fresh(seen: Seen, lease: float, now: float) -> Reading | None:
    """The layers as one, if any of them is fresh: a file that nobody touches tells its readers that none is."""
    holding = [each for each in seen.layers if each.holds(lease, now)]
    return overlay(holding) if any(each.stale_since is None for each in holding) else None


def _lines(reading: Reading, wanted: Mapping[str, type]) -> Iterator[str]:
    yield "# Written by `rheostat mirror`; what is changed here is overwritten.\n"
    for flag in sorted(wanted):
        if flag in reading.errors:
            # Null is no usable value of any type: what `otherwise` says is done, as by who reads the source itself.
            yield f"{json.dumps(flag)}: null  # {shorten(reading.errors[flag], LONGEST_LINE)}\n"
        elif flag in reading.values:
            reason = reading.reasons.get(flag, "")
            comment = f"  # {shorten(reason, LONGEST_LINE)}" if reason else ""
            yield f"{json.dumps(flag)}: {_written(reading.values[flag])}{comment}\n"


def _written(value: object) -> str:
    """As JSON, of which YAML takes all that a flag may be; what is none becomes null."""
    if isinstance(value, bool | int | float | str):
        with suppress(ValueError):
            return json.dumps(value, allow_nan=False)
    return "null"
