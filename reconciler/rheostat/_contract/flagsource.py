"""The contract of flag sources: where desired state comes from."""

from collections.abc import Callable, Container, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class SourceUnavailable(Exception):
    """The source cannot know the flags now. The last good values hold for the lease.

    `reason` is shown to people: say where, what was found, what to do, and no secret.
    `retry_at` is when the source will try again (monotonic seconds), where it knows.
    """

    def __init__(self, reason: str, retry_at: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_at = retry_at


SourceUnavailable.__module__ = "rheostat.plugins"


class NotReady(SourceUnavailable):
    """It has only just begun to connect, so there is nothing to complain about yet.

    Raise it for a few seconds at most, and `SourceUnavailable` after that.
    """


NotReady.__module__ = "rheostat.plugins"


class Reading(NamedTuple):
    """A source's knowledge at one moment.

    A flag that is not defined is absent from `values`. `reasons` says, per flag and in the product's words,
    why it has its value; `errors` what is wrong with it. `stale_since` (monotonic seconds) says since when
    the values may be out of date, and starts the lease.

    While nothing has changed, give back the same object: the reconciler then knows it at once.
    """

    values: Mapping[str, object]
    reasons: Mapping[str, str] = _NOTHING
    errors: Mapping[str, str] = _NOTHING
    stale_since: float | None = None

    def only(self, flags: Container[str]) -> "Reading":
        """The part of it that is about these flags, as fresh as the whole."""
        return Reading(
            {flag: value for flag, value in self.values.items() if flag in flags},
            {flag: reason for flag, reason in self.reasons.items() if flag in flags},
            {flag: error for flag, error in self.errors.items() if flag in flags},
            self.stale_since,
        )

    def is_same_as(self, other: "Reading") -> bool:
        """Nothing has changed. To Python ``True`` and ``1`` are equal, to who reads the flags they may not be."""
        return self == other and all(type(value) is type(other.values[flag]) for flag, value in self.values.items())


Reading.__module__ = "rheostat.plugins"


@runtime_checkable
class FlagSource(Protocol):
    """A product, file or service that holds feature flags. Built as ``Class(options, identity)``.

    Every method is called from the control thread; what they raise never reaches the host. Where gevent or eventlet
    has made the application's threads green, they are called from a green thread of its own, so that a client's threads
    and sockets work as the application's do; but for a class whose `is_thread_free` is True, which uses neither.
    """

    Options: ClassVar[type]
    """A frozen, keyword-only dataclass, decoded from the ``source`` section; unknown keys are errors."""

    @property
    def poll_interval(self) -> float | None:
        """Seconds between the reads it needs, asked again after each; None: it calls `changed` instead."""

    def open(self, changed: Callable[[], None]) -> None:
        """Return promptly and connect in the background.

        `changed` may be called from any thread, any number of times.
        """

    def read(self, wanted: Mapping[str, type]) -> Reading:
        """The flags now, from memory or by a stat; `wanted` gives each flag's type (object: any).

        Raises `SourceUnavailable` while it cannot know.
        """

    def close(self) -> None:
        """Let go of everything, in bounded time, however often it is called."""


FlagSource.__module__ = "rheostat.plugins"


@runtime_checkable
class KnowsFlags(Protocol):
    """The part of a flag source beside `FlagSource` that can tell which flags there are, wanted or not."""

    def known_flags(self) -> Iterable[str]:
        """Their names, from memory, after a `read` that gave a reading.

        Called by ``rheostat plan`` only, for the nearest name to one that is not defined; what it raises is ignored.
        """


KnowsFlags.__module__ = "rheostat.plugins"
