"""The share of a core that profiling takes under a budget of 2 %, asked for far more.

Processes with 50 and with 200 idle threads, each ten frames deep, are asked to be sampled at 100 Hz in mode wall. By
Rheostat under a budget: counted is the processor time of the agent's threads over the last 60 s of some 100. By the
naive thread, which knows no budget: over some seconds. A third process has 5 threads and, once its session has run for
a while, 200: counted from two windows of 10 s after that. The guard's own cost is that of the control thread.
"""

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from .child import run, side_by_side
from .row import Row
from .sampling import cpu_of, idle_threads, tasks
from .stage import NOBODY, Stage, folder, log_to_nowhere

_FLAGS: Final = "profiling_enabled: true\nprofiling_sample_rate: 100\nprofiling_mode: wall\n"
_MOST: Final = 2.5
"""Percent of a core."""
_GUARD_MOST: Final = 0.05
"""Percent of a core."""
_FIRST: Final = 40.0
"""Seconds for the first window, which finds out what the session costs, and for the pause that pays for it."""
_TWO_WINDOWS: Final = 20.0
"""Seconds from the moment at which a process grows, in which the budget need not be kept yet."""
_FEW, _MANY, _GROWING = 50, 200, 0


class Cost(NamedTuple):
    """Shares of a core: of the agent's threads, and of the control thread."""

    agent: float
    guard: float


def rows(quick: bool) -> list[Row]:
    seconds = 20.0 if quick else 60.0
    with folder() as where:
        few, many, growing = side_by_side(
            *(
                lambda count=count: run(with_rheostat, where / f"ours-{count}", count, seconds)
                for count in (_FEW, _MANY, _GROWING)
            )
        )
        naive = {count: run(with_naive, where / f"naive-{count}", count, 5.0) for count in (_FEW, _MANY)}
    asked = "mode wall at 100 Hz, budget 2 %"
    return [
        *(
            Row.of(
                f"{threads}, {asked}: the agent's share of a core",
                100 * ours.agent,
                100 * naive[count],
                limit=_MOST,
                unit="%",
            )
            for threads, ours, count in (
                ("50 idle threads", few, _FEW),
                ("200 idle threads", many, _MANY),
                ("5 idle threads that become 200, from 20 s later", growing, _MANY),
            )
        ),
        Row.of(
            "the budget's guard: the control thread's share of a core, 50 idle threads",
            100 * few.guard,
            100 * naive[_FEW],
            limit=_GUARD_MOST,
            unit="%",
            note="the naive figure is what it spares",
        ),
    ]


def with_rheostat(where: Path, count: int, seconds: float) -> Cost:
    import rheostat

    stage = _stage(where, "budget: {cpu: 2%}, ")
    before = idle_threads(count or 5)
    rheostat.start(stage.config, strict=True)
    time.sleep(_FIRST / 2)
    if count == _GROWING:
        # The ids of new threads are not the agent's.
        before |= idle_threads(_MANY - 5) - tasks_of_agent()
        time.sleep(_TWO_WINDOWS)
    else:
        time.sleep(_FIRST / 2)
    guard = [each.native_id for each in threading.enumerate() if each.name == "rheostat" and each.native_id]
    used, guarded, began = 0.0, cpu_of(guard), time.monotonic()
    clocks = {tid: cpu_of([tid]) for tid in tasks() - before}
    # Sessions come and go, and take their threads' clocks with them.
    while (now := time.monotonic()) < began + seconds:
        for tid in tasks() - before - set(guard):
            clock = cpu_of([tid])
            used += max(0.0, clock - clocks.get(tid, 0.0))
            clocks[tid] = max(clock, clocks.get(tid, 0.0))
        time.sleep(min(0.05, began + seconds - now))
    return Cost(used / seconds, (cpu_of(guard) - guarded) / seconds)


def tasks_of_agent() -> set[int]:
    """The threads that have the name which Rheostat gives the agent's."""
    found = set()
    for each in tasks():
        with suppress(OSError):
            if Path(f"/proc/self/task/{each}/comm").read_text().startswith("rheostat"):
                found.add(each)
    return found


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
