"""The cost of an idle process: wake-ups of threads other than the main one, and CPU.

Three children side by side, with Rheostat at the YAML source's default of one look a second, with the naive thread at
the same interval, and with neither; profiling is off in all. The main thread of each sleeps; the kernel counts the
voluntary context switches of the others (`/proc/self/task/*/status`) and the CPU time of the process, in nanoseconds.
"""

import os
import time
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from .child import run, side_by_side
from .row import Row
from .stage import NOBODY, Stage, folder

_STARTED: Final = 1.5
"""Seconds until everything has been imported and begun."""


class Idle(NamedTuple):
    """Per second: wake-ups, and seconds of CPU."""

    wake_ups: float
    cpu: float


def rows(quick: bool) -> list[Row]:
    seconds = 4.0 if quick else 15.0
    kinds = (with_rheostat, with_naive, with_neither)
    with folder() as where:
        children = [partial(run, kind, where / kind.__name__, seconds) for kind in kinds]
        rheostat, naive, neither = side_by_side(*children)
    return [
        # One more than expected may fall into the window.
        Row.of(
            "idle: wake-ups per second, both polling every second",
            rheostat.wake_ups,
            naive.wake_ups,
            limit=1,
            tolerance=1.5 / seconds,
            note="one second is Rheostat's default for YAML; at its usual 30 s the naive thread wakes 0.033 times",
        ),
        Row.times(
            "idle: CPU above a process without it, of one core",
            max(0.0, rheostat.cpu - neither.cpu) * 100,
            max(0.0, naive.cpu - neither.cpu) * 100,
            most=1.0,
            yardstick=max(0.0, naive.cpu - neither.cpu) * 100,
            called="the naive thread's",
            unit="%",
            note="with cold caches, as between two looks in production; the naive thread polls every second too",
        ),
    ]


def with_rheostat(where: Path, seconds: float) -> Idle:
    from .governed import Governed

    Governed(Stage(where).config).wait_for_flags()
    return _watch(seconds)


def with_naive(where: Path, seconds: float) -> Idle:
    from .naive import NaiveThread

    NaiveThread(Stage(where).flags, NOBODY, interval=1.0).start()
    return _watch(seconds)


def with_neither(where: Path, seconds: float) -> Idle:
    return _watch(seconds)


def _watch(seconds: float) -> Idle:
    time.sleep(_STARTED)
    wake_ups, cpu = _wake_ups(), time.process_time()
    time.sleep(seconds)
    return Idle((_wake_ups() - wake_ups) / seconds, (time.process_time() - cpu) / seconds)


def _wake_ups() -> int:
    """How often all threads but this one have gone to sleep."""
    threads = [thread for thread in os.listdir("/proc/self/task") if int(thread) != os.getpid()]
    return sum(_voluntary_switches(Path("/proc/self/task", thread, "status")) for thread in threads)


def _voluntary_switches(status: Path) -> int:
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))
