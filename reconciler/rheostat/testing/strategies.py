"""Hypothesis strategies: raw flag values, rules, configurations, and what flags say over time."""

import enum
import math
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from typing import Any, Final, NoReturn

from hypothesis import strategies as st

from rheostat import Value

from .oracle import keeps
from .scenario import SWITCH, Bounds, Declared, Otherwise, Scenario, hard_limits

WORDS: Final = ("gil", "cpu", "wall", "", "é")
"""Texts that settings may have among their choices."""

_OTHERWISE: Final[tuple[Otherwise, ...]] = ("default", "hold", "off")
_LOW, _HIGH = -1000, 1000


class Raw:
    """A raw value that can be shown in a failing example, however long or hostile it is."""

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
        raise RuntimeError("third-party code ran")

    __repr__ = __str__ = __bool__ = __hash__ = __int__ = __float__ = __index__ = refuse
    __eq__ = __lt__ = __gt__ = __len__ = __iter__ = __getattr__ = refuse


class _Unhashable(type):
    """A type of types that compares by something else than identity cannot be a key."""

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("third-party code ran")


class _OfUnhashableType(metaclass=_Unhashable):
    pass


class _Level(enum.IntEnum):
    ONE = 1


ODD: Final[tuple[object, ...]] = (
    math.nan, math.inf, -math.inf, -0.0, 1e308, 5e-324, 10**30, -(10**30), 10**5000, 2**1024, True, False, None,
    "97", " 97 ", "97.0", "1e3", "9" * 101, "9" * 5000, "true", " FALSE ", "yes", "nan", "\ud800", "gil\0",
    "x" * 1_000_000,
    b"97", bytearray(b"97"), [97], [], {"a": 97}, {}, (97,), {97}, 97j, Fraction(97), _Level.ONE, object(), int, len,
    Hostile(), _OfUnhashableType(), _OfUnhashableType, type("x" * 10_000, (), {})(),
)  # fmt: skip
"""Values that no setting can use, or that are hostile."""

NEARLY: Final[tuple[object, ...]] = (
    97, 97.0, 97.5, "97", " 97 ", "97.0", "97.5", "9_7", "097", "1e3", 1, 0, -1, 9999, True, False, "true", " FALSE ",
    "yes", "on", "", "gil", "GIL", None,
)  # fmt: skip
"""Values that are usable for some type of setting, or nearly so."""


@cache
def raw_values() -> st.SearchStrategy[Raw]:
    """Whatever a flag product, or a careless source, may give for a flag: usable, nearly so, odd, or anything."""
    return (
        st.sampled_from([Raw(each) for each in NEARLY])
        | st.sampled_from([Raw(each) for each in ODD])
        | st.one_of(
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
    )


def usable_values(declared: Declared) -> st.SearchStrategy[Raw]:
    """Values within the limits, as the product has them or as text."""
    if declared.kind is bool:
        return st.sampled_from([True, False, "true", " FALSE "]).map(Raw)
    if declared.kind is str:
        words: list[object] = [each for each in WORDS if keeps(each, *declared.limits)]
        return st.sampled_from([*words, declared.default]).map(Raw)
    low = max([each.min for each in declared.limits if each.min is not None], default=_LOW)
    high = min([each.max for each in declared.limits if each.max is not None], default=_HIGH)
    whole = st.integers(math.ceil(low), max(math.ceil(low), math.floor(high)))
    return (whole | whole.map(str) | whole.map(float)).map(Raw)


def values_of(kind: type) -> list[Value]:
    """A few of each type of setting."""
    values: Mapping[type, list[Value]] = {
        bool: [True, False],
        int: [1, 5, 20, 100, 997],
        float: [1.0, 5.0, 20.0, 0.5, 997.0],
        str: [*WORDS],
    }
    return values[kind]


@st.composite
def bounds(draw: st.DrawFn, kind: type, within: Bounds | None = None) -> Bounds:
    """Bounds or choices, or neither; within those of somebody else, as a configuration has to be."""
    shape = draw(st.sampled_from(["nothing", "bounds", "choices"]))
    if shape == "choices" or (shape == "bounds" and kind not in (int, float)):
        allowed = values_of(kind)
        if within is not None:
            edges: list[Value] = [each for each in (within.min, within.max) if each is not None]
            allowed = [each for each in [*allowed, *edges] if keeps(each, within)]
        return Bounds(choices=tuple(draw(st.lists(st.sampled_from(allowed), min_size=1)))) if allowed else Bounds()
    if shape == "nothing":
        return Bounds()
    low, high = _LOW, _HIGH
    if within is not None:
        low = _LOW if within.min is None else math.ceil(within.min)
        high = _HIGH if within.max is None else math.floor(within.max)
    least, most = sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high))))
    cast: Any = kind
    return Bounds(*(draw(st.sampled_from([None, cast(bound)])) for bound in (least, most)))


@st.composite
def rules(
    draw: st.DrawFn,
    name: str = "it",
    kind: type | None = None,
    hard: Bounds | None = None,
    otherwise: tuple[Otherwise, ...] = _OTHERWISE,
) -> Declared:
    """A setting as a configuration can declare it: the clamp narrows the hard limits, and the default keeps both."""
    kind = kind or draw(st.sampled_from([bool, int, float, str]))
    hard = draw(bounds(kind)) if hard is None else hard
    clamp = draw(bounds(kind, within=hard))
    cast: Any = kind
    edges: list[Value] = [cast(each) for limit in (hard, clamp) for each in (limit.min, limit.max) if each is not None]
    choices = [each for limit in (hard, clamp) for each in limit.choices or ()]
    fitting = [each for each in [*values_of(kind), *edges, *choices] if keeps(each, hard, clamp)]
    # Where nothing keeps both, the clamp is not one that a configuration could have.
    clamp, fitting = (clamp, fitting) if fitting else (Bounds(), _within(kind, hard))
    default = draw(st.sampled_from(fitting))
    return Declared(name, kind, default, f"flag_of_{name}", (clamp, hard), draw(st.sampled_from(otherwise)))


def _within(kind: type, hard: Bounds) -> list[Value]:
    edges: list[Value] = [each for each in (hard.min, hard.max, *(hard.choices or ())) if each is not None]
    return [each for each in [*values_of(kind), *edges] if keeps(each, hard)]


_KINDS: Final[Mapping[str, type]] = {"rate": int, "mode": str, "share": float, "memory": bool}


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Deployments of a `FaultyBackend`: settings, clamps and policies."""
    switch = Declared(SWITCH, bool, draw(st.booleans()), "flag_of_enabled", (), draw(st.sampled_from(_OTHERWISE)))
    names = draw(st.sampled_from([("rate", "mode"), ("rate",), (), ("rate", "mode", "share", "memory")]))
    return Scenario(
        switch=switch,
        settings=tuple(draw(rules(name, _KINDS[name], hard_limits(name))) for name in names),
        probes=draw(st.booleans()),
        resync=draw(st.sampled_from([5.0, 30.0])),
        lease=draw(st.sampled_from([20.0, 0.0, 3.0])),
        start_deadline=draw(st.sampled_from([10.0, 2.0])),
        stop_deadline=draw(st.sampled_from([10.0, 2.0])),
        backoff=draw(st.sampled_from([1.0, 4.0])),
        backoff_max=draw(st.sampled_from([16.0, 4.0])),
        cooldown=draw(st.sampled_from([5.0, 0.0])),
        splay=draw(st.sampled_from([0.0, 0.0, 8.0])),
        instance=draw(st.sampled_from(["host-1", "host-2", "é"])),
        kill_switch=draw(st.sampled_from(["off", None, None])),
        session=draw(st.sampled_from([0.0, 0.0, 12.0, 40.0])),
        rollout=draw(st.sampled_from([100.0, 100.0, 75.0, 10.0])),
        turn=draw(st.sampled_from([None, None, (7.0, 20.0), (20.0, 60.0)])),
        budget=draw(st.sampled_from([0.0, 0.0, 2.0, 50.0])),
        burst=draw(st.sampled_from([10.0, 1.0])),
    )


def configs() -> st.SearchStrategy[str]:
    """Valid configurations, as YAML."""
    return scenarios().map(Scenario.yaml)


def flags_of(scenario: Scenario) -> st.SearchStrategy[dict[str, Raw]]:
    """Flags that a source may give at one moment: some flags are not defined, some cannot be used."""
    sensible = {each.flag: usable_values(each) | raw_values() for each in scenario.flags}
    return st.fixed_dictionaries({}, optional=sensible)


def schedules(scenario: Scenario) -> st.SearchStrategy[list[tuple[float, dict[str, Raw]]]]:
    """A source's flags over time: pairs of seconds to wait and the flags from then on."""
    pauses = st.sampled_from([0.0, 0.01, 1.0, 5.0, 60.0])
    return st.lists(st.tuples(pauses, flags_of(scenario)), max_size=20)
