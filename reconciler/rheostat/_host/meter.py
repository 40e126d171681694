"""What a session uses: processor time of the threads that it has brought into the process, and memory."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from rheostat._host import native
from rheostat._host.living import read_text
from rheostat._host.tasks import task_ids, task_time_ns

_SETTLES: Final = 2.0
"""Seconds from a start in which threads that appear are taken for the session's."""

_PLUGINS: Final = "rheostat-"
"""How the names of threads of Python's begin that are Rheostat's, or a backend's: others are the application's."""
_OWN: Final = ("rheostat-call", "rheostat-look", "rheostat-files", "rheostat-reach")
"""Of these, those that are no session's."""

_Result = TypeVar("_Result")


class Metering(Protocol):
    """Tells what sessions use."""

    @property
    def measures(self) -> bool:
        """False once a session has brought no thread whose time could be told."""

    @property
    def grown(self) -> int | None:
        """Bytes by which the process has grown while the session was started; None until that is over."""

    def used(self) -> float:
        """Seconds of processor time in all."""

    def started(self, start: Callable[[], _Result]) -> Callable[[], _Result]:
        """For the call's thread: start a session, and find its threads."""

    def stopped(self, stop: Callable[[], _Result]) -> Callable[[], _Result]:
        """For the call's thread: stop the session, whose threads take their clocks with them."""


class Meter:
    """Owns what sessions have used: the threads that appeared while each was started, and the calls themselves."""

    def __init__(self) -> None:
        self._clocks: dict[int, float] = {}
        self._past = 0.0
        self._before: set[int] | None = None
        self._settles_at = 0.0
        self.measures = True
        self._size = 0
        self.grown: int | None = None

    def started(self, start: Callable[[], _Result]) -> Callable[[], _Result]:
        def call() -> _Result:
            before, began = _threads(), time.thread_time()
            self._size, self.grown = _resident(), None
            try:
                return start()
            finally:
                self._settle()
                self._before, self._settles_at = before, time.monotonic() + _SETTLES
                self._past += time.thread_time() - began

        return call

    def stopped(self, stop: Callable[[], _Result]) -> Callable[[], _Result]:
        def call() -> _Result:
            self.used()
            began = time.thread_time()
            try:
                return stop()
            finally:
                self._past += time.thread_time() - began

        return call

    def used(self) -> float:
        if self._before is not None:
            self._find(self._before)
        # A call's thread and the control thread may be here at once: each looks at a copy.
        for tid in list(self._clocks):
            # Of one that has ended the last reading counts.
            with suppress(OSError):
                self._clocks[tid] = task_time_ns(tid) / 1e9
        return self._past + sum(list(self._clocks.values()))

    def _find(self, before: set[int]) -> None:
        """Threads of a session may begin others a moment after it has been started."""
        others = {each.native_id for each in native.known_threads() if not _may_be_a_sessions(each.name)}
        for tid in _threads() - before - others:
            self._clocks.setdefault(tid, 0.0)
        if time.monotonic() > self._settles_at:
            self._before = None
            self.measures = bool(self._clocks)
            self.grown = _resident() - self._size if self._size else None

    def _settle(self) -> None:
        self._past, self._clocks = self._past + sum(list(self._clocks.values())), {}


def _may_be_a_sessions(name: str) -> bool:
    return name.startswith(_PLUGINS) and not name.startswith(_OWN)


def _resident() -> int:
    """Bytes of the process's memory that are in use; 0 if that cannot be told."""
    fields = read_text("/proc/self/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def _threads() -> set[int]:
    try:
        return task_ids()
    except OSError:
        return set()
