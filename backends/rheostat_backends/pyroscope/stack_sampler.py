"""The agent's cheap sampler, and whether it tells the truth in this process."""

import atexit
import sys
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from types import BuiltinFunctionType
from typing import Any, Final, NamedTuple, Self

from rheostat.plugins import green_threads, task_ids, task_name, task_time_ns
from rheostat_backends.pyroscope.session import THREADS

_MISSED: Final = 0.1
_MISSED_AT_LEAST: Final = 50_000_000
"""Nanoseconds of processor time, and their share, that the cheap sampler may miss."""
_COMES_OUT: Final = 0.02
"""Seconds."""
_LISTINGS: Final = 20
_BETWEEN: Final = 0.005
"""Seconds: threads that live as long are mostly missed, those that live for 20 ms are mostly seen."""
_ENOUGH: Final = 3
_MOSTLY: Final = 0.6


class StackSampler:
    """Owns the question whether the agent's cheap sampler may be used in this process: its options are set once."""

    def __init__(self) -> None:
        self._is_prepared = False
        self._distrusted = ""
        self._before = _Used({}, {}, 0)

    def why_not(self, agent: Any, mode: str, max_threads: int) -> str:
        """The reason, or nothing: then it is prepared."""
        if mode != "cpu":
            return f"it has no mode {mode}"
        if green_threads():
            return f"it charges the work of {green_threads()}'s green threads to others"
        if self._distrusted:
            return self._distrusted
        configure = getattr(agent, "configure_experimental_stack_profiler", None)
        if sys.platform != "linux" or configure is None:
            return "this agent has it not, or not on this system"
        if not self._is_prepared:
            # Adaptive, it takes more samples than it is told to; with timers it could not be started again.
            self._is_prepared = configure(max_threads=max_threads, adaptive_sampling=False, cpu_timer_enabled=False)
            if self._is_prepared:
                atexit.register(_leave_threads_alone)
        return "" if self._is_prepared else "the application has set its options"

    def begin(self) -> None:
        """A session of it begins."""
        self._before = _Used.now()

    def distrust(self) -> str:
        """Whether since the last look it must have missed much: it sees only what `threading` has started, and not at
        once.

        Gives why, or nothing; what it has missed once it is not used again for in this process.
        """
        # A thread may begin or end meanwhile.
        known = _known()
        now, before = _Used.now(), self._before
        known |= _known()
        self._before = now
        used = {tid: cpu - before.threads.get(tid, 0) for tid, cpu in now.threads.items()}
        by_agent = sum(now.agent.values()) - sum(before.agent.values())
        total = now.process - before.process - by_agent
        unknown = sum(cpu for tid, cpu in used.items() if tid not in known)
        ended = total - sum(used.values())
        most = max(_MISSED_AT_LEAST, _MISSED * total)
        if unknown > most:
            self._miss(unknown / total, "threads that Python has not started")
        elif ended > most and _end_at_once(now.threads.keys() | now.agent.keys()):
            self._miss(ended / total, "threads that end before it sees them")
        return self._distrusted

    def _miss(self, share: float, where: str) -> None:
        self._distrusted = f"it missed {share:.0%} of the processor time, in {where}"


def _leave_threads_alone() -> None:
    """At the end of the process: it would abort if one of its threads were in the sampler's native code then.

    The sampler has put functions of its own into `threading.Thread`, for good, which call that code as a thread begins
    and ends; they go on without it.
    """
    for name in ("_set_native_id", "_bootstrap_inner"):
        for cell in getattr(getattr(threading.Thread, name, None), "__closure__", None) or ():
            if isinstance(cell.cell_contents, BuiltinFunctionType):
                cell.cell_contents = _nothing
    # Those that are in it come out of it once they get the interpreter's lock.
    time.sleep(_COMES_OUT)


def _nothing(*_: object) -> None:
    return


class _Used(NamedTuple):
    """Nanoseconds of processor time: of each living thread but the agent's, of each of these, and of the process."""

    threads: Mapping[int, int]
    agent: Mapping[int, int]
    process: int

    @classmethod
    def now(cls) -> Self:
        found: dict[int, int] = {}
        agent: dict[int, int] = {}
        with suppress(OSError):
            for task in task_ids():
                with suppress(OSError):
                    of = agent if task_name(task) == THREADS else found
                    of[task] = task_time_ns(task)
        return cls(found, agent, time.process_time_ns())


def _known() -> set[int | None]:
    """The kernel's ids of the threads that `threading` knows."""
    return {thread.native_id for thread in threading.enumerate()}


def _end_at_once(long_known: Collection[int]) -> bool:
    """Whether threads that begin now mostly end within a few milliseconds, as far as a short look can tell."""
    seen = gone = 0
    before: set[int] = set()
    for _ in range(_LISTINGS):
        time.sleep(_BETWEEN)
        with suppress(OSError):
            now = task_ids().difference(long_known)
            seen, gone = seen + len(before), gone + len(before - now)
            before = now
    return seen >= _ENOUGH and gone > _MOSTLY * seen


STACK: Final = StackSampler()
