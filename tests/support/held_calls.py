"""Backend calls that stay in flight as long as a test wants, and a loop that is stepped by hand with them."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from rheostat import Observer, Value
from rheostat._config.config import Config, Plugin, Sections, Wiring
from rheostat._core.policy import Policy
from rheostat._core.rules import Rules
from rheostat._host.calls import Returned
from rheostat._lifecycle.assembly import Surroundings, assemble
from rheostat._report.journal import Journal
from rheostat.plugins import Identity, Parameter
from rheostat.testing import Log, ScriptedSource, VirtualClock

IDENTITY = Identity("shop", "host-1", {}, 4711)


class HeldCalls:
    """Backend calls that stay in flight until the test lets them return."""

    def __init__(self) -> None:
        self.pending: list[tuple[Callable[[], object], Callable[[Returned], None]]] = []

    def call(self, function: Callable[[], object], done: Callable[[Returned], None]) -> None:
        self.pending.append((function, done))

    def finish(self, error: BaseException | None = None) -> None:
        """Let the call return, or raise `error`."""
        function, done = self.pending.pop()
        result = function() if error is None else None
        done(Returned(result, error, 0.01))


class RecordingBackend:
    """Remembers what it was told. Whether a call fails is decided by `HeldCalls.finish`."""

    Options: ClassVar[type] = dict
    parameters: ClassVar[Mapping[str, Parameter] | None] = None

    def __init__(self) -> None:
        self.running: Mapping[str, Value] | None = None

    def start(self, settings: Mapping[str, Value]) -> None:
        assert self.running is None, "a second session"
        self.running = settings

    def stop(self) -> None:
        self.running = None


class Stepped:
    """A process's loop, put together as in production, with everything around it in the test's hands."""

    def __init__(
        self,
        rules: Rules,
        policy: Policy,
        observers: tuple[Observer, ...] = (),
        backend: Any = None,
        looks: HeldCalls | None = None,
    ) -> None:
        self.clock = VirtualClock()
        self.records = Log(self.clock)
        self.calls = HeldCalls()
        self.source = ScriptedSource()
        self.backend = backend or RecordingBackend()
        self.woken = 0
        self.journal = Journal(self.records, self.clock)
        surroundings = Surroundings(
            clock=self.clock, random=lambda: 0.5, calls=self.calls, wake=self._wake, looks=looks
        )
        wiring = Wiring({"": _built(self.source)}, _built(self.backend), rules)
        config = Config("", *IDENTITY[:3], policy, False, Sections((), None, None, None, None, ()), [], wiring)
        self.loop = assemble(config, IDENTITY, self.journal, surroundings, observers).loop

    def _wake(self) -> None:
        self.woken += 1

    def step(self) -> float:
        return self.loop.step()

    def finish(self, error: BaseException | None = None) -> float:
        """Let the call in flight return, and take its outcome."""
        self.calls.finish(error)
        return self.step()

    def wait(self, seconds: float) -> float:
        self.clock.now += seconds
        return self.step()

    @property
    def status(self) -> Any:
        return self.loop.snapshot.at(self.clock.now)


def _built(plugin: object) -> Plugin:
    """A plug-in that is there already."""
    make: Any = lambda options, identity: plugin  # noqa: E731
    return Plugin(make, None)
