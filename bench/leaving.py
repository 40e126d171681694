"""How long a process takes to end when the profiler's server hangs.

Children that are busy a quarter of the time, with a session of the real agent that pushes each second to a server on
loopback that accepts and never answers, so that pushes are always pending. The clock runs from the end of the child's
main code until the child has gone. All run side by side: they mostly wait.
"""

import time
from functools import partial
from pathlib import Path
from typing import Final

from rheostat import State

from .child import run_to_end, side_by_side
from .row import Row, show
from .stage import ON, Stage, folder, hung_server

_SESSION: Final = 3.5
"""Seconds that the session lasts."""
_BOUND: Final = 30.0
_STARTED: Final = 2.0
_DEADLINE: Final = 2.0
_MOST: Final = 1.05


def rows(quick: bool) -> list[Row]:
    times = 1 if quick else 3
    kinds = [with_rheostat] * times + [with_naive] * times
    within = _STARTED + _SESSION + _BOUND
    with folder() as where, hung_server() as address:
        children = [partial(run_to_end, each, where / str(i), address, within=within) for i, each in enumerate(kinds)]
        ended = side_by_side(*children)
    rheostat, naive = ended[:times], ended[times:]
    row = Row.times(
        f"exit delay, hung server, exit_deadline {_DEADLINE:.0f} s, longest of {times}",
        max(each.delay for each in rheostat),
        max(each.delay for each in naive),
        most=_MOST,
        yardstick=_DEADLINE,
        called="exit_deadline",
        unit="s",
    )
    killed = any(each.killed for each in naive)
    return [row._replace(naive=f"over {show(_BOUND, 's')}: killed") if killed else row]


def with_rheostat(where: Path, address: str) -> None:
    from .governed import Governed

    stage = Stage(where, address)
    governed = Governed(stage.config)
    governed.wait_for_flags()
    stage.say(ON)
    governed.converge()
    _be_busy()
    assert governed.reconciler.status().state is State.RUNNING


def with_naive(where: Path, address: str) -> None:
    from .naive import NaiveThread

    stage = Stage(where, address)
    stage.say(ON)
    thread = NaiveThread(stage.flags, address)
    thread.poll()
    thread.start()
    _be_busy()


def _be_busy() -> None:
    """A quarter of the time: an idle process has nothing to push."""
    until = time.monotonic() + _SESSION
    while time.monotonic() < until:
        sum(range(50_000))
        time.sleep(0.002)
