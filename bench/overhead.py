"""The time that is added to a start, a restart and a stop beyond the agent's own calls.

In one process, with the real agent and a server in another: the flags are replaced, then Rheostat is nudged, and the
clock runs until an observer is called with the transition; the naive thread's code reads the flags and acts in the
caller's thread. From both is taken what passed inside the agent's ``configure`` and ``shutdown``. The sides take turns;
the median counts. The first round, which imports what is imported once, does not.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

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

_MOST: Final = 0.2


class Change(NamedTuple):
    """Seconds beyond the agent's own calls, and those of the agent."""

    added: float
    agent: float


Changes = dict[str, list[Change]]
"""By what was done."""


def rows(quick: bool) -> list[Row]:
    rounds = 8 if quick else 40
    with folder() as where, receiver() as address:
        rheostat, naive = run(measure, where, address, rounds)
    return [
        Row.times(
            f"added to a {change}, beyond the agent's own time",
            statistics.median(each.added for each in rheostat[change]) * 1000,
            statistics.median(each.added for each in naive[change]) * 1000,
            most=_MOST,
            yardstick=statistics.median(each.agent for each in (*rheostat[change], *naive[change])) * 1000,
            called="the agent's own time",
            unit="ms",
        )
        for change in _CHANGES
    ]


def measure(where: Path, address: str, rounds: int) -> tuple[Changes, Changes]:
    log_to_nowhere()
    # Nothing but the nudge makes it look.
    stage, other = Stage(where / "rheostat", address, poll_interval="1h"), Stage(where / "naive", address)
    governed, thread = Governed(stage.config), NaiveThread(other.flags, address)
    governed.wait_for_flags()
    # Its second look at the first flags must not find the next ones before it is nudged.
    time.sleep(_SETTLED)
    rheostat: Changes = {change: [] for change in _CHANGES}
    naive: Changes = {change: [] for change in _CHANGES}
    with watched() as calls:
        for _ in range(rounds + 1):
            _round(stage, governed.converge, calls, rheostat)
            _round(other, lambda: _polled(thread), calls, naive)
    governed.close()
    return _without_first(rheostat), _without_first(naive)


def _round(stage: Stage, converge: Callable[[], float], calls: list[Call], changes: Changes) -> None:
    for change, flags in _CHANGES.items():
        stage.say(flags)
        calls.clear()
        time.sleep(_SETTLED)
        began = time.perf_counter()
        ended = converge()
        agent = sum(call.ended - call.began for call in calls)
        changes[change].append(Change(ended - began - agent, agent))


def _polled(thread: NaiveThread) -> float:
    thread.poll()
    return time.perf_counter()


def _without_first(changes: Changes) -> Changes:
    return {change: each[1:] for change, each in changes.items()}
