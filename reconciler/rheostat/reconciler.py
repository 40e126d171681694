"""The control thread, and the handle that a host holds on it."""

import atexit
import logging
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self

from .backend import PermanentError
from .config import Config
from .flagsource import FlagSource
from .forking import FORKS
from .lease import IGNORANCE
from .log import Journal, describe
from .machine import State
from .policy import Policy
from .problem import ConfigError
from .status import Snapshot, Status
from .transition import Observer
from .wake import Wake

if TYPE_CHECKING:
    from .loop import Loop

THREAD_NAME: Final = "rheostat"

_AFTER_A_DEFECT: Final = 1.0
_FORK_SETTLES: Final = 0.2
"""Seconds that a forked child is left alone, so that one that execs or daemonises pays for nothing."""


class Reconciler:
    """Governs the profiler of this process, in a daemon thread named ``rheostat``. Made by `start`.

    As a context manager it stops at the end of the block.
    """

    def __init__(self, config: Config | None, observers: Sequence[Observer], journal: Journal, error: str = "") -> None:
        self._config = config
        self._policy = config.policy if config is not None else Policy()
        self._observers = observers
        self._journal = journal
        self._thread: threading.Thread | None = None
        self._left_behind: list[object] = []
        self._exits_first = False
        self._begin_anew(error)

    def _begin_anew(self, error: str = "") -> None:
        self._wake = Wake()
        self._ended = threading.Event()
        self._closing = False
        self._exit_by = math.inf
        self._loop: Loop | None = None
        self._sources: Mapping[str, FlagSource] = {}
        self._before_loop = Snapshot(pid=os.getpid(), source_reason=IGNORANCE.reason, error=error)

    def status(self) -> Status:
        """What is true now. Never blocks; ages are those of this moment."""
        loop = self._loop
        snapshot = self._before_loop if loop is None else loop.snapshot
        return snapshot._replace(closed=self._ended.is_set() or self._thread is None).at(time.monotonic())

    def nudge(self) -> None:
        """Look at the flags now. Never blocks; safe in a signal handler."""
        self._wake.ring()

    def stop(self, timeout: float | None = None) -> bool:
        """Stop the profiler and let go of everything; waits up to `timeout` seconds (None: the stop deadline).

        Gives True once all is let go; False if the backend needs longer, and it goes on in the background, or if
        the backend refused to stop.
        """
        self._closing = True
        if self._loop is not None:
            self._loop.close()
        self._wake.ring()
        thread = self._thread
        if thread is None or threading.current_thread() is thread:
            return thread is None
        return self._ended.wait(self._policy.stop_deadline if timeout is None else timeout) and self._is_stopped

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_over(self) -> bool:
        """It has ended, or never begun, and left no session behind: another may take its place."""
        return (self._thread is None or self._ended.is_set()) and self._is_stopped

    @property
    def is_closing(self) -> bool:
        return self._closing

    @property
    def _is_stopped(self) -> bool:
        return self._loop is None or self._loop.state is State.STOPPED

    def begin(self, config: Config, *, forked_from: State | None = None) -> None:
        """Start the control thread; where the process cannot have one more, say so and do nothing."""
        thread = threading.Thread(target=self._run, args=(config, forked_from), name=THREAD_NAME, daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError as error:
            self._thread = None
            self._before_loop = self._before_loop._replace(error=describe(error))
            text = f"Rheostat could not start, the process runs unprofiled: {describe(error)}"
            self._journal.say(logging.ERROR, "start_failed", text)
            return
        atexit.register(self._at_exit)

    def forked(self) -> None:
        """In the child of a fork: begin anew, and never touch what the parent made, not even to finalise it."""
        if self._thread is None or self._config is None:
            return
        if self._closing or self._ended.is_set():
            # The parent's thread is not here to wait for.
            atexit.unregister(self._at_exit)
            self._left_behind.append((self._loop, self._sources, self._wake, self._ended, self._thread))
            self._begin_anew()
            self._closing, self._thread = True, None
            return
        state = State.STOPPED if self._loop is None else self._loop.state
        self._left_behind.append((self._loop, self._sources, self._wake, self._ended, self._thread))
        self._begin_anew()
        self.begin(self._config, forked_from=state)

    def _run(self, config: Config, forked_from: State | None) -> None:
        try:
            if forked_from is not None:
                self._pause(_FORK_SETTLES)
                text = f"forked from process {os.getppid()}, whose profiler was {forked_from}: begins anew"
                self._journal.say(logging.INFO, "forked", text)
            self._assemble(config, forked_from)
            if self._loop is not None:
                self._repeat(self._loop)
        finally:
            self._let_go()
            if self._loop is not None:
                self._say_closed()
            self._ended.set()
            atexit.unregister(self._at_exit)

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
        if self._closing:
            loop.close()
        pace = _Pace()
        while not loop.finished:
            pace.keep()
            try:
                rest = loop.step()
            # A defect of ours must not end the thread that can still turn profiling off.
            except BaseException as error:
                self._journal.complain(
                    "defect",
                    f"defect in Rheostat: {self._journal.describe(error)}",
                    about="defect",
                    level=logging.ERROR,
                )
                rest = _AFTER_A_DEFECT
            if not loop.finished:
                self._wake.wait(rest)

    def _assemble(self, config: Config, forked_from: State | None) -> None:
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

        failures = 0
        while not self._closing:
            try:
                wiring = config.wire()
                backend = wiring.backend.build(config.identity())
                self._sources = open_sources(wiring.sources, config.identity(), self._wake.ring)
            except ConfigError as error:
                self._give_up(error)
                return
            except BaseException as error:
                failures += 1
                text = f"a plug-in could not be built: {self._journal.describe(error)}"
                self._before_loop = self._before_loop._replace(error=text)
                self._journal.complain("start_failed", text, about="plugin", level=logging.ERROR)
                if isinstance(error, PermanentError):
                    return
                self._pause(config.policy.backoff.delay(failures, _random))
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
                wake=self._wake.ring,
                inherited=forked_from,
                breathe=_breathe,
                observers=self._observers,
            )
            return

    def _give_up(self, error: ConfigError) -> None:
        self._before_loop = self._before_loop._replace(error=self._journal.mask(str(error)))
        self._journal.invalid(error.problems)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._closing and (left := until - time.monotonic()) > 0:
            self._wake.wait(left)

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
