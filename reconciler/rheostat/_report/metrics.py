"""Metrics: what the snapshots and events of a process come to, in the application's own metrics library."""

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple, Protocol

from rheostat._host.execution import current
from rheostat._host.forks import FORKS
from rheostat._host.importing import import_apart
from rheostat._host.vendor import import_vendor
from rheostat._report.event import Event
from rheostat._report.status import Snapshot

MetricsKind = Literal["opentelemetry", "prometheus"]


class Metrics(Protocol):
    """One library's instruments. Both methods are called in a thread that may take the application's locks."""

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """This is the state of things now."""

    def on_event(self, event: Event) -> None:
        """This has happened."""


class Library(NamedTuple):
    """Where a library's instruments are, the package that they need, and the extra that brings it."""

    module: str
    package: str
    extra: str


LIBRARIES: Final[dict[MetricsKind, Library]] = {
    "opentelemetry": Library("rheostat._report.opentelemetry_metrics", "opentelemetry.metrics", "opentelemetry"),
    "prometheus": Library("rheostat._report.prometheus_metrics", "prometheus_client", "prometheus"),
}


def missing_library(kind: MetricsKind) -> str | None:
    """The advice if the library is not installed, found out without importing it."""
    library = LIBRARIES[kind]
    if importlib.util.find_spec(library.package.partition(".")[0]) is not None:
        return None
    return f"the package of {kind} is not installed: pip install 'rheostat[{library.extra}]'"


def opened(kind: MetricsKind, application: str, instance: str) -> Metrics:
    """Raises ImportError with the command that installs what is missing."""
    library = LIBRARIES[kind]
    import_vendor(library.package, f"rheostat[{library.extra}]")
    made: Metrics = import_apart(library.module).Instruments(application, instance)
    return made


class Meters:
    """Owns how instruments are reached: as a handler of the log is, never by a native thread among green ones."""

    def __init__(self, instruments: Sequence[Metrics]) -> None:
        self._instruments = instruments

    def on_snapshot(self, snapshot: Snapshot) -> None:
        self._each(lambda each: each.on_snapshot(snapshot))

    def on_event(self, event: Event) -> None:
        self._each(lambda each: each.on_event(event))

    def _each(self, tell: Callable[[Metrics], Any]) -> None:
        if self._instruments:
            current().tell(lambda: self._tell(tell))

    def _tell(self, tell: Callable[[Metrics], Any]) -> None:
        for each in self._instruments:
            # The library is the application's; a figure is not worth the thread that it is set in. Its locks are not
            # for a fork to fall upon.
            with suppress(BaseException), FORKS.delaying_forks():
                tell(each)
