"""The price of each profiler that ships with Rheostat, beside the same profiler that is started by hand.

A process with some idle threads, each ten frames deep, is measured over some seconds with a session: all of its
processor time counts, whoever uses it. Starts and stops are those of the backend, in a process that does nothing else.
What `files` and `otlp` add to the agent is the thread that takes its pushes, in a process with threads that compute.
"""

import json
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from .child import run
from .row import Row
from .sampling import cpu_of, idle_threads, tasks
from .stage import NOBODY, folder, log_to_nowhere

_COUNTS: Final = (5, 50, 200)
_MORE: Final = 1.25
"""Times what the profiler takes by itself."""
_UNSEEN: Final = 0.5
"""Percent of a core: what differs from one process to the next."""
_SINK: Final = 0.1
"""Times the agent's own time."""
_EVERY: Final = 2
"""Seconds from one push to the next."""
_CALLS: Final = 1.5
_ADDED: Final = 5.0
"""Milliseconds of a start and a stop together."""

Hand = tuple[Callable[[], object], Callable[[], object]]


class Profiler(NamedTuple):
    """A backend's options and settings, and its start and its stop without Rheostat."""

    kind: str
    options: Mapping[str, Any]
    settings: Mapping[str, Any]
    by_hand: Callable[[], Hand]


def _agent() -> Hand:
    import pyroscope

    def start() -> object:
        return pyroscope.configure(
            application_name="bench", server_address=NOBODY, sample_rate=100, oncpu=True, gil_only=True
        )

    return start, pyroscope.shutdown


def _ddtrace() -> Hand:
    import os

    os.environ.update(DD_INSTRUMENTATION_TELEMETRY_ENABLED="false", DD_TRACE_ENABLED="false", DD_TRACE_AGENT_URL=NOBODY)
    from ddtrace.profiling.profiler import Profiler as Vendors

    sessions: list[Any] = []

    def start() -> None:
        sessions.append(Vendors())
        sessions[-1].start()

    return start, lambda: sessions.pop().stop()


def _sentry() -> Hand:
    import sentry_sdk
    from sentry_sdk.profiler import start_profiler, stop_profiler

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        profile_session_sample_rate=1.0,
        profile_lifecycle="manual",
        default_integrations=False,
        shutdown_timeout=0,
    )
    return start_profiler, stop_profiler


_OF_THE_AGENT: Final[Mapping[str, Any]] = {"sample_rate": 100, "mode": "gil"}
PROFILERS: Final = (
    Profiler("pyroscope", {"server_address": NOBODY}, _OF_THE_AGENT, _agent),
    Profiler("files", {"folder": "profiles"}, _OF_THE_AGENT, _agent),
    Profiler("otlp", {"endpoint": NOBODY}, _OF_THE_AGENT, _agent),
    Profiler("datadog", {"output": "profiles"}, {}, _ddtrace),
    Profiler("sentry", {}, {}, _sentry),
)


def rows(quick: bool) -> list[Row]:
    seconds = 3.0 if quick else 8.0
    made: list[Row] = []
    with folder() as where:
        for profiler in PROFILERS:
            made += [_share(profiler, count, where, seconds) for count in (_COUNTS[:1] if quick else _COUNTS)]
            made.append(_calls(profiler, where, 5 if quick else 20))
        made += [_sink(profiler, where, seconds) for profiler in PROFILERS if profiler.kind in ("files", "otlp")]
    return made


def _share(profiler: Profiler, count: int, where: Path, seconds: float) -> Row:
    ours, naive = (
        100 * run(share, profiler.kind, count, where / f"{profiler.kind}-{by}-{count}", seconds, by)
        for by in ("rheostat", "hand")
    )
    return Row.of(
        f"{profiler.kind}: a session with {count} idle threads, of a core",
        ours,
        naive,
        limit=_MORE * naive + _UNSEEN,
        unit="%",
        note="beside the same profiler, started by hand",
    )


def share(kind: str, count: int, where: Path, seconds: float, by: str) -> float:
    """Of a core, all that the process takes."""
    start, _ = _made(kind, where, by)
    idle_threads(count)
    start()
    # What a profiler does at first is over.
    time.sleep(1.5)
    used, began = time.process_time(), time.monotonic()
    time.sleep(seconds)
    return (time.process_time() - used) / (time.monotonic() - began)


def _calls(profiler: Profiler, where: Path, times: int) -> Row:
    (start, stop), (start_by_hand, stop_by_hand) = (
        run(calls, profiler.kind, where / f"{profiler.kind}-{by}-calls", times, by) for by in ("rheostat", "hand")
    )
    return Row.of(
        f"{profiler.kind}: a start and a stop, median",
        start + stop,
        start_by_hand + stop_by_hand,
        limit=_CALLS * (start_by_hand + stop_by_hand) + _ADDED,
        unit="ms",
        note=f"start {start:.1f}, stop {stop:.1f} ms; by hand {start_by_hand:.1f}, {stop_by_hand:.1f} ms",
    )


def calls(kind: str, where: Path, times: int, by: str) -> tuple[float, float]:
    """Milliseconds of the start and of the stop, the first ones aside."""
    start, stop = _made(kind, where, by)
    took: list[tuple[float, float]] = []
    for _ in range(times + 1):
        began = time.perf_counter()
        start()
        started = time.perf_counter()
        time.sleep(0.1)
        stopping = time.perf_counter()
        stop()
        took.append((1000 * (started - began), 1000 * (time.perf_counter() - stopping)))
    starts, stops = zip(*took[1:], strict=True)
    return statistics.median(starts), statistics.median(stops)


def _sink(profiler: Profiler, where: Path, seconds: float) -> Row:
    ours, agents = run(sink, profiler.kind, where / f"{profiler.kind}-sink", seconds)
    return Row.times(
        f"{profiler.kind}: the thread that takes the pushes, of a core, 10 threads at work",
        100 * ours,
        0.0,
        most=_SINK,
        yardstick=100 * agents,
        called="the agent's",
        unit="%",
        note=f"the agent at 100 Hz in mode gil, a push each {_EVERY} s",
    )


def sink(kind: str, where: Path, seconds: float) -> tuple[float, float]:
    """Of a core, the thread that takes the pushes, and the agent's."""
    start, stop = _made(kind, where, "rheostat", upload_interval=_EVERY)
    done = threading.Event()
    for number in range(10):
        threading.Thread(target=_work, args=(number, done), daemon=True).start()
    before = tasks()
    began = time.monotonic()
    start()
    taking = next(each.native_id for each in threading.enumerate() if each.name == "rheostat-sink")
    agents = {each for each in tasks() - before if each != taking}
    time.sleep(2.5 * seconds)
    passed = time.monotonic() - began
    found = (cpu_of([taking or 0]) / passed, cpu_of(agents) / passed)
    done.set()
    stop()
    return found


def _work(number: int, done: threading.Event) -> None:
    """Stacks of some depth that differ."""

    def deep(frames: int) -> int:
        return deep(frames - 1) + 1 if frames else sum(range(2000))

    while not done.is_set():
        for frames in range(20):
            deep(frames + number)


def _made(kind: str, where: Path, by: str, **settings: Any) -> Hand:
    log_to_nowhere()
    profiler = next(each for each in PROFILERS if each.kind == kind)
    where.mkdir(parents=True)
    if by == "hand":
        return profiler.by_hand()
    if kind == "sentry":
        # It is the application's own client that Rheostat turns on and off.
        profiler.by_hand()
    from rheostat._config.config import load_config

    config = where / "config.yaml"
    section = json.dumps({"kind": kind, **profiler.options})
    head = "version: 1\napplication: bench\nsource: {kind: yaml, path: flags.yaml}\nenabled: {flag: x}\n"
    config.write_text(f"{head}backend: {section}\n")
    loaded = load_config(config)
    backend = loaded.wire().backend.build(loaded.identity())
    return lambda: backend.start({**profiler.settings, **settings}), backend.stop
