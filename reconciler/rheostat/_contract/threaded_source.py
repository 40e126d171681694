"""A flag source that asks its product in a thread of its own."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from rheostat._contract.flagsource import NotReady, Reading, SourceUnavailable
from rheostat._contract.text import text_of

_CLOSING: Final = 0.2
"""Seconds that `close` waits for the thread: one that waits for an answer ends at its timeout."""


class ThreadedSource:
    """Asks every `interval` seconds, less up to a tenth, and keeps the latest answer for `read`.

    A subclass has `Options` and `ask`, which is called in the thread, named ``rheostat-`` and `name`, and gives all
    flags or raises. `changed` is called when the answer differs from the last one. `about` is put before each reason:
    an address, say. An answer is overdue after `patience` seconds: whatever a client's timeouts do not end, such as
    the look-up of a name, is noticed then.
    """

    def __init__(self, name: str, *, about: str, interval: float, patience: float) -> None:
        self._about = about
        self._interval = interval
        self._patience = patience
        self._latest: Reading | SourceUnavailable | None = None
        self._last_reading: Reading | None = None
        self._asking_since: float | None = None
        self._next = 0.0
        self._changed: Callable[[], None] = lambda: None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_asking, name=f"rheostat-{name}", daemon=True)

    def ask(self) -> Reading:
        """The product's flags now. What it raises becomes the reason; a `SourceUnavailable` may say when to ask again
        (`retry_at`, monotonic seconds)."""
        raise NotImplementedError

    @property
    def poll_interval(self) -> float | None:
        """News come by `changed`; this is to notice an answer that is overdue."""
        return self._interval

    def open(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._thread.start()

    def read(self, wanted: Mapping[str, type]) -> Reading:
        """The latest answer. Raises `SourceUnavailable` if there is none, or the next one is overdue."""
        latest, since = self._latest, self._asking_since
        if since is not None and time.monotonic() - since > self._patience:
            raise SourceUnavailable(f"{self._about}: no answer within {self._patience:g} s")
        if latest is None:
            raise NotReady(f"{self._about}: no answer yet")
        if isinstance(latest, SourceUnavailable):
            # The same exception raised again and again would make its traceback grow.
            raise SourceUnavailable(latest.reason, latest.retry_at)
        return latest

    def known_flags(self) -> Iterable[str]:
        """All flags of the last good answer."""
        return () if self._last_reading is None else self._last_reading.values

    def close(self) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSING)

    def _keep_asking(self) -> None:
        while not self._closed.is_set():
            self._asking_since = time.monotonic()
            latest = self._ask(time.monotonic() + self._interval * (1.0 - _random() / 10))
            is_news = not _is_same(latest, self._latest)
            if is_news:
                self._latest = latest
            elif isinstance(latest, SourceUnavailable) and isinstance(self._latest, SourceUnavailable):
                self._latest.retry_at = latest.retry_at
            self._asking_since = None
            if is_news and not self._closed.is_set():
                self._changed()
            self._closed.wait(max(0.0, self._next - time.monotonic()))

    def _ask(self, again_at: float) -> Reading | SourceUnavailable:
        self._next = again_at
        try:
            self._last_reading = found = self.ask()
            return found
        except SourceUnavailable as unavailable:
            self._next = again_at if unavailable.retry_at is None else unavailable.retry_at
            return SourceUnavailable(f"{self._about}: {unavailable.reason}", self._next)
        # Whatever it is, this thread has to live.
        except BaseException as error:
            return SourceUnavailable(f"{self._about}: {text_of(error)}", again_at)


ThreadedSource.__module__ = "rheostat.plugins"


def _is_same(one: Reading | SourceUnavailable, other: Reading | SourceUnavailable | None) -> bool:
    if isinstance(one, Reading):
        return isinstance(other, Reading) and one.is_same_as(other)
    return isinstance(other, SourceUnavailable) and one.reason == other.reason


def _random() -> float:
    """In [0, 1). The application's `random` is left alone: it may be seeded."""
    return os.urandom(1)[0] / 256
