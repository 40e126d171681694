"""Layers of sources: what any mixture of fresh, stale, silent and never heard layers comes to."""

import math
from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rheostat._core.case import Facts, Memory
from rheostat._core.knowledge import Knowledge, overlay
from rheostat._core.policy import Policy
from rheostat._core.precedence import Verdict, decide
from rheostat._core.rules import Rules, Setting
from rheostat.plugins import Duration, Reading

LEASE = 60.0
NOW = 1000.0
POLICY = Policy(hold_last_good=Duration(LEASE))

RULES = Rules(
    enabled=Setting("enabled", bool, False, flag="on"),
    settings=(Setting("rate", int, 20, flag="rate"), Setting("mode", str, "gil", flag="mode")),
)

VALUES = st.fixed_dictionaries(
    {}, optional={"on": st.booleans(), "rate": st.integers(1, 250), "mode": st.sampled_from(["gil", "cpu"])}
)


@st.composite
def layers(draw: st.DrawFn) -> list[Knowledge]:
    """One to four layers; each fresh, stale for some time, never heard, or only just opened."""
    made = []
    for number in range(draw(st.integers(1, 4))):
        reading = draw(st.none() | VALUES.map(Reading))
        stale_since = draw(st.none() | st.floats(NOW - 2 * LEASE, NOW)) if reading is not None else NOW
        reason = "" if stale_since is None else "gone"
        begins = reading is None and draw(st.booleans())
        made.append(Knowledge(reading, stale_since, reason, layer=f"layer {number + 1}", is_beginning=begins))
    return made


def speaks(layer: Knowledge) -> bool:
    return layer.reading is not None and (layer.stale_since is None or NOW - layer.stale_since < LEASE)


def expected(found: Sequence[Knowledge]) -> dict[str, object]:
    """By hand: of each flag, what the first layer that speaks and defines it says."""
    told: dict[str, object] = {}
    for layer in reversed(found):
        if layer.reading is not None and speaks(layer):
            told.update(layer.reading.values)
    return told


def is_kept_off(found: Sequence[Knowledge]) -> bool:
    """A layer has only just begun, or one that is silent by now had said off before any other said anything."""
    for layer in found:
        if layer.reading is not None and "on" in layer.reading.values:
            if not speaks(layer) and layer.reading.values["on"] is False:
                return True
            if speaks(layer):
                break
    return any(layer.is_beginning for layer in found)


def verdict_on(found: Sequence[Knowledge], *, killed: bool = False, now: float = NOW, rules: Rules = RULES) -> Verdict:
    return decide(rules, POLICY, Facts(found, killed, now), Memory())


ENDED_WITH_OFF = Knowledge(Reading({"on": False}), NOW - 2 * LEASE, "gone", layer="layer 1")
FRESH_AND_ON = Knowledge(Reading({"on": True}), layer="layer 2")


@settings(max_examples=1000)
@given(layers())
@example([ENDED_WITH_OFF, FRESH_AND_ON])
def test_the_first_layer_that_speaks_and_defines_a_flag_wins(found: list[Knowledge]) -> None:
    """A layer that never answered, or whose lease is over, is passed over, unless it keeps profiling off."""
    told = expected(found)
    verdict = verdict_on(found)
    desired = verdict.desired
    assert desired.on == (told.get("on") is True and not is_kept_off(found))
    if desired.on:
        assert {"rate": told.get("rate", 20), "mode": told.get("mode", "gil")} == desired.settings


@given(layers(), st.booleans())
def test_silence_never_turns_it_on(found: list[Knowledge], default: bool) -> None:
    """If a silent layer might define the switch and no other does, it is off, whatever the switch's default."""
    rules = RULES._replace(enabled=Setting("enabled", bool, default, flag="on"))
    verdict = verdict_on(found, rules=rules)
    if "on" not in expected(found) and not all(map(speaks, found)):
        assert not verdict.desired.on
        assert verdict.decided_by is not None
        assert verdict.decided_by.kind in ("lease", "source")


@given(layers())
def test_the_kill_switch_is_above_all_layers(found: list[Knowledge]) -> None:
    """Whatever any of them says."""
    assert not verdict_on(found, killed=True).desired.on


@given(layers())
def test_each_reason_names_its_layer(found: list[Knowledge]) -> None:
    """So that a plan can say who gave a value."""
    reading = overlay(found)
    if reading is not None:
        for flag in reading.values:
            first = next(each.layer for each in found if each.reading is not None and flag in each.reading.values)
            assert first == reading.reasons[flag].partition(":")[0]


@settings(max_examples=1000)
@given(layers(), st.floats(0.0, 3 * LEASE))
def test_of_the_same_facts_nothing_else_comes_before_until(found: list[Knowledge], later: float) -> None:
    """Who has decided need not decide again before the moment that the verdict names."""
    verdict = verdict_on(found)
    assert verdict.until > NOW
    if NOW + later < verdict.until:
        assert verdict == verdict_on(found, now=NOW + later)


@given(layers())
def test_until_names_the_first_moment_at_which_a_layer_falls_silent(found: list[Knowledge]) -> None:
    """Of the layers that are stale and held; where there is none it never comes."""
    ends = [each.stale_since + LEASE for each in found if each.stale_since is not None and each.holds(LEASE, NOW)]
    until = verdict_on(found).until
    assert until == min(ends, default=math.inf)
