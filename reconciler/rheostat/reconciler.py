"""What the control thread does, and the handle that a host holds on it."""

import atexit
import logging
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from .backend import PermanentError
from .config import Config
from .control_thread import ControlThread, Parked
from .flagsource import FlagSource
from .forking import FORKS
from .lease import IGNORANCE
from .log import Journal, describe
from .machine import State
from .policy import Policy
from .problem import ConfigError
from .status import Snapshot, Status
from .surroundings import green_threads, in_main_thread, is_worker, linger, on_exit_of_worker, other_profilers
from .transition import Observer

if TYPE_CHECKING:
    from .loop import Loop

_AFTER_A_DEFECT: Final = 1.0
_FORK_SETTLES: Final = 0.2
"""Seconds that a forked child is left alone, so that one that execs or daemonises pays for nothing."""
_AT_THE_END: Final = "interpreter shutdown"
"""What CPython from 3.12 on says where no thread can be started any more."""
_WITHOUT_THREAD: Final = (
    "after a fork there was no thread for Rheostat: flags are not followed until it gets one at the next fork, nudge() "
    "or stop(); a session that runs goes on; is the limit of processes too low?"
)


class Reconciler:
    """Governs the profiler of this process, in a daemon thread named ``rheostat``. Made by `start`.

    As a context manager it stops at the end of the block.
    """

    def __init__(
        self,
        config: Config | None,
        observers: Sequence[Observer],
        journal: Journal,
        error: str = "",
        *,
        forked: bool = False,
    ) -> None:
        """`forked`: this process is the child of a fork that happened before Rheostat was there."""
        self._config = config
        self._policy = config.policy if config is not None else Policy()
        self._observers = observers
        self._journal = journal
        self._is_worker = forked
        self._is_armed = False
        self._left_behind: list[object] = []
        self._exits_first = False
        self._begin_anew(error)

    def _begin_anew(self, error: str = "") -> None:
        self._control: ControlThread | None = None
        self._ended = threading.Event()
        self._closing = False
        self._exit_by = math.inf
        self._settles_at = 0.0
        self._exits_as_worker = False
        self._forked_from: State | None = None
        self._failures = 0
        self._trouble = ""
        """What a loop does not know of."""
        self._loop: Loop | None = None
        self._sources: Mapping[str, FlagSource] = {}
        self._before_loop = Snapshot(pid=os.getpid(), source_reason=IGNORANCE.reason, error=error)

    def status(self) -> Status:
        """What is true now. Never blocks; ages are those of this moment."""
        loop = self._loop
        snapshot = self._before_loop if loop is None else loop.snapshot
        closed = self._ended.is_set() or (self._control is None and not self._is_armed)
        return snapshot._replace(closed=closed, error=snapshot.error or self._trouble).at(time.monotonic())

    def nudge(self) -> None:
        """Look at the flags now. Never blocks; safe in a signal handler."""
        control = self._control
        if control is not None:
            control.get_back()
            control.ring()

    def stop(self, timeout: float | None = None) -> bool:
        """Stop the profiler and let go of everything; waits up to `timeout` seconds (None: the stop deadline).

        Gives True once all is let go; False if the backend needs longer, and it goes on in the background, or if
        the backend refused to stop.
        """
        self._closing = True
        self._is_armed = False
        if self._loop is not None:
            self._loop.close()
        control = self._control
        if control is None:
            return True
        control.get_back()
        control.ring()
        if control.is_current or control.is_lacking:
            return False
        return self._ended.wait(self._policy.stop_deadline if timeout is None else timeout) and self._is_stopped

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_over(self) -> bool:
        """It has ended, or never begun, and left no session behind: another may take its place."""
        return (self._control is None or self._ended.is_set()) and self._is_stopped and not self._is_armed

    @property
    def is_closing(self) -> bool:
        return self._closing

    @property
    def _is_stopped(self) -> bool:
        return self._loop is None or self._loop.state is State.STOPPED

    def begin(self) -> None:
        """Start the control thread, if this process is to have one; where it cannot, say so and do nothing."""
        if self._policy.processes == "workers" and not (self._is_worker or is_worker()):
            self._is_armed = True
            self._before_loop = self._before_loop._replace(source_reason="only workers are governed")
            return
        if self._refuses_green_threads():
            return
        atexit.register(self._at_exit)
        control = self._control = ControlThread(self._run, self._say_no_thread)
        if self._forked_from is None:
            self._start(control)
        else:
            control.start_soon()

    def _start(self, control: ControlThread) -> None:
        try:
            control.start()
        except RuntimeError as error:
            self._control = None
            atexit.unregister(self._at_exit)
            self._ended.set()
            self._before_loop = self._before_loop._replace(error=describe(error))
            text = f"Rheostat could not start, the process runs unprofiled: {describe(error)}"
            self._journal.say(logging.ERROR, "start_failed", text)

    def _say_no_thread(self, error: RuntimeError) -> None:
        self._trouble = describe(error)
        if _AT_THE_END not in str(error):
            text = f"{_WITHOUT_THREAD}: {describe(error)}"
            self._journal.complain("start_failed", text, about="thread", level=logging.ERROR)

    def park(self) -> None:
        """Before a fork: let the control thread end, if that leaves the host with its own only."""
        control, loop = self._control, self._loop
        # Under green threads waiting would let others of the host run in the midst of its fork.
        if control is None or self._ended.is_set() or green_threads():
            return
        # While a call is in flight there is its thread as well, and that cannot be made to end.
        if loop is None or loop.is_idle:
            control.park(0 if loop is None else loop.snapshot.seq + 1)

    def unpark(self) -> None:
        """After the fork, in the parent: go on."""
        control = self._control
        if control is not None:
            control.unpark()

    def forked(self) -> None:
        """In the child of a fork: begin anew, and never touch what the parent made, not even to finalise it."""
        if (self._control is None and not self._is_armed) or self._config is None:
            return
        is_over = self._closing or self._ended.is_set() or self._policy.fork_policy == "off"
        state = State.STOPPED if self._loop is None else self._loop.state
        self._left_behind.append((self._loop, self._sources, self._control, self._ended))
        self._begin_anew()
        self._is_armed = False
        if is_over:
            # The parent's thread is not here to wait for.
            atexit.unregister(self._at_exit)
            self._closing = True
            return
        self._forked_from = state
        self._is_worker = True
        self._settles_at = time.monotonic() + _FORK_SETTLES
        self.begin()

    def _run(self) -> None:
        """In the control thread; anew after each fork that has parked it."""
        try:
            self._settle()
            if self._loop is None:
                self._assemble()
            if self._loop is not None:
                self._repeat(self._loop)
        except Parked:
            raise
        # A defect of ours: it is told, and is no unhandled exception of the host's.
        except BaseException as error:
            self._tell_defect(error)
        self._end()

    def _end(self) -> None:
        self._let_go()
        if self._loop is not None:
            self._say_closed()
        self._ended.set()
        atexit.unregister(self._at_exit)
        if green_threads():
            linger()

    def _settle(self) -> None:
        """Leave a forked child alone for a moment, then say that it begins."""
        self._trouble = ""
        self._journal.recover("recovered", "Rheostat has its thread again", about="thread")
        if self._settles_at:
            self._sleep_until(self._settles_at)
            self._settles_at = 0.0
            text = f"forked from process {os.getppid()}, whose profiler was {self._forked_from}: begins anew"
            self._journal.say(logging.INFO, "forked", text)
        if self._refuses_green_threads():
            self._closing = True
        if not self._exits_as_worker and is_worker():
            self._exits_as_worker = True
            on_exit_of_worker(self._at_exit)

    def _refuses_green_threads(self) -> bool:
        who = green_threads()
        if not who:
            return False
        if not in_main_thread():
            # The host's handlers have locks that are no longer a native thread's to take.
            self._journal.avoid_handlers()
        text = f"Rheostat does not work under {who}'s green threads: this process runs unprofiled"
        self._trouble = text
        self._journal.once("green_threads", text, about="green threads", level=logging.ERROR)
        return True

    def _let_go(self) -> None:
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

    def _repeat(self, loop: "Loop") -> None:
        pace = _Pace()
        while not loop.finished:
            pace.keep()
            try:
                if self._closing or self._refuses_green_threads():
                    loop.close()
                rest = loop.step()
            # A defect of ours must not end the thread that can still turn profiling off.
            except BaseException as error:
                self._tell_defect(error)
                rest = _AFTER_A_DEFECT
            if not loop.finished:
                self._sleep(rest)

    def _tell_defect(self, error: BaseException) -> None:
        text = f"defect in Rheostat: {self._journal.describe(error)}"
        self._journal.complain("defect", text, about="defect", level=logging.ERROR)

    def _sleep(self, seconds: float) -> None:
        """Until it is woken; raises `Parked` if that was for a fork."""
        assert self._control is not None
        self._control.sleep(seconds)

    def _sleep_until(self, moment: float) -> None:
        while not self._closing and (left := moment - time.monotonic()) > 0:
            self._sleep(left)

    def _assemble(self) -> None:
        """Build backend, sources and loop, as often as it takes; no loop if that cannot work or is no longer wanted."""
        # The host's start-up does not pay for the loop; this thread has the time.
        with FORKS.held_off():
            # One after the other, with a breath between: each holds the interpreter's lock while it is loaded.
            from .calls import ThreadedCalls

            _breathe()
            from .sources import open_sources

            _breathe()
            from . import watch  # noqa: F401

            _breathe()
            from .loop import Loop

        _breathe()

        self._say_who_else_profiles()
        config, control = self._config, self._control
        assert config is not None
        assert control is not None
        while not self._closing:
            try:
                wiring = config.wire()
                backend = wiring.backend.build(config.identity())
                self._sources = open_sources(wiring.sources, config.identity(), control.ring)
            except ConfigError as error:
                self._give_up(error)
                return
            except BaseException as error:
                self._failures += 1
                text = f"a plug-in could not be built: {self._journal.describe(error)}"
                self._before_loop = self._before_loop._replace(error=text)
                self._journal.complain("start_failed", text, about="plugin", level=logging.ERROR)
                if isinstance(error, PermanentError):
                    return
                self._sleep_until(time.monotonic() + config.policy.backoff.delay(self._failures, _random))
                continue
            self._journal.recover("recovered", "the plug-ins could be built", about="plugin")
            _breathe()
            self._loop = Loop(
                rules=wiring.rules,
                policy=config.policy,
                identity=config.identity(),
                sources=self._sources,
                backend=backend,
                calls=ThreadedCalls(time.monotonic, self._exit_before_the_agent, lambda: self._closing),
                journal=self._journal,
                clock=time.monotonic,
                random=_random,
                wake=control.ring,
                inherited=self._forked_from,
                breathe=_breathe,
                observers=self._observers,
            )
            return

    def _say_who_else_profiles(self) -> None:
        others = ""
        # What they say of themselves is strangers' code.
        with suppress(Exception):
            others = ", ".join(other_profilers())
        if others:
            text = f"another profiler seems to run in this process: {others}; the two may disturb each other"
            self._journal.once("other_profiler", text, about="other profilers")

    def _give_up(self, error: ConfigError) -> None:
        self._before_loop = self._before_loop._replace(error=self._journal.mask(str(error)))
        self._journal.invalid(error.problems)

    def _exit_before_the_agent(self) -> None:
        """Register our exit handler once more, after the first call has made the backend import its agent.

        The agent registers its own when it is imported, handlers run last-registered first, and the agent's waits
        for a hung server for 10 s. The first registration stays: if the interpreter is exiting already, a new one
        would come too late, and without the old one nothing would be flushed.
        """
        if not self._exits_first:
            self._exits_first = True
            atexit.register(self._at_exit)

    def _at_exit(self) -> None:
        """Give the control thread the chance to flush the last window, for `exit_deadline` at most.

        It is registered more than once; all its calls share the one deadline.
        """
        now = time.monotonic()
        self._exit_by = min(self._exit_by, now + self._policy.exit_deadline)
        self.stop(max(0.0, self._exit_by - now))


def _breathe() -> None:
    """Let go of the interpreter's lock for a moment."""
    time.sleep(0)


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
            time.sleep(self._BREATH)
