"""The loop and the machine against an independent model: whatever happens, the invariants hold."""

import math
import os
import tempfile
from collections.abc import Mapping
from typing import Any

from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rheostat import PermanentError, SourceUnavailable, State, TemporaryError, Transition, Value
from rheostat.duration import Duration
from rheostat.filepath import FilePath
from rheostat.policy import Backoff, Policy
from rheostat.rules import Limits, Rules, Setting
from stepping import Stepped

LEASE, COOLDOWN, DEADLINE, BACKOFF, BACKOFF_MAX = 60.0, 5.0, 10.0, 1.0, 30.0

RULES = Rules(
    enabled=Setting(name="enabled", kind=bool, default=False, flag="enabled"),
    settings=(
        Setting(
            name="sample_rate",
            kind=int,
            default=20,
            flag="rate",
            limits=(Limits(owner="clamp", min=5, max=250), Limits(owner="hard limit", min=1, max=1000)),
        ),
        Setting(
            name="mode",
            kind=str,
            default="gil",
            flag="mode",
            limits=(
                Limits(owner="clamp", choices=("gil", "wall")),
                Limits(owner="hard", choices=("gil", "cpu", "wall")),
            ),
            otherwise="hold",
        ),
        Setting(
            name="frames",
            kind=int,
            default=128,
            flag="frames",
            limits=(Limits(owner="hard limit", min=1, max=512),),
            otherwise="off",
        ),
    ),
)

# What a flag says, and what the contract makes of it: written down by hand, not computed by the code under test.
ABSENT, DEFAULT, HOLD, OFF = object(), object(), object(), object()
ENABLED = [(True, True), ("true", True), (" TRUE ", True), (False, False), ("yes", False), (1, False), (None, False)]
RATES = [
    (50, 50), (100, 100), ("97", 97), (" 97 ", 97), (10.0, 10), (9999, 250), (10**30, 250), (0, 5), (-1, 5), (4, 5),
    (True, DEFAULT), (math.nan, DEFAULT), (math.inf, DEFAULT), (97.5, DEFAULT), ("ninety", DEFAULT), ("1e2", DEFAULT),
    (None, DEFAULT), ([50], DEFAULT), ("\ud800", DEFAULT), (ABSENT, DEFAULT),
]  # fmt: skip
MODES = [("gil", "gil"), ("wall", "wall"), ("cpu", HOLD), ("banana", HOLD), (7, HOLD), (None, HOLD), (ABSENT, "gil")]
FRAMES = [(64, 64), (100_000, 512), (ABSENT, 128), ("64", 64), ("many", OFF), (None, OFF)]


class Unfinished(SourceUnavailable):
    """Made by somebody who forgot to call the parent's constructor."""

    def __init__(self) -> None:
        pass


FAILURES = [
    Unfinished(),
    SourceUnavailable("down"),
    RuntimeError("bug"),
    SystemExit(3),
    KeyboardInterrupt(),
    MemoryError(),
]
ERRORS = [
    TemporaryError("busy"), RuntimeError("bug"), SystemExit(3), KeyboardInterrupt(), MemoryError(), RecursionError(),
    PermanentError("never"),
]  # fmt: skip

MOVES = {
    ("started", "stopped", "running"), ("started", "restarting", "running"), ("retune", "running", "restarting"),
    ("stopped", "running", "stopped"), ("stopped", "restarting", "stopped"), ("failed", "restarting", "stopped"),
    ("died", "running", "stopped"),
}  # fmt: skip


class Model:
    """What must be true, derived from what the test did and the contract alone."""

    def __init__(self) -> None:
        self.known: dict[str, Any] | None = None
        self.stale_since: float | None = None
        self.mode = "gil"
        self.on = False
        self.settings: dict[str, Value] = {}
        self.session: Mapping[str, Value] | None = None
        self.doubtful = False
        self.call: tuple[str, Mapping[str, Value]] | None = None
        self.called_at = 0.0
        self.last_start = -math.inf
        self.failed_at = -math.inf
        self.failures = 0
        self.refused = False
        self.stop_failed_at = -math.inf
        self.stop_failures = 0
        self.off_is_news = False

    def look(self, now: float, flags: dict[str, Any] | None, stale_since: float | None, killed: bool) -> None:
        """The loop looks at the source: `flags` is None where it fails."""
        if flags is not None and stale_since is None:
            self.known, self.stale_since = dict(flags), None
        elif flags is not None:
            # Stale values leave the last fresh ones, and one that goes on being stale cannot prolong the lease.
            self.stale_since = min(each for each in (stale_since, self.stale_since) if each is not None)
        elif self.stale_since is None:
            self.stale_since = now
        expired = self.stale_since is not None and now - self.stale_since >= LEASE
        before = (self.on, self.settings)
        self.on, self.settings = False, {}
        if self.known is not None:
            self._resolve(self.known)
        if killed or expired or self.known is None:
            self.on, self.settings = False, {}
        if (self.on, self.settings) != before:
            self.refused = False
        self.off_is_news = self.off_is_news or (before[0] and not self.on)

    def _resolve(self, flags: dict[str, Any]) -> None:
        rate = 20 if flags["rate"][1] is DEFAULT else flags["rate"][1]
        if flags["mode"][1] is not HOLD:
            self.mode = flags["mode"][1] if flags["mode"][0] is not ABSENT else self.mode
        mode = "gil" if flags["mode"][0] is ABSENT else self.mode
        frames = flags["frames"][1]
        self.on = flags["enabled"][1] is True and frames is not OFF
        self.settings = {"sample_rate": rate, "mode": mode, "frames": frames} if self.on else {}

    def earliest_start(self) -> float:
        return max(self.last_start + COOLDOWN, self.failed_at + self.backoff(self.failures))

    def earliest_stop(self) -> float:
        """Off is exempt from backoff, once."""
        return -math.inf if self.off_is_news else self.stop_failed_at + self.backoff(self.stop_failures)

    def backoff(self, failures: int) -> float:
        """The least it may be: jitter takes off at most half."""
        return min(BACKOFF * 2 ** (failures - 1), BACKOFF_MAX) / 2 if failures else 0.0


class Profiling(RuleBasedStateMachine):
    """Anything a source, a backend, an operator and time can do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.kill_switch = FilePath(os.path.join(self.folder.name, "off"))
        policy = Policy(
            hold_last_good=Duration(LEASE),
            cooldown=Duration(COOLDOWN),
            start_deadline=Duration(DEADLINE),
            stop_deadline=Duration(DEADLINE),
            backoff=Backoff(initial=Duration(BACKOFF), max=Duration(BACKOFF_MAX)),
            kill_switch=self.kill_switch,
        )
        self.seen: list[Transition] = []
        self.observer_raises = False
        self.it = Stepped(RULES, policy, (self.observe,))
        self.model = Model()
        self.flags: dict[str, Any] = {
            "enabled": (ABSENT, False), "rate": (ABSENT, DEFAULT), "mode": (ABSENT, "gil"), "frames": (ABSENT, 128)
        }  # fmt: skip
        self.killed = False

    def teardown(self) -> None:
        self.folder.cleanup()

    def observe(self, transition: Transition) -> None:
        self.seen.append(transition)
        if self.observer_raises:
            raise SystemExit("a careless observer")

    @rule(flag=st.sampled_from(["enabled", "rate", "mode", "frames"]), data=st.data())
    def flip(self, flag: str, data: st.DataObject) -> None:
        values = {"enabled": ENABLED, "rate": RATES, "mode": MODES, "frames": FRAMES}[flag]
        self.flags[flag] = data.draw(st.sampled_from(values))
        note(f"flag {flag} = {self.flags[flag][0]!r}")
        self.step()

    @precondition(lambda self: not self.model.on)
    @rule()
    def switch_on(self) -> None:
        self.flags["enabled"] = (True, True)
        self.flags["frames"] = (64, 64)
        note("flag enabled = True")
        self.step()

    @precondition(lambda self: self.model.session is None and self.model.call is None)
    @rule()
    def a_session_comes_up(self) -> None:
        """Saves the search the four steps without which little can happen."""
        self.calm_down()
        self.it.clock.now += COOLDOWN + BACKOFF_MAX
        self.switch_on()
        if self.model.call is not None:
            self.returned(None)

    @precondition(lambda self: self.model.session is not None and self.model.on)
    @rule(rate=st.sampled_from([30, 60, 120]), seconds=st.sampled_from([0.0, COOLDOWN, COOLDOWN]), stops=st.booleans())
    def retune(self, rate: int, seconds: float, stops: bool) -> None:
        self.flags["rate"] = (rate, rate)
        note(f"flag rate = {rate}")
        self.it.clock.now += seconds
        self.step()
        if stops and self.model.call is not None:
            self.returned(None)

    @precondition(lambda self: self.model.on)
    @rule()
    def switch_off(self) -> None:
        self.flags["enabled"] = (False, False)
        note("flag enabled = False")
        self.step()

    @precondition(lambda self: self.source_is_fine())
    @rule(failure=st.sampled_from(FAILURES))
    def source_fails(self, failure: BaseException) -> None:
        self.it.source.failure = failure
        note(f"source raises {failure!r}")
        self.step()

    @precondition(lambda self: self.source_is_fine())
    @rule(garbage=st.sampled_from([{}, "on", 7, [True]]))
    def source_gives_garbage(self, garbage: object) -> None:
        self.it.source.garbage = garbage
        note(f"source gives {garbage!r}")
        self.step()

    def calm_down(self) -> None:
        self.it.source.failure = self.it.source.garbage = self.it.source.stale_since = None
        if self.killed:
            self.killed = False
            os.remove(self.kill_switch)
            note("kill switch removed")

    def source_is_fine(self) -> bool:
        return self.it.source.failure is None and self.it.source.garbage is None

    @precondition(lambda self: not self.source_is_fine())
    @rule()
    def source_recovers(self) -> None:
        self.it.source.failure = self.it.source.garbage = self.it.source.stale_since = None
        note("source answers")
        self.step()

    @rule(stale=st.booleans())
    def source_is_stale(self, stale: bool) -> None:
        self.it.source.stale_since = self.it.clock.now if stale else None

    @precondition(lambda self: self.model.on)
    @rule()
    def kill_switch_is_set(self) -> None:
        self.killed = True
        open(self.kill_switch, "w").close()
        note("kill switch set")
        self.step()

    @precondition(lambda self: self.killed)
    @rule()
    def kill_switch_is_removed(self) -> None:
        self.calm_down()
        self.step()

    @precondition(lambda self: not self.observer_raises)
    @rule()
    def observer_turns_bad(self) -> None:
        self.observer_raises = True

    @rule(seconds=st.sampled_from([0.1, 0.4, 1.0, 4.9, 5.0, 31.0, 59.9, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.it.clock.now += seconds
        self.step()

    @precondition(lambda self: self.model.call is not None)
    @rule()
    def call_returns(self) -> None:
        self.returned(None)

    @precondition(lambda self: self.model.call is not None)
    @rule(error=st.sampled_from(ERRORS))
    def call_raises(self, error: BaseException) -> None:
        self.returned(error)

    @precondition(lambda self: self.model.call is not None and not self.it.status.operation.stuck)
    @rule()
    def call_hangs(self) -> None:
        self.it.clock.now = max(self.it.clock.now, self.model.called_at + DEADLINE)
        self.step()
        operation = self.it.status.operation
        assert operation is not None
        assert operation.stuck
        assert "stuck" in self.it.records.events()

    @rule()
    def the_world_calms_down(self) -> None:
        """Convergence, then idempotence: a steady source and a healthy backend."""
        self.calm_down()
        for _ in range(40):
            if self.model.call is not None:
                self.returned(None)
            else:
                self.it.clock.now += COOLDOWN + BACKOFF_MAX
                self.step()
        self.converged()
        logged, made = len(self.it.records.lines), len(self.seen)
        for _ in range(10):
            self.it.clock.now += 31.0
            self.step()
        assert (logged, made, None) == (len(self.it.records.lines), len(self.seen), self.model.call)

    def converged(self) -> None:
        if self.model.on and not self.model.refused:
            assert self.it.status.state is State.RUNNING
            assert self.model.settings == self.it.backend.running
        else:
            assert self.it.status.state is State.STOPPED
            assert self.it.backend.running is None

    def step(self) -> None:
        before = self.model.call
        source = self.it.source
        readable = self.source_is_fine()
        source.values = {name: said for name, (said, _) in self.flags.items() if said is not ABSENT}
        stale_since = None if source.stale_since is None else min(source.stale_since, self.it.clock.now)
        self.model.look(self.it.clock.now, self.flags if readable else None, stale_since, self.killed)
        rest = self.it.step()
        assert 0.0 <= rest <= 30.0
        self.note_call(before)

    def note_call(self, before: object) -> None:
        """If the loop has called the backend, hold that call against the model."""
        model, now = self.model, self.it.clock.now
        assert len(self.it.calls.pending) <= 1, "two backend calls at once"
        if before is not None or not self.it.calls.pending:
            return
        operation = self.it.loop._slot.call
        assert operation is not None
        note(f"{now}: {operation.name} {dict(operation.settings)}")
        model.call, model.called_at = (operation.name, operation.settings), now
        if operation.name == "start":
            self.start_was_right(operation.settings, now)
        else:
            self.stop_was_right(now)

    def start_was_right(self, given: Mapping[str, Value], now: float) -> None:
        model = self.model
        assert model.session is None, "a start before the previous stop returned"
        assert not model.doubtful, "a start although the last stop failed"
        assert model.on, "a start although off is wanted"
        assert not model.refused, "a start of what was refused for good"
        assert now >= model.earliest_start(), "a start ahead of cooldown or backoff"
        assert model.settings == given
        rate, mode, frames = given["sample_rate"], given["mode"], given["frames"]
        assert type(rate) is int
        assert 5 <= rate <= 250
        assert mode in ("gil", "wall")
        assert type(frames) is int
        assert 1 <= frames <= 512
        model.last_start = now

    def stop_was_right(self, now: float) -> None:
        model = self.model
        assert model.session is not None, "a stop without a session"
        if model.doubtful:
            assert now >= model.earliest_stop(), "a stop ahead of its backoff"
        elif model.on:
            assert model.settings != model.session, "a stop although what runs is what is wanted"
            assert self.it.status.state is State.RESTARTING
        model.off_is_news = False

    def returned(self, error: BaseException | None) -> None:
        model, now = self.model, self.it.clock.now
        assert model.call is not None
        name, given = model.call
        note(f"{now}: {name} returned {error!r}")
        self.it.calls.finish(error)
        if name == "start" and error is None:
            model.session, model.failures = given, 0
        elif name == "start":
            model.failures += 1
            model.failed_at = now
            # Only what is still wanted counts as refused; anything else has changed already.
            model.refused = isinstance(error, PermanentError) and dict(given) == model.settings
        else:
            model.doubtful = error is not None
            model.session = model.session if error is not None else None
            model.stop_failures = model.stop_failures + 1 if error is not None else 0
            model.stop_failed_at = now
            model.off_is_news = False
        model.call = None
        self.step()
        if name == "start" and error is not None:
            assert self.it.status.state is State.STOPPED
            assert self.it.status.error

    @invariant()
    def running_means_a_session(self) -> None:
        """While no call is in flight, running if and only if the session was started and not stopped."""
        if self.model.call is None and not self.model.doubtful:
            assert (self.it.status.state is State.RUNNING) == (self.model.session is not None)

    @invariant()
    def off_wins(self) -> None:
        """When off is wanted, a session is being stopped at once, and is known not to be wanted."""
        looked = bool(self.it.records.lines) or self.model.known is not None
        if looked:
            assert self.model.on == self.it.status.desired.on
        if not self.model.on and self.model.call is None and looked:
            held_up = self.model.doubtful and not self.model.off_is_news
            assert self.model.session is None or held_up, "off was wanted, yet nothing was stopped"

    @invariant()
    def each_change_has_one_transition(self) -> None:
        """Sequence numbers have no gaps, the moves are the table's, they chain, and each was logged once."""
        assert list(range(1, len(self.seen) + 1)) == [each.seq for each in self.seen]
        state = "stopped"
        for each in self.seen:
            assert (str(each.trigger), str(each.from_state), str(each.to_state)) in MOVES
            assert state == each.from_state
            state = str(each.to_state)
        assert state == self.it.status.state
        assert len(self.seen) == self.it.records.events().count("transition")

    @invariant()
    def what_is_said_to_run_runs(self) -> None:
        if self.model.call is None and not self.model.doubtful:
            assert (self.model.session or {}) == self.it.status.settings


TestProfiling = Profiling.TestCase
TestProfiling.settings = settings(max_examples=400, stateful_step_count=60)
