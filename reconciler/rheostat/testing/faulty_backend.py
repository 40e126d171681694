"""A profiler backend that fails on command, in each way that a real one was seen to."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, Final, Literal, NamedTuple

from rheostat.plugins import Health, Identity, Parameter, PermanentError, TemporaryError, Value

CallName = Literal["start", "stop", "probe"]

FOR_EVER: Final = math.inf


class Leaked(BaseException):
    """An exception that no ``except Exception`` catches."""


class Unspeakable(Exception):
    """Its text raises."""

    def __str__(self) -> str:
        raise Leaked("no text")


def _recurse() -> None:
    _recurse()


def _too_deep() -> BaseException:
    try:
        _recurse()
    except RecursionError as error:
        return error.with_traceback(None)
    raise AssertionError("recursion has an end")


class Fault(NamedTuple):
    """One way in which a call goes wrong: what it raises, if anything, and after how many seconds it ends.

    `seen` is where it comes from. A start that `lies` returns though nothing samples.
    """

    seen: str
    raises: Callable[[], BaseException] | None = None
    takes: float = 0.0
    lies: bool = False
    gives: object = None
    """The result of a probe."""


_ANYWHERE: Final[Mapping[str, Fault]] = {
    "RuntimeError": Fault("a defect in the backend", lambda: RuntimeError("boom")),
    "TypeError": Fault("the agent is given a value of the wrong type", lambda: TypeError("'float' object")),
    "OverflowError": Fault("the agent is given -1 or 10**10", lambda: OverflowError("out of range")),
    "MemoryError": Fault("no memory", MemoryError),
    "RecursionError": Fault("a defect in the backend", _too_deep),
    "SystemExit": Fault("a backend calls sys.exit", lambda: SystemExit(3)),
    "KeyboardInterrupt": Fault("a signal's handler raises", KeyboardInterrupt),
    "leaked": Fault("a BaseException of a library's own", lambda: Leaked("leaked")),
    "unspeakable": Fault("an exception whose text raises", Unspeakable),
}

FAULTS: Final[Mapping[CallName, Mapping[str, Fault]]] = {
    "start": {
        **_ANYWHERE,
        "refused": Fault("configure() gives False: another session runs", lambda: TemporaryError("it refused")),
        "rejected": Fault("settings that can never work", lambda: PermanentError("never")),
        "slow": Fault("configure() loads the CA bundle of a slow disk", takes=3.0),
        "late": Fault("configure() returns after the deadline", takes=25.0),
        "late failure": Fault("a name that cannot be resolved", lambda: TemporaryError("no such host"), takes=25.0),
        "hung": Fault("native code that waits for ever", takes=FOR_EVER),
        "lie": Fault("/proc is hidden: configure() gives True and nothing is sampled", lies=True),
    },
    "stop": {
        **_ANYWHERE,
        "refused": Fault("shutdown() could not stop the session", lambda: TemporaryError("it goes on")),
        "flush": Fault("one upload is in flight to a hung server", takes=19.0),
        "queue": Fault("a queue of uploads to a hung server", takes=121.0),
        "late failure": Fault("a hung server, then an error", lambda: RuntimeError("timed out"), takes=19.0),
        "hung": Fault("shutdown() of a session at 0 Hz never returns", takes=FOR_EVER),
    },
    "probe": {
        **_ANYWHERE,
        "dead": Fault("the session's thread has panicked", gives=Health("failed", "its threads are gone")),
        "unsure": Fault("/proc cannot be read", gives=Health("unknown", "cannot tell")),
        "garbage": Fault("a careless backend", gives="fine"),
        "slow": Fault("a slow /proc", takes=3.0),
        "hung": Fault("/proc on a hung disk", takes=FOR_EVER),
    },
}
"""By call and by name, every fault that a profiler was seen to have."""


class BackendCall(NamedTuple):
    """A call that the backend got."""

    name: CallName
    settings: Mapping[str, Value] = MappingProxyType({})


class FaultyBackend:
    """Works, except where `faults` says otherwise: the name of a fault for each call.

    Written ``kind: rheostat.testing:FaultyBackend`` in a configuration. It never really waits: `lasts` tells for how
    many seconds the last call ought to, and whoever moves the clock keeps to that.
    """

    Options: ClassVar[type] = dict
    parameters: ClassVar[Mapping[str, Parameter] | None] = {
        "rate": Parameter(int, 100, min=1, max=1000),
        "mode": Parameter(str, "gil", choices=("gil", "cpu", "wall")),
        "share": Parameter(float, 0.5, min=0.0, max=1.0),
        "memory": Parameter(bool, False),
    }

    def __init__(self, options: Mapping[str, object] | None = None, identity: Identity | None = None) -> None:
        self.calls: list[BackendCall] = []
        self.session: Mapping[str, Value] | None = None
        """The settings of what was started and not stopped."""
        self.faults: dict[CallName, str] = {}
        self.lasts = 0.0

    def start(self, settings: Mapping[str, Value]) -> None:
        self._call("start", settings)
        self.session = settings

    def stop(self) -> None:
        self._call("stop")
        self.session = None

    def _call(self, name: CallName, settings: Mapping[str, Value] = MappingProxyType({})) -> Fault | None:
        self.calls.append(BackendCall(name, settings))
        fault = FAULTS[name].get(self.faults.get(name, ""))
        self.lasts = 0.0 if fault is None else fault.takes
        if fault is not None and fault.raises is not None:
            raise fault.raises()
        return fault


class ProbedBackend(FaultyBackend):
    """Can also tell whether it really samples: it does not after a start that lied, or once it has died."""

    def __init__(self, options: Mapping[str, object] | None = None, identity: Identity | None = None) -> None:
        super().__init__(options, identity)
        self.is_dead = False

    def start(self, settings: Mapping[str, Value]) -> None:
        super().start(settings)
        fault = FAULTS["start"].get(self.faults.get("start", ""))
        self.is_dead = fault is not None and fault.lies

    def die(self) -> None:
        """The session samples no more, and does not say so."""
        self.is_dead = True

    def probe(self) -> Health:
        fault = self._call("probe")
        if fault is not None and fault.gives is not None:
            return fault.gives  # type: ignore[return-value]  # what a careless backend might give
        return Health("failed", "nothing is sampled") if self.is_dead else Health("healthy", "it samples")
