"""For how long the rest of the process is kept from running: the longest hold of the GIL.

A heartbeat thread sleeps for some microseconds, takes the GIL, notes the time, and begins again. Between two of its
beats somebody else may have held the GIL, or several one after the other, and the gap is an upper bound of how long.
CPython makes a thread let go after the switch interval (5 ms) once another wants the GIL; here that is switched off, so
what is seen is the longest hold before a thread lets go by itself: the worst that a host could see, whatever its
interval. What the agent holds is not counted: its functions are replaced by ones that do nothing.

In production each change is a rare one, on cold caches. So every repetition is a fresh process that does each once: the
beginning (all that is left to do once `rheostat.start` has returned), a look that finds nothing, a start, a restart, a
stop, and the end; then the same with the naive thread, which has no beginning and no end. Gaps also contain what the
scheduler and the neighbours on the machine add. The figure is the median over the processes of the longest gap, for the
worst of the changes; the note says what as many windows show when nothing happens in them.
"""

import statistics
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple, Self

from .agent import replaced_by_nothing
from .child import run
from .governed import Governed
from .naive import NaiveThread
from .row import Row
from .stage import NOBODY, OFF, ON, RETUNED, Stage, folder, log_to_nowhere

_BEAT: Final = 20e-6
_NEVER: Final = 60.0
_WINDOW: Final = 0.03
"""Seconds that each change is watched for: Rheostat looks a second time at a file that was just written."""

_CHANGES: Final = {"start": ON, "restart": RETUNED, "stop": OFF}

Gaps = dict[str, list[float]]
"""Seconds between beats, by what was done meanwhile."""


class Held(NamedTuple):
    """The gaps that one process saw."""

    rheostat: Gaps
    naive: Gaps
    nothing: Gaps


class Heartbeat:
    """Beats while the block lasts, and nobody is made to let go of the GIL."""

    def __init__(self) -> None:
        self._beats = [time.perf_counter()]
        self._beating = True
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(_NEVER)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._beating = False
        self._thread.join()
        sys.setswitchinterval(self._switch_interval)

    def _beat(self) -> None:
        while self._beating:
            time.sleep(_BEAT)
            self._beats.append(time.perf_counter())

    def gaps(self, act: Callable[[], object]) -> list[float]:
        """Seconds between one beat and the next, while `act` runs and for a while after."""
        began = time.perf_counter()
        act()
        time.sleep(_WINDOW)
        first, last = bisect_right(self._beats, began) - 1, bisect_left(self._beats, time.perf_counter())
        return [after - before for before, after in pairwise(self._beats[first:last])]


def rows(quick: bool) -> list[Row]:
    with folder() as where:
        held = [run(measure, where) for _ in range(7 if quick else 25)]
    rheostat, at = max(_worst([each.rheostat for each in held]))
    naive, _ = max(_worst([each.naive for each in held]))
    nothing, _ = max(_worst([each.nothing for each in held]))
    return [
        Row.times(
            "longest hold of the GIL, for the worst change",
            rheostat * 1e3,
            naive * 1e3,
            most=2.0,
            yardstick=naive * 1e3,
            called="the naive thread's",
            unit="ms",
            note=f"the {at}; {nothing * 1e3:.2f} ms is seen when nothing happens. 99.9th percentile and maximum of all "
            f"gaps between beats: {_tail([each.rheostat for each in held])} with Rheostat, "
            f"{_tail([each.naive for each in held])} with the naive thread, "
            f"{_tail([each.nothing for each in held])} with neither",
        )
    ]


def _worst(processes: list[Gaps]) -> list[tuple[float, str]]:
    """The median of the longest gaps, for each change."""
    return [(statistics.median(max(gaps[change]) for gaps in processes), change) for change in processes[0]]


def _tail(processes: list[Gaps]) -> str:
    every = sorted(gap for gaps in processes for each in gaps.values() for gap in each)
    return f"{every[len(every) * 999 // 1000] * 1e3:.2f} and {every[-1] * 1e3:.2f} ms"


def measure(where: Path) -> Held:
    log_to_nowhere()
    with replaced_by_nothing(), Heartbeat() as heart:
        nothing = {window: heart.gaps(lambda: None) for window in ("look", *_CHANGES)}
        rheostat = _with_rheostat(Stage(where / "rheostat", poll_interval="1h"), heart)
        naive = _with_naive(Stage(where / "naive"), heart)
    return Held(rheostat, naive, nothing)


def _with_rheostat(stage: Stage, heart: Heartbeat) -> Gaps:
    governed = Governed(stage.config)
    beginning = heart.gaps(governed.wait_for_flags)
    look = heart.gaps(governed.reconciler.nudge)
    changes = _changes(stage, heart, governed.converge)
    return {"beginning": beginning, "look": look, **changes, "end": heart.gaps(governed.close)}


def _with_naive(stage: Stage, heart: Heartbeat) -> Gaps:
    naive = NaiveThread(stage.flags, NOBODY)

    def poll() -> None:
        thread = threading.Thread(target=naive.poll)
        thread.start()
        thread.join()

    return {"look": heart.gaps(poll), **_changes(stage, heart, poll)}


def _changes(stage: Stage, heart: Heartbeat, converge: Callable[[], object]) -> Gaps:
    gaps: Gaps = {}
    for change, flags in _CHANGES.items():
        stage.say(flags)
        gaps[change] = heart.gaps(converge)
    return gaps
