"""Many cycles of on, retune and off with the real agent: what is left behind.

Two children side by side, one with Rheostat (no cooldown) and one with the naive thread's code, and a server in another
process. Threads and descriptors are counted after the first cycle and after the last. Resident memory goes up and down
by some MB from one cycle to the next, so medians over many cycles are compared: the last ones, and as many after the
first, in which the agent still grows.
"""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from .child import run, side_by_side
from .row import Row
from .stage import OFF, ON, RETUNED, Stage, folder, receiver

_SETTLED: Final = 0.3


class Growth(NamedTuple):
    """Threads and descriptors over all cycles, bytes after the first."""

    threads: int
    descriptors: int
    memory: float


def rows(quick: bool) -> list[Row]:
    cycles, grown = (100, 30) if quick else (1000, 100)
    with folder() as where, receiver() as address:
        rheostat, naive = side_by_side(
            partial(run, with_rheostat, where / "rheostat", address, cycles, grown),
            partial(run, with_naive, where / "naive", address, cycles, grown),
        )
    what = f"{cycles:,} cycles of on, retune, off"
    return [
        Row.of(f"{what}: more threads", rheostat.threads, naive.threads, limit=0),
        Row.of(f"{what}: more file descriptors", rheostat.descriptors, naive.descriptors, limit=0),
        Row.of(
            f"{what}: more memory after the first {grown}",
            rheostat.memory / 1e6,
            naive.memory / 1e6,
            limit=4,
            unit="MB",
        ),
    ]


def with_rheostat(where: Path, address: str, cycles: int, grown: int) -> Growth:
    from .governed import Governed

    stage = Stage(where, address, poll_interval="1h")
    governed = Governed(stage.config)
    governed.wait_for_flags()
    return _repeat(stage, governed.converge, cycles, grown)


def with_naive(where: Path, address: str, cycles: int, grown: int) -> Growth:
    from .naive import NaiveThread

    stage = Stage(where, address)
    return _repeat(stage, NaiveThread(stage.flags, address).poll, cycles, grown)


def _repeat(stage: Stage, converge: Callable[[], object], cycles: int, grown: int) -> Growth:
    def cycle() -> int:
        for flags in (ON, RETUNED, OFF):
            stage.say(flags)
            converge()
        return _resident()

    cycle()
    threads, descriptors = _held()
    memory = [cycle() for _ in range(cycles - 1)]
    more_threads, more_descriptors = _held()
    settled, last = memory[grown : 2 * grown], memory[-grown:]
    return Growth(
        more_threads - threads, more_descriptors - descriptors, statistics.median(last) - statistics.median(settled)
    )


def _held() -> tuple[int, int]:
    """Threads and descriptors, once threads that are just ending have ended."""
    time.sleep(_SETTLED)
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def _resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
