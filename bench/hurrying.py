"""How soon the first flags are there in a process that computes, and what that costs its other threads.

Each process starts Rheostat with one of the products, whose SDK has not been imported, and waits for its first flags:
once idle, once with a thread that computes without pause; and once more with flags in a file that say on, until the
agent runs. OpenFeature's SDK is the application's, which has set a provider: all that is left is Rheostat's own. Then
the same thread computes while a naive thread imports the same SDK. The computing thread looks at the clock all the
time: the longest time between two looks is the longest for which it was kept from computing. The median of several
processes counts.
"""

import importlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from .child import run
from .products import GROWTHBOOK, LAUNCHDARKLY, OPENFEATURE, PRODUCTS, product, section
from .row import Row, show
from .stage import NOBODY, SLOW, Stage, folder

_TIMES: Final = 5.0
if TYPE_CHECKING:
    from rheostat import Status

_STALLS: Final = 1.5
_PATIENCE: Final = 30.0

_SDK: Final = {GROWTHBOOK: "growthbook", LAUNCHDARKLY: "ldclient", OPENFEATURE: "openfeature.api"}


class Took(NamedTuple):
    """Seconds until it was done, and the longest stall of the thread that computed meanwhile."""

    done: float
    stall: float


def rows(quick: bool) -> list[Row]:
    rounds = 1 if quick else 3
    with folder() as where:
        return [*(row for name in PRODUCTS for row in _rows(name, where, rounds)), _agent_row(where, rounds)]


def _agent_row(where: Path, rounds: int) -> Row:
    idle = statistics.median(run(agent_running, where / f"agent-idle-{i}", False) for i in range(rounds))
    busy = statistics.median(run(agent_running, where / f"agent-busy-{i}", True) for i in range(rounds))
    naive = statistics.median(run(naive_agent) for _ in range(rounds))
    return Row.times(
        "start to the agent running beside a thread that computes",
        busy,
        naive,
        most=_TIMES,
        yardstick=idle,
        called="that in an idle process",
        unit="s",
        note="the naive thread only imports and calls the agent",
    )


def _rows(name: str, where: Path, rounds: int) -> list[Row]:
    with product(name) as served:
        url = NOBODY if name == OPENFEATURE else served.url
        idle = [run(first_flags, where / f"{name}-idle-{i}", name, url, False) for i in range(rounds)]
        busy = [run(first_flags, where / f"{name}-busy-{i}", name, url, True) for i in range(rounds)]
        naive = [run(naive_import, name) for i in range(rounds)]
    first, alone, imported = (statistics.median(each.done for each in kind) for kind in (busy, idle, naive))
    stall, theirs = (statistics.median(each.stall for each in kind) for kind in (busy, naive))
    return [
        Row.times(
            f"start to the first flags beside a thread that computes, {name}",
            first,
            imported,
            most=_TIMES,
            yardstick=alone,
            called="that in an idle process",
            unit="s",
            note="the naive thread only imports the SDK",
        ),
        Row.times(
            f"longest stall of the thread that computes, {name}",
            stall * 1000,
            theirs * 1000,
            most=_STALLS,
            yardstick=theirs * 1000,
            called="beside the naive thread's import",
            unit="ms",
            note=f"Rheostat's took {show(first, 's')}, the naive one {show(imported, 's')}",
        ),
    ]


def first_flags(where: Path, name: str, url: str, busy: bool) -> Took:
    if name == OPENFEATURE:
        from .provider import Provider

        Provider.set()
    stage = Stage(where, source=section(name, url))
    with _computing() if busy else _resting() as longest:
        done = _started(stage, lambda status: status.source.available)
    return Took(done, longest())


def agent_running(where: Path, busy: bool) -> float:
    """Seconds."""
    stage = Stage(where)
    stage.say(SLOW)
    with _computing() if busy else _resting():
        return _started(stage, lambda status: status.state == "running")


def _started(stage: Stage, holds: "Callable[[Status], bool]") -> float:
    import rheostat

    began = time.perf_counter()
    reconciler = rheostat.start(stage.config, strict=True)
    while not holds(status := reconciler.status()):
        if time.perf_counter() - began > _PATIENCE:
            raise TimeoutError(f"it never came to hold: {status}")
        time.sleep(0.002)
    return time.perf_counter() - began


def naive_agent() -> float:
    """Seconds."""
    began = time.perf_counter()

    def profile() -> None:
        import pyroscope

        pyroscope.configure(application_name="bench", server_address=NOBODY, sample_rate=20)

    with _computing():
        thread = threading.Thread(target=profile)
        thread.start()
        thread.join()
        return time.perf_counter() - began


def naive_import(name: str) -> Took:
    with _computing() as longest:
        began = time.perf_counter()
        thread = threading.Thread(target=importlib.import_module, args=(_SDK[name],))
        thread.start()
        thread.join()
        done = time.perf_counter() - began
    return Took(done, longest())


@contextmanager
def _computing() -> Iterator[Callable[[], float]]:
    """A thread that computes; gives what tells of its longest stall."""
    ended = False
    longest = 0.0

    def compute() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not ended:
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield lambda: longest
    finally:
        ended = True
        thread.join()


@contextmanager
def _resting() -> Iterator[Callable[[], float]]:
    yield float
