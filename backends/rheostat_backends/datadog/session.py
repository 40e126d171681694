"""The session of ddtrace's profiler, of which a process has one."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from rheostat.plugins import (
    Health,
    TemporaryError,
    VendorLog,
    hold_off_forks,
    named_threads,
    plugin_log,
    task_ids,
    task_name,
)
from rheostat_backends.datadog.library import Library, runs

THREADS: Final = "rheostat-dd"
"""How the kernel calls the threads of a session: they inherit the name from the thread that starts it."""
_STARTING: Final = 1.0
"""Seconds in which the sampler's thread has to be there."""
_ENDING: Final = 0.5
"""Seconds that it may take to end; it looks at least ten times a second whether it is to."""
_LOGGERS: Final = (
    "ddtrace.profiling.profiler",
    "ddtrace.profiling.scheduler",
    "ddtrace.profiling.collector.stack",
    "ddtrace.profiling.collector.memalloc",
    "ddtrace.internal.datadog.profiling.native_call_monitor",
)
_COLLECTORS: Final = {"stack": "StackCollector", "memory": "MemoryCollector"}


class _NoEndpoints:
    """Of the spans of a tracer that has none."""

    def enable(self) -> None:
        return

    def reset(self) -> tuple[dict[str, int], dict[str, list[int]]]:
        return {}, {}


class _NoContext:
    """What earlier versions register at."""

    def _on_activate(self, function: Any) -> Any:
        return function

    def _deregister_on_activate(self, function: Any) -> Any:
        return function


class Untraced:
    """Stands in for ddtrace's tracer: the application's is left alone, and uploads go to this address."""

    enabled = False

    def __init__(self, url: str) -> None:
        self.agent_trace_url = self._agent_url = url
        self.context_provider = _NoContext()
        self._endpoint_call_counter_span_processor = _NoEndpoints()

    def current_span(self) -> None:
        return None

    def current_root_span(self) -> None:
        return None


class Session:
    """A profiler that runs, until `end`."""

    def __init__(self, library: Library, profiler: Any, log: VendorLog) -> None:
        self._before = _tasks()
        self._library = library
        self._profiler = profiler
        self._log = log
        self._samples = False
        self._sampler = 0

    def verify(self, tuned: Mapping[str, Any]) -> None:
        """Raises TemporaryError if it does not collect what it was told to: of that ddtrace says nothing but a log."""
        if not runs(self._profiler):
            raise TemporaryError("ddtrace did not start its profiler, as it does not in a master process of uWSGI")
        for name, collector in _COLLECTORS.items():
            if tuned[name] and collector not in self._collectors():
                raise TemporaryError(f"ddtrace could not start what it collects with {name}; it logs why at DEBUG")
        self._samples = bool(tuned["stack"])
        if self._samples and sys.platform == "linux":
            self._sampler = _first_of_threads(self._before)

    def _collectors(self) -> set[str]:
        return {type(each).__name__ for each in self._profiler._profiler._collectors}

    def health(self) -> Health:
        if not runs(self._profiler):
            return Health("failed", "ddtrace says that its profiler does not run")
        if not self._samples:
            return Health("healthy", "ddtrace says that its profiler runs; without stack it has no sampler")
        if not self._sampler:
            return Health("unknown", "the sampler's thread cannot be told from others")
        if task_name(self._sampler) != THREADS:
            return Health("failed", "the thread of ddtrace's sampler has ended: it does not sample")
        return Health("healthy", "the sampler's thread is there")

    def end(self) -> None:
        """Flush it. Raises what ddtrace raises; then it may run still."""
        with self._log.speaking(), hold_off_forks():
            self._library.keep_stopped(self._profiler)
            self._profiler.stop(flush=True)
        _SESSIONS.forget(self)
        self.clear_away()
        self._await_sampler()

    def abandon(self) -> None:
        """The start was in vain."""
        with self._log.speaking(), hold_off_forks(), suppress(Exception):
            self._library.keep_stopped(self._profiler)
            self._profiler.stop(flush=False)
            # In native code a stop without a start would count as one.
            if _named(self._before):
                self._library.stop_sampler()
        _SESSIONS.forget(self)
        self.clear_away()

    def let_go(self) -> None:
        """In a forked child: native code has begun to sample there by itself."""
        with suppress(Exception):
            self._library.keep_stopped(self._profiler)
            self._profiler._profiler.stop(flush=False, join=False)
        self._library.forget(self._profiler)
        self.clear_away()

    def _await_sampler(self) -> None:
        """It says that it ends a moment before it has, and earlier versions do not wait for it at all."""
        until = time.monotonic() + _ENDING
        while self._sampler and task_name(self._sampler) == THREADS and time.monotonic() < until:
            time.sleep(0.001)

    def clear_away(self) -> None:
        self._library.restore_threads()
        self._log.detach()


class _Sessions:
    """Owns the session of this process, from its start to its end, be that in a forked child."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._watches_forks = False

    def remember(self, session: Session) -> None:
        if not self._watches_forks:
            # After ddtrace's own, which make its locks anew.
            os.register_at_fork(after_in_child=self._let_go)
            self._watches_forks = True
        self._session = session

    def forget(self, session: Session) -> None:
        if self._session is session:
            self._session = None

    def _let_go(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.let_go()


_SESSIONS: Final = _Sessions()
_told: set[str] = set()


def begin(
    library: Library, names: Mapping[str, Any], tuned: Mapping[str, Any], url: str, code_provenance: bool
) -> Session:
    """Raises BackendError; then none is left."""
    _say_what_is_unknown(library, tuned)
    log = VendorLog(*_LOGGERS)
    log.attach()
    try:
        with log.speaking():
            profiler = library.new(names, tuned, Untraced(url), code_provenance)
    except BaseException:
        log.detach()
        raise
    session = Session(library, profiler, log)
    try:
        with log.speaking(), hold_off_forks(), named_threads(THREADS):
            _SESSIONS.remember(session)
            library.start(profiler, tuned, code_provenance)
        session.verify(tuned)
    except BaseException:
        session.abandon()
        raise
    return session


def _say_what_is_unknown(library: Library, tuned: Mapping[str, Any]) -> None:
    unknown = set(library.without_effect(tuned)) - _told
    _told.update(unknown)
    if unknown:
        # Reading a configuration, which imports the backend, needs no logging.
        import logging

        text = "the installed ddtrace, on this Python, does not know %s: it is not used"
        plugin_log("rheostat.datadog", logging.WARNING, text, ", ".join(sorted(unknown)))


def _first_of_threads(before: set[int]) -> int:
    """The kernel's id of the sampler's thread, which begins before any other of a session; 0 if it is not known."""
    until = time.monotonic() + _STARTING
    while not (named := _named(before)) and time.monotonic() < until:
        time.sleep(0.005)
    return min(named, default=0)


def _named(before: set[int]) -> list[int]:
    """The threads of a session among those that are new: to look at each gives the interpreter's lock away."""
    return [each for each in _tasks() - before if task_name(each) == THREADS]


def _tasks() -> set[int]:
    """Empty where the kernel does not tell."""
    try:
        return task_ids()
    except OSError:
        return set()
