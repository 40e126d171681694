"""The cost of the agent's samplers in a process with many idle threads.

Two processes with 200 idle threads, each ten frames deep, are sampled at 100 Hz in mode cpu: by Rheostat, which takes
the cheap sampler there, and by the naive thread, which takes the agent's default. Counted is the processor time of the
threads that began with the session, over some seconds after its first second.
"""

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from .child import run
from .row import Row
from .stage import NOBODY, Stage, folder, log_to_nowhere

_THREADS: Final = 200
_DEPTH: Final = 10
_FLAGS: Final = "profiling_enabled: true\nprofiling_sample_rate: 100\nprofiling_mode: cpu\n"
_MOST: Final = 4.0
"""Percent of a core."""


def rows(quick: bool) -> list[Row]:
    seconds = 4.0 if quick else 10.0
    with folder() as where:
        ours, naive = (100 * run(each, where / each.__name__, seconds) for each in (with_rheostat, with_naive))
    return [
        Row.of(
            f"{_THREADS} idle threads, mode cpu at 100 Hz: the agent's share of a core",
            ours,
            naive,
            limit=_MOST,
            unit="%",
            note="the naive thread takes the agent's default sampler, which cannot keep the rate here",
        )
    ]


def with_rheostat(where: Path, seconds: float) -> float:
    import rheostat

    stage = _stage(where)
    before = idle_threads(_THREADS)
    reconciler = rheostat.start(stage.config, strict=True)
    while reconciler.status().health.status != "healthy":
        time.sleep(0.01)
    return _share(before, seconds)


def with_naive(where: Path, seconds: float) -> float:
    from .naive import NaiveThread

    stage = _stage(where)
    before = idle_threads(_THREADS)
    NaiveThread(stage.flags, NOBODY).poll()
    time.sleep(1.0)
    return _share(before, seconds)


def _stage(where: Path) -> Stage:
    log_to_nowhere()
    stage = Stage(where)
    stage.say(_FLAGS)
    return stage


def idle_threads(count: int) -> set[int]:
    """Begin them; gives all threads of the process."""
    forever = threading.Event()

    def deep(frames: int) -> None:
        deep(frames - 1) if frames else forever.wait()

    for _ in range(count):
        threading.Thread(target=deep, args=(_DEPTH,), daemon=True).start()
    return tasks()


def tasks() -> set[int]:
    return {int(each) for each in os.listdir("/proc/self/task")}


def _share(before: set[int], seconds: float) -> float:
    new = tasks() - before
    used, began = cpu_of(new), time.monotonic()
    time.sleep(seconds)
    return (cpu_of(new) - used) / (time.monotonic() - began)


def cpu_of(tids: Iterable[int]) -> float:
    """Seconds of processor time; of one that has ended, nothing."""
    total = 0.0
    for each in tids:
        try:
            total += time.clock_gettime((~each << 3) | 6)
        except OSError:
            continue
    return total
