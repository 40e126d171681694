"""The number of processes of one host that profile at the same time."""

import math
from typing import Final

from rheostat._core.case import Brake, Case
from rheostat._core.policy import PER_HOST


def most(case: Case) -> int:
    """How many may profile at once; 0 if all may."""
    return int(case.number(PER_HOST))


def _word(case: Case) -> str | None:
    permit = case.facts.permit
    if not most(case) or permit is None or permit.held:
        return None
    if permit.trouble:
        return f"it cannot be told how many processes of this host profile: {permit.trouble}"
    return f"of this host's processes {most(case)} may profile at once, and this one waits for its turn"


def _until(case: Case) -> float:
    permit = case.facts.permit
    return math.inf if permit is None or not most(case) else permit.until


PERMITTED: Final = Brake(
    "per_host",
    "per host",
    _word,
    "it is this process's turn",
    _until,
    is_used=lambda case: case.uses(PER_HOST),
)
