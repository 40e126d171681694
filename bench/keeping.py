"""The cost of keeping a flag product connected, beyond the import of its SDK.

Each child imports Rheostat's core and of the SDK what the source would import, and takes its resident memory. Then it
makes what the SDK needs to connect and no more (a connection pool, a client), or opens Rheostat's source and reads it,
or begins the naive thread with the SDK's client; and it takes its memory again once the stream is there. What the first
adds is taken from what the others do; the median of several children counts. Threads are all beside the main one.

Then, side by side, children in which nothing is said on the stream: with the whole of Rheostat, with the naive thread
at its usual interval, and with neither. The CPU time of each process is taken over some seconds.
"""

import gc
import os
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

from .child import run, side_by_side
from .products import (
    GROWTHBOOK,
    KEY,
    LAUNCHDARKLY,
    OPENFEATURE,
    PRODUCTS,
    SERVED,
    Sourced,
    client,
    leaving_at_once,
    product,
    section,
)
from .row import Row
from .stage import NOBODY, Stage, folder

_MORE_MEMORY: Final = 2.0
"""Megabytes."""
_THREADS: Final = {GROWTHBOOK: 2, LAUNCHDARKLY: 1, OPENFEATURE: 2}
_CPU: Final = 0.1
"""Percent of a core."""

_MODULES: Final = {
    GROWTHBOOK: ("growthbook", "urllib3", "ld_eventsource", "ld_eventsource.actions", "ld_eventsource.config"),
    LAUNCHDARKLY: ("ldclient",),
    OPENFEATURE: ("openfeature.api", "openfeature.event", "openfeature.evaluation_context"),
}
_SETTLED: Final = 0.7
"""Seconds until streams are there, and what was needed only to connect is let go of."""
_STARTED: Final = 3.0
"""Seconds until everything has been imported and connected in all children that run side by side."""


class Held(NamedTuple):
    """Bytes more than before, and threads beside the main one."""

    memory: float
    threads: int


def rows(quick: bool) -> list[Row]:
    times, seconds = (1, 3.0) if quick else (3, 6.0)
    with folder() as where, ExitStack() as servers:
        urls = {name: servers.enter_context(product(name)).url for name in SERVED} | {OPENFEATURE: NOBODY}
        held = _held(where, urls, times)
        neither, *cpu = side_by_side(
            partial(run, idle_with_neither, seconds),
            *(partial(run, idle_with_rheostat, where / f"idle-{name}", name, urls[name], seconds) for name in PRODUCTS),
            *(partial(run, idle_with_naive, name, urls[name], seconds) for name in PRODUCTS),
        )
    above = [max(0.0, each - neither) * 100 for each in cpu]
    return [
        *(_memory(name, *each) for name, each in zip(PRODUCTS, held, strict=True)),
        *(_threads(name, *each) for name, each in zip(PRODUCTS, held, strict=True)),
        *map(_idle, PRODUCTS, above, above[len(PRODUCTS) :]),
    ]


def _held(where: Path, urls: Mapping[str, str], times: int) -> list[list[Held]]:
    """For each product: with the SDK alone, with Rheostat's source, and with the naive thread."""
    kinds = (with_sdk, with_source, with_naive)
    calls = [
        partial(run, kind, where / f"{kind.__name__}-{name}", name, urls[name]) for name in PRODUCTS for kind in kinds
    ]
    children = [side_by_side(*calls) for _ in range(times)]
    held = [
        Held(statistics.median(each.memory for each in same), max(each.threads for each in same))
        for same in zip(*children, strict=True)
    ]
    return [held[first : first + len(kinds)] for first in range(0, len(held), len(kinds))]


def _memory(name: str, sdk: Held, source: Held, naive: Held) -> Row:
    return Row.of(
        f"connected: memory beyond the SDK's own, {name}",
        (source.memory - sdk.memory) / 1e6,
        (naive.memory - sdk.memory) / 1e6,
        limit=_MORE_MEMORY,
        unit="MB",
    )


def _threads(name: str, sdk: Held, source: Held, naive: Held) -> Row:
    return Row.of(
        f"connected: threads, the SDK's included, {name}",
        source.threads,
        naive.threads,
        limit=_THREADS[name],
        note=f"the SDK alone has {sdk.threads}; one of the naive thread's is itself",
    )


def _idle(name: str, rheostat: float, naive: float) -> Row:
    return Row.of(f"connected, silent: CPU of one core, {name}", rheostat, naive, limit=_CPU, unit="%")


def with_sdk(where: Path, name: str, url: str) -> Held:
    before = _prepare(where, name)
    kept = _sdk(name, url)
    return _more(before, kept)


def with_source(where: Path, name: str, url: str) -> Held:
    before = _prepare(where, name)
    sourced = Sourced(where, name, url)
    sourced.open()
    return _more(before, sourced)


def with_naive(where: Path, name: str, url: str) -> Held:
    from .naive import NaiveThread

    with leaving_at_once():
        before = _prepare(where, name)
        thread = NaiveThread(client(name, url), NOBODY)
        thread.start()
        return _more(before, thread)


def _prepare(where: Path, name: str) -> int:
    """Import what all have in common; the memory before anything is connected."""
    Sourced(where, name, NOBODY)
    for module in _MODULES[name]:
        import_module(module)
    _provide(name)
    return _resident()


def _sdk(name: str, url: str) -> object:
    """The least that is needed to connect at all."""
    if name == GROWTHBOOK:
        return import_module("urllib3").PoolManager()
    if name == OPENFEATURE:
        return import_module("openfeature.api").get_client()
    ldclient = import_module("ldclient")
    config = ldclient.Config(KEY, base_uri=url, stream_uri=url, send_events=False, diagnostic_opt_out=True)
    return ldclient.LDClient(config)


def _more(before: int, kept: object) -> Held:
    time.sleep(_SETTLED)
    assert kept is not None
    return Held(_resident() - before, len(os.listdir("/proc/self/task")) - 1)


def _resident() -> int:
    """Bytes, once what is garbage is gone."""
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))


def idle_with_rheostat(where: Path, name: str, url: str, seconds: float) -> float:
    from .governed import Governed

    _provide(name)
    governed = Governed(Stage(where, source=section(name, url)).config)
    governed.wait_for_flags()
    return _cpu(seconds)


def idle_with_naive(name: str, url: str, seconds: float) -> float:
    from .naive import NaiveThread

    with leaving_at_once():
        _provide(name)
        NaiveThread(client(name, url), NOBODY).start()
        return _cpu(seconds)


def idle_with_neither(seconds: float) -> float:
    return _cpu(seconds)


def _provide(name: str) -> None:
    if name == OPENFEATURE:
        from .provider import Provider

        Provider.set()


def _cpu(seconds: float) -> float:
    """Seconds of CPU a second, of the whole process."""
    time.sleep(_STARTED)
    began = time.process_time()
    time.sleep(seconds)
    return (time.process_time() - began) / seconds
