"""The share of a core that profiling takes under a budget of 2 %, asked for far more.

Processes with 50 and with 200 idle threads, each ten frames deep, are asked to be sampled at 100 Hz in mode wall. By
Rheostat under a budget: counted is the processor time of the agent's threads over the last 60 s of some 100. By the
naive thread, which knows no budget: over some seconds.
"""

import time
from pathlib import Path
from typing import Final

from .child import run, side_by_side
from .row import Row
from .sampling import cpu_of, idle_threads, tasks
from .stage import NOBODY, Stage, folder, log_to_nowhere

_FLAGS: Final = "profiling_enabled: true\nprofiling_sample_rate: 100\nprofiling_mode: wall\n"
_MOST: Final = 2.5
"""Percent of a core."""
_FIRST: Final = 40.0
"""Seconds for the first window, which finds out what the session costs, and for the pause that pays for it."""


def rows(quick: bool) -> list[Row]:
    seconds = 20.0 if quick else 60.0
    with folder() as where:
        few, many = side_by_side(
            *(lambda count=count: run(with_rheostat, where / f"ours-{count}", count, seconds) for count in (50, 200))
        )
        naive = {count: run(with_naive, where / f"naive-{count}", count, 5.0) for count in (50, 200)}
    return [
        Row.of(
            f"{count} idle threads, mode wall at 100 Hz, budget 2 %: the agent's share of a core",
            100 * ours,
            100 * naive[count],
            limit=_MOST,
            unit="%",
        )
        for count, ours in ((50, few), (200, many))
    ]


def with_rheostat(where: Path, count: int, seconds: float) -> float:
    import rheostat

    stage = _stage(where, "budget: {cpu: 2%}, ")
    before = idle_threads(count)
    rheostat.start(stage.config, strict=True)
    time.sleep(_FIRST)
    used, ended = 0.0, time.monotonic() + seconds
    clocks = {tid: cpu_of([tid]) for tid in tasks() - before}
    # Sessions come and go, and take their threads' clocks with them.
    while (now := time.monotonic()) < ended:
        for tid in tasks() - before:
            clock = cpu_of([tid])
            used += max(0.0, clock - clocks.get(tid, 0.0))
            clocks[tid] = max(clock, clocks.get(tid, 0.0))
        time.sleep(min(0.05, ended - now))
    return used / seconds


def with_naive(where: Path, count: int, seconds: float) -> float:
    from .naive import NaiveThread

    stage = _stage(where, "")
    before = idle_threads(count)
    NaiveThread(stage.flags, NOBODY).poll()
    time.sleep(1.0)
    new = tasks() - before
    used, began = cpu_of(new), time.monotonic()
    time.sleep(seconds)
    return (cpu_of(new) - used) / (time.monotonic() - began)


def _stage(where: Path, policy: str) -> Stage:
    log_to_nowhere()
    stage = Stage(where)
    stage.config.write_text(stage.config.read_text().replace("policy: {", f"policy: {{{policy}reach: 0s, "))
    stage.say(_FLAGS)
    return stage
