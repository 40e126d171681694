"""Knowledge of the flags: how long it holds, and who is stronger."""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest

from rheostat import Cause, Desired
from rheostat._control.watch import Watch
from rheostat._core.case import Facts, Memory
from rheostat._core.knowledge import NEVER_READ, Knowledge, learn, lose
from rheostat._core.policy import Policy
from rheostat._core.precedence import Verdict, decide, explain
from rheostat._core.rules import Rules, Setting
from rheostat._report.journal import Journal
from rheostat.plugins import Duration, Reading

RULES = Rules(
    Setting("enabled", bool, default=False, flag="on"),
    (Setting("rate", int, default=20, flag="rate"), Setting("depth", int, default=5, flag="depth")),
)
ON = Reading({"on": True})
OFF = Desired(on=False)
LEASE = 900.0
POLICY = Policy(hold_last_good=Duration(LEASE))


def verdict_on(known: Knowledge, *, killed: bool = False, now: float = 0.0) -> Verdict:
    return decide(RULES, POLICY, Facts([known], killed, now), Memory({"rate": 97}))


def test_only_what_is_wanted_is_kept_and_it_is_a_copy() -> None:
    """A reading may hold a company's flags, and change after it was given."""
    values: dict[str, object] = {"rate": 1, "secret_launch": True}
    reading = Reading(values, reasons={"rate": "OFF", "secret_launch": "x"}, errors={"secret_launch": "x"})
    known = learn(reading, ["rate"], 5.0)
    values["rate"] = 2
    assert Knowledge(Reading({"rate": 1}, {"rate": "OFF"}, {})) == known


def test_a_layer_that_is_stale_from_the_beginning_has_begun() -> None:
    """Once its lease is over it is passed over, and the next layer decides."""
    first = learn(Reading({"on": False}, stale_since=0.0), ["on"], 0.0, NEVER_READ._replace(layer="layer 1"))
    layers = [first, Knowledge(ON, layer="layer 2")]
    assert decide(RULES, POLICY, Facts(layers, False, LEASE), Memory()).desired.on


@pytest.mark.parametrize(
    ("stale_since", "expected"),
    [(None, None), (40.0, 40.0), (100.0, 100.0), (1e9, 100.0), (math.inf, 100.0), (math.nan, 100.0)],
)
def test_the_lease_starts_when_the_source_says(stale_since: float | None, expected: float | None) -> None:
    """Stale values count from the moment that the source names, which is never in the future."""
    assert expected == learn(Reading({}, stale_since=stale_since), [], 100.0).stale_since


def test_a_source_whose_moment_is_always_in_the_future_does_not_prolong_the_lease() -> None:
    """Wall-clock seconds in place of monotonic ones are an easy mistake; the lease still runs out."""

    class Mistaken:
        Options: ClassVar[type] = dict
        poll_interval: float | None = 1.0
        stale_since: float | None = None

        def open(self, changed: Callable[[], None]) -> None: ...

        def read(self, wanted: Mapping[str, type]) -> Reading:
            return Reading({"on": True}, stale_since=self.stale_since)

        def close(self) -> None: ...

    class Nowhere:
        def write(self, level: int, event: str, message: str, fields: Mapping[str, object]) -> None: ...

    source = Mistaken()
    watch = Watch({"": source}, RULES.wanted, None, Journal(Nowhere(), lambda: 0.0))
    (known,) = watch.look(0.0).layers
    assert verdict_on(known, now=0.0).desired.on
    source.stale_since = 1.7e9
    watch.look(0.0)
    (known,) = watch.look(LEASE).layers
    assert OFF == verdict_on(known, now=LEASE).desired


def test_the_lease_is_over_at_the_moment_that_is_waited_for() -> None:
    """Whatever the rounding: 1032.1 - 1022.1 is less than 10."""
    known = Knowledge(reading=Reading({}), stale_since=1022.1)
    assert known.holds(10.0, 1032.0)
    assert not known.holds(10.0, 1022.1 + 10.0)


def test_a_source_that_fails_again_does_not_start_the_lease_anew() -> None:
    """The lease runs from the first failure after the last good reading, however often it fails."""
    once = lose(Knowledge(ON), "gone", 30.0, 10.0)
    assert Knowledge(ON, 10.0, "gone", 30.0) == once
    assert Knowledge(ON, 10.0, "still gone", None) == lose(once, "still gone", None, 20.0)


def test_a_good_reading_ends_the_lease() -> None:
    """A source that answers again is fresh."""
    assert learn(ON, ["on"], 50.0).stale_since is None


@pytest.mark.parametrize(
    ("known", "killed", "now", "forced_by", "on"),
    [
        (Knowledge(ON), False, 10_000.0, None, True),
        (Knowledge(ON, stale_since=0.0), False, LEASE - 0.001, None, True),
        (Knowledge(ON, stale_since=0.0), False, LEASE, "lease", False),
        (Knowledge(ON), True, 0.0, "kill_switch", False),
        (Knowledge(ON, stale_since=0.0), True, LEASE, "kill_switch", False),
        (NEVER_READ, False, 0.0, "source", False),
        (lose(NEVER_READ, "gone", None, 0.0), False, 1.0, "source", False),
        (NEVER_READ, True, 0.0, "kill_switch", False),
        (Knowledge(Reading({})), False, 0.0, None, False),
    ],
)
def test_off_wins(known: Knowledge, killed: bool, now: float, forced_by: str | None, on: bool) -> None:
    """The kill switch, a source that never answered and an expired lease mean off; else the flags decide."""
    verdict = verdict_on(known, killed=killed, now=now)
    assert forced_by == (verdict.decided_by.kind if verdict.decided_by else None)
    assert on == verdict.desired.on


def test_being_forced_off_forgets_no_good_value() -> None:
    """A value that was good before the kill switch may be held after it."""
    assert 97 == verdict_on(Knowledge(ON), killed=True).memory.held["rate"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"on": False}, {"on": True}, Cause("flag", "on", False, True)),
        ({"on": True, "rate": 1}, {"on": True, "rate": 2}, Cause("flag", "rate", 1, 2)),
        ({"on": True, "rate": 1}, {"on": True}, Cause("flag", "rate", 1, None)),
        ({"on": True, "rate": 1}, {"on": True, "rate": 2, "depth": 2}, Cause("flag", "rate", 1, 2, "depth too")),
        ({"on": False, "rate": 1}, {"on": True, "rate": 2}, Cause("flag", "on", False, True)),
        ({"on": True}, {"on": True}, Cause("flag", detail="as the configuration says")),
    ],
)
def test_the_cause_names_the_flag_that_mattered(
    before: dict[str, object], after: dict[str, object], expected: Cause
) -> None:
    """The switch comes first where it switched; else the first that changed, with the others beside it."""
    old, new = (verdict_on(Knowledge(Reading(values))) for values in (before, after))
    assert expected == explain(RULES, old, new)


@pytest.mark.parametrize(
    ("released", "detail"),
    [("kill_switch", "the kill switch is gone"), ("lease", "the source answers again")],
)
def test_the_cause_names_what_is_over(released: str, detail: str) -> None:
    """A return after a forced off says what forced it."""
    before = verdict_on(Knowledge(ON, stale_since=-LEASE), killed=released == "kill_switch")
    cause = explain(RULES, before, verdict_on(Knowledge(ON)))
    assert (released, detail) == (cause.kind, cause.detail)
