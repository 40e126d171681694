"""A process under virtual time: what the testing package gives to those who test with it."""

from collections.abc import Iterable, Iterator, Mapping

import pytest

from rheostat import ConfigError, State
from rheostat.plugins import Reading
from rheostat.testing import FAULTS, ProbedBackend, ScriptedSource, Simulation

CONFIG = """\
version: 1
application: shop
source: {kind: "rheostat.testing:ScriptedSource"}
backend: {kind: "rheostat.testing:ProbedBackend"}
enabled: {flag: "on", default: false}
settings:
  rate: {flag: rate, default: 20, clamp: {max: 250}}
policy: {cooldown: 5s, hold_last_good: 60s, backoff: {initial: 1s, max: 8s}}
"""


@pytest.fixture
def it() -> Iterator[Simulation]:
    with Simulation(CONFIG) as it:
        yield it


def on(it: Simulation, rate: int = 97) -> None:
    it.source.say({"on": True, "rate": rate})
    it.advance(10.0)


def test_a_flip_is_followed_without_waiting(it: Simulation) -> None:
    """The real rules and machine run, in virtual time."""
    on(it, 9999)
    status = it.status()
    assert (State.RUNNING, {"rate": 250}, 1) == (status.state, status.settings, status.seq)
    assert {"rate": 250} == it.backend.session
    assert ["adjusted", "transition"] == [line.event for line in it.log.lines]


def test_time_passes_only_when_told(it: Simulation) -> None:
    """A cooldown of five seconds takes five, of the clock's."""
    on(it)
    it.advance(60.0)
    it.source.say({"on": True, "rate": 98})
    it.advance(0.0)
    it.source.say({"on": True, "rate": 99})
    it.advance(4.9)
    assert {"rate": 98} == it.status().settings
    it.advance(0.2)
    assert {"rate": 99} == it.status().settings


@pytest.mark.parametrize(("call", "name"), [(call, name) for call, faults in FAULTS.items() for name in faults])
def test_every_fault_is_overcome(it: Simulation, call: str, name: str) -> None:
    """While it lasts, nothing is lost; once it is over, what is wanted runs."""
    fault = FAULTS[call][name]  # type: ignore[index]  # one of its own keys
    if call != "start":
        on(it)
    it.backend.faults[call] = name
    it.source.say({"on": True, "rate": 42})
    it.advance(60.0)
    calls = [each.name for each in it.backend.calls]
    assert call in calls, "the fault was met"
    if fault.takes > 10.0:
        assert {"stuck"} <= {line.event for line in it.log.lines}
    it.backend.faults.clear()
    it.release()
    # A permanent error waits for the flags to change.
    it.source.say({"on": True, "rate": 43})
    it.advance(60.0)
    status = it.status()
    assert (State.RUNNING, {"rate": 43}, {"rate": 43}) == (status.state, status.settings, it.backend.session)


def test_a_session_that_dies_is_found_out(it: Simulation) -> None:
    """The probe tells, and another session is started."""
    on(it)
    it.backend.die()
    it.advance(31.0)
    assert ["died"] == [line.fields["trigger"] for line in it.log.of("transition")][1:2]
    it.advance(60.0)
    assert State.RUNNING is it.status().state


def test_a_child_begins_anew_with_objects_of_its_own(it: Simulation) -> None:
    """And the parent goes on as it was."""
    on(it)
    child = it.fork()
    child.source.say({"on": True, "rate": 5})
    child.advance(10.0)
    assert ["forked", "started"] == [line.fields["trigger"] for line in child.log.of("transition")]
    assert ({"rate": 97}, {"rate": 5}) == (it.backend.session, child.backend.session)
    assert child.status().pid == it.status().pid + 1


def test_a_loop_that_spins_is_noticed() -> None:
    """A source that calls in each read gives no rest."""
    config = CONFIG.replace("rheostat.testing:ScriptedSource", f"{__name__}:Spinning")
    with Simulation(config) as it, pytest.raises(AssertionError, match="the loop spins"):
        it.advance(1.0)


class Knowing(ScriptedSource):
    asked = False

    def known_flags(self) -> Iterable[str]:
        self.asked = True
        return ()


def test_a_service_never_asks_which_flags_are_known() -> None:
    """Not even while one that it wants is not defined: that is for who makes a plan."""
    config = CONFIG.replace("rheostat.testing:ScriptedSource", f"{__name__}:Knowing")
    with Simulation(config) as it:
        it.source.say({"on": True})
        it.advance(120.0)
        assert (State.RUNNING, False) == (it.status().state, it.source.asked)


class Spinning(ScriptedSource):
    def read(self, wanted: Mapping[str, type]) -> Reading:
        self.changed()
        return super().read(wanted)


def test_a_configuration_is_checked_as_ever() -> None:
    """With all that is wrong, and where."""
    with pytest.raises(ConfigError, match="max") as caught:
        Simulation(CONFIG.replace("max: 250", "max: 2000"))
    assert "hard limit" in str(caught.value)


def test_closing_stops_what_runs(it: Simulation) -> None:
    """As at the end of a process."""
    on(it)
    it.close()
    it.advance(1.0)
    assert it.finished
    assert it.backend.session is None


def test_a_backend_of_ones_own_may_extend_the_faulty_one(it: Simulation) -> None:
    """It is what the simulation expects."""
    assert isinstance(it.backend, ProbedBackend)
    with pytest.raises(AssertionError, match="FaultyBackend"):
        Simulation(CONFIG.replace('"rheostat.testing:ProbedBackend"', "noop"))
