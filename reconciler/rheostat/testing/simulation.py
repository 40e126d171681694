"""One process under virtual time."""

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from rheostat import Observer, State, Status
from rheostat._config.config import Config, load_config
from rheostat._host.calls import Returned, run
from rheostat._host.scribe import Scribe
from rheostat._host.state_folder import StateFolder
from rheostat._lifecycle.assembly import Surroundings, assemble, built_sources
from rheostat._report.journal import Journal
from rheostat.plugins import FlagSource, Identity

from .faulty_backend import BackendCall, FaultyBackend
from .virtual import VirtualClock
from .virtual_meter import VirtualMeter

_MOST_STEPS_AT_ONCE: Final = 25
_TICK: Final = 1e-9


class LogLine(NamedTuple):
    """One record of the log, and when it was written (virtual seconds)."""

    at: float
    level: int
    event: str
    message: str
    fields: Mapping[str, Any]


class Log:
    """Keeps what is logged."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.lines: list[LogLine] = []

    def write(self, level: int, event: str, message: str, fields: Mapping[str, Any]) -> None:
        self.lines.append(LogLine(self._clock(), level, event, message, fields))

    def of(self, event: str) -> list[LogLine]:
        return [line for line in self.lines if line.event == event]


class _AtOnce(Scribe):
    def do(self, job: Callable[[], object]) -> None:
        job()


class _InFlight(NamedTuple):
    call: BackendCall
    ends_at: float
    returned: Returned
    done: Callable[[Returned], None]


class Ended(NamedTuple):
    """A call that has returned, and what it raised."""

    call: BackendCall
    error: BaseException | None
    result: object


class Step(NamedTuple):
    """The events of one step: the call that had returned before it, those that it made, and for how many seconds
    nothing needs to be done after it."""

    at: float
    ended: Ended | None
    made: tuple[BackendCall, ...]
    rest: float


class Simulation:
    """Owns the control loop of a process that does not really exist, made from the text of a configuration.

    The real loader, rules and state machine run, with virtual time; the backend is a `FaultyBackend`, or a class that
    extends it. Nothing happens but in `step` and `advance`.

        with Simulation(yaml) as it:
            it.source.say({"profiling_enabled": True})
            it.advance(seconds=60)
            assert it.status().state is State.RUNNING

    `luck`, in [0, 1), is what every random choice comes to.
    """

    def __init__(
        self,
        config: str,
        *,
        observers: Sequence[Observer] = (),
        luck: float = 0.5,
    ) -> None:
        """Raises `ConfigError`, and what a backend or a lone source raises when it is built."""
        self._folder = tempfile.TemporaryDirectory(prefix="rheostat-")
        self.config = config
        self.clock = VirtualClock()
        self.log = Log(self.clock)
        self._luck = luck
        self._observers = observers
        self._pid = os.getpid()
        try:
            self._loaded = self._load(config)
            self._begin(None)
        except BaseException:
            self._folder.cleanup()
            raise

    def _load(self, text: str) -> Config:
        path = Path(self._folder.name, "config.yaml")
        path.write_text(text)
        return load_config(path, env={}, third_party=True)

    def _begin(self, inherited: State | None) -> None:
        config = self._loaded
        identity = Identity(config.application, config.instance, config.tags, self._pid)
        self._woken = True
        self._in_flight: _InFlight | None = None
        self._overlapped = False
        journal = Journal(self.log, self.clock, config.secrets)
        journal.who = config.who()
        self.meter = VirtualMeter(self.clock, lambda: self.backend)
        surroundings = Surroundings(
            clock=self.clock,
            wall=self.clock,
            random=lambda: self._luck,
            calls=self,
            wake=self._wake,
            meter=self.meter,
            folder=StateFolder(str(self.folder / "state")),
            scribe=_AtOnce(),
        )
        self._loop, self.backend, self._opened = assemble(
            config, identity, journal, surroundings, self._observers, inherited
        )
        assert isinstance(self.backend, FaultyBackend), "a simulation needs a FaultyBackend"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """Where the configuration lies, and what it names by a relative path."""
        return Path(self._folder.name)

    @property
    def sources(self) -> Mapping[str, FlagSource]:
        """By layer; a lone one has an empty name, and a layer that cannot be built is not there."""
        return built_sources(self._opened)

    @property
    def source(self) -> Any:
        """The first source that could be built, or the only one."""
        return next(iter(self.sources.values()))

    @property
    def finished(self) -> bool:
        """It was closed, and has let go of the profiler."""
        return self._loop.finished

    def status(self) -> Status:
        """The status as the reconciler of a real process would tell it."""
        return self._loop.snapshot.at(self.clock())

    def call(self, function: Callable[[], object], done: Callable[[Returned], None]) -> None:
        """For the loop: make a call of the backend, which returns when its time has come."""
        # An assertion here would be taken for the backend's.
        self._overlapped |= self._in_flight is not None
        returned = run(function, self.clock)
        lasts = self.backend.lasts
        ends_at = self.clock() + lasts
        self._in_flight = _InFlight(self.backend.calls[-1], ends_at, returned._replace(took=lasts), done)

    @property
    def in_flight(self) -> BackendCall | None:
        """The backend's call that has not returned yet."""
        return None if self._in_flight is None else self._in_flight.call

    def release(self) -> None:
        """Let the call that is in flight return now, however long it was to last."""
        if self._in_flight is not None:
            self._in_flight = self._in_flight._replace(ends_at=self.clock())

    def step(self) -> Step:
        """Let what has ended return, and let the loop look and converge once."""
        ended = self._land()
        self._woken = False
        before = len(self.backend.calls)
        rest = self._loop.step()
        assert not self._overlapped, "the backend was called while another call was in flight"
        return Step(self.clock(), ended, tuple(self.backend.calls[before:]), rest)

    def steps(self, seconds: float) -> Iterator[Step]:
        """Let time pass, step by step, each when the loop has asked for it or something has called.

        Raises AssertionError if the loop does not come to rest.
        """
        until = self.clock() + seconds
        at_once = 0
        while True:
            step = self.step()
            yield step
            due = self._due(step)
            at_once = at_once + 1 if due <= step.at else 0
            assert at_once < _MOST_STEPS_AT_ONCE, f"the loop spins at {step.at}: it asks for no rest"
            if due > until:
                break
            # No clock stands still: the loop may wait for a moment that is nearer than floats can tell.
            self.clock.now = max(due, step.at + _TICK)
        if self.clock() < until:
            self.clock.now = until
            yield self.step()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        for _ in self.steps(seconds):
            continue

    def close(self) -> None:
        """From now on only stop, as at the end of a process."""
        self._loop.close()
        self._wake()

    def fork(self) -> "Simulation":
        """The child of a fork: it begins anew, with objects of its own and the same clock."""
        child = copy(self)
        child._pid += 1
        child.log = Log(self.clock)
        child._begin(self._loop.state)
        return child

    def restart(self) -> "Simulation":
        """The process is killed, and another one takes its place."""
        after = copy(self)
        after._pid += 1
        after.log = Log(self.clock)
        after._begin(None)
        return after

    def _land(self) -> Ended | None:
        flight = self._in_flight
        if flight is None or self.clock() < flight.ends_at:
            return None
        self._in_flight = None
        flight.done(flight.returned)
        return Ended(flight.call, flight.returned.error, flight.returned.result)

    def _due(self, step: Step) -> float:
        ends_at = math.inf if self._in_flight is None else self._in_flight.ends_at
        return step.at if self._woken else min(step.at + step.rest, ends_at)

    def _wake(self) -> None:
        self._woken = True
