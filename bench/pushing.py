"""From a flip at the flag product to Rheostat, and to the running agent.

The product's server is in another process, and says when it was told to change a flag; OpenFeature's provider is the
application's, in this one. The clock stops when the source calls `changed`, after which its reading has to show the
flip; then with the whole of Rheostat and the real agent, when the transition to running is told, the agent's own start
included.

The naive thread polls a client of the same SDK, which is told of changes too. To wait for its usual 30 s would take an
hour, so it is measured with a short poll, and what the usual one adds to that is computed: flips come at any moment
between two polls.
"""

import math
import random
import statistics
import time
from pathlib import Path
from typing import Final, NamedTuple

from .agent import Call, replaced_by_nothing, watched
from .bell import Bell
from .child import run
from .flags import OFF, ON, Flags
from .governed import Governed
from .naive import USUAL_INTERVAL, NaiveThread
from .products import PRODUCTS, Product, Sourced, client, leaving_at_once, product, section
from .row import Row, show
from .stage import NOBODY, Stage, folder, receiver
from .threads import CALLED, end_and_start

_MOST: Final = 0.95
"""The part of all flips that the figures are for."""
_TIMES_A_THREAD: Final = 50.0
_TIMES_THE_AGENT: Final = 3.0
_INTERVAL: Final = 0.05
_PATIENCE: Final = 5.0


class Pushed(NamedTuple):
    """Seconds from each flip, and those of the yardstick."""

    rheostat: list[float]
    naive: list[float]
    yardstick: list[float]


def rows(quick: bool) -> list[Row]:
    flips, starts = (20, 6) if quick else (40, 20)
    with folder() as where, receiver() as address:
        heard = {name: run(measure_heard, where / name, name, flips) for name in PRODUCTS}
        running = {name: run(measure_running, where / f"running-{name}", name, address, starts) for name in PRODUCTS}
    return [
        *(_row(f"flip to changed() called, {name}", heard[name], _TIMES_A_THREAD, CALLED) for name in PRODUCTS),
        *(
            _row(f"flip to agent running, {name}", running[name], _TIMES_THE_AGENT, "the agent's own start")
            for name in PRODUCTS
        ),
    ]


def _row(what: str, pushed: Pushed, most: float, called: str) -> Row:
    measured = _percentile(pushed.naive)
    usual = measured + _MOST * (USUAL_INTERVAL - _INTERVAL)
    row = Row.times(
        f"{what}, 95th percentile of {len(pushed.rheostat)}",
        _percentile(pushed.rheostat) * 1000,
        usual * 1000,
        most=most,
        yardstick=_percentile(pushed.yardstick) * 1000,
        called=called,
        unit="ms",
        note=f"median {show(statistics.median(pushed.rheostat) * 1000, 'ms')}, longest "
        f"{show(max(pushed.rheostat) * 1000, 'ms')}; the naive thread: {show(measured * 1000, 'ms')} measured with a "
        f"poll of {_INTERVAL * 1000:.0f} ms ({len(pushed.naive)} flips), and {_MOST} of what its usual "
        f"{USUAL_INTERVAL:.0f} s are longer (computed)",
    )
    return row._replace(naive=f"{usual:.1f} s (computed)")


def _percentile(seconds: list[float]) -> float:
    return sorted(seconds)[math.ceil(_MOST * len(seconds)) - 1]


def measure_heard(where: Path, name: str, flips: int) -> Pushed:
    with leaving_at_once(), product(name) as flags:
        rheostat = _heard(Sourced(where, name, flags.url), flags, flips)
        with replaced_by_nothing(), watched() as calls:
            naive = _naive(name, NOBODY, flags, calls, flips // 2)
    return Pushed(rheostat, [call.began - at for at, call in naive], end_and_start(flips))


def _heard(sourced: Sourced, flags: Product, flips: int) -> list[float]:
    bell, chance = Bell(), random.Random(0)
    sourced.open(bell.ring)
    flags.wait_for_streams(1)
    seconds = [_flip(sourced, flags, bell, wished, chance) for wished in [ON, OFF] * (flips // 2)]
    sourced.source.close()
    flags.wait_for_streams(0)
    return seconds


def _flip(sourced: Sourced, flags: Product, bell: Bell, wished: Flags, chance: random.Random) -> float:
    time.sleep(chance.uniform(0.01, 0.03))
    bell.listen()
    at = flags.say(wished)
    heard = bell.wait()
    if sourced.read().values != wished:
        raise RuntimeError(f"the source called and reads {sourced.read()}")
    return heard - at


def measure_running(where: Path, name: str, address: str, starts: int) -> Pushed:
    with leaving_at_once(), product(name) as flags, watched() as calls:
        rheostat = _running(Stage(where, address, source=section(name, flags.url)), flags, starts)
        naive = _naive(name, address, flags, calls, starts)
    starts_of_agent = [call.ended - call.began for _, call in naive[::2]]
    return Pushed(rheostat, [call.ended - at for at, call in naive[::2]], starts_of_agent)


def _running(stage: Stage, flags: Product, starts: int) -> list[float]:
    governed, chance = Governed(stage.config), random.Random(0)
    governed.wait_for_flags()
    flags.wait_for_streams(1)
    seconds = [_started(governed, flags, chance) for _ in range(starts)]
    governed.close()
    flags.wait_for_streams(0)
    return seconds


def _started(governed: Governed, flags: Product, chance: random.Random) -> float:
    time.sleep(chance.uniform(0.01, 0.03))
    flipped: list[float] = []
    running = governed.follow(lambda: flipped.append(flags.say(ON)))
    governed.follow(lambda: flags.say(OFF))
    return running - flipped[0]


def _naive(name: str, address: str, flags: Product, calls: list[Call], flips: int) -> list[tuple[float, Call]]:
    """The moment of each flip, and the call of the agent that came of it."""
    NaiveThread(client(name, flags.url), address, _INTERVAL).start()
    chance = random.Random(0)
    time.sleep(10 * _INTERVAL)
    return [_called(flags, wished, calls, chance) for wished in [ON, OFF] * (flips // 2)]


def _called(flags: Product, wished: Flags, calls: list[Call], chance: random.Random) -> tuple[float, Call]:
    time.sleep(_INTERVAL * chance.uniform(1, 2))
    calls.clear()
    at = flags.say(wished)
    while not calls:
        if time.perf_counter() - at > _PATIENCE:
            raise TimeoutError("the agent was not called")
        time.sleep(0.005)
    return at, calls[0]
