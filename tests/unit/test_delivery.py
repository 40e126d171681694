"""Whether profiles arrive: looks at the profiler's server beside everything else, stepped by hand."""

from typing import Any

import pytest

from rheostat import Health, State
from rheostat._contract.options import Duration
from rheostat._core.policy import Policy
from rheostat._core.rules import Rules, Setting
from rheostat.plugins import TemporaryError
from support.held_calls import HeldCalls, RecordingBackend, Stepped

RULES = Rules(enabled=Setting(name="enabled", kind=bool, default=False, flag="on"), settings=())
POLICY = Policy(cooldown=Duration(0.0), reach=Duration(300.0))
REFUSED = TemporaryError("http://localhost:4040: Connection refused")


class Reached(RecordingBackend):
    def reach(self, timeout: float) -> None:
        pass


class Looking(Stepped):
    """A loop whose session runs, and whose looks stay in flight until the test lets them end."""

    def __init__(self, backend: Any = None, policy: Policy = POLICY) -> None:
        self.looks = HeldCalls()
        super().__init__(RULES, policy, backend=backend or Reached(), looks=self.looks)
        self.source.values = {"on": True}
        self.step()
        self.finish()

    def look(self, error: BaseException | None = None) -> None:
        """Let the look that is in flight end."""
        self.looks.finish(error)
        self.step()

    @property
    def complaints(self) -> list[str]:
        return [line.message for line in self.records.of("delivery_failed")]


def test_a_server_is_looked_at_soon_after_the_start_and_then_now_and_then() -> None:
    """Once a second after the start, then each interval, less up to a tenth."""
    it = Looking()
    assert "unknown" == it.status.delivery.status
    assert 0 == len(it.looks.pending)
    it.wait(1.0)
    it.look()
    assert Health("healthy", "profiles are taken") == it.status.delivery
    it.wait(284.0)
    assert 0 == len(it.looks.pending)
    it.wait(1.0)
    assert 1 == len(it.looks.pending)


def test_a_server_that_takes_nothing_is_complained_of_once_and_the_session_goes_on() -> None:
    """The state is running as before; the status tells sampling and delivery apart; recovery is said."""
    it = Looking()
    it.wait(1.0)
    it.look(REFUSED)
    assert State.RUNNING is it.status.state
    assert Health("failed", str(REFUSED)) == it.status.delivery
    assert "unknown" == it.status.health.status
    assert "" == it.status.error
    (said,) = it.complaints
    assert "profiles do not arrive: http://localhost:4040: Connection refused" in said
    it.wait(300.0)
    it.look()
    assert "healthy" == it.status.delivery.status
    assert ["profiles arrive again"] == [each.message for each in it.records.of("recovered")]
    assert 1 == it.status.seq


def test_a_look_in_flight_holds_up_neither_a_stop_nor_a_start() -> None:
    """Off is called at once, and on again too, while a look hangs; there is never a second one."""
    it = Looking()
    it.wait(1.0)
    assert 1 == len(it.looks.pending)
    it.source.values = {"on": False}
    it.step()
    it.finish()
    assert State.STOPPED is it.status.state
    it.source.values = {"on": True}
    it.step()
    it.finish()
    assert State.RUNNING is it.status.state
    it.wait(5.0)
    assert 1 == len(it.looks.pending)


def test_what_a_look_finds_after_the_session_is_not_said() -> None:
    """Off is off: nobody hears of a server that nothing is sent to."""
    it = Looking()
    it.wait(1.0)
    it.source.values = {"on": False}
    it.step()
    it.finish()
    it.look(REFUSED)
    assert "unknown" == it.status.delivery.status
    assert [] == it.complaints


def test_a_look_that_does_not_end_counts_as_failed_and_its_end_counts() -> None:
    """A backend may break its word to be bounded: that is said once, and there is no second look beside the first."""
    it = Looking()
    it.wait(1.0)
    it.wait(10.0)
    assert Health("failed", "no answer within 10 s") == it.status.delivery
    it.wait(3000.0)
    assert 1 == len(it.looks.pending) == len(it.complaints)
    it.look()
    assert "healthy" == it.status.delivery.status


def test_where_no_thread_is_to_be_had_it_is_tried_again() -> None:
    """Nothing is said of the server, which nobody has looked at."""
    it = Looking()
    looks = it.looks.call
    it.looks.call = no_thread  # type: ignore[method-assign, assignment]  # the fault
    it.wait(1.0)
    assert "unknown" == it.status.delivery.status
    it.looks.call = looks  # type: ignore[method-assign]  # the fault is over
    it.wait(300.0)
    it.look()
    assert "healthy" == it.status.delivery.status


def no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize(
    ("backend", "policy"), [(RecordingBackend(), POLICY), (Reached(), POLICY._replace(reach=Duration(0.0)))]
)
def test_nobody_looks_where_that_is_not_wanted_or_not_possible(backend: Any, policy: Policy) -> None:
    """No look, and no step of the loop for the sake of one."""
    it = Looking(backend, policy)
    assert policy.resync == it.wait(5.0)
    assert [] == it.looks.pending
    assert "unknown" == it.status.delivery.status


@pytest.mark.parametrize("error", [RuntimeError("secret-token"), SystemExit(1), KeyboardInterrupt()])
def test_whatever_a_look_raises_goes_no_further(error: BaseException) -> None:
    """It is a failed look, without the configuration's secrets."""
    it = Looking()
    it.journal.secrets = ["secret-token"]
    it.wait(1.0)
    it.look(error)
    assert "failed" == it.status.delivery.status
    assert "secret-token" not in it.status.delivery.detail + it.complaints[0]
