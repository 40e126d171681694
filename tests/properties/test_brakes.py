"""The brakes that share profiling out: over time, over a fleet, over sessions."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat import State
from rheostat._contract.values import Bytes, Percent, Seconds
from rheostat._core.brakes.share import place
from rheostat._core.budget import Budget, Spending, look_again, spent
from rheostat._core.case import Facts, Memory, Permit
from rheostat._core.knowledge import Knowledge
from rheostat._core.policy import BudgetPolicy, CrashGuard, DutyCycle, PerHost, Policy, Rollout, SessionPolicy
from rheostat._core.precedence import Verdict, decide
from rheostat._core.rules import Limits, Rules, Setting
from rheostat.plugins import Reading
from rheostat.testing import Simulation

NOTHING = Memory()
FLEET = [f"host-{number}" for number in range(10_000)]
ON = {"on": True}

CONFIG = """\
version: 1
application: shop
instance: host-1
source: {kind: "rheostat.testing:ScriptedSource"}
backend: {kind: "rheostat.testing:FaultyBackend"}
enabled: {flag: "on", default: false}
settings: {rate: {flag: rate, default: 20}}
"""


def tuned(name: str, kind: type, default: Any, most: float | None = None) -> Setting:
    return Setting(name, kind, default, flag=name, limits=(Limits("hard limit", 0.0, most),))


SHARED = Policy(
    session=SessionPolicy(tuned("session.max", Seconds, 0.0), Setting("session.id", str, "", flag="session.id")),
    rollout=Rollout(tuned("rollout.percent", float, 100.0, 100.0), salt="profiling"),
    duty_cycle=DutyCycle(tuned("duty_cycle.on", Seconds, 0.0), tuned("duty_cycle.every", Seconds, 0.0)),
)
RULES = Rules(Setting("enabled", bool, default=False, flag="on"), tunables=SHARED.tunables)


def verdict(
    flags: Mapping[str, object], instance: str = "host-1", now: float = 0.0, memory: Memory = NOTHING, **facts: Any
) -> Verdict:
    layers = [Knowledge(Reading(flags))]
    return decide(RULES, SHARED, Facts(layers, facts.pop("killed", False), now, now, instance), memory)


def profiling(flags: Mapping[str, object], now: float = 0.0) -> set[str]:
    return {instance for instance in FLEET if verdict({**ON, **flags}, instance, now).desired.on}


@pytest.mark.parametrize(
    ("instance", "salt", "expected"), [("host-1", "", 0.718638), ("host-1", "shop", 0.572117), ("", "", 0.430482)]
)
def test_the_place_of_an_instance_is_published(instance: str, salt: str, expected: float) -> None:
    """Anybody can work it out: docs/cost.md says how."""
    assert expected == pytest.approx(place(instance, salt), abs=1e-6)


def test_a_rollout_takes_its_part_of_the_fleet_and_raising_it_only_adds() -> None:
    """10 % of 10,000 are 1,000, give or take 60; at 20 % all of them stay."""
    ten, twenty = profiling({"rollout.percent": 10}), profiling({"rollout.percent": 20})
    assert abs(len(ten) - 1000) <= 60
    assert abs(len(twenty) - 2000) <= 85
    assert ten < twenty


@given(st.text(max_size=20), st.floats(0, 100), st.floats(0, 100))
def test_raising_a_rollout_never_takes_an_instance_out(instance: str, one: float, other: float) -> None:
    """Whatever it is called."""
    low, high = sorted((one, other))
    if verdict({**ON, "rollout.percent": low}, instance).desired.on:
        assert verdict({**ON, "rollout.percent": high}, instance).desired.on
    assert not verdict({**ON, "rollout.percent": 0}, instance).desired.on
    assert verdict({**ON, "rollout.percent": 100}, instance).desired.on


def test_a_duty_cycle_keeps_the_same_part_of_the_fleet_profiling_at_all_times() -> None:
    """On for 60 s of each 10 min: a tenth of them at any moment, within a tenth of that."""
    cycle = {"duty_cycle.on": "60s", "duty_cycle.every": "10m"}
    counts = [len(profiling(cycle, moment)) for moment in (0.0, 61.0, 299.5, 1e9 + 7)]
    assert all(900 <= each <= 1100 for each in counts), counts


@given(st.floats(0, 1e6), st.floats(1, 1000), st.floats(1, 1000))
def test_an_instance_has_its_turn_once_a_cycle(now: float, one: float, other: float) -> None:
    """It is on for `on` seconds, then off for the rest, and says when that changes."""
    on, every = sorted((one, other))
    flags = {**ON, "duty_cycle.on": on, "duty_cycle.every": every}
    first = verdict(flags, now=now)
    if on == every:
        assert (True, math.inf) == (first.desired.on, first.until)
        return
    second = verdict(flags, now=first.until + 1e-6)
    assert first.desired.on is not second.desired.on or every - on < 1e-5
    assert now < first.until <= now + (on if first.desired.on else every - on) + 1e-6


@settings(max_examples=500)
@given(
    st.fixed_dictionaries(
        {"on": st.booleans()},
        optional={
            "session.max": st.sampled_from([0, 60, "15m"]),
            "session.id": st.sampled_from(["a", "b"]),
            "rollout.percent": st.floats(0, 100),
            "duty_cycle.on": st.floats(0, 600),
            "duty_cycle.every": st.sampled_from([0, 600]),
        },
    ),
    st.floats(0, 1e4),
    st.one_of(st.none(), st.floats(0, 1e4)),
    st.floats(0.001, 0.999),
    st.booleans(),
)
def test_a_verdict_holds_until_it_says(
    flags: dict[str, object], now: float, ago: float | None, part: float, killed: bool
) -> None:
    """Nothing else comes of the same facts before `until`; and off, or the kill switch, wins over everything."""
    memory = Memory(enabled_since=None if ago is None else now - ago, session_id=str(flags.get("session.id", "")))
    first = verdict(flags, now=now, memory=memory, killed=killed)
    later = now + (min(first.until, now + 5000) - now) * part
    again = verdict(flags, now=later, memory=first.memory, killed=killed)
    if later < first.until - 1e-6:
        assert again.desired == first.desired
    if killed or not flags["on"]:
        assert not first.desired.on


def test_a_policy_whose_flag_cannot_be_used_may_turn_profiling_off() -> None:
    """By its own word, as a setting's."""
    with sim("{cooldown: 0s, rollout: {percent: {flag: percent, default: 100, clamp: {otherwise: 'off'}}}}") as it:
        it.source.say({**ON, "percent": "all"})
        it.advance(1)
        assert State.STOPPED is it.status().state
        it.source.say({**ON, "percent": 100})
        it.advance(1)
        assert State.RUNNING is it.status().state


BUDGET = Budget(share=0.02, burst=10.0)


@settings(max_examples=300)
@given(st.lists(st.floats(0, 4), min_size=1, max_size=60), st.sampled_from([20.0, 100.0, None]))
def test_the_budget_is_a_law(costs: list[float], rate: float | None) -> None:
    """Whatever a session costs, in cores: at most the budget, the burst, and what falls between two looks."""
    now = used = 0.0
    spending = spent(None, BUDGET, now, used, rate)
    longest = 0.0
    for cost in costs:
        until = look_again(spending, runs=True)
        between = 0.0 if spending.is_spent else cost * (until - now)
        longest = max(longest, between)
        now, used = until, used + between
        spending = spent(spending, BUDGET, now, used, rate)
        assert used <= BUDGET.share * now + BUDGET.most + longest + 1e-9
        assert spending.level <= BUDGET.most


def test_a_rate_that_costs_too_much_is_lowered_in_one_step_and_raised_slowly() -> None:
    """In proportion, and only after a minute well within the budget."""
    spending = spent(None, BUDGET, 0.0, 0.0, 100.0)
    spending = spent(spending, BUDGET, 1.0, 0.5, 100.0)
    assert (True, pytest.approx(3.6)) == (spending.is_spent, spending.cap)
    # Half of it is no end of the pause: what follows would be as short.
    assert spent(spending, BUDGET, 1.0 + 0.38 / 0.02, 0.5, None).is_spent
    spending = spent(spending, BUDGET, 1.0 + 0.48 / 0.02, 0.5, None)
    assert not spending.is_spent
    began = spending.at
    for second in range(1, 130):
        spending = spent(spending, BUDGET, began + second, 0.5 + 0.005 * second, 3.0)
    assert pytest.approx(3.6 * 1.5 * 1.5) == spending.cap


@pytest.mark.parametrize(
    ("cost", "given_rate"), [(0.5, 4), (0.02, 100), (40.0, 1), (float("nan"), 100), ("much", 100), (None, 100)]
)
def test_before_anything_is_measured_the_backends_guess_counts(cost: Any, given_rate: int) -> None:
    """Whatever it gives; what has been measured counts more."""
    rate = Setting("rate", int, 100, limits=(Limits("hard limit", 1, 1000),))
    guess = None if cost is None else lambda settings, threads: cost
    rules = Rules(RULES.enabled, (rate,), (tuned("budget.cpu", Percent, 2.0),), rate="rate", estimate=guess)
    facts = Facts([Knowledge(Reading(ON))], killed=False, now=10.0, used=0.0)
    first = decide(rules, SHARED, facts, Memory())
    assert given_rate == first.desired.settings["rate"]
    later = decide(rules._replace(estimate=None), SHARED, facts._replace(now=20.0, used=0.01), first.memory)
    assert given_rate == later.desired.settings["rate"]


def test_a_budget_that_stops_waits_for_off_and_on_again() -> None:
    """Not for the time that is there again, and at no lower rate."""
    policy = SHARED._replace(budget=BudgetPolicy(tuned("budget.cpu", Percent, 2.0), action="stop"))
    rules = RULES._replace(tunables=policy.tunables)

    def seen(now: float, used: float, memory: Memory, on: bool = True) -> Verdict:
        facts = Facts([Knowledge(Reading({"on": on}))], killed=False, now=now, used=used, runs=True, rate=100.0)
        return decide(rules, policy, facts, memory)

    first = seen(0.0, 0.0, NOTHING)
    ended = seen(1.0, 0.9, first.memory)
    assert (True, False, math.inf) == (first.desired.on, ended.desired.on, ended.until)
    later = seen(1e6, 0.9, ended.memory)
    assert not later.desired.on
    again = seen(1e6 + 1, 0.9, seen(1e6, 0.9, later.memory, on=False).memory)
    assert again.desired.on
    assert again.memory.spending is not None
    assert math.inf == again.memory.spending.cap


def test_the_time_before_a_session_is_no_part_of_its_cost() -> None:
    """A process that was off for an hour is slowed by what the session costs, and off it earns no higher rate."""
    spending = spent(spent(None, BUDGET, 0.0, 0.0, None), BUDGET, 3600.0, 0.0, 100.0)
    spending = spent(spending, BUDGET, 3601.0, 0.5, 100.0)
    assert (True, pytest.approx(3.6)) == (spending.is_spent, spending.cap)
    assert pytest.approx(3.6) == spent(spending, BUDGET, 7200.0, 0.5, None).cap
    off = spent(spending, BUDGET, 7200.0, 0.5, None)
    assert pytest.approx(3.6) == spent(off, BUDGET, 9000.0, 0.5, None).cap


def test_the_cost_of_a_session_is_known_after_its_first_second() -> None:
    """And is unknown before, however much it used."""
    spending = spent(None, BUDGET, 10.0, 1.0, None)
    assert None is spent(spending, BUDGET, 10.5, 1.02, None).cost
    assert pytest.approx(0.05) == spent(spending, BUDGET, 12.0, 1.1, None).cost


def test_what_the_budget_takes_from_the_rate_is_an_adjustment() -> None:
    """With the backend's least rate as its end; without a measurement nothing is taken."""
    rate = Setting("rate", int, 100, limits=(Limits("hard limit", 1, 1000),))
    rules = Rules(RULES.enabled, (rate,), (tuned("budget.cpu", Percent, 2.0),), rate="rate")
    facts = Facts([Knowledge(Reading(ON))], killed=False, now=10.0, used=1.0)
    for cap, left in ((3.9, 3), (0.2, 1), (500.0, 100)):
        memory = Memory(spending=Spending(BUDGET, 0.2, 10.0, 1.0, 10.0, 1.0, cap=cap))
        found = decide(rules, SHARED, facts, memory)
        assert left == found.desired.settings["rate"]
        assert [("budget", left)] * (left < 100) == [(each.rule, each.given) for each in found.adjustments]
    blind = decide(rules, SHARED, facts._replace(used=None), memory)
    assert (100, None) == (blind.desired.settings["rate"], blind.memory.spending)


def test_a_session_that_brings_too_much_memory_stays_off_until_off_and_on() -> None:
    """Another one would bring as much: only off forgets it."""
    policy = SHARED._replace(budget=BudgetPolicy(rss=tuned("budget.rss", Bytes, 50 * 2**20)))
    rules = RULES._replace(tunables=policy.tunables)

    def seen(grown: int | None, memory: Memory, on: bool = True) -> Verdict:
        facts = Facts([Knowledge(Reading({"on": on}))], killed=False, now=1.0, runs=grown is not None, grown=grown)
        return decide(rules, policy, facts, memory)

    assert seen(50 * 2**20, NOTHING).desired.on
    ended = seen(51 * 2**20, NOTHING)
    assert (False, "budget") == (ended.desired.on, ended.decided_by.kind if ended.decided_by else "")
    later = seen(None, ended.memory)
    assert not later.desired.on
    off = seen(None, later.memory, on=False)
    assert seen(None, off.memory).desired.on


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 5), st.booleans())
def test_settings_that_processes_died_of_stay_off(same: int, others: int, most: int, on: bool) -> None:
    """As often as is said, with just these settings; 0 is no guard."""
    rate = Setting("rate", int, 100)
    policy = SHARED._replace(crash_guard=CrashGuard(tuned("crash_guard.times", int, most)))
    rules = Rules(RULES.enabled, (rate,), policy.tunables)
    crashes = [{"rate": 100}] * same + [{"rate": 20}] * others
    facts = Facts([Knowledge(Reading({"on": on}))], killed=False, now=1.0, crashes=crashes)
    found = decide(rules, policy, facts, NOTHING)
    assert (on and not 0 < most <= same) is found.desired.on
    assert ("crash_guard" if on and not found.desired.on else None) == (found.decided_by and found.decided_by.kind)


@given(st.booleans(), st.booleans(), st.integers(0, 3), st.sampled_from([None, True, False]))
def test_a_permit_is_asked_for_where_only_that_is_left(on: bool, killed: bool, most: int, held: bool | None) -> None:
    """And without it nothing runs, whatever else says."""
    policy = SHARED._replace(per_host=PerHost(tuned("per_host.max", int, most)))
    rules = RULES._replace(tunables=policy.tunables)
    permit = None if held is None else Permit(held, until=2.0)
    found = decide(rules, policy, Facts([Knowledge(Reading({"on": on}))], killed, now=1.0, permit=permit), NOTHING)
    assert (most if on and not killed else 0) == found.permits
    assert (on and not killed and (not most or held is not False)) is found.desired.on
    assert (2.0 if most and permit else math.inf) == found.until


def sim(policy: str) -> Simulation:
    return Simulation(f"{CONFIG}policy: {policy}\n")


def test_a_session_ends_by_itself_and_off_and_on_begins_another() -> None:
    """Not a moment after its time; what the flags say meanwhile does not prolong it."""
    with sim("{cooldown: 0s, session: {max: 15m}}") as it:
        it.source.say(ON)
        it.advance(1)
        assert 899.0 == it.status().session_left
        it.source.say({**ON, "rate": 30})
        it.advance(898.5)
        assert State.RUNNING is it.status().state
        it.advance(1)
        assert State.STOPPED is it.status().state
        last = it.status().last_transition
        assert last is not None
        assert "session" == last.cause.kind
        it.advance(10_000)
        assert State.STOPPED is it.status().state
        it.source.say({"on": False})
        it.advance(1)
        it.source.say(ON)
        it.advance(1)
        assert State.RUNNING is it.status().state


def test_another_session_id_begins_another_session() -> None:
    """Without turning it off, in a running session as after its end."""
    with sim("{cooldown: 0s, session: {max: 60s, id: {flag: session}}}") as it:
        it.source.say({**ON, "session": "monday"})
        it.advance(40)
        it.source.say({**ON, "session": "tuesday"})
        it.advance(40)
        assert State.RUNNING is it.status().state
        it.advance(40)
        assert State.STOPPED is it.status().state
        it.source.say({**ON, "session": "wednesday"})
        it.advance(1)
        assert State.RUNNING is it.status().state


def test_an_outage_of_the_flags_does_not_renew_a_session() -> None:
    """Neither does the kill switch: a session's time runs from the moment that the flags said on."""
    with sim("{cooldown: 0s, hold_last_good: 1h, session: {max: 60s}}") as it:
        it.source.say(ON)
        it.advance(30)
        it.source.fail(ConnectionError("gone"))
        it.advance(20)
        it.source.recover()
        it.advance(20)
        assert State.STOPPED is it.status().state


def test_turns_are_taken_for_as_long_as_the_process_lives() -> None:
    """Each turn is one session, and each is told with its reason."""
    with sim("{cooldown: 0s, duty_cycle: {on: 60s, every: 10m}}") as it:
        it.source.say(ON)
        it.advance(6000)
        kinds = [(line.fields["to"], line.fields["cause"]["kind"]) for line in it.log.of("transition")]
    assert kinds.count(("running", "duty_cycle")) >= 9
    assert kinds.count(("stopped", "duty_cycle")) >= 9


def test_a_turn_waits_for_no_splay() -> None:
    """It comes to each instance at another moment already, and may be shorter than the splay."""
    with sim("{cooldown: 0s, splay: 1h, duty_cycle: {on: 60s, every: 10m}}") as it:
        it.source.say(ON)
        it.advance(7200)
        kinds = [(line.fields["to"], line.fields["cause"]["kind"]) for line in it.log.of("transition")]
    assert kinds.count(("running", "duty_cycle")) >= 5


def test_a_rollout_is_raised_by_its_flag() -> None:
    """Without a deploy: this instance is at 71.86 %."""
    with sim("{cooldown: 0s, rollout: {percent: {flag: percent, default: 1, clamp: {max: 75}}}}") as it:
        it.source.say(ON)
        it.advance(1)
        assert State.STOPPED is it.status().state
        it.source.say({**ON, "percent": 50})
        it.advance(1)
        assert State.STOPPED is it.status().state
        it.source.say({**ON, "percent": 100})
        it.advance(1)
        assert State.RUNNING is it.status().state
        assert [("rollout.percent", 75.0)] == [(each.setting, each.given) for each in it.status().adjustments]
