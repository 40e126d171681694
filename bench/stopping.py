"""How soon the profiler is told to stop once the flags say off.

In one process, with the real agent and a flag source that is flipped by a call: the clock runs from the source's
``changed()`` until the agent's ``shutdown`` is entered, which is the first thing that the backend's ``stop`` does; the
note says how much of that is left from the read that says off. Nothing else happens in the process; the note has the
figure for one in which another thread computes without pause, and lets go of the GIL only when CPython makes it.

The naive thread reads a file. To wait for its usual 30 s would take an hour, so it is measured with a short poll, and
what the usual one adds to that is computed: flips come at any moment between two polls.
"""

import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from rheostat.plugins import Identity, Reading

from .agent import Call, watched
from .child import run
from .governed import Governed
from .naive import USUAL_INTERVAL, NaiveThread
from .percentile import percentile
from .row import Row, show
from .stage import OFF, ON, Stage, folder, log_to_nowhere, receiver
from .threads import CALLED, end_and_start

_MOST: Final = 0.95
_TIMES: Final = 15.0
_INTERVAL: Final = 0.05
_PATIENCE: Final = 5.0

_CONFIG: Final = """\
version: 1
application: bench
source: {{kind: "bench.stopping:Switch"}}
backend: {{kind: pyroscope, server_address: "{address}"}}
enabled: {{flag: profiling_enabled, default: false}}
settings: {{sample_rate: 250, upload_interval: 1}}
policy: {{cooldown: 0s, exit_deadline: 2s}}
"""


class Stops(NamedTuple):
    """Seconds from ``changed()``, and from the read that says off, to the agent's ``shutdown``."""

    changed: list[float]
    read: list[float]


class Switch:
    """A flag source that is flipped by a call, and tells so."""

    Options: ClassVar[type] = dict
    poll_interval: ClassVar[float | None] = None
    made: ClassVar["Switch"]
    """The one that Rheostat has built."""

    def __init__(self, options: Mapping[str, object], identity: Identity) -> None:
        self.read_at = 0.0
        """When the flags of the last flip were read for the first time (`time.perf_counter`)."""
        self._is_read = False
        self._reading = _reading(on=False)
        self._changed: Callable[[], None] = lambda: None
        Switch.made = self

    def open(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def read(self, wanted: Mapping[str, type]) -> Reading:
        if not self._is_read:
            self._is_read, self.read_at = True, time.perf_counter()
        return self._reading

    def close(self) -> None:
        self._changed = lambda: None

    def flip(self, on: bool) -> float:
        """The moment (`time.perf_counter`) at which ``changed()`` was called."""
        self._reading, self._is_read = _reading(on), False
        at = time.perf_counter()
        self._changed()
        return at


def _reading(on: bool) -> Reading:
    return Reading({"profiling_enabled": on})


def rows(quick: bool) -> list[Row]:
    flips, few = (50, 10) if quick else (100, 20)
    with folder() as where, receiver() as address:
        stops = run(measure, where / "rheostat", address, flips, False)
        busy = run(measure, where / "busy", address, few, True)
        naive = run(measure_naive, where / "naive", address, few)
        thread = percentile(run(end_and_start, flips), _MOST)
    measured = percentile(naive, _MOST)
    usual = measured + _MOST * (USUAL_INTERVAL - _INTERVAL)
    row = Row.times(
        f"off to the profiler's stop called, 95th percentile of {flips}",
        percentile(stops.changed, _MOST) * 1000,
        usual * 1000,
        most=_TIMES,
        yardstick=thread * 1000,
        called=CALLED,
        unit="ms",
        note=f"median {show(statistics.median(stops.changed) * 1000, 'ms')}, longest "
        f"{show(max(stops.changed) * 1000, 'ms')}; from the read that says off: "
        f"{show(percentile(stops.read, _MOST) * 1000, 'ms')}; beside a thread that computes without pause: "
        f"{show(percentile(busy.changed, _MOST) * 1000, 'ms')} ({few} times); the naive thread: "
        f"{show(measured * 1000, 'ms')} measured with a poll of {_INTERVAL * 1000:.0f} ms ({few} times), and {_MOST} "
        f"of what its usual {USUAL_INTERVAL:.0f} s are longer (computed)",
    )
    return [row._replace(naive=f"{usual:.1f} s (computed)")]


def measure(where: Path, address: str, flips: int, busy: bool) -> Stops:
    log_to_nowhere()
    governed = Governed(_configured(where, address))
    governed.wait_for_flags()
    switch, chance, stops = Switch.made, random.Random(0), Stops([], [])
    with watched() as calls, computing() if busy else nullcontext():
        for _ in range(flips):
            _flipped(switch, calls, chance, on=True)
            at, call = _flipped(switch, calls, chance, on=False)
            stops.changed.append(call.began - at)
            stops.read.append(call.began - switch.read_at)
    governed.close()
    return stops


def _configured(where: Path, address: str) -> Path:
    where.mkdir()
    config = where / "config.yaml"
    config.write_text(_CONFIG.format(address=address))
    return config


def _flipped(switch: Switch, calls: list[Call], chance: random.Random, *, on: bool) -> tuple[float, Call]:
    """The moment of the flip, and the call of the agent that came of it."""
    time.sleep(chance.uniform(0.01, 0.03))
    calls.clear()
    return switch.flip(on), _called(calls)


@contextmanager
def computing() -> Iterator[None]:
    """A thread that never lets go of the GIL by itself."""
    ended = False

    def compute() -> None:
        while not ended:
            pass

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        ended = True
        thread.join()


def measure_naive(where: Path, address: str, flips: int) -> list[float]:
    """Seconds from each replacing of the flags to the agent's ``shutdown``."""
    stage, chance = Stage(where, address), random.Random(0)
    with watched() as calls:
        NaiveThread(stage.flags, address, _INTERVAL).start()
        return [_polled(stage, calls, chance) for _ in range(flips)]


def _polled(stage: Stage, calls: list[Call], chance: random.Random) -> float:
    stage.say(ON)
    _called(calls)
    time.sleep(_INTERVAL * chance.uniform(1, 2))
    calls.clear()
    at = time.perf_counter()
    stage.say(OFF)
    began = _called(calls).began
    calls.clear()
    return began - at


def _called(calls: list[Call]) -> Call:
    deadline = time.perf_counter() + _PATIENCE
    while not calls:
        if time.perf_counter() > deadline:
            raise TimeoutError("the agent was not called")
        time.sleep(0.002)
    return calls[0]
