"""A fleet in virtual time: 10,000 instances with the real rules, whose flags are flipped at one moment.

Each instance decides by `decide` and passes the real `StartGate`; nothing is really started. What is counted: how many
profile under a rollout, how many start within one second of a flip under a splay or of the end of an outage, how many
have their turn at any moment of a duty cycle, and what all of it costs over an hour.

    python -m bench.fleet FILE.svg    draws the chart of docs/cost.md
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from rheostat._contract.options import Duration
from rheostat._contract.values import Seconds
from rheostat._core.case import Facts, Memory
from rheostat._core.desired import Desired
from rheostat._core.knowledge import Knowledge
from rheostat._core.policy import DutyCycle, Policy, Rollout, SessionPolicy
from rheostat._core.precedence import decide
from rheostat._core.rules import Rules, Setting
from rheostat._core.start_gate import StartGate
from rheostat.plugins import Reading

from .row import Row

_FLEET: Final = 10_000
_SPLAY: Final = 60.0
_TURN: Final = (60.0, 600.0)
LEASE: Final = 60.0
_OUTAGE: Final = (120.0, 400.0)
"""Seconds from the flip."""
_AFTER: Final = 1000.0
"""Seconds at which an outage is long over."""
_BUDGET: Final = 0.02
_MOMENTS: Final = 20
"""In which a duty cycle is looked at."""

POLICY: Final = Policy(
    splay=Duration(_SPLAY),
    hold_last_good=Duration(LEASE),
    session=SessionPolicy(max=Setting("session.max", Seconds, 0.0, "longest")),
    rollout=Rollout(Setting("rollout.percent", float, 100.0, "percent"), salt="bench"),
    duty_cycle=DutyCycle(
        Setting("duty_cycle.on", Seconds, 0.0, "turn"), Setting("duty_cycle.every", Seconds, 0.0, "every")
    ),
)
RULES: Final = Rules(Setting("enabled", bool, default=False, flag="on"), tunables=POLICY.tunables)


def rows(quick: bool) -> list[Row]:
    ten, twenty = (profiling({"percent": percent}) for percent in (10, 20))
    starts = Counter(int(each) for each in _starts({"percent": 100}))
    turn, every = _TURN
    at_once = [len(profiling({"turn": turn, "every": every}, at)) for at in _moments(every)]
    expected = _FLEET * turn / every
    return [
        _row("instances of 10,000 that profile at 10 %, off by", abs(len(ten) - 1000), 60),
        _row("of these, no longer at 20 %", len(ten - twenty), 0),
        _row("most starts within one second of a flip, splay 60 s, of 10,000", max(starts.values()), 0.03 * _FLEET),
        _row("most starts within one second of the end of an outage", max(_back().values()), 0.03 * _FLEET),
        _row("instances that profile while the flags are away and the lease is over", _away(), 0),
        Row.of(
            "10 % for 15 min of an hour, budget 2 %: share of a core, of all instances",
            100 * _hour(),
            100 * _BUDGET,
            limit=0.055,
            unit="%",
            note="the naive figure is the same budget on all instances for all of the hour",
        ),
        _row(
            "on 60 s of every 10 min: instances at any moment, off by at most",
            max(abs(each - expected) for each in at_once),
            0.1 * expected,
        ),
    ]


def _row(what: str, found: float, most: float) -> Row:
    return Row.of(what, found, _FLEET, limit=most)._replace(naive="all at once", ratio="")


def _moments(every: float) -> Iterator[float]:
    return (every * number / _MOMENTS for number in range(_MOMENTS))


def profiling(flags: Mapping[str, object], at: float = 0.0) -> set[int]:
    """The instances that these flags come to, `at` a moment of the wall clock."""
    return {number for number in range(_FLEET) if _decided(number, flags, at).on}


def _decided(number: int, flags: Mapping[str, object], at: float) -> Desired:
    facts = Facts([Knowledge(Reading({"on": True, **flags}))], killed=False, now=at, wall=at, instance=_name(number))
    return decide(RULES, POLICY, facts, Memory()).desired


def _starts(flags: Mapping[str, object]) -> Iterator[float]:
    """When each starts, in seconds from the flip."""
    for number in range(_FLEET):
        if _decided(number, flags, 0.0).on:
            gate = StartGate(POLICY, _name(number), lambda: 0.5)
            gate.wanted(0.0)
            yield gate.opens_at()


def lived(number: int, flags: Mapping[str, object], moments: Iterable[float]) -> Iterator[tuple[float, float, bool]]:
    """Each moment of an instance's life, its last change of what is wanted with its splay, and whether it profiles.

    All begin at 0. The flags cannot be read during the outage.
    """
    gate, memory, was_on = StartGate(POLICY, _name(number), lambda: 0.5), Memory(), False
    for moment in moments:
        out = moment if _OUTAGE[0] <= moment < _OUTAGE[1] else None
        known = Knowledge(Reading({"on": True, **flags}), stale_since=None if out is None else _OUTAGE[0], reason="out")
        facts = Facts([known], killed=False, now=moment, wall=moment, instance=_name(number))
        verdict = decide(RULES, POLICY, facts, memory)
        memory = verdict.memory
        if verdict.desired.on is not was_on:
            was_on = verdict.desired.on
            gate.wanted(moment)
        yield moment, gate.opens_at(), was_on and gate.opens_at() <= moment


def _back() -> Counter[int]:
    """The starts after an outage, by second."""
    ends = (_OUTAGE[0] - 1, _OUTAGE[0], _OUTAGE[0] + LEASE, _OUTAGE[1])
    return Counter(int([at for _, at, _ in lived(number, {}, ends)][-1]) for number in range(_FLEET))


def _away() -> int:
    moments = (0.0, _OUTAGE[0], _OUTAGE[0] + LEASE)
    return sum([on for *_, on in lived(number, {}, moments)][-1] for number in range(_FLEET))


def _hour() -> float:
    """Cores that an instance uses, on average over an hour, if each that profiles uses its budget."""
    flags = {"percent": 10, "longest": 900}
    step = 60.0
    on = sum(
        on
        for number in range(_FLEET)
        for *_, on in lived(number, flags, (step * minute + _AFTER for minute in range(60)))
    )
    return on / (_FLEET * 60) * _BUDGET


def _name(number: int) -> str:
    return f"checkout-{number:05}"


def chart(file: str) -> None:
    """How many profile, by the second from the flip, under three policies."""
    import pygal

    seconds = [*range(0, 61, 5), *range(80, 601, 40)]
    drawn: Any = pygal.XY(
        stroke=True,
        show_dots=False,
        x_title="seconds from the flip",
        y_title="instances that profile",
        height=360,
        js=(),
    )
    curves: Mapping[str, Callable[[float], int]] = {
        "all, splay 60 s": partial(_started, {"percent": 100}),
        "rollout 10 %, splay 60 s": partial(_started, {"percent": 10}),
        "all, flags away from 120 s to 400 s, lease 60 s": lambda at: (
            sum([on for *_, on in lived(number, {}, range(0, int(at) + 1, 5))][-1] for number in range(0, _FLEET, 10))
            * 10
        ),
        "on 60 s of every 10 min": lambda at: len(profiling({"turn": _TURN[0], "every": _TURN[1]}, at)),
    }
    for name, count in curves.items():
        drawn.add(name, [(second, count(float(second))) for second in seconds])
    drawn.render_to_file(file)


def _started(flags: Mapping[str, object], by: float) -> int:
    return sum(each <= by for each in _starts(flags))


if __name__ == "__main__":
    chart(sys.argv[1])
