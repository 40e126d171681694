"""A flag source that says what it is told to."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from rheostat.plugins import Identity, Reading, SourceUnavailable


class ScriptedSource:
    """Says `values` and `errors`, or raises `failure`, or gives `garbage` instead of a reading.

    Written ``kind: rheostat.testing:ScriptedSource`` in a configuration; options are the flags that it begins with.
    """

    Options: ClassVar[type] = dict

    def __init__(self, options: Mapping[str, object] | None = None, identity: Identity | None = None) -> None:
        self.values: dict[str, object] = dict(options or {})
        self.errors: dict[str, str] = {}
        self.failure: BaseException | None = None
        self.garbage: object = None
        self.stale_since: float | None = None
        self.poll_interval: float | None = None
        self.changed: Callable[[], None] = lambda: None
        self.reads = 0
        """How often it was read."""

    def say(self, flags: Mapping[str, object]) -> None:
        """Make these all the flags there are, and call."""
        self.values = dict(flags)
        self.changed()

    def fail(self, failure: BaseException) -> None:
        """Raise this from now on."""
        self.failure = failure
        self.changed()

    def recover(self) -> None:
        """Answer again, with fresh values."""
        self.failure = self.garbage = self.stale_since = None
        self.changed()

    def open(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    def read(self, wanted: Mapping[str, type]) -> Reading:
        self.reads += 1
        if self.failure is not None:
            # Raised again and again, it would keep the frames of each time.
            raise self.failure.with_traceback(None)
        if self.garbage is not None:
            garbage: Any = self.garbage
            return garbage  # type: ignore[no-any-return]  # what a careless plug-in might give
        return Reading(dict(self.values), errors=dict(self.errors), stale_since=self.stale_since)

    def known_flags(self) -> Iterable[str]:
        return self.values

    def close(self) -> None:
        self.failure = SourceUnavailable("closed")
