"""The processor time that profiling may use: a bucket, filled at the budget's rate and drained by what was used."""

import math
from typing import Final, NamedTuple

_AIM: Final = 0.9
"""The part of the budget that a lower rate aims at, and that a higher one must be sure to keep."""
_RAISE_AFTER: Final = 60.0
"""Seconds in which little enough was used, before the rate is raised."""
_RAISE: Final = 1.5
_FULL: Final = 0.999
"""The part of the bucket that counts as all of it: floats may never come to the rest."""
_RESERVE: Final = 0.15
"""The part of the bucket that is left for what a stop takes, and the next start."""
_SOONEST: Final = 0.05
_LATEST: Final = 1.0
"""Seconds between looks at what a session uses."""
_KNOWN_AFTER: Final = 1.0
"""Seconds of a session after which its cost is known."""
_MARGIN: Final = 4.0
"""By how much it may cost more by the next look."""


class Budget(NamedTuple):
    """`share` of one core, of which `burst` seconds may be used at once."""

    share: float
    burst: float

    @property
    def most(self) -> float:
        """Seconds of processor time that the bucket holds."""
        return self.share * self.burst


class Spending(NamedTuple):
    """The level of a budget's bucket at a moment, when `used` seconds of processor time had been used in all.

    Once it `is_spent` profiling pauses until the bucket is full. The cost of the session, which has `rate`, is judged
    from `since` on, when `used_since` had been used. `cap` bounds the rate of the sessions to come.
    """

    budget: Budget
    level: float
    at: float
    used: float
    since: float
    used_since: float
    rate: float | None = None
    is_spent: bool = False
    cap: float = math.inf

    @property
    def cost(self) -> float | None:
        """Cores that the session takes; None as long as that is not known."""
        lasted = self.at - self.since
        return (self.used - self.used_since) / lasted if lasted >= _KNOWN_AFTER else None


def spent(before: Spending | None, budget: Budget, now: float, used: float, rate: float | None) -> Spending:
    """The bucket at `now`; `rate` is that of the session that runs, where its cost grows with one."""
    if before is None:
        return Spending(budget, budget.most, now, used, now, used, rate)
    level = min(budget.most, before.level + budget.share * (now - before.at) - (used - before.used))
    is_spent = level <= budget.most * (_FULL if before.is_spent else _RESERVE)
    after = before._replace(budget=budget, level=level, at=now, used=used, is_spent=is_spent)
    if is_spent is not before.is_spent or rate != before.rate:
        after = after._replace(since=now, used_since=used, rate=rate)
    lasted = now - before.since
    cost = (used - before.used_since) / lasted if lasted > 0 else 0.0
    if is_spent and not before.is_spent and rate and rate == before.rate and cost > 0:
        # One step in proportion: the rate is only the means, and the pause keeps the budget whatever it comes to.
        return after._replace(cap=min(before.cap, rate * budget.share / cost * _AIM))
    if not is_spent and rate and rate == before.rate and before.cap < math.inf and lasted >= _RAISE_AFTER:
        raised = before.cap * _RAISE if cost * _RAISE < budget.share * _AIM else before.cap
        return after._replace(since=now, used_since=used, cap=raised)
    return after


def look_again(spending: Spending, *, runs: bool) -> float:
    """The moment of the next look: the end of a pause, or the soonest at which what is left could be used."""
    budget, left = spending.budget, spending.level - spending.budget.most * _RESERVE
    if spending.is_spent:
        return spending.at + (budget.most - spending.level) / budget.share
    if not runs:
        return math.inf
    # As long as it is not known it may be a whole core.
    most = 1.0 if spending.cost is None else min(1.0, spending.cost * _MARGIN)
    soonest = left / most if most else math.inf
    return spending.at + min(_LATEST, max(_SOONEST, soonest))
