"""What is added to a start, a restart and a stop beyond the agent's own calls.

In one process, with the real agent and a server in another: the flags are replaced, then Rheostat is nudged, and the
clock runs until an observer is called with the transition; the naive thread's code reads the flags and acts in the
caller's thread. From both is taken what passed inside the agent's ``configure`` and ``shutdown``. The sides take turns;
the median counts. The first round, which imports what is imported once, does not.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .agent import Call, watched
from .child import run
from .governed import Governed
from .naive import NaiveThread
from .row import Row
from .stage import OFF, ON, RETUNED, Stage, folder, log_to_nowhere, receiver

_CHANGES: Final = {"start": ON, "restart": RETUNED, "stop": OFF}
_SETTLED: Final = 0.03
"""Seconds from writing the flags to looking at them, as most polls find them: a file that was written a moment ago is
looked at twice."""

Added = dict[str, list[float]]
"""Seconds beyond the agent's own, by change."""


def rows(quick: bool) -> list[Row]:
    rounds = 8 if quick else 40
    with folder() as where, receiver() as address:
        rheostat, naive = run(measure, where, address, rounds)
    return [
        Row.of(
            f"added to a {change}, beyond the agent's own time",
            statistics.median(rheostat[change]) * 1000,
            statistics.median(naive[change]) * 1000,
            limit=2,
            unit="ms",
        )
        for change in _CHANGES
    ]


def measure(where: Path, address: str, rounds: int) -> tuple[Added, Added]:
    log_to_nowhere()
    # Nothing but the nudge makes it look.
    stage, other = Stage(where / "rheostat", address, poll_interval="1h"), Stage(where / "naive", address)
    governed, thread = Governed(stage.config), NaiveThread(other.flags, address)
    governed.wait_for_flags()
    # Its second look at the first flags must not find the next ones before it is nudged.
    time.sleep(_SETTLED)
    rheostat: Added = {change: [] for change in _CHANGES}
    naive: Added = {change: [] for change in _CHANGES}
    with watched() as calls:
        for _ in range(rounds + 1):
            _round(stage, governed.converge, calls, rheostat)
            _round(other, lambda: _polled(thread), calls, naive)
    governed.close()
    return _without_first(rheostat), _without_first(naive)


def _round(stage: Stage, converge: Callable[[], float], calls: list[Call], added: Added) -> None:
    for change, flags in _CHANGES.items():
        stage.say(flags)
        calls.clear()
        time.sleep(_SETTLED)
        began = time.perf_counter()
        ended = converge()
        added[change].append(ended - began - sum(call.ended - call.began for call in calls))


def _polled(thread: NaiveThread) -> float:
    thread.poll()
    return time.perf_counter()


def _without_first(added: Added) -> Added:
    return {change: seconds[1:] for change, seconds in added.items()}
