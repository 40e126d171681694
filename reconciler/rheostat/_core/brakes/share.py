"""A share of a fleet's instances, and of each one's time, by the instance's place in the fleet."""

import math
from typing import Final

from rheostat._core.case import Brake, Case
from rheostat._core.policy import ROLLOUT

_WHOLE: Final = 100.0
"""Percent."""
_BYTES: Final = 8


def place(instance: str, salt: str) -> float:
    """In [0, 1): the first 8 bytes of SHA-256 over the salt, a NUL and the instance, as a fraction of 2**64.

    >>> f"{place('host-1', ''):.6f} {place('host-1', 'shop'):.6f}"
    '0.718638 0.572117'
    """
    # Only a configuration that shares something out pays for the import.
    from hashlib import sha256

    digest = sha256(f"{salt}\0{instance}".encode("utf-8", "surrogateescape")).digest()
    # Of 64 bits a float keeps 53: rounded up, the greatest would be 1.
    return (int.from_bytes(digest[:_BYTES]) >> 11) / 2**53


def _rollout(case: Case) -> str | None:
    percent = case.number(ROLLOUT)
    # Not asked for, it costs nothing.
    if not case.uses(ROLLOUT) or percent >= _WHOLE:
        return None
    own = place(case.facts.instance, case.policy.rollout.salt) * _WHOLE
    if own < percent:
        return None
    return f"this instance is in at {own:.2f} % of the fleet, the rollout is at {percent:g} %"


def _duty_cycle(case: Case) -> str | None:
    into, on, every = _turn(case)
    return None if into < on else f"other instances' turn: {on:g} s of {every:g} s each"


def _next_turn(case: Case) -> float:
    into, on, every = _turn(case)
    return case.facts.now + ((on if into < on else every) - into)


def _turn(case: Case) -> tuple[float, float, float]:
    """Seconds into the cycle, its part that is on, and all of it; without a cycle it is on for ever."""
    on, every = case.number("duty_cycle.on"), case.number("duty_cycle.every")
    if not every or on >= every:
        return 0.0, math.inf, math.inf
    phase = place(case.facts.instance, case.policy.duty_cycle.salt) * every
    return (case.facts.wall - phase) % every, on, every


ROLLED_OUT: Final = Brake(
    "rollout",
    "rollout",
    _rollout,
    "the rollout has reached this instance",
    is_used=lambda case: case.uses(ROLLOUT),
)
TURN: Final = Brake(
    "duty_cycle",
    "duty cycle",
    _duty_cycle,
    "it is this instance's turn",
    _next_turn,
    is_used=lambda case: case.uses("duty_cycle.every"),
)
