"""The cost of a fork, and when the child is profiled.

Processes of three kinds take turns: with Rheostat, with the naive thread, and with neither. Each forks many times while
profiling is off, then with a session of the real agent (which the one with neither starts by a plain call), and nothing
else happens meanwhile: all threads rest. The parent's clock runs while it is inside ``os.fork`` but not in the kernel,
the child's from the last moment before the kernel forks to the first in which its own code runs. From the figures of
the first two is taken the same figure of the third, median from median and 95th percentile from 95th percentile; the
median is what is promised. The kernel's own time in the parent is shown beside it: it copies the tables of all memory
that is in use, also of Rheostat's modules. So is the least that it takes on this machine to see a thread end before the
fork and to start another after it, which is what Rheostat does where the fork would find no other.

Then children are left to themselves, with the flag on, until their profiler runs. In a child of the naive thread's
process the agent is asked to end its session, which says whether there is one.
"""

import math
import os
import select
import signal
import statistics
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from .child import run
from .percentile import percentile
from .row import Row, show
from .stage import SLOW, Stage, folder, log_to_nowhere, receiver
from .threads import CALLED, end_and_start

if TYPE_CHECKING:
    from .governed import Governed

_MOST: Final = 0.95
_MOST_PARENT: Final = 6.0
_MOST_CHILD: Final = 25.0
_MOST_PROFILED: Final = 3.5
_LEFT_ALONE: Final = 0.2
"""Seconds for which a child is left alone."""
_REST: Final = 0.006
"""Seconds between two forks."""
_STARTED: Final = 0.3
_NEVER_AFTER: Final = 1.5
_INTERVAL: Final = 0.1
"""Of the naive thread, in the children that wait for their profiler."""
_PATIENCE: Final = 5.0

_MOMENT: Final = struct.Struct("d")


class Fork(NamedTuple):
    """Seconds."""

    parent: float
    kernel: float
    """In the parent as well, and not counted there."""
    child: float


class Forks(NamedTuple):
    """Those while profiling is off, and those while a session runs."""

    off: list[Fork]
    on: list[Fork]


def rows(quick: bool) -> list[Row]:
    turns, forks, children = (2, 50, 3) if quick else (3, 50, 8)
    kinds = (with_rheostat, with_naive, with_neither)
    with folder() as where, receiver() as address:
        measured = [[run(kind, where / f"{kind.__name__}{i}", address, forks) for kind in kinds] for i in range(turns)]
        profiled = run(measure_profiled, where / "profiled", address, children)
        naive = run(measure_naively_profiled, where / "naive", address)
        least = _Figure.of([each * 1000 for each in run(end_and_start, forks)])
    rheostat, beside, neither = (_joined(kind) for kind in zip(*measured, strict=True))
    return [
        *_rows("profiling off", rheostat.off, beside.off, neither.off, least),
        *_rows("profiler running", rheostat.on, beside.on, neither.on, least),
        _profiled_row(profiled, naive),
    ]


def _joined(each: tuple[Forks, ...]) -> Forks:
    return Forks([fork for forks in each for fork in forks.off], [fork for forks in each for fork in forks.on])


def _rows(state: str, rheostat: list[Fork], naive: list[Fork], neither: list[Fork], least: "_Figure") -> list[Row]:
    def added(cost: Callable[[Fork], float]) -> "_Added":
        return _Added(*([cost(fork) * 1000 for fork in each] for each in (rheostat, naive, neither)))

    kernel = added(lambda fork: fork.kernel)
    beside = (
        f"; the kernel takes {kernel.rheostat} more for the fork itself, with the naive thread {kernel.naive}, and "
        f"{kernel.without} without either; {CALLED} take {least}"
    )
    return [
        added(lambda fork: fork.parent).row(f"fork, {state}: added to the parent", _MOST_PARENT, least.median, beside),
        added(lambda fork: fork.child).row(f"fork, {state}: added to the child", _MOST_CHILD, least.median),
    ]


class _Figure(NamedTuple):
    """Milliseconds."""

    median: float
    most: float

    @classmethod
    def of(cls, each: list[float]) -> Self:
        return cls(statistics.median(each), percentile(each, _MOST))

    def less(self, other: "_Figure") -> "_Figure":
        return _Figure(self.median - other.median, self.most - other.most)

    def __str__(self) -> str:
        return f"{self.median:.2f} and {self.most:.2f} ms"


class _Added:
    """The time that the two add to what neither of them takes."""

    def __init__(self, rheostat: list[float], naive: list[float], neither: list[float]) -> None:
        self.without = _Figure.of(neither)
        self.rheostat = _Figure.of(rheostat).less(self.without)
        self.naive = _Figure.of(naive).less(self.without)
        self._number = len(rheostat)

    def row(self, what: str, most: float, yardstick: float, note: str = "") -> Row:
        row = Row.times(
            f"{what}, median and 95th percentile of {self._number}",
            self.rheostat.median,
            self.naive.median,
            most=most,
            yardstick=yardstick,
            called=CALLED,
            unit="ms",
            note=f"without either {self.without}{note}",
        )
        return row._replace(rheostat=str(self.rheostat), naive=str(self.naive))


def _profiled_row(rheostat: list[float], naive: float) -> Row:
    row = Row.times(
        f"fork to the child's profiler running, longest of {len(rheostat)}",
        max(rheostat),
        naive,
        most=_MOST_PROFILED,
        yardstick=_LEFT_ALONE,
        called="what a child is left alone",
        unit="s",
        note=f"shortest {show(min(rheostat), 's')}; the naive thread does not live on in a child, which has no session "
        f"{show(_NEVER_AFTER, 's')} later, with a poll of {_INTERVAL:g} s",
    )
    return row._replace(naive="never" if math.isinf(naive) else row.naive)


def with_rheostat(where: Path, address: str, forks: int) -> Forks:
    clock = Clock()
    stage, governed = _governed(where, address)
    off = clock.forks(forks)
    _switch_on(stage, governed)
    on = clock.forks(forks)
    _check_running(governed)
    governed.close()
    return Forks(off, on)


def with_naive(where: Path, address: str, forks: int) -> Forks:
    from .naive import NaiveThread

    clock, stage = Clock(), Stage(where, address)
    log_to_nowhere()
    thread = NaiveThread(stage.flags, address)
    thread.start()
    time.sleep(_STARTED)
    off = clock.forks(forks)
    stage.say(SLOW)
    # It will not poll again by itself for as long as this takes.
    thread.poll()
    return Forks(off, clock.forks(forks))


def with_neither(where: Path, address: str, forks: int) -> Forks:
    clock, stage = Clock(), Stage(where, address)
    log_to_nowhere()
    off = clock.forks(forks)
    # From here on the agent is what everybody has.
    from .naive import NaiveThread

    stage.say(SLOW)
    NaiveThread(stage.flags, address).poll()
    return Forks(off, clock.forks(forks))


def measure_profiled(where: Path, address: str, children: int) -> list[float]:
    """Seconds from each fork to the moment in which the child's profiler runs."""
    stage, governed = _governed(where, address)
    _switch_on(stage, governed)
    seconds = [_in_child(lambda: _running(governed)) for _ in range(children)]
    _check_running(governed)
    governed.close()
    return seconds


def measure_naively_profiled(where: Path, address: str) -> float:
    from .naive import NaiveThread

    stage = Stage(where, address)
    stage.say(SLOW)
    thread = NaiveThread(stage.flags, address, _INTERVAL)
    thread.poll()
    thread.start()
    time.sleep(_STARTED)
    return _in_child(_has_session)


def _governed(where: Path, address: str) -> "tuple[Stage, Governed]":
    from .governed import Governed

    log_to_nowhere()
    stage = Stage(where, address)
    governed = Governed(stage.config)
    governed.wait_for_flags()
    time.sleep(_STARTED)
    return stage, governed


def _switch_on(stage: Stage, governed: "Governed") -> None:
    stage.say(SLOW)
    governed.converge()


def _check_running(governed: "Governed") -> None:
    status = governed.reconciler.status()
    if status.state != "running":
        raise RuntimeError(f"the parent's session has been disturbed: {status}")


def _running(governed: "Governed") -> float:
    """In the child: the moment (`time.perf_counter`) from which the profiler runs."""
    while governed.reconciler.status().state != "running":
        time.sleep(0.001)
    return time.perf_counter()


def _has_session() -> float:
    """In the child: infinity if there is no session."""
    import pyroscope

    time.sleep(_NEVER_AFTER)
    return time.perf_counter() if pyroscope.shutdown() else math.inf


class Clock:
    """Knows when the kernel forks. Made first: what is registered first is called last before a fork, first after."""

    def __init__(self) -> None:
        self._forked_at = 0.0
        self._back_at = 0.0
        os.register_at_fork(before=self._note_fork, after_in_parent=self._note_return)

    def _note_fork(self) -> None:
        self._forked_at = time.perf_counter()

    def _note_return(self) -> None:
        self._back_at = time.perf_counter()

    def forks(self, number: int) -> list[Fork]:
        return [self._fork() for _ in range(number)]

    def _fork(self) -> Fork:
        time.sleep(_REST)
        reading, writing = os.pipe()
        began = time.perf_counter()
        child = os.fork()
        ended = time.perf_counter()
        if child == 0:
            _leave(writing, ended)
        kernel = self._back_at - self._forked_at
        return Fork(ended - began - kernel, kernel, _told(child, reading, writing) - self._forked_at)


def _in_child(measure: Callable[[], float]) -> float:
    """Seconds from a fork to the moment that `measure` gives in the child."""
    reading, writing = os.pipe()
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            _leave(writing, measure())
        os._exit(1)
    return _told(child, reading, writing) - began


def _leave(writing: int, moment: float) -> None:
    os.write(writing, _MOMENT.pack(moment))
    os._exit(0)


def _told(child: int, reading: int, writing: int) -> float:
    """The moment that the child writes, on the clock that all processes share. It is gone afterwards."""
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], _PATIENCE)
    if not ready:
        os.kill(child, signal.SIGKILL)
    told = os.read(reading, _MOMENT.size)
    os.close(reading)
    os.waitpid(child, 0)
    if len(told) < _MOMENT.size:
        raise RuntimeError(f"a child has not said a word for {_PATIENCE:.0f} s, or died")
    moment: float = _MOMENT.unpack(told)[0]
    return moment
