"""From a flip of the flags to the call of the agent.

The flags are replaced at moments that are random against the poll, and the clock runs until the agent's ``configure``
or ``shutdown`` is entered; the real agent, both sides at the same interval, one after the other. What the usual 30 s
would give is computed, not measured: flips come at any moment between two polls.
"""

import random
import statistics
import time
from pathlib import Path
from typing import Final

from .agent import Call, watched
from .child import run
from .governed import Governed
from .naive import USUAL_INTERVAL, NaiveThread
from .row import Row, show
from .stage import OFF, ON, Stage, folder, receiver

_INTERVAL: Final = 0.2
_MOST: Final = 1.1
_PATIENCE: Final = 5.0


def rows(quick: bool) -> list[Row]:
    flips = 6 if quick else 20
    with folder() as where, receiver() as address:
        rheostat, naive = run(measure, where, address, flips)
    usual = USUAL_INTERVAL
    return [
        Row.times(
            f"flip to agent called, both polling every {_INTERVAL * 1000:.0f} ms, longest of {flips}",
            max(rheostat) * 1000,
            max(naive) * 1000,
            most=_MOST,
            yardstick=_INTERVAL * 1000,
            called="the poll interval",
            unit="ms",
            note=f"median {show(statistics.median(rheostat) * 1000, 'ms')}, naive thread "
            f"{show(statistics.median(naive) * 1000, 'ms')}; at its usual {usual:.0f} s it would be "
            f"{usual / 2:.0f} s, and {usual:.0f} s at most (computed)",
        )
    ]


def measure(where: Path, address: str, flips: int) -> tuple[list[float], list[float]]:
    stage = Stage(where / "rheostat", address, poll_interval=f"{_INTERVAL * 1000:.0f}ms")
    other = Stage(where / "naive", address)
    chance = random.Random(0)
    with watched() as calls:
        governed = Governed(stage.config)
        governed.wait_for_flags()
        rheostat = [_flip(stage, flags, calls, chance) for flags in [ON, OFF] * (flips // 2)]
        governed.close()
        NaiveThread(other.flags, address, _INTERVAL).start()
        naive = [_flip(other, flags, calls, chance) for flags in [ON, OFF] * (flips // 2)]
    return rheostat, naive


def _flip(stage: Stage, flags: str, calls: list[Call], chance: random.Random) -> float:
    """Seconds until the agent was called."""
    time.sleep(_INTERVAL * chance.uniform(1, 2))
    calls.clear()
    flipped = time.perf_counter()
    stage.say(flags)
    while not calls:
        if time.perf_counter() - flipped > _PATIENCE:
            raise TimeoutError("the agent was not called")
        time.sleep(0.005)
    return calls[0].began - flipped
