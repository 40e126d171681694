"""The machine, the loop and the rules against the contract: anything that a source, a backend, an operator, a fork and
time can do, in any order."""

from collections.abc import Mapping

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rheostat import State, Transition
from rheostat.plugins import SourceUnavailable

from .faulty_backend import FAULTS, CallName, Leaked, ProbedBackend
from .model import Model, World
from .scenario import Scenario
from .simulation import Simulation, Step
from .strategies import Raw, flags_of, scenarios, usable_values

_REPEAT_AFTER = 60.0
"""Seconds in which the same complaint is logged at most once."""

_COMPLAINTS = ("source_unavailable", "start_failed", "stop_failed", "stuck", "observer_failed")


class _Unfinished(SourceUnavailable):
    """Made by somebody who forgot to call the parent's constructor."""

    def __init__(self) -> None:
        pass


FAILURES: tuple[BaseException, ...] = (
    SourceUnavailable("down"),
    SourceUnavailable("down", retry_at=1e9),
    _Unfinished(),
    RuntimeError("boom"),
    SystemExit(3),
    KeyboardInterrupt(),
    MemoryError(),
    Leaked("leaked"),
)
"""Exceptions that a source may raise."""


class Profiling(RuleBasedStateMachine):
    """Drives a `Simulation` and holds each step against the `Model`.

    A failing example prints the configuration and, step by step, what was done and what came of it. To explore your
    own class derived from `ProbedBackend` or `ScriptedSource`, extend this one and give `kinds`.
    """

    kinds: Mapping[str, str] = {}
    """Other kinds for the sections ``source`` and ``backend``."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Transition] = []
        self.observer_raises = False
        self.flags: dict[str, Raw] = {}
        self.killed = False
        self.left_behind: list[tuple[Simulation, int, int]] = []
        self.events = 0

    @initialize(scenario=scenarios(), luck=st.sampled_from([0.0, 0.5, 0.999]))
    def deploy(self, scenario: Scenario, luck: float) -> None:
        self.scenario, self.luck = scenario, luck
        self.it = Simulation(scenario.yaml(self.kinds), observers=[self.observe], luck=luck)
        note(f"the configuration:\n{self.it.config}")
        self.model = Model(scenario, luck)
        self.checked = 0
        self.complained: dict[str, float] = {}
        self.step()

    def teardown(self) -> None:
        """At the end of a process whose backend works, what runs is stopped and nothing is left."""
        if not hasattr(self, "it"):
            return
        try:
            self.end()
        finally:
            self.it.__exit__()

    def end(self) -> None:
        note("the process ends")
        self.it.backend.faults.clear()
        self.it.release()
        self.model.closing = True
        self.it.close()
        for step in self.it.steps(1.0):
            self.check(step)
            if self.it.finished:
                break
        assert self.it.finished
        assert self.it.backend.session is None
        assert self.model.session is None

    def observe(self, transition: Transition) -> None:
        self.seen.append(transition)
        if self.observer_raises:
            raise SystemExit("a careless observer")

    @rule(data=st.data())
    def flip(self, data: st.DataObject) -> None:
        """One flag says something else, be it nonsense, or nothing."""
        flag = data.draw(st.sampled_from([each.flag for each in self.scenario.flags]))
        said = data.draw(flags_of(self.scenario))
        self.flags = {key: raw for key, raw in self.flags.items() if key != flag}
        if flag in said:
            self.flags[flag] = said[flag]
        note(f"flag {flag} = {self.flags.get(flag, 'not defined')}")
        self.step()

    @rule(data=st.data())
    def switch_on(self, data: st.DataObject) -> None:
        """All flags are usable, and the switch is on."""
        self.flags = {each.flag: data.draw(usable_values(each)) for each in self.scenario.settings}
        self.flags[self.scenario.switch.flag] = Raw(True)
        note(f"flags = {self.flags}")
        self.step()

    @rule()
    def switch_off(self) -> None:
        self.flags[self.scenario.switch.flag] = Raw(False)
        note("flag of the switch = False")
        self.step()

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.9, 1.0, 2.0, 4.9, 5.0, 10.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        note(f"{seconds} s pass")
        self.advance(seconds)

    @precondition(lambda self: self.model.session is None and self.model.call is None)
    @rule(data=st.data())
    def a_session_comes_up(self, data: st.DataObject) -> None:
        """Saves the search the steps without which little can happen."""
        self.calm_down()
        self.switch_on(data)
        self.advance(self.scenario.cooldown + self.scenario.splay + self.scenario.backoff_max)

    @precondition(lambda self: self.source_is_fine())
    @rule(failure=st.sampled_from(FAILURES))
    def source_fails(self, failure: BaseException) -> None:
        note(f"the source raises {failure!r}")
        self.it.source.failure = failure
        self.step()

    @precondition(lambda self: self.source_is_fine())
    @rule(garbage=st.sampled_from([{}, "on", 7, [True]]))
    def source_gives_garbage(self, garbage: object) -> None:
        note(f"the source gives {garbage!r} instead of a reading")
        self.it.source.garbage = garbage
        self.step()

    @precondition(lambda self: not self.source_is_fine())
    @rule()
    def source_recovers(self) -> None:
        note("the source answers")
        self.it.source.recover()
        self.step()

    @rule(ago=st.sampled_from([None, 0.0, 1.0, -5.0]))
    def source_is_stale(self, ago: float | None) -> None:
        self.it.source.stale_since = None if ago is None else self.it.clock() - ago
        note(f"the source says that its values are stale since {self.it.source.stale_since}")
        self.step()

    @precondition(lambda self: self.model.session is not None and self.scenario.lease > 0 and self.source_is_fine())
    @rule(ahead=st.sampled_from([0.0, 1e9]))
    def source_is_stale_anew(self, ahead: float) -> None:
        """Its moment moves on with each reading, or lies in the future; the lease runs out all the same."""
        for _ in range(3):
            self.it.source.stale_since = self.it.clock() + ahead
            note(f"the source says that its values are stale since {self.it.source.stale_since}")
            self.step()
            self.advance(self.scenario.lease / 2)

    @precondition(lambda self: self.model.session is None and self.model.call is None and self.events >= 10)
    @rule(data=st.data(), fault=st.sampled_from(["rejected", "refused", "lie"]))
    def starts_go_wrong_for_a_while(self, data: st.DataObject, fault: str) -> None:
        """Twice, with a good time between: what was refused for good stays refused, and the backoff begins anew."""
        for _ in range(2):
            self.calm_down()
            self.it.backend.faults["start"] = fault
            self.switch_on(data)
            self.advance(self.scenario.cooldown + self.scenario.splay + self.scenario.backoff_max)
            self.it.backend.faults.clear()
            self.advance(self.scenario.cooldown + self.scenario.backoff_max)
            self.switch_off()

    @precondition(lambda self: self.scenario.kill_switch and not self.killed)
    @rule()
    def kill_switch_is_set(self) -> None:
        note("the kill switch is set")
        self.killed = True
        (self.it.folder / str(self.scenario.kill_switch)).touch()
        self.step()

    @precondition(lambda self: self.killed)
    @rule()
    def kill_switch_is_removed(self) -> None:
        self.spare()
        self.step()

    @rule(data=st.data())
    def backend_breaks(self, data: st.DataObject) -> None:
        """From now on, calls of one kind go wrong in one way."""
        calls: tuple[CallName, ...] = ("start", "stop", "probe") if self.scenario.probes else ("start", "stop")
        call = data.draw(st.sampled_from(calls))
        name = data.draw(st.sampled_from(sorted(FAULTS[call])))
        note(f"each {call}: {name}, {FAULTS[call][name].seen}")
        self.it.backend.faults[call] = name

    @precondition(lambda self: self.it.backend.faults)
    @rule()
    def backend_is_mended(self) -> None:
        note("the backend works")
        self.it.backend.faults.clear()

    @precondition(lambda self: self.model.session is not None and isinstance(self.it.backend, ProbedBackend))
    @rule()
    def session_dies(self) -> None:
        note("the session samples no more")
        self.it.backend.die()

    @precondition(lambda self: self.model.call is not None)
    @rule()
    def call_returns(self) -> None:
        note("the call in flight returns")
        self.it.release()
        self.step()

    @precondition(lambda self: not self.observer_raises)
    @rule()
    def observer_turns_bad(self) -> None:
        note("the observer raises from now on")
        self.observer_raises = True

    @precondition(lambda self: len(self.left_behind) < 3)
    @rule()
    def fork(self) -> None:
        """This process becomes the child; the parent's objects are never touched again."""
        note(f"the process forks, and the story goes on in the child of a {self.it.status().state} parent")
        parent = self.it
        self.left_behind.append((parent, len(parent.backend.calls), parent.source.reads))
        self.seen.clear()
        self.it = parent.fork()
        self.it.meter.cost = parent.meter.cost
        since = self.model.enabled_since
        self.model = Model(self.scenario, self.luck, forked_from=parent.status().state, enabled_since=since)
        self.checked = 0
        self.complained.clear()
        self.step()

    @precondition(lambda self: len(self.left_behind) < 3)
    @rule()
    def restart(self) -> None:
        """This process is killed, and the next one knows of the session only what it finds written."""
        note("the process is killed, and another one takes its place")
        cost, since = self.it.meter.cost, self.model.enabled_since
        self.seen.clear()
        self.it = self.it.restart()
        self.it.meter.cost = cost
        self.model = Model(self.scenario, self.luck, enabled_since=since)
        self.checked = 0
        self.complained.clear()
        self.step()

    @precondition(lambda self: self.scenario.budget)
    @rule(cores=st.sampled_from([0.0, 0.005, 0.1, 1.0]))
    def sessions_cost(self, cores: float) -> None:
        note(f"from now on a session takes {cores} of a core")
        self.it.meter.cost = cores

    # Now and then: it takes as long as all else together.
    @precondition(lambda self: self.events >= 15)
    @rule()
    def the_world_calms_down(self) -> None:
        """Convergence, then idempotence: a steady source and a healthy backend."""
        note("the world calms down")
        self.events = 0
        self.calm_down()
        # That a session has died is found out by a probe; a stop that has to be tried again comes before the start.
        self.advance(self.scenario.resync if self.scenario.probes else 0.0)
        for _ in range(2):
            self.advance(self.scenario.cooldown + self.scenario.splay + self.scenario.backoff_max)
        if self.scenario.moves_by_itself:
            # Each step is held against the model all the same.
            return
        self.converged()
        lines, calls = len(self.it.log.lines), self.calls()
        self.advance(self.scenario.resync + 1.0)
        assert (lines, calls) == (len(self.it.log.lines), self.calls()), "something was done though nothing had changed"

    def calls(self) -> int:
        return sum(each.name != "probe" for each in self.it.backend.calls)

    def calm_down(self) -> None:
        self.it.source.recover()
        self.it.backend.faults.clear()
        self.it.release()
        self.spare()
        self.step()

    def spare(self) -> None:
        if self.killed:
            note("the kill switch is removed")
            self.killed = False
            (self.it.folder / str(self.scenario.kill_switch)).unlink()

    def converged(self) -> None:
        status, wanted = self.it.status(), self.model.wanted
        if wanted.on and not self.model.refused:
            assert State.RUNNING is status.state, "it runs"
            assert wanted.settings == self.it.backend.session == status.settings
        else:
            assert State.STOPPED is status.state, "it is off"
            assert self.it.backend.session is None

    def source_is_fine(self) -> bool:
        return self.it.source.failure is None and self.it.source.garbage is None

    def world(self) -> World:
        source = self.it.source
        readable = {flag: raw.value for flag, raw in self.flags.items()} if self.source_is_fine() else None
        return World(readable, source.stale_since, self.killed, self.it.meter.used())

    def step(self) -> None:
        self.it.source.values = {flag: raw.value for flag, raw in self.flags.items()}
        self.check(self.it.step())

    def advance(self, seconds: float) -> None:
        self.it.source.values = {flag: raw.value for flag, raw in self.flags.items()}
        for step in self.it.steps(seconds):
            self.check(step)

    def check(self, step: Step) -> None:
        if step.ended is not None:
            note(f"{step.at:.1f}: {step.ended.call.name} returned {step.ended.error!r:.60}")
        for call in step.made:
            note(f"{step.at:.1f}: {call.name} {dict(call.settings)}")
        self.model.took(step, self.world())
        self.model.tells(self.it.status(), step.at)

    @invariant()
    def the_invariants_hold(self) -> None:
        """Beside those that are held against each step. One for all of them, or the story would be full of them."""
        self.events += 1
        if hasattr(self, "it"):
            self.each_change_has_one_transition()
            self.no_complaint_is_repeated_within_a_minute()
            self.what_was_left_behind_is_not_touched()

    def each_change_has_one_transition(self) -> None:
        """Numbered, chained, and logged once."""
        self.model.chains(self.seen, self.it.status())
        logged = [line.fields["seq"] for line in self.it.log.of("transition")]
        assert [each.seq for each in self.seen] == logged

    def no_complaint_is_repeated_within_a_minute(self) -> None:
        for line in self.it.log.lines[self.checked :]:
            if line.event in _COMPLAINTS:
                before = self.complained.get(line.message, float("-inf"))
                assert line.at - before >= _REPEAT_AFTER or self.recovered_since(before), line.message
                self.complained[line.message] = line.at
            assert line.event != "defect", line.message
        self.checked = len(self.it.log.lines)

    def recovered_since(self, moment: float) -> bool:
        return any(line.at >= moment and line.event in ("recovered", "source_recovered") for line in self.it.log.lines)

    def what_was_left_behind_is_not_touched(self) -> None:
        for parent, calls, reads in self.left_behind:
            assert (calls, reads) == (len(parent.backend.calls), parent.source.reads)
