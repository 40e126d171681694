"""A source that is asked in another thread than the one that reads it, and the meter that two threads read."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from rheostat._host import meter as meters
from rheostat._host.execution import THREADS, Execution
from rheostat._lifecycle import relayed_source
from rheostat._lifecycle.relayed_source import RelayedSource
from rheostat.plugins import Reading, SourceUnavailable
from rheostat.testing import ScriptedSource, VirtualClock


class Later(Execution):
    """What is spawned runs when the test says so."""

    is_native = False

    def __init__(self) -> None:
        self.spawned: list[Callable[[], None]] = []

    def spawn(self, body: Callable[[], None], name: str) -> None:
        self.spawned.append(body)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    clock = VirtualClock()
    monkeypatch.setattr(relayed_source, "time", SimpleNamespace(monotonic=clock))
    return clock


def test_a_question_that_is_lost_is_asked_again(monkeypatch: pytest.MonkeyPatch, clock: VirtualClock) -> None:
    """Nothing is known until it is answered: what was said before is not taken for fresh."""
    later = Later()
    monkeypatch.setattr(relayed_source, "current", lambda: later)
    relayed = RelayedSource(ScriptedSource({"on": True}), ScriptedSource)
    relayed.open(lambda: None)
    with pytest.raises(SourceUnavailable):
        relayed.read({"on": bool})
    later.spawned.pop()()
    assert relayed.read({"on": bool}) == Reading({"on": True})
    clock.now += 11
    later.spawned.clear()
    for _ in range(2):
        with pytest.raises(SourceUnavailable, match="has not asked it for 10 s"):
            relayed.read({"on": bool})
    later.spawned.pop()()
    assert relayed.read({"on": bool}) == Reading({"on": True})


def test_a_source_that_cannot_be_built_anew_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads turn green, and the product's client refuses the first time."""
    later = Later()
    executions: list[Execution] = [THREADS]
    monkeypatch.setattr(relayed_source, "current", lambda: executions[-1])
    tries: list[int] = []

    def build() -> ScriptedSource:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("out of order")
        return ScriptedSource({"on": True})

    relayed = RelayedSource(ScriptedSource(), build)
    relayed.open(lambda: None)
    executions.append(later)
    with pytest.raises(RuntimeError):
        relayed.read({"on": bool})
    with pytest.raises(SourceUnavailable):
        relayed.read({"on": bool})
    later.spawned.pop()()
    assert relayed.read({"on": bool}) == Reading({"on": True})


def test_a_meter_may_be_read_while_it_finds_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop reads it in the call's thread; what that raised would be taken for a stop that failed."""
    meter = meters.Meter()
    meter._clocks = {1: 0.0}

    def found_meanwhile(_: int) -> int:
        meter._clocks.setdefault(len(meter._clocks) + 1, 0.0)
        return 10**9

    monkeypatch.setattr(meters, "task_time_ns", found_meanwhile)
    assert meter.used() == 1.0
