"""Whatever a source says, what reaches the backend is within every limit, and one bad flag harms no other."""

import enum
import json
import math
import sys
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NoReturn

from hypothesis import given
from hypothesis import strategies as st

from rheostat import Adjustment, Reading, Value
from rheostat.rules import Limits, Otherwise, Resolution, Rules, Setting, resolve

OTHERWISE: tuple[Otherwise, ...] = ("default", "hold", "off")
WORDS = ("gil", "cpu", "wall", "", "é")
LOW, HIGH = -1000, 1000
MOST = Fraction(sys.float_info.max)


class Raw:
    """A raw value that can be shown in a failing example, however long it is."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        try:
            return f"Raw({self.value!r:.60})"
        except Exception:
            return f"Raw(some {type(self.value).__name__})"


class Hostile:
    """Whatever is asked of it, it raises."""

    def refuse(self, *_: object) -> NoReturn:
        raise RuntimeError("a stranger's code ran")

    __repr__ = __str__ = __bool__ = __hash__ = __int__ = __float__ = __index__ = refuse
    __eq__ = __lt__ = __gt__ = __len__ = __iter__ = __getattr__ = refuse


class Unhashable(type):
    """A type of types that compares by something else than identity cannot be a key."""

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("a stranger's code ran")


class OfUnhashableType(metaclass=Unhashable):
    pass


class Level(enum.IntEnum):
    ONE = 1


ODD = [
    math.nan, math.inf, -math.inf, -0.0, 1e308, 5e-324, 10**30, -(10**30), 10**5000, 2**1024, True, False, None,
    "97", " 97 ", "97.0", "1e3", "9" * 5000, "true", " FALSE ", "yes", "nan", "\ud800", "gil\0", "x" * 1_000_000,
    b"97", bytearray(b"97"), [97], [], {"a": 97}, {}, (97,), {97}, 97j, Fraction(97), Level.ONE, object(), int, len,
    Hostile(), OfUnhashableType(), OfUnhashableType, type("x" * 10_000, (), {})(),
]  # fmt: skip

anything = st.sampled_from([Raw(each) for each in ODD]) | st.one_of(
    st.integers(),
    st.integers(-10, 10),
    st.floats(),
    st.booleans(),
    st.text(st.characters(exclude_categories=())),
    st.sampled_from(WORDS),
    st.integers(-9999, 9999).map(str),
    st.binary(),
    st.lists(st.integers() | st.text()),
    st.dictionaries(st.text(), st.none() | st.floats()),
).map(Raw)


@st.composite
def limits(draw: st.DrawFn, kind: type, within: Limits | None = None) -> Limits:
    """Bounds or choices, or neither; within those of somebody else, as a configuration has to be."""
    owner = "hard limit" if within is None else "clamp"
    shape = draw(st.sampled_from(["nothing", "bounds", "choices"]))
    if shape == "choices" or (shape == "bounds" and kind not in (int, float)):
        allowed = values_of(kind)
        if within is not None:
            allowed = [each for each in [*allowed, *bounds(within)] if keeps(each, within)]
        return Limits(owner, choices=tuple(draw(st.lists(st.sampled_from(allowed), min_size=1))))
    if shape == "nothing":
        return Limits(owner)
    low, high = LOW, HIGH
    if within is not None:
        low, high = (bound if given is None else int(given) for given, bound in ((within.min, LOW), (within.max, HIGH)))
    least, most = sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high))))
    cast: Any = kind
    return Limits(owner, *(draw(st.sampled_from([None, cast(bound)])) for bound in (least, most)))


def values_of(kind: type) -> list[Value]:
    values: dict[type, list[Value]] = {
        bool: [True, False],
        int: [1, 5, 20, 100, 997],
        float: [1.0, 5.0, 20.0, 0.5, 997.0],
        str: [*WORDS],
    }
    return values[kind]


@st.composite
def settings(draw: st.DrawFn, name: str = "it", otherwise: tuple[Otherwise, ...] = OTHERWISE) -> Setting:
    """A setting as a configuration can make it: the clamp narrows the hard limit, and the default keeps both."""
    kind = draw(st.sampled_from([bool, int, float, str]))
    hard = draw(limits(kind))
    clamp = draw(limits(kind, within=hard))
    fitting = [each for each in [*values_of(kind), *bounds(hard), *bounds(clamp)] if keeps(each, hard, clamp)]
    default = draw(st.sampled_from([*fitting, None]))
    return Setting(name, kind, default, f"flag of {name}", (clamp, hard), draw(st.sampled_from(otherwise)))


def bounds(limits: Limits) -> list[Value]:
    return [each for each in (limits.min, limits.max) if each is not None]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Rules, dict[str, Raw], dict[str, str]]:
    """Rules for a switch and a few settings, what the flags say, and which of them the source calls wrong."""
    tuned = tuple(draw(settings(name)) for name in draw(st.sampled_from([["a"], ["a", "b", "c"]])))
    rules = Rules(Setting("enabled", bool, draw(st.booleans()), "flag of enabled"), tuned)
    said = draw(st.fixed_dictionaries({}, optional={str(each.flag): anything for each in rules.all}))
    errors = draw(
        st.dictionaries(st.sampled_from([str(each.flag) for each in rules.all]), st.just("wrong"), max_size=1)
    )
    return rules, said, errors


def look(rules: Rules, said: Mapping[str, Raw], errors: Mapping[str, str], held: Mapping[str, Value]) -> Resolution:
    return resolve(rules, Reading({flag: raw.value for flag, raw in said.items()}, errors=errors), held)


# An oracle that shares no code with what it judges.


def keeps(value: Value, *limits: Limits) -> bool:
    """Whether a value keeps all of these limits."""
    number = Fraction(value) if type(value) in (int, float) else None
    return all(
        (each.choices is None or (type(value), value) in [(type(choice), choice) for choice in each.choices])
        and (number is None or each.min is None or Fraction(each.min) <= number)
        and (number is None or each.max is None or number <= Fraction(each.max))
        for each in limits
    )


def lossless(kind: type | None, raw: object) -> Fraction | bool | str | None:
    """What a raw value says exactly, or None if it is not of the kind; numbers as fractions."""
    if type(raw) is str and kind is not str:
        text = raw.strip()
        if kind is bool:
            return {"true": True, "false": False}.get(text.lower())
        whole, dot, decimals = text.lstrip("+-").partition(".")
        written = [whole, decimals] if dot else [whole]
        plain = len(text) - len(text.lstrip("+-")) <= 1 and all(part.isascii() and part.isdigit() for part in written)
        leading_zero = whole.startswith("0") and whole != "0"
        if not plain or leading_zero or len(text) > 100 or (dot and kind is int):
            return None
        return Fraction(text)
    if kind in (int, float) and (type(raw) is int or (type(raw) is float and math.isfinite(raw))):
        exact = Fraction(raw)
        return exact if kind is float or exact.denominator == 1 else None
    if kind is bool and type(raw) is bool:
        return raw
    if kind is str and type(raw) is str:
        unusable = len(raw) > 1024 or any(c == "\0" or "\ud800" <= c <= "\udfff" for c in raw)
        return None if unusable else raw
    return None


def good_value(setting: Setting, raw: object) -> Value | None:
    """What a usable raw value comes to, or None if it is not usable."""
    said = lossless(setting.kind, raw)
    if said is None:
        return None
    for each in setting.limits:
        if each.choices is not None and said not in each.choices:
            return None
    if type(said) is Fraction:
        for each in setting.limits:
            if each.min is not None:
                said = max(said, Fraction(each.min))
            if each.max is not None:
                said = min(said, Fraction(each.max))
        if abs(said) > MOST:
            return None
        value: Value = int(said) if setting.kind is int else float(said)
        return value if keeps(value, *setting.limits) else None
    assert isinstance(said, bool | str)
    return said


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
    good = good_value(setting, raw.value) if defined and not wrong else None
    expected, off = setting.default, False
    if good is not None:
        expected = good
    elif defined or wrong:
        off = setting.otherwise == "off"
        expected = held.get(setting.name, expected) if setting.otherwise == "hold" else expected
    assert (not off) == actual.desired.on
    if not off:
        assert ({} if expected is None else {setting.name: expected}) == actual.desired.settings
    adjusted = [each.given for each in actual.adjustments]
    if good is None:
        assert ([] if not (defined or wrong) else ["off"] if off else [expected]) == adjusted
    else:
        assert ([] if lossless(setting.kind, raw.value) == good else [good]) == adjusted
        assert good == actual.held[setting.name]


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
