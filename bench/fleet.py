"""A fleet in virtual time: 10,000 instances with the real rules, whose flags are flipped at one moment.

Each instance decides by `decide` and passes the real `StartGate`; nothing is really started. What is counted: how many
profile under a rollout, how many start within one second of a flip under a splay, and how many have their turn at any
moment of a duty cycle.

    python -m bench.fleet FILE.svg    draws the chart of docs/cost.md
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from rheostat._contract.options import Duration
from rheostat._contract.values import Seconds
from rheostat._core.case import Facts, Memory
from rheostat._core.desired import Desired
from rheostat._core.knowledge import Knowledge
from rheostat._core.policy import DutyCycle, Policy, Rollout
from rheostat._core.precedence import decide
from rheostat._core.rules import Rules, Setting
from rheostat._core.start_gate import StartGate
from rheostat.plugins import Reading

from .row import Row

_FLEET: Final = 10_000
_SPLAY: Final = 60.0
_TURN: Final = (60.0, 600.0)
_MOMENTS: Final = 20
"""In which a duty cycle is looked at."""

POLICY: Final = Policy(
    splay=Duration(_SPLAY),
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
        "on 60 s of every 10 min": lambda at: len(profiling({"turn": _TURN[0], "every": _TURN[1]}, at)),
    }
    for name, count in curves.items():
        drawn.add(name, [(second, count(float(second))) for second in seconds])
    drawn.render_to_file(file)


def _started(flags: Mapping[str, object], by: float) -> int:
    return sum(each <= by for each in _starts(flags))


if __name__ == "__main__":
    chart(sys.argv[1])
