"""From raw flag values to desired state, one example for each clause of the contract."""

import math

import pytest

from rheostat import Adjustment, Desired, Value
from rheostat._core.rules import Limits, Otherwise, Resolution, Rules, Setting, resolve
from rheostat.plugins import Reading

SWITCH = Setting("enabled", bool, default=False, flag="on")
HARD = Limits("hard limit of agent", min=1, max=1000)
CLAMP = Limits("clamp", min=5, max=250)
RATE = Setting("sample_rate", int, default=20, flag="rate", limits=(CLAMP, HARD))
MODE = Setting("mode", str, default="gil", flag="mode", limits=(Limits("clamp", choices=("gil", "cpu")),))


def settle(setting: Setting, raw: object, held: dict[str, Value] | None = None) -> Resolution:
    """The outcome for one setting of a profiler that is switched on."""
    return resolve(Rules(SWITCH, (setting,)), Reading({"on": True, str(setting.flag): raw}), held or {})


def test_flags_within_the_limits_are_taken_as_they_are() -> None:
    """A value that needs no adjustment gets none, and is remembered as good."""
    actual = resolve(Rules(SWITCH, (RATE, MODE)), Reading({"on": True, "rate": 97, "mode": "cpu"}), {})
    assert Desired(on=True, settings={"sample_rate": 97, "mode": "cpu"}) == actual.desired
    assert () == actual.adjustments
    assert {"enabled": True, "sample_rate": 97, "mode": "cpu"} == actual.held
    assert {"on": True, "rate": 97, "mode": "cpu"} == actual.asked


@pytest.mark.parametrize(
    ("raw", "given", "asked", "rule"),
    [
        (251, 250, 251, "max 250 (clamp)"),
        (" 9999 ", 250, " 9999 ", "max 250 (clamp)"),
        (1e300, 250, 1e300, "max 250 (clamp)"),
        (10**30, 250, "a whole number of 100 bits", "max 250 (clamp)"),
        (4, 5, 4, "min 5 (clamp)"),
        (-(10**30), 5, "a whole number of 100 bits", "min 5 (clamp)"),
    ],
)
def test_a_number_outside_becomes_the_nearest_bound(raw: object, given: int, asked: Value, rule: str) -> None:
    """Numbers are moved, not refused, and the adjustment says what was asked, what is given and why."""
    actual = settle(RATE, raw)
    assert {"sample_rate": given} == actual.desired.settings
    assert (Adjustment("sample_rate", asked, given, rule),) == actual.adjustments
    assert given == actual.held["sample_rate"]


def test_the_hard_limit_holds_whatever_the_clamp_says() -> None:
    """Of two bounds the backend's own is applied last."""
    wide = RATE._replace(limits=(Limits("clamp", min=0, max=10**9), HARD))
    actual = settle(wide, 10**6)
    assert {"sample_rate": 1000} == actual.desired.settings
    assert "max 1000 (hard limit of agent)" == actual.adjustments[0].rule


def test_a_number_too_large_to_be_written_is_not_given() -> None:
    """Where no bound holds it, a number of thousands of digits, which nobody could log, becomes the default."""
    unbounded = RATE._replace(limits=())
    assert {"sample_rate": 10**30} == settle(unbounded, 10**30).desired.settings
    assert {"sample_rate": 20} == settle(unbounded, 10**5000).desired.settings


@pytest.mark.parametrize(
    ("choices", "bounds", "raw"),
    [
        ((10, 50, 100), Limits("clamp", max=60), 100),
        ((10, 50, 100), Limits("clamp", min=20), 10),
    ],
)
def test_a_number_that_was_moved_is_still_one_of_the_choices(
    choices: tuple[Value, ...], bounds: Limits, raw: int
) -> None:
    """Where bounds and choices meet, a bound that is none of the choices is not given: the default is."""
    setting = RATE._replace(default=50, limits=(bounds, Limits("hard limit of agent", choices=choices)))
    assert {"sample_rate": 50} == settle(setting, raw).desired.settings


@pytest.mark.parametrize(
    ("setting", "raw", "asked", "why"),
    [
        (RATE, None, None, "not a whole number"),
        (RATE, True, True, "not a whole number"),
        (RATE, 97.5, 97.5, "not a whole number"),
        (RATE, math.nan, "nan", "not a whole number"),
        (RATE, math.inf, "inf", "not a whole number"),
        (RATE, [97], "a list", "not a whole number"),
        (MODE, 5, 5, "not a text"),
        (MODE, "wall", "wall", "choices gil, cpu (clamp)"),
        (MODE, "GIL", "GIL", "choices gil, cpu (clamp)"),
        (MODE, "a\ud800", "a\\ud800", "not a text"),
    ],
)
@pytest.mark.parametrize(
    ("otherwise", "held", "kept"),
    [
        ("default", True, "the default"),
        ("hold", True, "the last good value"),
        ("hold", False, "the default"),
        ("off", True, "off"),
    ],
)
def test_what_cannot_be_used_follows_otherwise(
    setting: Setting, raw: object, asked: Value, why: str, otherwise: Otherwise, held: bool, kept: str
) -> None:
    """A wrong type and a value outside the choices become the default, the last good value, or off."""
    good: Value = 97 if setting is RATE else "cpu"
    actual = settle(setting._replace(otherwise=otherwise), raw, {setting.name: good} if held else {})
    given: Value = {"the default": "gil" if setting is MODE else 20, "the last good value": good, "off": "off"}[kept]
    assert (Adjustment(setting.name, asked, given, f"{why}; otherwise {kept}"),) == actual.adjustments
    assert Desired(kept != "off", {} if kept == "off" else {setting.name: given}) == actual.desired
    assert ({setting.name: good} if held else {}) == {k: v for k, v in actual.held.items() if k != "enabled"}


def test_off_for_one_setting_still_tells_what_became_of_the_others() -> None:
    """Switching off because of one value hides no other adjustment."""
    rules = Rules(SWITCH, (MODE._replace(otherwise="off"), RATE))
    actual = resolve(rules, Reading({"on": True, "mode": "wall", "rate": 300}), {})
    assert Desired(on=False) == actual.desired
    assert [("mode", "off"), ("sample_rate", 250)] == [(each.setting, each.given) for each in actual.adjustments]


@pytest.mark.parametrize("otherwise", ["default", "hold", "off"])
def test_a_flag_that_is_not_defined_means_the_default(otherwise: Otherwise) -> None:
    """Undefined is no mistake: whatever `otherwise` says, the default is given, without an adjustment."""
    setting = RATE._replace(otherwise=otherwise)
    actual = resolve(Rules(SWITCH, (setting,)), Reading({"on": True}), {"sample_rate": 97})
    assert Desired(on=True, settings={"sample_rate": 20}) == actual.desired
    assert () == actual.adjustments
    assert {"on": True} == actual.asked


def test_a_flag_that_the_source_calls_wrong_follows_otherwise() -> None:
    """An error of one flag counts, even if the source gives a value with it."""
    reading = Reading({"on": True, "rate": 97}, errors={"rate": "MALFORMED_FLAG"})
    actual = resolve(Rules(SWITCH, (RATE,)), reading, {})
    rule = "the source says: MALFORMED_FLAG; otherwise the default"
    assert (Adjustment("sample_rate", 97, 20, rule),) == actual.adjustments


@pytest.mark.parametrize(
    ("raw", "default", "on"),
    [
        (True, False, True),
        ("true", False, True),
        (False, True, False),
        (1, False, False),
        ("on", False, False),
        (None, False, False),
        (None, True, True),
    ],
)
def test_the_switch_obeys_the_same_rules(raw: object, default: bool, on: bool) -> None:
    """Only true, or the text of it, switches on; anything else becomes the switch's default."""
    actual = resolve(Rules(SWITCH._replace(default=default)), Reading({"on": raw}), {})
    assert Desired(on=on) == actual.desired


def test_a_constant_needs_no_flag() -> None:
    """A setting without a flag has its value whatever the source says, and one without a value is left out."""
    settings = (Setting("sample_rate", int, default=50), Setting("mode", str, default=None, flag="mode"))
    rules = Rules(Setting("enabled", bool, default=True), settings)
    actual = resolve(rules, Reading({"sample_rate": 7, "enabled": False}), {"sample_rate": 9})
    assert Desired(on=True, settings={"sample_rate": 50}) == actual.desired


def test_choices_are_compared_with_their_type() -> None:
    """True is not 1, though Python says they are equal."""
    ones = Setting("level", None, default=None, flag="level", limits=(Limits("clamp", choices=(1, "a")),))
    assert {"level": 1} == settle(ones, 1).desired.settings
    assert {} == settle(ones, True).desired.settings


def test_the_wanted_flags_and_their_types() -> None:
    """A source is asked for the flags that the configuration names, once each; a type of object means any."""
    anything = Setting("depth", None, default=None, flag="depth")
    rules = Rules(SWITCH, (RATE, anything, RATE._replace(name="other"), Setting("constant", int, default=1)))
    assert {"on": bool, "rate": int, "depth": object} == rules.wanted
