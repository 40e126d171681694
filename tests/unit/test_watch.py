"""Looking at several sources: what is told, what is awaited, and what does not stand in the way."""

from collections.abc import Mapping

import pytest

from rheostat._config.config import Plugin
from rheostat._contract.identity import Identity
from rheostat._control.watch import Watch
from rheostat._lifecycle.assembly import open_sources
from rheostat._report.journal import Journal
from rheostat.plugins import NotReady, Reading, SourceUnavailable
from rheostat.testing import Log, ScriptedSource, VirtualClock

WANTED: Mapping[str, type] = {"on": bool}
IDENTITY = Identity("shop", "host-1", {}, 1)


class Watched:
    """Two layers, watched."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.records = Log(VirtualClock())
        self.upper, self.lower = ScriptedSource(), ScriptedSource()
        layers = {"layer 1 (upper)": self.upper, "layer 2 (lower)": self.lower}
        self.watch = Watch(layers, WANTED, None, Journal(self.records, self.clock))

    def look(self) -> str:
        return self.watch.look(self.clock.now).trouble


def test_each_layer_is_told_of_by_itself() -> None:
    """The log says which of them does not answer, and which does again."""
    it = Watched()
    it.lower.failure = SourceUnavailable("gone", retry_at=it.clock.now + 9.0)
    assert "layer 2 (lower): gone" == it.look()
    it.lower.failure = None
    assert "" == it.look()
    assert [
        "flag source layer 2 (lower): gone; it tries again in 9 s",
        "flag source layer 2 (lower): it answers again",
    ] == [line.message for line in it.records.lines]


def test_one_that_has_only_just_begun_is_not_complained_about() -> None:
    """It is known as silent all the same; once it is more than that, it is told."""
    it = Watched()
    it.upper.failure = NotReady("connecting")
    assert "layer 1 (upper): connecting" == it.look()
    assert it.watch.may_answer_soon(0.5)
    assert [] == it.records.lines
    it.upper.failure = SourceUnavailable("no answer")
    it.upper.poll_interval = 1.0
    it.look()
    assert ["source_unavailable"] == [line.event for line in it.records.lines]
    assert not it.watch.may_answer_soon(0.5)


def test_what_fails_and_recovers_all_the_time_is_told_once_a_minute() -> None:
    """One line for the failure, one for the recovery; the status always tells the truth."""
    it = Watched()
    for second in range(120):
        it.upper.failure = SourceUnavailable("cut") if second % 2 == 0 else None
        assert ("layer 1 (upper): cut" if second % 2 == 0 else "") == it.look()
        it.clock.now += 1.0
    assert ["source_unavailable", "source_recovered"] * 2 == [line.event for line in it.records.lines]


def test_a_failure_long_after_the_last_is_told_at_once() -> None:
    """Only what comes back within the minute is folded."""
    it = Watched()
    for _ in range(3):
        it.upper.failure = SourceUnavailable("cut")
        it.look()
        it.upper.failure = None
        it.look()
        it.clock.now += 61.0
        it.look()
    assert ["source_unavailable", "source_recovered"] * 3 == [line.event for line in it.records.lines]


def test_it_looks_again_as_soon_as_any_layer_needs() -> None:
    """A layer that calls needs nothing."""
    it = Watched()
    it.lower.poll_interval = 7.0
    assert 7.0 == it.watch.interval()


class Refusing(ScriptedSource):
    """Cannot be built as long as `refuses`."""

    refuses = True

    def __init__(self, options: object, identity: Identity) -> None:
        super().__init__()
        if self.refuses:
            raise OSError("no route to host")


class Willing(ScriptedSource):
    def __init__(self, options: object, identity: Identity) -> None:
        super().__init__()
        self.values = {"on": True}


def test_a_layer_that_cannot_be_built_does_not_stand_in_the_others_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again later, and not at every look."""
    now = 1000.0
    plugins = {"1": Plugin(Refusing, {}), "2": Plugin(Willing, {})}
    sources = open_sources(plugins, IDENTITY, lambda: None, lambda: now)
    watch = Watch(sources, WANTED, None, Journal(Log(VirtualClock()), lambda: now))
    seen = watch.look(now)
    assert "1: it could not be built: OSError: no route to host" == seen.trouble
    assert not watch.may_answer_soon(5.0), "a plan need not wait for it"
    assert (None, {"on": True}) == (seen.layers[0].reading, (seen.layers[1].reading or Reading({})).values)
    monkeypatch.setattr(Refusing, "refuses", False)
    now += 29.0
    assert "" != watch.look(now).trouble
    now += 2.0
    assert "" == watch.look(now).trouble


def test_a_lone_source_that_cannot_be_built_raises() -> None:
    """There is nothing else to go on with."""
    with pytest.raises(OSError, match="no route to host"):
        open_sources({"": Plugin(Refusing, {})}, IDENTITY, lambda: None, VirtualClock())


class Unopenable(ScriptedSource):
    """Fails when it is opened, and once more when it is closed."""

    def __init__(self, options: object, identity: Identity) -> None:
        super().__init__()

    def open(self, changed: object) -> None:
        raise OSError("no route to host")

    def close(self) -> None:
        raise ValueError("never opened")


def test_what_opening_raised_is_what_is_told() -> None:
    """However closing goes afterwards."""
    with pytest.raises(OSError, match="no route to host"):
        open_sources({"": Plugin(Unopenable, {})}, IDENTITY, lambda: None, VirtualClock())
