"""The cost of reading three flags from a product's SDK, right after a change and while nothing changes.

One process for each product. A flag is changed at the product, `changed` is waited for, and the CPU time of the read
that follows is taken, its evaluation included; the median counts. GrowthBook's and OpenFeature's flags are evaluated
in a thread of the source's before it calls `changed`: there the CPU of that and of the read are added. Parsing what the
product sends, and finding out what it changes, happens as it arrives, in the SDK as in the source: neither is counted.
The naive thread's reading of the same flags through the SDK's client takes turns with it.

Then nothing changes, and calls of the SDK's evaluators are counted over many reads.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from itertools import repeat
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

from rheostat.plugins import FlagSource

from .bell import Bell
from .child import run
from .flags import ON, Flags
from .products import (
    GROWTHBOOK,
    LAUNCHDARKLY,
    OPENFEATURE,
    PRODUCTS,
    Product,
    Sourced,
    client,
    leaving_at_once,
    product,
)
from .row import Row, show
from .stage import folder

_MOST: Final = 0.8
_READS: Final = 1_000
_SETTLED: Final = 0.01
"""Seconds after which the naive thread's client has heard too."""

_EVALUATORS: Final = {
    GROWTHBOOK: ("growthbook", "GrowthBook", ("eval_feature",)),
    LAUNCHDARKLY: ("ldclient.client", "LDClient", ("variation", "variation_detail")),
    OPENFEATURE: ("openfeature.client", "OpenFeatureClient", ("evaluate_flag_details",)),
}
"""Module, class and methods."""


class Cost(NamedTuple):
    """Seconds of CPU."""

    rheostat: float
    naive: float


class Unchanged(NamedTuple):
    """Evaluations in all reads, and seconds of CPU for one."""

    rheostat: int
    naive: int
    read: float


def rows(quick: bool) -> list[Row]:
    changes = 30 if quick else 80
    with folder() as where:
        read = {name: run(measure, where / name, name, changes) for name in PRODUCTS}
    return [
        *(_after_change(name, costs) for name, (costs, _) in read.items()),
        *(_after_none(name, unchanged) for name, (_, unchanged) in read.items()),
    ]


def _after_change(name: str, costs: list[Cost]) -> Row:
    alone = statistics.median(cost.naive for cost in costs) * 1e6
    return Row.times(
        f"three flags read right after a change, CPU, {name}",
        statistics.median(cost.rheostat for cost in costs) * 1e6,
        alone,
        most=_MOST,
        yardstick=alone,
        called="the SDK alone",
        unit="µs",
        note=f"median of {len(costs)}, the evaluation included"
        + ("" if name == LAUNCHDARKLY else " though it is in the source's own thread"),
    )


def _after_none(name: str, unchanged: Unchanged) -> Row:
    return Row.of(
        f"evaluations in {_READS:,} reads while nothing changes, {name}",
        unchanged.rheostat,
        unchanged.naive,
        limit=0,
        note=f"such a read takes {show(unchanged.read * 1e6, 'µs')}",
    )


def measure(where: Path, name: str, changes: int) -> tuple[list[Cost], Unchanged]:
    with leaving_at_once(), product(name) as flags:
        bell, sourced = Bell(), Sourced(where, name, flags.url)
        with _evaluation_timed(sourced.source, name) as evaluations:
            sourced.open(bell.ring)
            ask = client(name, flags.url)
            flags.wait_for_streams(2)
            costs = [_after(flags, rate, bell, sourced, ask, evaluations) for rate in range(100, 101 + changes)]
        return costs[1:], _count(name, flags, bell, sourced, ask)


def _after(
    flags: Product, rate: int, bell: Bell, sourced: Sourced, ask: Callable[[], Flags], evaluations: list[float]
) -> Cost:
    time.sleep(_SETTLED)
    evaluations.clear()
    wished = _change(flags, rate, bell)
    elsewhere = sum(evaluations)
    reading = _cpu(sourced.read)
    time.sleep(_SETTLED)
    asking = _cpu(ask)
    if sourced.read().values != wished or ask() != wished:
        raise RuntimeError(f"{sourced.read()} and {ask()}, not {wished}")
    return Cost(elsewhere + reading, asking)


def _change(flags: Product, rate: int, bell: Bell) -> Flags:
    wished = {**ON, "profiling_sample_rate": rate}
    bell.listen()
    flags.say(wished)
    bell.wait()
    return wished


def _count(name: str, flags: Product, bell: Bell, sourced: Sourced, ask: Callable[[], Flags]) -> Unchanged:
    module, holder, methods = _EVALUATORS[name]
    calls: list[str] = []
    with ExitStack() as patches:
        for method in methods:
            _counted(patches, getattr(import_module(module), holder), method, calls)
        _change(flags, 1, bell)
        sourced.read()
        if not calls:
            raise RuntimeError("what evaluates is not what is counted")
        calls.clear()
        reading = _cpu(sourced.read, _READS) / _READS
        evaluations = len(calls)
        calls.clear()
        _cpu(ask, _READS)
        return Unchanged(evaluations, len(calls), reading)


def _counted(patches: ExitStack, holder: type, method: str, calls: list[str]) -> None:
    original = getattr(holder, method)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(method)
        return original(*args, **kwargs)

    patches.enter_context(mock.patch.object(holder, method, counted))


@contextmanager
def _evaluation_timed(source: FlagSource, name: str) -> Iterator[list[float]]:
    """The CPU time of each evaluation that is in another thread than the read."""
    seconds: list[float] = []
    if name == LAUNCHDARKLY:
        yield seconds
        return
    evaluate = source._evaluate  # type: ignore[attr-defined]

    def timed(*given: Any) -> Any:
        began = time.thread_time()
        evaluated = evaluate(*given)
        seconds.append(time.thread_time() - began)
        return evaluated

    with mock.patch.object(source, "_evaluate", timed):
        yield seconds


def _cpu(act: Callable[[], object], times: int = 1) -> float:
    """Seconds of this thread's."""
    began = time.thread_time()
    for _ in repeat(None, times):
        act()
    return time.thread_time() - began
