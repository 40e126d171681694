"""The one backend call that may be in flight."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from rheostat._contract.values import Value
from rheostat._core.desired import NO_SETTINGS
from rheostat._core.state import Trigger
from rheostat._core.transition import Cause
from rheostat._host.calls import Calls, Returned
from rheostat._report.journal import Journal
from rheostat._report.status import OperationName


class Call(NamedTuple):
    """A call of the backend: its deadline (monotonic seconds), and what its return will mean.

    `settings` are those of a start; `trigger` is the move that the return makes, `cause` the reason for it.
    """

    name: OperationName
    since: float
    deadline: float
    trigger: Trigger
    cause: Cause
    settings: Mapping[str, Value] = NO_SETTINGS


class CallSlot:
    """Owns the call in flight: there is at most one, and it is reported once it is stuck."""

    def __init__(self, calls: Calls, journal: Journal, wake: Callable[[], None]) -> None:
        self._calls = calls
        self._journal = journal
        self._wake = wake
        self._outcomes: deque[Returned] = deque()
        self.call: Call | None = None
        self.stuck = False

    @property
    def is_idle(self) -> bool:
        return self.call is None and not self._outcomes

    def make(self, call: Call, function: Callable[[], object]) -> None:
        self.call, self.stuck = call, False
        try:
            self._calls.call(function, self._returned)
        except BaseException as error:
            self._returned(Returned(None, error, 0.0))

    def take(self) -> tuple[Call, Returned] | None:
        """The call that has returned since the last look, if it has."""
        if not self._outcomes or self.call is None:
            return None
        call, outcome = self.call, self._outcomes.popleft()
        self.call = None
        if self.stuck:
            self.stuck = False
            text = f"the backend's {call.name} returned after {outcome.took:.1f} s"
            self._journal.recover("recovered", text, about="stuck", flaps=True)
        return call, outcome

    def check_deadline(self, now: float) -> bool:
        """Whether the call in flight has just become stuck."""
        call = self.call
        if call is None or self.stuck or now < call.deadline:
            return False
        self.stuck = True
        # How late exactly varies, and repeats would not be recognised.
        message = (
            f"the backend's {call.name} has not returned for {call.deadline - call.since:.1f} s: the service is not "
            "affected, but nothing else can be started or stopped until it returns; "
            "look at the profiler's server and network"
        )
        self._journal.complain("stuck", message, about="stuck", level=logging.ERROR, operation=call.name)
        return True

    def _returned(self, outcome: Returned) -> None:
        """In the call's own thread: hand the outcome over, nothing more."""
        self._outcomes.append(outcome)
        self._wake()
