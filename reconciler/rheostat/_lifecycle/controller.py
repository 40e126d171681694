"""The work of one process's control thread, from its begin to its end."""

import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from rheostat._config.config import Config
from rheostat._config.problem import ConfigError
from rheostat._contract.backend import PermanentError
from rheostat._contract.flagsource import FlagSource
from rheostat._contract.text import describe
from rheostat._core.knowledge import NEVER_READ
from rheostat._core.state import State
from rheostat._core.transition import Observer
from rheostat._host import native
from rheostat._host.control_thread import ControlThread, Parked
from rheostat._host.execution import current
from rheostat._host.exits import Exits
from rheostat._host.forks import FORKS
from rheostat._host.importing import hastened, import_apart
from rheostat._host.runtime import is_embedded, may_turn_green, other_profilers
from rheostat._report.journal import Journal
from rheostat._report.status import Snapshot, Status

if TYPE_CHECKING:
    from rheostat._control.loop import Loop
    from rheostat._lifecycle.assembly import Assembly
    from rheostat._lifecycle.files import Files
    from rheostat._report.metrics import Meters

_AFTER_A_DEFECT: Final = 1.0
_TURNS_GREEN: Final = 0.2
"""Seconds that a process is left alone whose threads may be about to turn green."""
_CALLER_FIRST: Final = 0.002
_HURRY: Final = 1.0
"""Seconds for which a thread that computes gives way sooner while the first flags are waited for."""
_PARTS: Final = (
    "rheostat._host.calls",
    "rheostat._control.watch",
    "rheostat._core.machine",
    "rheostat._lifecycle.files",
    "rheostat._control.loop",
    "rheostat._lifecycle.assembly",
)
"""The modules that the control thread imports, one after the other."""
_WRITTEN: Final = 0.5
"""Seconds that the end waits for files that are being written."""
_AT_THE_END: Final = "interpreter shutdown"
"""CPython's message, from 3.12 on, where no thread can be started any more."""
_WITHOUT_THREAD: Final = (
    "could not restart the control thread after a fork (process limit too low? see ulimit -u): flags are ignored until "
    "the next fork, nudge() or stop(); a running session continues"
)


class Fork(NamedTuple):
    """News for its child: the state of the parent's profiler, and until when (monotonic seconds) the child is
    left alone."""

    parent_state: State
    settles_at: float

    @classmethod
    def of(cls, parent: "Controller | None", settles_at: float) -> Self:
        return cls(State.STOPPED if parent is None else parent.state, settles_at)


class Controller:
    """Governs the profiler of one process, in a daemon thread named ``rheostat``, until it is closed."""

    def __init__(
        self,
        config: Config,
        observers: Sequence[Observer],
        journal: Journal,
        exits: Exits,
        fork: Fork | None = None,
    ) -> None:
        """`fork` is the one that has made this process, where it came after the start."""
        self._config = config
        self._policy = config.policy
        self._observers = observers
        self._journal = journal
        # Those of a parent are not for its child.
        journal.metrics = None
        self._exits = exits
        self._fork = fork
        self._has_settled = fork is None
        self._control = ControlThread(self._run, self._say_no_thread)
        self.park = self._control.park
        """Before a fork: let the control thread end, if that leaves the host with its own only; whether it has."""
        self.unpark = self._control.unpark
        """After a fork, in the parent: go on."""
        self._ended = native.Gate()
        self._closing = False
        self._exit_by = math.inf
        self._failures = 0
        self._pace = _Pace()
        self._trouble = ""
        """Trouble that a loop does not know of."""
        self._loop: Loop | None = None
        self._sources: Mapping[str, FlagSource] = {}
        self._files: Files | None = None
        self._meters: Meters | None = None
        self._before_loop = Snapshot(pid=os.getpid(), source_reason=NEVER_READ.reason)

    def begin(self) -> None:
        """Start the control thread; where there is none to be had, say so and be over."""
        if is_embedded():
            # A program that forks without telling CPython hangs its child if a thread is in the midst of an import.
            _load_loop()
        self._exits.register()
        try:
            self._control.start()
        except RuntimeError as error:
            self._trouble = describe(error)
            self._exits.unregister()
            self._ended.open()
            text = f"Rheostat could not start, the process runs unprofiled: {self._trouble}"
            self._journal.say(logging.ERROR, "start_failed", text)

    def begin_in_bare_thread(self) -> None:
        """The same in a child, where the caller's own thread serves at need."""
        self._exits.register()
        self._control.start_or_stand_in()

    def begin_without_thread(self) -> None:
        """The same in a child that has got no thread: it begins once it gets one."""
        self._exits.register()
        self._control.start_soon()

    def status(self) -> Status:
        loop = self._loop
        snapshot = self._before_loop if loop is None else loop.snapshot
        error = snapshot.error or self._trouble
        return snapshot._replace(closed=self._ended.is_open, error=error).at(time.monotonic())

    def nudge(self) -> None:
        self._control.restart_if_lost()
        self._control.ring()

    def close(self, timeout: float | None = None) -> bool:
        """See `Reconciler.stop`."""
        seconds = self._policy.stop_deadline if timeout is None else timeout
        has_ended = self._begins_to_close() and current().wait(self._ended, seconds)
        # By then the application has been told of it.
        current().flush()
        return has_ended and self._is_stopped

    def _begins_to_close(self) -> bool:
        """Whether its end can be waited for."""
        self._closing = True
        if self._loop is not None:
            self._loop.close()
        self.nudge()
        return not (self._control.is_current or self._control.is_lacking)

    def close_at_exit(self) -> None:
        """Give the control thread the chance to flush the last window, for `exit_deadline` at most.

        However often it is called: all share the one deadline.
        """
        now = time.monotonic()
        self._exit_by = min(self._exit_by, now + self._policy.exit_deadline)
        # Whatever the application's threads are, none has to run any more.
        if self._begins_to_close():
            self._ended.wait(max(0.0, self._exit_by - now))
        if self._loop is None and self._files is not None:
            self._files.remove()
            self._files.scribe.flush(max(0.0, min(_WRITTEN, self._exit_by - time.monotonic())))
        current().flush()
        FORKS.end(max(0.0, self._exit_by - time.monotonic()))

    @property
    def is_over(self) -> bool:
        """It has ended, and left no session behind."""
        return self._ended.is_open and self._is_stopped

    @property
    def is_closing(self) -> bool:
        return self._closing

    @property
    def goes_on_in_children(self) -> bool:
        return not (self._closing or self._ended.is_open)

    @property
    def state(self) -> State:
        return State.STOPPED if self._loop is None else self._loop.state

    @property
    def _is_stopped(self) -> bool:
        return self.state is State.STOPPED

    def _say_no_thread(self, error: RuntimeError) -> None:
        self._trouble = describe(error)
        if _AT_THE_END not in str(error):
            text = f"{_WITHOUT_THREAD}: {describe(error)}"
            self._journal.complain("start_failed", text, about="thread", level=logging.ERROR)

    def _run(self) -> None:
        """In the control thread; anew after each fork that has parked it."""
        try:
            self._begin_in_this_process()
            if self._loop is None:
                self._assemble()
            if self._loop is not None:
                self._begin_looking(self._loop)
                self._begin_telling(self._loop)
                self._repeat(self._loop)
        except Parked:
            raise
        # A defect of ours: it is told, and is no unhandled exception of the host's.
        except BaseException as error:
            self._tell_defect(error)
        self._end()

    def _begin_telling(self, loop: "Loop") -> None:
        if self._files is not None:
            self._files.open(loop.snapshot)

    def _publish(self) -> None:
        if self._files is not None:
            self._files.open(self._before_loop)
        self._tell_snapshot(self._before_loop)

    def _tell_snapshot(self, snapshot: Snapshot) -> None:
        if self._files is not None:
            self._files.publish(snapshot)
        if self._meters is not None:
            self._meters.on_snapshot(snapshot)

    def _opened_meters(self) -> "Meters | None":
        if not self._config.metrics:
            return None
        metrics = import_apart("rheostat._report.metrics")
        instruments = []
        for kind in self._config.metrics:
            try:
                instruments.append(metrics.opened(kind, self._config.application, self._config.instance))
            # The library is third-party code, and may be any version.
            except BaseException as error:
                text = f"metrics: {kind}: {self._journal.describe(error)}; the profiler is not affected"
                self._journal.once("not_measured", text, about=f"metrics {kind}")
        made: Meters = metrics.Meters(instruments)
        self._journal.metrics = made.on_event
        return made

    def _end(self) -> None:
        self._close_sources()
        if self._loop is not None:
            self._say_closed()
        # Why it governs nothing is to be seen for as long as the process lives.
        has_failed = self._loop is None and bool(self._before_loop.error)
        if has_failed:
            self._before_loop = self._before_loop._replace(closed=True)
            self._publish()
        else:
            self._remove_status()
        self._ended.open()
        if not has_failed:
            self._exits.unregister()

    def _remove_status(self) -> None:
        if self._meters is not None:
            last = self._before_loop if self._loop is None else self._loop.snapshot
            self._meters.on_snapshot(last._replace(closed=True))
        if self._files is not None:
            self._files.remove()
            self._files.scribe.finish(_WRITTEN)

    def _begin_in_this_process(self) -> None:
        """Leave a forked child alone for a moment, then say that it begins."""
        if self._loop is None:
            # Who has started it goes on first: imports take the interpreter's lock.
            native.sleep(_CALLER_FIRST)
        if self._loop is None and may_turn_green():
            # A server's worker has that done first of all.
            self._sleep_until(time.monotonic() + _TURNS_GREEN)
        self._trouble = ""
        self._journal.recover("recovered", "Rheostat has its thread again", about="thread")
        if self._fork is not None and not self._has_settled:
            self._sleep_until(self._fork.settles_at)
            self._has_settled = True
            text = f"forked from process {os.getppid()}, whose profiler was {self._fork.parent_state}: begins anew"
            self._journal.say(logging.INFO, "forked", text)
        self._exits.register_if_worker()

    def _close_sources(self) -> None:
        for name, source in self._sources.items():
            try:
                source.close()
            except BaseException as error:
                called = f"flag source {name}" if name else "flag source"
                text = f"{called}: close() raised: {self._journal.describe(error)}"
                self._journal.complain("source_unavailable", text, about="close")

    def _say_closed(self) -> None:
        if self._is_stopped:
            self._journal.say(logging.INFO, "closed", "Rheostat has let go of the profiler")
        else:
            self._journal.say(logging.ERROR, "closed", "Rheostat has ended, but the profiler refused to stop")

    def _begin_looking(self, loop: "Loop") -> None:
        """Until the first flags are there: connecting to their product takes the interpreter's lock many times."""
        until = time.monotonic() + _HURRY
        with hastened():
            while loop.snapshot.source_reason and not loop.finished and (left := until - time.monotonic()) > 0:
                self._sleep(min(self._step(loop), left))

    def _repeat(self, loop: "Loop") -> None:
        while not loop.finished:
            rest = self._step(loop)
            if not loop.finished:
                self._sleep(rest)

    def _step(self, loop: "Loop") -> float:
        """Seconds for which nothing needs to be done after it."""
        self._pace.keep()
        try:
            if self._closing:
                loop.close()
            return loop.step()
        # A defect of ours must not end the thread that can still turn profiling off.
        except BaseException as error:
            self._tell_defect(error)
            return _AFTER_A_DEFECT

    def _tell_defect(self, error: BaseException) -> None:
        text = f"defect in Rheostat: {self._journal.describe(error)}; the service is not affected; please report it"
        self._journal.complain("defect", text, about="defect", level=logging.ERROR)

    def _sleep(self, seconds: float) -> None:
        """Until it is woken; raises `Parked` if that was for a fork."""
        loop = self._loop
        session: int | None = 0
        if loop is not None:
            # While a call is in flight there is its thread as well, and that cannot be made to end.
            session = loop.snapshot.seq + 1 if loop.is_idle else None
        self._control.sleep(seconds, session)

    def _sleep_until(self, moment: float) -> None:
        while not self._closing and (left := moment - time.monotonic()) > 0:
            self._sleep(left)

    def _assemble(self) -> None:
        """Build backend, sources and loop, as often as it takes; no loop if that cannot work or is no longer wanted."""
        # The host's start-up does not pay for the loop; this thread has the time.
        _load_loop()
        self._say_who_else_profiles()
        self._files = import_apart("rheostat._lifecycle.files").Files(self._config, self._journal)
        self._meters = self._opened_meters()
        while not self._closing:
            try:
                with hastened():
                    self._loop, _, self._sources = self._built()
                self._journal.recover("recovered", "the plug-ins could be built", about="plugin")
                return
            except ConfigError as error:
                self._give_up(error)
                return
            except BaseException as error:
                self._failures += 1
                text = f"a plug-in could not be built: {self._journal.describe(error)}"
                self._before_loop = self._before_loop._replace(error=text)
                self._publish()
                text += "; the process runs unprofiled meanwhile"
                self._journal.complain("start_failed", text, about="plugin", level=logging.ERROR)
                if isinstance(error, PermanentError):
                    return
            self._sleep_until(time.monotonic() + self._policy.backoff.delay(self._failures, _random))

    def _built(self) -> "Assembly":
        """Raises `ConfigError`, and whatever a plug-in does."""
        from rheostat._control.delivery import THREAD_NAME as LOOKING
        from rheostat._host.calls import SpawnedCalls, ThreadedCalls
        from rheostat._host.meter import Meter
        from rheostat._lifecycle.assembly import Surroundings, assemble

        assert self._files is not None
        surroundings = Surroundings(
            clock=time.monotonic,
            random=_random,
            calls=ThreadedCalls(time.monotonic, self._exits.register_before_the_agent, lambda: self._closing),
            looks=SpawnedCalls(time.monotonic, LOOKING),
            wake=self._control.ring,
            meter=Meter(),
            folder=self._files.folder,
            scribe=self._files.scribe,
            published=self._tell_snapshot,
        )
        inherited = None if self._fork is None else self._fork.parent_state
        identity = self._config.identity()
        return assemble(self._config, identity, self._journal, surroundings, self._observers, inherited)

    def _say_who_else_profiles(self) -> None:
        others = ""
        # What they say of themselves is third-party code.
        with suppress(Exception):
            others = ", ".join(other_profilers())
        if others:
            text = f"another profiler seems to run in this process: {others}; the two may disturb each other"
            self._journal.once("other_profiler", text, about="other profilers")

    def _give_up(self, error: ConfigError) -> None:
        self._before_loop = self._before_loop._replace(error=self._journal.mask(str(error)))
        self._publish()
        self._journal.invalid(error.problems)


def _load_loop() -> None:
    # One after the other, with a breath between: each holds the interpreter's lock while it is loaded.
    with hastened():
        for name in _PARTS:
            import_apart(name)
            _yield_gil()


def _yield_gil() -> None:
    """Let go of the interpreter's lock for a moment."""
    native.sleep(0)


def _random() -> float:
    """In [0, 1). The host's `random` is left alone: it may be seeded, and a forked child would repeat it."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


class _Pace:
    """Owns the least distance of steps: a source that calls without end must not take the host's CPU.

    Short bursts go through, so that a restart waits for nothing.
    """

    _MOST: Final = 100
    _BREATH: Final = 0.01

    def __init__(self) -> None:
        self._since = -math.inf
        self._steps = 0

    def keep(self) -> None:
        now = time.monotonic()
        if now - self._since >= 1.0:
            self._since, self._steps = now, 0
        self._steps += 1
        if self._steps > self._MOST:
            native.sleep(self._BREATH)
