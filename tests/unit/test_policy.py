"""When a start may be tried: backoff, cooldown, splay, and what was refused for good."""

from collections.abc import Callable

import pytest

from rheostat import Desired
from rheostat._core.policy import Backoff, Policy
from rheostat._core.start_gate import StartGate, splay_of
from rheostat.plugins import Duration, InvalidOptions

LEAST_JITTER: Callable[[], float] = lambda: 0.0  # noqa: E731  # a constant in place of chance
MOST_JITTER: Callable[[], float] = lambda: 1.0  # noqa: E731


def make_gate(instance: str = "web-1", *, cooldown: float = 5.0, splay: float = 0.0) -> StartGate:
    backoff = Backoff(initial=Duration(1.0), max=Duration(300.0))
    policy = Policy(cooldown=Duration(cooldown), splay=Duration(splay), backoff=backoff)
    return StartGate(policy, instance, LEAST_JITTER)


@pytest.mark.parametrize(
    ("failures", "longest"), [(1, 1.0), (2, 2.0), (3, 4.0), (9, 256.0), (10, 300.0), (10**6, 300.0)]
)
def test_the_backoff_doubles_up_to_its_cap_less_up_to_half(failures: int, longest: float) -> None:
    """Each failure doubles the delay, the cap holds for ever, and chance takes away at most half."""
    backoff = Backoff(initial=Duration(1.0), max=Duration(300.0))
    assert (longest, longest / 2) == (backoff.delay(failures, LEAST_JITTER), backoff.delay(failures, MOST_JITTER))


@pytest.mark.parametrize(
    ("make", "blamed"),
    [
        (lambda: Backoff(initial=Duration(0.0)).check(), {"initial"}),
        (lambda: Backoff(initial=Duration(600.0)).check(), {"max"}),
        (lambda: Policy(resync=Duration(0.5)).check(), {"resync"}),
        (
            lambda: Policy(start_deadline=Duration(0.0), stop_deadline=Duration(0.0)).check(),
            {"start_deadline", "stop_deadline"},
        ),
    ],
)
def test_durations_that_make_no_sense_are_refused(make: Callable[[], object], blamed: set[str]) -> None:
    """A value that would spin, or never wait, is an error of each field to blame."""
    with pytest.raises(InvalidOptions) as caught:
        make()
    assert blamed == set(caught.value.expected)


def test_durations_at_their_edge_are_accepted() -> None:
    """No cooldown, no lease and no wait at exit are choices."""
    nothing = Duration(0.0)
    assert Policy(cooldown=nothing, hold_last_good=nothing, exit_deadline=nothing, start_after=nothing, splay=nothing)


def test_a_new_gate_is_open() -> None:
    """The first start waits for nothing."""
    assert make_gate().opens_at() <= 0.0


def test_the_cooldown_runs_from_the_last_try() -> None:
    """Between two starts there is the cooldown, whether the first succeeded or not."""
    gate = make_gate()
    gate.tried(100.0)
    gate.succeeded()
    assert (105.0, "cooldown") == (gate.opens_at(), gate.waits_for())


def test_failures_in_a_row_wait_longer_until_one_start_succeeds() -> None:
    """The backoff grows with each failure, and a success forgets them all."""
    gate = make_gate(cooldown=0.0)
    opens = []
    for _ in range(3):
        gate.failed(100.0)
        opens.append(gate.opens_at())
    assert ([101.0, 102.0, 104.0], "backoff") == (opens, gate.waits_for())
    gate.succeeded()
    assert gate.opens_at() <= 100.0
    gate.failed(200.0)
    assert 201.0 == gate.opens_at()


def test_the_longest_wait_decides() -> None:
    """Cooldown, backoff and splay run at the same time, not one after the other."""
    gate = make_gate(cooldown=30.0)
    gate.tried(100.0)
    gate.failed(100.0)
    assert (130.0, "cooldown") == (gate.opens_at(), gate.waits_for())
    for _ in range(6):
        gate.failed(100.0)
    assert (164.0, "backoff") == (gate.opens_at(), gate.waits_for())


def test_the_splay_starts_anew_with_each_change_of_what_is_wanted() -> None:
    """Each instance waits its own share of the splay after the flags have changed."""
    share = splay_of("web-1", 60.0)
    gate = make_gate(splay=60.0)
    gate.wanted(100.0)
    assert (100.0 + share, "splay") == (gate.opens_at(), gate.waits_for())
    gate.wanted(200.0)
    assert 200.0 + share == gate.opens_at()


@pytest.mark.parametrize("instance", ["", "web-1", "é", "host-\udcff"])
def test_a_share_of_the_splay_is_always_the_same(instance: str) -> None:
    """An instance's share is fixed, and within the splay, whatever its name."""
    assert splay_of(instance, 60.0) == splay_of(instance, 60.0)
    assert 0.0 <= splay_of(instance, 60.0) < 60.0
    assert 0.0 == splay_of(instance, 0.0)


def test_a_fleet_is_spread_evenly_over_the_splay() -> None:
    """Of a thousand instances about a tenth start in each tenth of the splay."""
    tenths = [int(splay_of(f"checkout-{number}", 10.0)) for number in range(1000)]
    assert all(60 < tenths.count(tenth) < 140 for tenth in range(10))


def test_what_was_refused_for_good_is_not_tried_until_something_else_is_wanted() -> None:
    """A permanent error bars exactly these settings, until the desired state changes."""
    gate, refused, other = make_gate(), Desired(True, {"rate": 1}), Desired(True, {"rate": 2})
    assert not gate.refuses(refused)
    gate.refused({"rate": 1})
    assert (True, False) == (gate.refuses(refused), gate.refuses(other))
    gate.wanted(0.0)
    assert not gate.refuses(refused)
