"""A flag source and a backend that do everything right, and their products: what the wrong ones are made of."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from rheostat.plugins import (
    FilePath,
    Health,
    Identity,
    NotReady,
    Parameter,
    Reading,
    SourceUnavailable,
    TemporaryError,
    Value,
)

SESSION: Final = "right-session"
"""The name of the thread in which a session lives."""

_BEGUN: Final[list[threading.Event]] = []

Found = Reading | str


@dataclass(frozen=True, kw_only=True)
class RightOptions:
    path: FilePath


class Unpolled:
    """All of the right source but its `poll_interval`."""

    Options: ClassVar[type] = RightOptions

    def __init__(self, options: RightOptions, identity: Identity) -> None:
        self.path = Path(options.path)
        self.found: Found | None = None
        self.lock = threading.Lock()
        self.changed: Callable[[], None] = lambda: None
        self.closed = threading.Event()
        self.thread: threading.Thread | None = None

    def open(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.thread = threading.Thread(target=self.work, name="right-source", daemon=True)
        self.thread.start()

    def read(self, wanted: Mapping[str, type]) -> Reading:
        with self.lock:
            found = self.found
        if isinstance(found, Reading):
            return found
        if found is None:
            raise NotReady("no answer yet")
        raise SourceUnavailable(found)

    def known_flags(self) -> Iterable[str]:
        return self.found.values if isinstance(self.found, Reading) else ()

    def close(self) -> None:
        self.closed.set()
        if self.thread is not None:
            self.thread.join(0.2)

    def work(self) -> None:
        while not self.closed.is_set():
            found = self.look()
            if not self.is_same(found):
                with self.lock:
                    self.found = found
                self.call()
            self.closed.wait(0.01)

    def look(self) -> Found:
        try:
            return self.reading(json.loads(self.path.read_text()))
        except (OSError, ValueError) as error:
            return self.reason(error)

    def reading(self, flags: Mapping[str, object]) -> Reading:
        return Reading(flags)

    def reason(self, error: Exception) -> str:
        return f"{self.path}: {type(error).__name__}"

    def is_same(self, found: Found) -> bool:
        if isinstance(found, Reading) and isinstance(self.found, Reading):
            return found.is_same_as(self.found)
        return found == self.found

    def call(self) -> None:
        self.changed()


class RightSource(Unpolled):
    """Flags from a JSON file, which a thread looks at."""

    @property
    def poll_interval(self) -> float | None:
        return None


class TextsOnly(RightSource):
    """Of a product that knows nothing but texts."""

    def reading(self, flags: Mapping[str, object]) -> Reading:
        return Reading({flag: value if type(value) is str else json.dumps(value) for flag, value in flags.items()})


class TellsThatItIsStale(RightSource):
    """Gives what it knew last, and since when that may be out of date."""

    def look(self) -> Found:
        found = super().look()
        if isinstance(found, str) and isinstance(self.found, Reading):
            return self.found._replace(stale_since=self.found.stale_since or time.monotonic())
        return found


class RightProduct:
    """The file of flags."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "flags.json"

    def say(self, flags: Mapping[str, object]) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(flags))
        new.replace(self.path)

    def break_down(self) -> None:
        self.path.rename(self.path.with_suffix(".down"))

    def mend(self) -> None:
        self.path.with_suffix(".down").rename(self.path)


class RightBackend:
    """A session is a thread that does nothing; while the file at `path` exists, none can be started."""

    Options: ClassVar[type] = RightOptions
    parameters: ClassVar[Mapping[str, Parameter] | None] = {
        "rate": Parameter(int, 100, min=1, max=1000),
        "mode": Parameter(str, "gil", choices=("gil", "wall")),
        "share": Parameter(float, 0.5, min=0.0, max=1.0),
        "memory": Parameter(bool, False),
    }

    def __init__(self, options: RightOptions, identity: Identity) -> None:
        self.path = Path(options.path)
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None

    def start(self, settings: Mapping[str, Value]) -> None:
        self.tuned = {**{name: each.default for name, each in (self.parameters or {}).items()}, **settings}
        self.check()
        self.begin()

    def stop(self) -> None:
        self.ended.set()
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def probe(self) -> Health:
        return Health("unknown" if self.thread is None else "healthy")

    def check(self) -> None:
        if self.path.exists():
            raise TemporaryError(f"{self.path} forbids it: remove it")

    def begin(self) -> None:
        self.ended = threading.Event()
        _BEGUN.append(self.ended)
        self.thread = threading.Thread(target=self.ended.wait, name=SESSION, daemon=True)
        self.thread.start()


def is_profiling() -> bool:
    return any(thread.name == SESSION for thread in threading.enumerate())


def end_all_sessions() -> None:
    """For those that are left by a backend that does wrong."""
    while _BEGUN:
        _BEGUN.pop().set()
