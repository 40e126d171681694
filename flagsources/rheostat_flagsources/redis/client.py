"""Two connections: one reads the flags, on the other the server says when they may have changed.

Nothing depends on having been told: a notice only says that it is time to look, and each look reads all.
"""

import math
import threading
import time
from collections.abc import Callable, Collection
from typing import Final

from rheostat.plugins import Reading, SourceUnavailable
from rheostat_flagsources.redis.backoff import Backoff, random
from rheostat_flagsources.redis.layout import Layout
from rheostat_flagsources.redis.link import Link
from rheostat_flagsources.redis.lookup import Found, look_up
from rheostat_flagsources.redis.notices import Notices
from rheostat_flagsources.redis.server import Server

_CHECK: Final = 0.8
"""Times `poll_interval`, so that each poll is a check, too."""


class Client:
    """Works in one thread; only `look_now` and `shut` may be called by another."""

    def __init__(
        self, server: Server, layout: Layout, *, poll_interval: float, streaming: bool, channel: str | None
    ) -> None:
        self._server = server
        self._layout = layout
        self._poll_interval = poll_interval
        self._ended = threading.Event()
        self._soon = threading.Event()
        """It is to look at once."""
        self._due = 0.0
        self._reader = Link(server, self._ended)
        self._ear = _Ear(server, layout, channel, poll_interval, self._ended) if streaming else None

    def next_reading(self, flags: Callable[[], Collection[str]]) -> Reading:
        """The flags, once there is a notice, or it is time to look without one. Raises `SourceUnavailable`."""
        told = self._wait()
        self._soon.clear()
        wanted = sorted(flags())
        if self._ear is not None:
            self._ear.listen(wanted)
        found = look_up(self._reader, self._layout, wanted)
        self._due = time.monotonic() + self._poll_interval * (1.0 - random() / 10)
        note = ""
        if self._ear is not None:
            if self._ear.check(found, told=told):
                self._soon.set()
            self._due = min(self._due, self._ear.due)
            note = self._ear.note
        return Reading(
            found.values, {flag: f"{' '.join(self._layout.get(flag))}{note}" for flag in wanted}, found.errors
        )

    def look_now(self) -> None:
        """Whoever waits for a notice is woken."""
        self._soon.set()
        if self._ear is not None:
            self._ear.shut()

    def known_flags(self) -> list[str]:
        """The names of all flags, up to some thousands."""
        try:
            return [name.decode(errors="replace") for name in self._layout.known(self._reader)]
        finally:
            self.close()

    def shut(self) -> None:
        """For good."""
        self._ended.set()
        self.look_now()
        self._reader.shut()

    def close(self) -> None:
        """Until the next reading, which is to be at once."""
        self._due = 0.0
        self._reader.close()
        if self._ear is not None:
            self._ear.close()

    def _wait(self) -> bool:
        """Whether there is a notice."""
        left = self._due - time.monotonic()
        if left <= 0 or self._soon.is_set():
            return False
        if self._ear is None or not self._ear.is_open:
            self._soon.wait(left)
            return False
        return self._ear.hear(left)


class _Ear:
    """Owns the connection on which notices come. That it fails is no outage: changes are then found by polling."""

    def __init__(
        self, server: Server, layout: Layout, channel: str | None, poll_interval: float, ended: threading.Event
    ) -> None:
        self._server = server
        self._layout = layout
        self._channel = channel
        self._poll_interval = poll_interval
        self._ended = ended
        self._link: Link | None = None
        self._notices: Notices | None = None
        self._retries = Backoff(poll_interval)
        self._not_before = 0.0
        self._check_at = 0.0
        self._tried: tuple[str, ...] = ()
        self._last: Found | None = None
        """Since it listens."""
        self._trouble = ""

    @property
    def is_open(self) -> bool:
        return self._notices is not None

    @property
    def due(self) -> float:
        """Monotonic seconds at which it has something to do."""
        return math.inf if self.is_open else self._not_before

    @property
    def note(self) -> str:
        """To be said of each flag."""
        return f"; polled, as {self._trouble}" if self._trouble else ""

    def listen(self, flags: Collection[str]) -> None:
        """Follow these flags, unless it does, or could not just now."""
        channels = self._channels(flags)
        if not channels:
            self._not_before = math.inf
            return
        if channels == self._tried and (self.is_open or time.monotonic() < self._not_before):
            return
        self.close()
        self._tried = channels
        self._link = link = Link(self._server, self._ended)
        notices = Notices(link, channels)
        try:
            notices.open()
        except SourceUnavailable as unavailable:
            self._fail(unavailable)
            return
        self._notices, self._trouble = notices, ""
        self._check_at = time.monotonic() + _CHECK * self._poll_interval

    def hear(self, seconds: float) -> bool:
        """Whether there is a notice within so many seconds."""
        assert self._notices is not None
        try:
            return self._notices.hear(seconds)
        except SourceUnavailable as unavailable:
            self._fail(unavailable)
            return False

    def check(self, found: Found, *, told: bool) -> bool:
        """Whether there was a notice while this was `found`, if that has to be known."""
        changed_untold = self._last is not None and found != self._last and not told
        self._last = found
        if told:
            self._trouble = ""
        if self._notices is None or not (changed_untold or time.monotonic() >= self._check_at):
            return False
        try:
            heard = self._notices.check()
        except SourceUnavailable as unavailable:
            self._fail(unavailable)
            return False
        self._retries.reset()
        self._check_at = time.monotonic() + _CHECK * self._poll_interval
        # What was said before the server answered has been heard by now.
        if heard:
            self._trouble = ""
        elif changed_untold:
            self._trouble = "nothing told of the last change"
        return heard

    def shut(self) -> None:
        """Wake whoever waits for it."""
        if self._link is not None:
            self._link.shut()

    def close(self) -> None:
        """Until it listens again."""
        if self._link is not None:
            self._link.close()
        self._link = self._notices = self._last = None
        self._tried = ()
        self._not_before = 0.0

    def _fail(self, unavailable: SourceUnavailable) -> None:
        tried = self._tried
        self.close()
        self._tried = tried
        self._trouble = unavailable.reason
        self._not_before = time.monotonic() + self._retries.next()

    def _channels(self, flags: Collection[str]) -> tuple[str, ...]:
        if self._channel is not None:
            return (self._channel,)
        database = self._server.address.database
        return tuple(f"__keyspace@{database}__:{key}" for key in self._layout.keys(flags))
