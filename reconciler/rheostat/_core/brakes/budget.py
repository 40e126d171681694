"""The part of a core, and the memory, that profiling may use."""

import math
from types import MappingProxyType
from typing import Final

from rheostat._core.budget import Budget, Spending, look_again, spent
from rheostat._core.case import Brake, Case, Memory
from rheostat._core.desired import Adjustment
from rheostat._core.policy import BUDGET, MEMORY

_BURST: Final = 10.0
"""Seconds, where there is a budget and nothing is said."""
_MIB: Final = 2**20


def _budget(case: Case) -> Budget | None:
    share = case.number(BUDGET) / 100
    return Budget(share, case.number("budget.burst") or _BURST) if share else None


def _processor(case: Case) -> str | None:
    budget, spending = _budget(case), case.memory.spending
    if budget is None or spending is None or not spending.is_spent:
        return None
    stops = case.policy.budget.action == "stop"
    again = "off and on again begins anew" if stops else "it goes on when it is there again"
    return f"the budget of {budget.share:.3g} of a core is used up; {again}"


def _end_of_pause(case: Case) -> float:
    """While a session runs, whoever measures it looks again; see `measured`."""
    spending = case.memory.spending
    if spending is None or not spending.is_spent or case.policy.budget.action == "stop":
        return math.inf
    return look_again(spending, runs=False)


def measured(memory: Memory, now: float, used: float, rate: float | None) -> Memory | None:
    """The memory with what has been used since; None if that is reason to decide anew."""
    before = memory.spending
    if before is None:
        return memory
    after = spent(before, before.budget, now, used, rate)
    is_news = after.is_spent is not before.is_spent or after.cap != before.cap
    return None if is_news else memory._replace(spending=after)


def _consider(case: Case) -> Case:
    """What has been used, and the rate that there is room for."""
    budget, facts, before = _budget(case), case.facts, case.memory.spending
    if budget is None or facts.used is None:
        return case._replace(memory=case.memory._replace(spending=None))
    spending = spent(before, budget, facts.now, facts.used, facts.rate)
    if case.policy.budget.action == "stop":
        was_spent = before is not None and before.is_spent
        stays_off = case.flags.desired.on and (was_spent or spending.is_spent)
        spending = spending._replace(is_spent=stays_off, cap=math.inf)
    elif not spending.used:
        spending = spending._replace(cap=_guessed(case, budget))
    return _capped(case, spending)._replace(memory=case.memory._replace(spending=spending))


def _guessed(case: Case, budget: Budget) -> float:
    """The rate that the budget may have room for, before anything has been measured."""
    estimate, settings = case.rules.estimate, case.flags.desired.settings
    asked = settings.get(case.rules.rate)
    if estimate is None or not isinstance(asked, int | float):
        return math.inf
    try:
        cost = float(estimate(settings, case.facts.threads))
    # Third-party code, and no more than a guess.
    except Exception:
        return math.inf
    return asked * budget.share / cost if cost > budget.share else math.inf


def _capped(case: Case, spending: Spending) -> Case:
    """The settings, with the rate that the budget has room for."""
    rules, flags = case.rules, case.flags
    asked = flags.desired.settings.get(rules.rate)
    if not isinstance(asked, int | float) or asked <= spending.cap:
        return case
    setting = next(each for each in rules.settings if each.name == rules.rate)
    least = max((each.min for each in setting.limits if each.min is not None), default=0)
    given = max(least, int(spending.cap) if setting.kind is int else spending.cap)
    adjusted = Adjustment(rules.rate, asked, given, "budget")
    others = tuple(each for each in flags.adjustments if each.setting != rules.rate)
    lower = MappingProxyType({**flags.desired.settings, rules.rate: given})
    desired = flags.desired._replace(settings=lower)
    return case._replace(flags=flags._replace(desired=desired, adjustments=(*others, adjusted)))


def _memory(case: Case) -> str | None:
    if not case.memory.is_too_large:
        return None
    most = case.number(MEMORY) / _MIB
    return f"the session has brought more than its {most:.3g} MiB of memory; off and on again begins anew"


def _measure(case: Case) -> Case:
    """A session that has brought too much stays off: another one would bring as much."""
    most, grown = case.number(MEMORY), case.facts.grown
    is_too_large = case.memory.is_too_large or (grown is not None and grown > most)
    stays_off = bool(most) and case.flags.desired.on and is_too_large
    return case._replace(memory=case.memory._replace(is_too_large=stays_off))


PROCESSOR: Final = Brake(
    "budget",
    "budget",
    _processor,
    "the budget is there again",
    _end_of_pause,
    _consider,
    lambda case: case.uses(BUDGET),
)
SIZE: Final = Brake(
    "budget",
    "budget of memory",
    _memory,
    "another session begins",
    consider=_measure,
    is_used=lambda case: case.uses(MEMORY),
)
