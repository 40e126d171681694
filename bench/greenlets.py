"""For how long the hub of green threads stands still: a heartbeat greenlet beside Rheostat, and beside the agent alone.

The heartbeat sleeps for a millisecond and notes how late it is woken; nothing else runs in the hub, so what makes it
late is a call that does not return to the hub, or somebody else who holds the GIL. Each repetition is a fresh process,
patched before anything else, that starts, restarts and stops: once with Rheostat and an agent that is replaced by
nothing, once with Rheostat and the real agent, and once with the agent alone, configured and shut down in a native
thread. The figure is the median over the processes of the latest beat.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from .child import run
from .row import Row
from .stage import NOBODY, OFF, ON, RETUNED, Stage, folder, log_to_nowhere

_BEAT: Final = 0.001
_WINDOW: Final = 0.05
"""Seconds that are watched after each change."""
_MOST: Final = 1.0
"""Milliseconds."""
_AGENT: Final = {"application_name": "bench", "server_address": NOBODY, "sample_rate": 100, "oncpu": False}


def rows(quick: bool) -> list[Row]:
    repetitions = 3 if quick else 9
    return [row for library in ("gevent", "eventlet") for row in _rows(library, repetitions)]


def _rows(library: str, repetitions: int) -> list[Row]:
    with folder() as where:
        latest = {
            kind.__name__: statistics.median(run(kind, library, where) for _ in range(repetitions)) * 1e3
            for kind in (nothing, rheostat_alone, rheostat_and_agent, agent_alone)
        }
    idle, agent = latest["nothing"], latest["agent_alone"]
    return [
        Row.of(
            f"latest heartbeat of {library}'s hub, while it starts, restarts, stops",
            latest["rheostat_alone"],
            0.0,
            limit=_MOST,
            tolerance=idle,
            unit="ms",
            note="the agent is replaced by nothing",
        )._replace(naive=f"({idle:.2f} ms while nothing happens)"),
        Row.times(
            f"the same with the agent, {library}",
            latest["rheostat_and_agent"],
            agent,
            most=1.25,
            yardstick=agent + _MOST,
            called="the agent's own and 1 ms",
            unit="ms",
            note=f"the agent alone, in a native thread: {agent:.2f} ms",
        ),
    ]


def nothing(library: str, where: Path) -> float:
    with _Heart(library) as heart:
        return heart.latest(lambda: _rest(5 * _WINDOW))


def rheostat_alone(library: str, where: Path) -> float:
    heart = _Heart(library)
    from .agent import replaced_by_nothing

    with replaced_by_nothing(), heart:
        return _govern(heart, Stage(where, poll_interval="10ms"))


def rheostat_and_agent(library: str, where: Path) -> float:
    with _Heart(library) as heart:
        return _govern(heart, Stage(where, poll_interval="10ms"))


def _govern(heart: "_Heart", stage: Stage) -> float:
    log_to_nowhere()
    import rheostat

    reconciler = rheostat.start(stage.config, strict=True)
    while not reconciler.status().source.available:
        time.sleep(_BEAT)
    _rest()

    def change() -> None:
        for flags, wanted in ((ON, 250), (RETUNED, 240), (OFF, None)):
            stage.say(flags)
            while reconciler.status().settings.get("sample_rate") != wanted:
                time.sleep(_BEAT)
            _rest()

    latest = heart.latest(change)
    reconciler.stop(10)
    return latest


def agent_alone(library: str, where: Path) -> float:
    with _Heart(library) as heart:
        from rheostat._host import native

        def use() -> None:
            import pyroscope

            for _ in range(2):
                pyroscope.configure(**_AGENT)
                native.sleep(_WINDOW)
                pyroscope.shutdown()
            ended.open()

        ended = native.Gate()

        def wait() -> None:
            native.start_new_thread(use, ())
            while not ended.is_open:
                time.sleep(_BEAT)
            _rest()

        return heart.latest(wait)


def _rest(seconds: float = _WINDOW) -> None:
    time.sleep(seconds)


class _Heart:
    """Beats in a hub while the block lasts. Made before anything else: it patches the process."""

    def __init__(self, library: str) -> None:
        self._spawn = _patched(library)
        self._latest = 0.0
        self._beating = True

    def __enter__(self) -> Self:
        self._spawn(self._beat)
        _rest()
        return self

    def __exit__(self, *_: object) -> None:
        self._beating = False

    def latest(self, act: Callable[[], object]) -> float:
        """How late the latest beat was (seconds) while `act` ran."""
        self._latest = 0.0
        act()
        return self._latest

    def _beat(self) -> None:
        while self._beating:
            due = time.perf_counter() + _BEAT
            time.sleep(_BEAT)
            self._latest = max(self._latest, time.perf_counter() - due)


def _patched(library: str) -> Any:
    if library == "gevent":
        from gevent import monkey, spawn

        monkey.patch_all()
        return spawn
    import warnings

    warnings.simplefilter("ignore")
    import eventlet

    eventlet.monkey_patch()
    return eventlet.spawn_n
