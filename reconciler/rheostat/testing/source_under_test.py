"""A flag source in the hands of a kit: looked at as Rheostat does, with every wait bounded."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self, TypeVar

from rheostat._contract.text import describe
from rheostat.plugins import Reading, SourceUnavailable

from .calling_thread import CallingThread

T = TypeVar("T")

Answer = Reading | SourceUnavailable


class SourceUnderTest:
    """One source. `build` makes it; waits end after `patience` seconds, calls have to return within `prompt`.

    At the end of a `with` block it is closed, whatever comes of that.
    """

    def __init__(self, build: Callable[[], Any], patience: float, prompt: float) -> None:
        self.patience = patience
        self._prompt = prompt
        self._thread = CallingThread()
        self._news = threading.Event()
        self._source = self._thread.call(build, "building the source", patience)
        self.calls = 0
        """How often it has called changed()."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(AssertionError):
            self.close()
        self._thread.end(within=self._prompt)

    def changed(self) -> None:
        """The callback that Rheostat passes to `open`: it rings a bell, nothing more."""
        self.calls += 1
        self._news.set()

    def open(self, changed: Callable[[], None] | None = None) -> None:
        self._call("open()", lambda: self._source.open(changed or self.changed), "it to return")

    def close(self) -> None:
        self._call("close()", self._source.close, "it to let go of what there is, and to return")

    def read(self, wanted: Mapping[str, type]) -> Answer:
        """The reading, or why there is none."""

        def ask() -> Answer:
            try:
                return self._source.read(wanted)  # type: ignore[no-any-return]  # judged below
            except SourceUnavailable as unavailable:
                return unavailable

        answer = self._call("read()", ask, "a Reading, or SourceUnavailable with the reason")
        assert isinstance(answer, Reading | SourceUnavailable), (
            f"read() gave {answer!r}; expected a rheostat.plugins.Reading, or SourceUnavailable to be raised"
        )
        return answer

    def poll_interval(self) -> float | None:
        found = self._call("poll_interval", lambda: self._source.poll_interval, "seconds, or None")
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        assert found is None or (is_number and 0 < found < math.inf), (
            f"poll_interval is {found!r}; expected seconds above 0, or None for a source that calls changed()"
        )
        return found  # type: ignore[no-any-return]  # judged above

    def until(self, wanted: Mapping[str, type], holds: Callable[[Answer], object], expected: str) -> Answer:
        """The first answer for which this holds. Looks again when Rheostat would: when called, polled, or promised."""
        deadline = time.monotonic() + self.patience
        while True:
            self._news.clear()
            answer = self.read(wanted)
            if holds(answer):
                return answer
            left, pause = deadline - time.monotonic(), self._pause(answer)
            # That it would say so now, had it called or been polled, does not help: nobody would read it.
            looks_again = self.wait(min(left, pause)) or pause < left
            assert looks_again, (
                f"after {self.patience:g} s read() still {in_words(answer)}; expected {expected}. changed() was called "
                f"{self.calls} times, poll_interval is {self.poll_interval()}: Rheostat reads only after either"
            )

    def wait(self, seconds: float) -> bool:
        """Whether it calls within so many seconds."""
        return self._news.wait(seconds)

    def wait_anew(self, seconds: float) -> bool:
        """Whether it calls once more within so many seconds."""
        self._news.clear()
        return self._news.wait(seconds)

    def read_here(self, wanted: Mapping[str, type]) -> None:
        """Read in the caller's thread, whatever comes of it."""
        with suppress(Exception):
            self._source.read(wanted)

    def call_in_its_thread(self, function: Callable[[Any], T], what: str) -> T:
        """Do something with the source in the thread that makes all its calls."""
        return self._thread.call(lambda: function(self._source), what, self.patience)

    def _pause(self, answer: Answer) -> float:
        interval = self.poll_interval()
        retry_at = answer.retry_at if isinstance(answer, SourceUnavailable) else None
        left = math.inf if retry_at is None else retry_at - time.monotonic()
        return max(0.01, min(math.inf if interval is None else interval, left if left > 0 else math.inf))

    def _call(self, what: str, function: Callable[[], T], expected: str) -> T:
        try:
            return self._thread.call(function, what, self._prompt)
        except AssertionError:
            raise
        # What third-party code raises may be anything.
        except BaseException as error:
            raise AssertionError(f"{what} raised {describe(error)}; expected {expected}") from error


def is_outage(answer: Answer) -> bool:
    """It says that it does not know, or that what it knows may be out of date."""
    return isinstance(answer, SourceUnavailable) or answer.stale_since is not None


def in_words(answer: Answer) -> str:
    if isinstance(answer, SourceUnavailable):
        return f"raises {type(answer).__name__}: {answer.reason}"
    stale = "" if answer.stale_since is None else ", stale"
    errors = f" and the errors {dict(answer.errors)}" if answer.errors else ""
    return f"gives {dict(answer.values)}{errors}{stale}"
