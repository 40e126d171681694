"""Plug-ins that misbehave on command, in this process or in a child's: ``kind: faults:FaultyBackend``.

    STAGE.set("start", "hang")      # the next start hangs, until it is released
    STAGE.wait_for("start")         # it has been called
    STAGE.lift("start")             # what hangs goes on, and nothing goes wrong from now on

The places are the methods of the two plug-ins; ``backend`` and ``source`` are their constructors.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from rheostat.plugins import Health, Identity, PermanentError, Reading, SourceUnavailable, TemporaryError, Value

PATIENCE: Final = 20.0

OF_BACKEND: Final = ("backend", "start", "stop", "probe")
OF_SOURCE: Final = ("source", "open", "read", "poll_interval", "close")
EVERYWHERE: Final = (*OF_BACKEND, *OF_SOURCE)

LATE: Final = 1.0
"""Seconds that a late call takes, which is more than the deadlines that tests set."""


class Rude(BaseException):
    """An exception that no ``except Exception`` catches."""


class Unspeakable(Exception):
    """Its text raises."""

    def __str__(self) -> str:
        raise Rude("no text")


def _recurse() -> None:
    _recurse()


def _raising(error: Callable[[], BaseException]) -> Callable[[], None]:
    def fault() -> None:
        raise error()

    return fault


RAISED: Final[Mapping[str, Callable[[], None]]] = {
    "RuntimeError": _raising(lambda: RuntimeError("boom")),
    "TemporaryError": _raising(lambda: TemporaryError("the agent refused to start")),
    "SourceUnavailable": _raising(lambda: SourceUnavailable("gone fishing")),
    "SystemExit": _raising(lambda: SystemExit(9)),
    "KeyboardInterrupt": _raising(KeyboardInterrupt),
    "GeneratorExit": _raising(GeneratorExit),
    "MemoryError": _raising(MemoryError),
    "RecursionError": _recurse,
    "Rude": _raising(lambda: Rude("leaked")),
    "Unspeakable": _raising(Unspeakable),
}
"""Faults by the name of what they raise."""


class Stage:
    """Owns what goes wrong where, for all faulty plug-ins of this process, and what they have been told."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """All is well, the flags say off, and nothing has happened yet."""
        self._changed = threading.Condition()
        self._faults: dict[str, Callable[[], object]] = {}
        self._released: dict[str, threading.Event] = {}
        self._rings: list[Callable[[], None]] = []
        self.calls: Counter[str] = Counter()
        self.flags: Mapping[str, object] = {"on": False}
        self.session: Mapping[str, Value] | None = None
        self.health: object = Health("healthy", "as the test says")

    def set(self, where: str, fault: str) -> None:
        """Let calls of `where` go wrong from now on; `fault` is a key of `RAISED`, "hang", "late" or "permanent"."""
        faults: Mapping[str, Callable[[], object]] = {
            **RAISED,
            "hang": lambda: self._released[where].wait(PATIENCE),
            "late": lambda: time.sleep(LATE),
            "permanent": _raising(lambda: PermanentError("never")),
        }
        self._released[where] = threading.Event()
        self._faults[where] = faults[fault]

    def lift(self, where: str) -> None:
        """Let what hangs there go on, and nothing go wrong any more."""
        self._faults.pop(where, None)
        if where in self._released:
            self._released[where].set()

    def lift_all(self) -> None:
        for where in EVERYWHERE:
            self.lift(where)

    def say(self, **flags: object) -> None:
        """Change flags and tell the reconciler."""
        self.flags = {**self.flags, **flags}
        for ring in self._rings:
            ring()

    def wait_for(self, where: str, count: int = 1) -> None:
        """Until `where` has been called so often; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.calls[where] >= count, PATIENCE):
                raise TimeoutError(f"{where} was called {self.calls[where]} times, expected {count}; {self.calls}")

    def act(self, where: str) -> None:
        """In a plug-in: count the call, and do there what is to be done."""
        with self._changed:
            self.calls[where] += 1
            self._changed.notify_all()
        fault = self._faults.get(where)
        if fault is not None:
            fault()

    def listen(self, ring: Callable[[], None]) -> None:
        self._rings.append(ring)

    def begin(self, settings: Mapping[str, Value]) -> None:
        assert self.session is None, "a second session"
        self.session = settings

    def end(self) -> None:
        self.session = None


STAGE: Final = Stage()


class FaultyBackend:
    """Keeps its session on the stage; a fault strikes before anything is started or stopped."""

    Options: ClassVar[type] = dict
    parameters: ClassVar[Mapping[str, Any] | None] = None

    def __init__(self, options: Mapping[str, object], identity: Identity) -> None:
        STAGE.act("backend")

    def start(self, settings: Mapping[str, Value]) -> None:
        STAGE.act("start")
        STAGE.begin(settings)

    def stop(self) -> None:
        STAGE.act("stop")
        STAGE.end()

    def probe(self) -> Health:
        STAGE.act("probe")
        return STAGE.health  # type: ignore[return-value]  # what a careless plug-in might give


class FaultySource:
    """Says the stage's flags, and calls whenever they change."""

    Options: ClassVar[type] = dict

    def __init__(self, options: Mapping[str, object], identity: Identity) -> None:
        STAGE.act("source")

    @property
    def poll_interval(self) -> float | None:
        STAGE.act("poll_interval")
        return None

    def open(self, changed: Callable[[], None]) -> None:
        STAGE.act("open")
        STAGE.listen(changed)

    def read(self, wanted: Mapping[str, type]) -> Reading:
        STAGE.act("read")
        return Reading(dict(STAGE.flags))

    def close(self) -> None:
        STAGE.act("close")
