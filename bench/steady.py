"""The steady tick: nothing has changed and a session runs.

In one process, with a session of the real agent: batches of the loop's steps and of the naive thread's polls take
turns, each timed by the CPU time of its thread; the median of the batches counts. Then the memory that Python has
allocated (`tracemalloc`), and the records of the logger, before and after many steps.
"""

import gc
import logging
import statistics
import time
import tracemalloc
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Final, NamedTuple

from rheostat import State
from rheostat._config.config import load_config
from rheostat._control.loop import Loop
from rheostat._host.calls import ThreadedCalls
from rheostat._host.native import Wake
from rheostat._lifecycle.assembly import Surroundings, assemble
from rheostat._report.journal import Journal
from rheostat._report.sinks import LOGGER, LoggerSink

from .child import run
from .naive import USUAL_INTERVAL, NaiveThread
from .row import Row, show
from .stage import SLOW, Stage, folder, receiver

_STEPS: Final = 1_000
_POLLS: Final = 25
_SLOWER: Final = 100
"""How many times fewer of the naive thread's polls fit into the same time."""
_NOISE: Final = 1023
_SETTLED: Final = 0.05
"""Seconds after which a file that was written is not looked at twice any more."""


class Steady(NamedTuple):
    """CPU in seconds for each tick, growth in bytes, records."""

    step: float
    poll: float
    step_growth: int
    poll_growth: int
    records: int


class _Counting(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.records += 1


def rows(quick: bool) -> list[Row]:
    steps, batches = (10_000, 5) if quick else (100_000, 25)
    with folder() as where, receiver() as address:
        steady = run(measure, where, address, batches, steps)
    return [
        Row.times(
            "steady tick: CPU",
            steady.step * 1e6,
            steady.poll * 1e6,
            most=0.1,
            yardstick=steady.poll * 1e6,
            called="the naive thread's poll",
            unit="µs",
            note=f"at 1 s and the naive thread's usual {USUAL_INTERVAL:.0f} s: {show(steady.step * 1e6, 'µs')} and "
            f"{show(steady.poll * 1e6 / USUAL_INTERVAL, 'µs')} a second (computed)",
        ),
        Row.of(
            f"steady tick: memory growth over {steps:,} ticks",
            steady.step_growth,
            steady.poll_growth,
            limit=0,
            unit="bytes",
            tolerance=_NOISE,
            note=f"{_NOISE} bytes are taken for nothing; the naive thread: over {steps // _SLOWER:,}",
        ),
        Row.of("steady tick: log lines", steady.records, 0, limit=0),
    ]


def measure(where: Path, address: str, batches: int, steps: int) -> Steady:
    stage = Stage(where, address)
    stage.say(SLOW)
    time.sleep(_SETTLED)
    loop = _running(stage.config)
    naive = NaiveThread(stage.flags, address)
    naive.poll()
    counting = _Counting()
    LOGGER.setLevel(logging.DEBUG)
    LOGGER.addHandler(counting)
    timed = [(_cpu(loop.step, _STEPS), _cpu(naive.poll, _POLLS)) for _ in repeat(None, batches)]
    step_growth, poll_growth = _growth(loop.step, steps), _growth(naive.poll, steps // _SLOWER)
    records = counting.records
    _stop(loop)
    return Steady(
        statistics.median(step for step, _ in timed),
        statistics.median(poll for _, poll in timed),
        step_growth,
        poll_growth,
        records,
    )


def _cpu(tick: Callable[[], object], times: int) -> float:
    """Seconds of this thread's CPU for one tick."""
    began = time.thread_time()
    for _ in repeat(None, times):
        tick()
    return (time.thread_time() - began) / times


def _growth(tick: Callable[[], object], times: int) -> int:
    """Bytes that are allocated after so many ticks and were not after the first hundred."""
    tracemalloc.start()
    try:
        _cpu(tick, 100)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        _cpu(tick, times)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return max(0, after - before)


def _running(config_file: Path) -> Loop:
    """The loop as the control thread builds it, stepped until a session runs."""
    config, wake = load_config(config_file), Wake()
    calls = ThreadedCalls(time.monotonic, bool, bool)
    surroundings = Surroundings(clock=time.monotonic, random=lambda: 0.5, calls=calls, wake=wake.ring)
    loop = assemble(config, config.identity(), Journal(LoggerSink(), time.monotonic), surroundings).loop
    while loop.snapshot.state is not State.RUNNING:
        wake.wait(loop.step())
    return loop


def _stop(loop: Loop) -> None:
    loop.close()
    while not loop.finished:
        loop.step()
        time.sleep(0.01)
