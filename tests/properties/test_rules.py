"""Whatever a source says, what reaches the backend is within every limit, and one bad flag harms no other."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat import Adjustment
from rheostat._contract.values import Value
from rheostat._core.rules import Limits, Otherwise, Resolution, Rules, Setting, resolve, resolve_setting
from rheostat.plugins import Reading
from rheostat.testing import Declared, Raw, raw_values, rules
from rheostat.testing.oracle import good_value, judge, keeps, lossless
from rheostat.testing.strategies import NEARLY, ODD

OWNERS = ("clamp", "hard limit")

anything = raw_values()


def setting_of(declared: Declared) -> Setting:
    limits = tuple(Limits(owner, *each) for owner, each in zip(OWNERS, declared.limits, strict=True))
    return Setting(declared.name, declared.kind, declared.default, declared.flag, limits, declared.otherwise)


def settings(
    name: str = "it", otherwise: tuple[Otherwise, ...] = ("default", "hold", "off")
) -> "st.SearchStrategy[Setting]":
    """A setting as a configuration can make it; one in a few has no default."""
    declared = rules(name, otherwise=otherwise).map(setting_of)
    return declared | declared.map(lambda setting: setting._replace(default=None))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Rules, dict[str, Raw], dict[str, str]]:
    """Rules for a switch and a few settings, what the flags say, and which of them the source calls wrong."""
    tuned = tuple(draw(settings(name)) for name in draw(st.sampled_from([["a"], ["a", "b", "c"]])))
    made = Rules(Setting("enabled", bool, draw(st.booleans()), "flag of enabled"), tuned)
    said = draw(st.fixed_dictionaries({}, optional={str(each.flag): anything for each in made.all}))
    errors = draw(st.dictionaries(st.sampled_from([str(each.flag) for each in made.all]), st.just("wrong"), max_size=1))
    return made, said, errors


def look(rules: Rules, said: Mapping[str, Raw], errors: Mapping[str, str], held: Mapping[str, Value]) -> Resolution:
    return resolve(rules, Reading({flag: raw.value for flag, raw in said.items()}, errors=errors), held)


@given(scenes())
def test_what_is_given_keeps_every_limit_and_has_the_exact_type(
    scene: tuple[Rules, dict[str, Raw], dict[str, str]],
) -> None:
    """Nothing raises; clamps and hard limits hold; an int is an int and no bool; off has no settings."""
    rules, said, errors = scene
    desired = look(rules, said, errors, {}).desired
    assert type(desired.on) is bool
    assert desired.on or {} == desired.settings
    kinds = {each.name: each for each in rules.settings}
    for name, value in desired.settings.items():
        assert kinds[name].kind is type(value)
        assert keeps(value, *kinds[name].limits)


@given(scenes())
def test_all_that_is_told_can_be_written_as_json(scene: tuple[Rules, dict[str, Raw], dict[str, str]]) -> None:
    """Adjustments, causes and settings go into a line of JSON as they are, and it is not a long one."""
    rules, said, errors = scene
    first = look(rules, said, errors, {})
    for each in (first, look(rules, {flag: Raw(None) for flag in said}, {}, first.held)):
        told = [dict(each.desired.settings), dict(each.asked), [made._asdict() for made in each.adjustments]]
        assert len(json.dumps(told, allow_nan=False)) < 20_000


@given(settings(), anything, st.booleans(), st.booleans())
def test_each_flag_gets_what_the_contract_says(setting: Setting, raw: Raw, defined: bool, wrong: bool) -> None:
    """A usable value is given, moved to the nearest bound; another follows `otherwise`; none means the default."""
    before = good_value(setting, "997")
    held = {} if before is None else {str(setting.name): before}
    said = {str(setting.flag): raw} if defined else {}
    errors = {str(setting.flag): "wrong"} if wrong else {}
    actual = look(Rules(Setting("enabled", bool, True), (setting,)), said, errors, held)
    expected, off, good = judge(setting, raw.value, held.get(setting.name), defined=defined, wrong=wrong)
    assert (not off) == actual.desired.on
    if not off:
        assert ({} if expected is None else {setting.name: expected}) == actual.desired.settings
    adjusted = [each.given for each in actual.adjustments]
    if good:
        assert ([] if lossless(setting.kind, raw.value) == expected else [expected]) == adjusted
        assert expected == actual.held[setting.name]
    else:
        assert ([] if not (defined or wrong) else ["off"] if off else [expected]) == adjusted


@pytest.mark.parametrize("otherwise", ["default", "hold", "off"])
@pytest.mark.parametrize(
    ("kind", "default", "held", "limits"),
    [
        (bool, False, True, Limits("clamp")),
        (int, 5, 50, Limits("clamp", min=1, max=250)),
        (int, 5, 97, Limits("clamp", choices=(5, 97))),
        (float, 0.5, 2.0, Limits("clamp", min=0.0, max=250.0)),
        (float, 0.5, 2.0, Limits("clamp")),
        (str, "gil", "wall", Limits("clamp")),
        (str, "gil", "wall", Limits("clamp", choices=("gil", "wall", "1"))),
    ],
)
def test_each_odd_value_gets_what_the_contract_says(
    kind: type, default: Value, held: Value, limits: Limits, otherwise: Otherwise
) -> None:
    """Those that a search may miss, one by one; and none of them makes a long line."""
    setting = Setting("it", kind, default, "flag", (limits,), otherwise)
    found, expected = [], []
    for value in (*NEARLY, *ODD):
        raw = Raw(value)
        outcome = resolve_setting(setting, Reading({"flag": value}), {"it": held})
        told = outcome.adjustment._asdict() if outcome.adjustment else {}
        assert len(json.dumps(told, allow_nan=False)) < 300, raw
        verdict = judge(setting, value, held)
        found.append((raw, outcome.value, type(outcome.value), outcome.off, outcome.good))
        expected.append((raw, verdict.value, type(verdict.value), verdict.off, verdict.good))
    assert expected == found


@given(scenes(), st.data())
def test_one_bad_flag_never_touches_another(
    scene: tuple[Rules, dict[str, Raw], dict[str, str]], data: st.DataObject
) -> None:
    """Whatever one flag turns into, every other setting comes out as before."""
    rules, said, _ = scene
    victim = data.draw(st.sampled_from(rules.all))
    other = dict(said)
    if data.draw(st.booleans()):
        other[str(victim.flag)] = data.draw(anything)
    else:
        other.pop(str(victim.flag), None)
    before, after = (look(rules, each, {}, {}) for each in (said, other))
    assert rest(before, victim) == rest(after, victim)
    if before.desired.on and after.desired.on:
        assert without(before.desired.settings, victim) == without(after.desired.settings, victim)


def rest(resolution: Resolution, victim: Setting) -> tuple[list[Adjustment], dict[str, Value]]:
    adjustments = [each for each in resolution.adjustments if each.setting != victim.name]
    return adjustments, without(resolution.held, victim)


def without(values: Mapping[str, Value], victim: Setting) -> dict[str, Value]:
    return {name: value for name, value in values.items() if name != victim.name}


@given(settings(otherwise=("hold",)), st.lists(anything | st.integers(1, 1000).map(Raw), min_size=1, max_size=8))
def test_hold_gives_only_what_was_good_before(setting: Setting, raws: list[Raw]) -> None:
    """Over any history, a bad value gives the last good one, or the default if there was none."""
    rules = Rules(Setting("enabled", bool, True), (setting,))
    held: Mapping[str, Value] = {}
    last = setting.default
    for raw in raws:
        actual = look(rules, {str(setting.flag): raw}, {}, held)
        good = good_value(setting, raw.value)
        last = last if good is None else good
        assert last == actual.desired.settings.get(setting.name)
        held = actual.held


@given(scenes())
def test_looking_twice_changes_nothing(scene: tuple[Rules, dict[str, Raw], dict[str, str]]) -> None:
    """The same flags give the same desired state, also after they have been remembered."""
    rules, said, errors = scene
    once = look(rules, said, errors, {})
    twice = look(rules, said, errors, once.held)
    assert (once.desired, once.held) == (twice.desired, twice.held)
