"""The loop, stepped by hand: what the contract promises case by case."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from rheostat import Health, State, Transition, Value
from rheostat._contract.options import Duration
from rheostat._core.policy import Backoff, Policy
from rheostat._core.rules import Limits, Rules, Setting
from rheostat.plugins import PermanentError, SourceUnavailable, TemporaryError
from support.held_calls import RecordingBackend, Stepped

RULES = Rules(
    enabled=Setting(name="enabled", kind=bool, default=False, flag="on"),
    settings=(
        Setting(name="rate", kind=int, default=20, flag="rate", limits=(Limits(owner="clamp", min=1, max=250),)),
    ),
)
POLICY = Policy(
    cooldown=Duration(5.0),
    start_deadline=Duration(10.0),
    stop_deadline=Duration(10.0),
    hold_last_good=Duration(900.0),
    backoff=Backoff(initial=Duration(8.0), max=Duration(300.0)),
)


class ProbedBackend(RecordingBackend):
    def __init__(self) -> None:
        super().__init__()
        self.health: object = Health("healthy", "5 threads")

    def probe(self) -> Any:
        return self.health


def stepped(**options: Any) -> Stepped:
    return Stepped(RULES, options.pop("policy", POLICY), **options)


def running(rate: int = 20, **options: Any) -> Stepped:
    """A loop whose session runs, with the cooldown over."""
    it = stepped(**options)
    it.source.values = {"on": True, "rate": rate}
    it.step()
    it.finish()
    it.wait(60.0)
    assert it.status.state is State.RUNNING
    return it


def events(it: Stepped) -> list[str]:
    return [line.event for line in it.records.lines]


def messages(it: Stepped, event: str) -> list[str]:
    return [line.message for line in it.records.of(event)]


def fields(it: Stepped, event: str) -> Mapping[str, Any]:
    return it.records.of(event)[-1].fields


def test_a_source_that_never_answered_means_off() -> None:
    """Ignorance never turns profiling on, however long it lasts."""
    it = stepped()
    it.source.failure = SourceUnavailable("no server")
    it.step()
    it.wait(10_000.0)
    assert (State.STOPPED, []) == (it.status.state, it.calls.pending)
    assert "no server" == it.status.source.reason


def test_the_lease_holds_and_then_ends() -> None:
    """A source that fails leaves the session alone for the lease, and not a moment longer."""
    it = running()
    it.source.failure = SourceUnavailable("gone")
    it.step()
    it.wait(899.0)
    assert (True, []) == (it.status.desired.on, it.calls.pending)
    rest = it.step()
    assert rest == pytest.approx(1.0)
    it.wait(1.0)
    it.finish()
    assert State.STOPPED is it.status.state
    assert "lease" == it.status.last_transition.cause.kind
    assert 900.0 == it.status.source.stale_for


def test_the_lease_starts_when_the_source_says_it_went_stale() -> None:
    """A reading's own date counts, not the moment it was read."""
    it = running()
    it.source.stale_since = it.clock.now - 899.5
    it.step()
    it.wait(0.5)
    assert not it.status.desired.on


def test_a_source_that_comes_back_resumes() -> None:
    """After an expired lease fresh flags start the session again, and the log says why."""
    it = running()
    it.source.failure = SourceUnavailable("gone")
    it.step()
    it.wait(900.0)
    it.finish()
    it.source.failure = None
    it.wait(1.0)
    it.finish()
    assert State.RUNNING is it.status.state
    assert ("lease", "the source answers again") == it.status.last_transition.cause[::4]
    assert "source_recovered" in events(it)


def test_each_outage_is_one_line_a_minute() -> None:
    """Failures for the same reason are folded, with a count."""
    it = running()
    it.source.failure = SourceUnavailable("gone")
    for _ in range(61):
        it.wait(1.0)
    assert ["flag source: gone", "flag source: gone (59 more times since)"] == messages(it, "source_unavailable")


def test_reasons_that_differ_each_time_are_folded_too() -> None:
    """A source that puts a counter into its reason cannot flood the log."""
    it = running()
    for attempt in range(50):
        it.source.failure = SourceUnavailable(f"attempt {attempt}")
        it.wait(0.1)
    assert len(messages(it, "source_unavailable")) <= 8


def test_a_retune_waits_for_the_cooldown_with_the_old_session_running() -> None:
    """Settings that change soon after a start are applied once the cooldown is over."""
    it = stepped()
    it.source.values = {"on": True, "rate": 20}
    it.step()
    it.finish()
    it.source.values = {"on": True, "rate": 50}
    rest = it.step()
    assert (State.RUNNING, []) == (it.status.state, it.calls.pending)
    assert rest == pytest.approx(5.0)
    assert "cooldown, 5.0 s more" == it.status.waiting
    it.wait(5.0)
    assert (State.RESTARTING, "stop") == (it.status.state, it.status.operation.name)
    it.finish()
    it.finish()
    assert {"rate": 50} == it.backend.running


def test_off_is_exempt_from_the_cooldown() -> None:
    """Off stops at the next look, however short the session was."""
    it = stepped()
    it.source.values = {"on": True}
    it.step()
    it.finish()
    it.source.values = {"on": False}
    it.step()
    assert "stop" == it.status.operation.name


def test_the_splay_delays_a_start_by_the_instances_share() -> None:
    """With a splay the start waits, the same time for the same instance, and says so."""
    it = stepped(policy=Policy(splay=Duration(100.0)))
    it.source.values = {"on": True}
    rest = it.step()
    assert [] == it.calls.pending
    assert it.status.waiting.startswith("splay")
    for _ in range(10):
        rest = it.wait(rest)
    assert "start" == it.status.operation.name


def test_a_start_that_fails_is_retried_with_backoff() -> None:
    """8 s after the first failure, 16 s after the second, less a quarter by this test's jitter."""
    it = stepped()
    it.source.values = {"on": True}
    it.step()
    for expected in (6.0, 12.0, 24.0):
        rest = it.finish(TemporaryError("busy"))
        assert (State.STOPPED, []) == (it.status.state, it.calls.pending)
        assert rest == pytest.approx(expected)
        assert it.status.waiting.startswith("backoff")
        it.wait(expected)
        assert "start" == it.status.operation.name
    it.finish()
    assert ("", "recovered") == (it.status.error, events(it)[-2])


def test_a_permanent_error_waits_for_the_flags_to_change() -> None:
    """The same settings are not tried again; others are, and so are these after off and on."""
    it = stepped()
    it.source.values = {"on": True}
    it.step()
    it.finish(PermanentError("no such package"))
    assert it.wait(10_000.0) == pytest.approx(30.0)
    assert [] == it.calls.pending
    assert "no such package" in it.status.error
    it.source.values = {"on": False}
    it.step()
    it.source.values = {"on": True}
    it.step()
    it.finish(PermanentError("no such package"))
    it.source.values = {"on": True, "rate": 60}
    it.wait(60.0)
    assert "start" == it.status.operation.name


def test_a_failed_restart_ends_stopped() -> None:
    """When the new session cannot start, the transition failed says why."""
    it = running()
    it.source.values = {"on": True, "rate": 60}
    it.step()
    it.finish()
    it.finish(RuntimeError("boom"))
    last = it.status.last_transition
    assert ("failed", State.STOPPED) == (last.trigger, last.to_state)
    assert ("backend", "start failed: RuntimeError: boom") == (last.cause.kind, last.cause.detail)


def test_a_call_past_its_deadline_is_stuck_and_its_late_result_counts() -> None:
    """One ERROR that says how long and what to do; when the call returns, what is wanted then is done."""
    it = stepped()
    it.source.values = {"on": True}
    rest = it.step()
    assert rest == pytest.approx(10.0)
    it.wait(10.0)
    it.wait(50.0)
    operation = it.status.operation
    assert ("start", 60.0, True) == (operation.name, operation.age, operation.stuck)
    [(level, message)] = [(line.level, line.message) for line in it.records.of("stuck")]
    assert logging.ERROR == level
    assert "has not returned for 10.0 s" in message
    it.source.values = {"on": False}
    it.step()
    it.finish()
    assert "stop" == it.status.operation.name
    it.finish()
    assert ["started", "stopped"] == [line.fields["trigger"] for line in it.records.of("transition")]
    assert ["the backend's start returned after 0.0 s"] == messages(it, "recovered")


def test_the_end_has_a_stop_of_its_own() -> None:
    """A stop that was in flight when the process began to end, and failed, is tried once more, and only once."""
    it = running()
    it.source.values = {"on": True, "rate": 60}
    it.step()
    it.loop.close()
    it.finish(RuntimeError("boom"))
    assert ("stop", False) == (it.status.operation.name, it.loop.finished)
    it.finish(RuntimeError("boom"))
    assert it.loop.finished


def test_off_does_not_wait_for_the_backoff_of_a_restart() -> None:
    """The stop of a restart fails after off was wanted: it is tried again at once, and only then backed off from."""
    it = running()
    it.source.values = {"on": True, "rate": 60}
    it.step()
    it.source.values = {"on": False}
    it.step()
    it.finish(RuntimeError("boom"))
    assert "stop" == it.status.operation.name
    it.finish(RuntimeError("boom"))
    assert it.status.operation is None


def test_off_during_a_restart_starts_nothing() -> None:
    """A start that was to follow a stop never fires once off is wanted."""
    it = running()
    it.source.values = {"on": True, "rate": 60}
    it.step()
    it.source.values = {"on": False}
    it.finish()
    assert (State.STOPPED, []) == (it.status.state, it.calls.pending)


def test_a_failed_stop_leaves_the_state_and_is_retried() -> None:
    """Nothing starts until the stop has succeeded, though on is wanted again."""
    it = running()
    it.source.values = {"on": False}
    it.step()
    rest = it.finish(RuntimeError("busy"))
    assert (State.RUNNING, []) == (it.status.state, it.calls.pending)
    assert "stop failed: RuntimeError: busy" == it.status.error
    it.source.values = {"on": True, "rate": 60}
    it.wait(rest)
    assert "stop" == it.status.operation.name
    it.finish()
    it.finish()
    assert {"rate": 60} == it.backend.running


def test_a_session_that_died_is_stopped_and_started_again() -> None:
    """A failed probe ends the session with the trigger died, and a start follows after the backoff."""
    it = running(backend=ProbedBackend())
    assert "probe" == it.status.operation.name
    it.finish()
    assert ("healthy", "5 threads") == it.status.health
    it.backend.health = Health("failed", "no sampling thread")
    it.wait(30.0)
    it.finish()
    assert "stop" == it.status.operation.name
    it.finish()
    last = it.status.last_transition
    assert ("died", State.STOPPED) == (last.trigger, last.to_state)
    assert "no sampling thread" in last.cause.detail
    assert it.status.waiting.startswith("backoff")
    it.wait(6.0)
    it.finish()
    assert State.RUNNING is it.status.state


@pytest.mark.parametrize("health", [None, "fine", 7])
def test_a_probe_that_gives_nonsense_changes_nothing(health: object) -> None:
    """Only a Health counts; anything else is unknown."""
    it = running(backend=ProbedBackend())
    it.backend.health = health
    it.finish()
    assert ("unknown", State.RUNNING) == (it.status.health.status, it.status.state)


def test_a_probe_that_is_late_each_time_is_told_once_a_minute() -> None:
    """One ERROR, and one INFO once it returns, of those that come within a minute."""
    it = running(backend=ProbedBackend())
    told = []
    for _ in range(5):
        it.wait(10.0)
        it.finish()
        told.append((len(messages(it, "stuck")), len(messages(it, "recovered"))))
        it.wait(30.0)
    assert [(1, 1), (1, 1), (2, 2), (2, 2), (3, 3)] == told


def test_a_probe_that_raises_changes_nothing() -> None:
    """A probe that fails says nothing about the session."""
    it = running(backend=ProbedBackend())
    it.finish(SystemExit("bad probe"))
    assert ("unknown", State.RUNNING) == (it.status.health.status, it.status.state)


def test_observers_see_each_transition_and_cannot_disturb() -> None:
    """An observer's exception is logged once, and the others are still told."""
    seen: list[Transition] = []

    def careless(_: Transition) -> None:
        raise KeyboardInterrupt

    it = running(observers=(careless, seen.append))
    it.source.values = {"on": False}
    it.step()
    it.finish()
    assert [1, 2] == [each.seq for each in seen]
    assert 1 == len(messages(it, "observer_failed"))


def test_settings_cannot_be_changed_by_the_backend() -> None:
    """The settings that the backend is given are read-only: what runs stays what was asked for."""

    class Meddling(RecordingBackend):
        def start(self, settings: Mapping[str, Value]) -> None:
            settings["rate"] = 10_000  # type: ignore[index]  # what a careless backend might do

    it = stepped(backend=Meddling())
    it.source.values = {"on": True}
    it.step()
    with pytest.raises(TypeError):
        it.finish()


def test_an_adjustment_is_said_once() -> None:
    """A flag that keeps asking for too much is logged once, with what was asked and given."""
    it = running(rate=9999)
    for _ in range(5):
        it.wait(30.0)
    assert ["adjusted rate: asked 9999, given 250 (max 250 (clamp))"] == messages(it, "adjusted")
    assert {"setting": "rate", "asked": 9999, "given": 250, "rule": "max 250 (clamp)"} == fields(it, "adjusted")


def test_nothing_happens_while_nothing_changes() -> None:
    """A steady source and a healthy session: no call, no transition, no line, and rests of the resync."""
    it = running()
    before = len(it.records.lines)
    snapshot = it.loop.snapshot
    assert [30.0] * 20 == [it.wait(30.0) for _ in range(20)]
    assert (before, []) == (len(it.records.lines), it.calls.pending)
    assert snapshot == it.loop.snapshot


def test_a_source_that_polls_sets_the_pace() -> None:
    """The rest is the source's poll interval, whatever nonsense it asks for bounded."""
    it = running()
    for asked, rest in ((1.0, 1.0), (0.0, 0.01), (-5.0, 0.01), (1e9, 30.0), (float("nan"), 0.01), ("soon", 30.0)):
        it.source.poll_interval = asked  # type: ignore[assignment]  # what a careless plug-in might give
        assert it.step() == pytest.approx(rest)


def test_closing_stops_the_session_and_then_nothing_more_happens() -> None:
    """After close the session is stopped with the cause close, and the loop says that it is finished."""
    it = running()
    it.loop.close()
    it.step()
    assert not it.loop.finished
    it.finish()
    assert it.loop.finished
    assert "close" == it.status.last_transition.cause.kind


def test_closing_during_a_start_waits_for_it_and_stops() -> None:
    """A session that comes up after close is stopped at once."""
    it = stepped()
    it.source.values = {"on": True}
    it.step()
    it.loop.close()
    it.step()
    it.finish()
    assert "stop" == it.status.operation.name
    it.finish()
    assert it.loop.finished


def test_closing_gives_up_on_a_stop_that_fails() -> None:
    """One try: a process that ends cannot wait for a backoff."""
    it = running()
    it.loop.close()
    it.step()
    it.finish(RuntimeError("no"))
    assert it.loop.finished
    assert State.RUNNING is it.status.state


def test_a_thread_that_cannot_be_started_is_a_failed_start() -> None:
    """A process out of memory or threads is no reason to give up."""
    it = stepped()
    it.source.values = {"on": True}

    def exhausted(*_: object) -> None:
        raise MemoryError

    it.calls.call = exhausted  # type: ignore[method-assign, assignment]  # the machine's fault, not a backend's
    it.step()
    it.step()
    assert it.status.error.startswith("start failed: MemoryError")


@pytest.mark.parametrize("settings", [(), RULES.settings])
def test_waking_when_it_says_is_enough(settings: tuple[Setting, ...]) -> None:
    """Backoff, cooldown and splay are waited for exactly, with settings or without, though nobody calls."""
    it = Stepped(RULES._replace(settings=settings), POLICY._replace(splay=Duration(7.0)))
    it.source.values = {"on": True}
    it.wait(it.step())
    assert "start" == it.status.operation.name
    rest = it.finish(TemporaryError("busy"))
    assert rest < 30.0
    it.wait(rest)
    assert "start" == it.status.operation.name


def test_a_stale_source_turns_nothing_on() -> None:
    """Values that were stale from the first, or that became another while stale, change nothing."""
    it = stepped()
    it.source.values, it.source.stale_since = {"on": True}, it.clock.now - 1.0
    it.step()
    assert not it.status.desired.on
    it.source.values, it.source.stale_since = {"on": False}, None
    it.step()
    it.source.values, it.source.stale_since = {"on": True}, it.clock.now
    it.step()
    assert not it.status.desired.on


def test_a_badly_made_exception_of_a_source_is_an_outage_like_any_other() -> None:
    """One without a reason, or whose text raises, holds nothing up: the lease ends, the kill switch works."""

    class Bad(SourceUnavailable):
        def __init__(self) -> None:
            pass

        def __str__(self) -> str:
            raise RuntimeError

    it = running()
    it.source.failure = Bad()
    it.step()
    assert "Bad: (its text cannot be shown)" == it.status.source.reason
    it.wait(900.0)
    assert "stop" == it.status.operation.name


def test_what_a_source_says_is_one_short_line() -> None:
    """A page of a proxy as the reason neither floods the log nor commands the terminal."""
    it = stepped()
    it.source.failure = SourceUnavailable("502\n\x1b[31m" + "x" * 100_000)
    it.step()
    assert it.status.source.reason.isprintable()
    assert len(it.status.source.reason) < 400


def test_no_secret_is_in_the_status_or_a_cause() -> None:
    """A secret that a vendor quotes is masked, also where a cut would leave its beginning."""
    seen: list[Transition] = []
    it = running(observers=(seen.append,))
    it.journal.secrets = ["hunter22-hunter22"]
    it.source.values = {"on": True, "rate": 60}
    it.step()
    it.finish()
    it.finish(TemporaryError("x" * 285 + "hunter22-hunter22"))
    it.source.errors = {"rate": "x" * 285 + "hunter22-hunter22"}
    it.step()
    assert "the source says" in it.status.adjustments[0].rule
    assert "hunter" not in repr(it.status)
    it.source.failure = SourceUnavailable("401 for hunter22-hunter22")
    it.step()
    assert "hunter" not in repr((it.status, seen, it.records.lines))


def test_closing_in_the_middle_of_a_step_starts_nothing_odd() -> None:
    """Another thread may close at any moment: what is in hand is finished as it was begun."""
    it = stepped()
    it.source.values = {"on": True}
    look = it.loop._watch.look

    def look_and_close(now: float) -> object:
        seen = look(now)
        it.loop.close()
        return seen

    it.loop._watch.look = look_and_close  # type: ignore[method-assign, assignment]  # the moment cannot be hit otherwise
    it.step()
    it.finish()
    assert "stop" == it.status.operation.name
    it.finish()
    assert it.loop.finished


def test_a_call_that_hangs_while_closing_is_reported_at_its_deadline() -> None:
    """Closing does not wait for the resync to say so."""
    it = running()
    it.loop.close()
    rest = it.step()
    assert rest == pytest.approx(10.0)
    it.wait(rest)
    assert it.status.operation.stuck


def test_a_source_that_says_when_it_will_try_again_is_asked_then() -> None:
    """The next look is at that moment, if that is before the resync."""
    it = stepped()
    it.source.failure = SourceUnavailable("401", retry_at=it.clock.now + 12.0)
    assert it.step() == pytest.approx(12.0)


def test_an_error_is_forgotten_once_off_is_wanted() -> None:
    """A start that failed is no problem any more when nothing shall run."""
    it = stepped()
    it.source.values = {"on": True}
    it.step()
    it.finish(TemporaryError("busy"))
    it.source.values = {"on": False}
    it.step()
    assert "" == it.status.error
