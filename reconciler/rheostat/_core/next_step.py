"""From what ought to run and what does to the one thing that is to be done next."""

import math
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from rheostat._contract.values import Value
from rheostat._core.desired import NO_SETTINGS, Desired, same_settings
from rheostat._core.start_gate import StartGate
from rheostat._core.state import State, Trigger


class Session(NamedTuple):
    """The session as known while no call is in flight; moments are monotonic seconds.

    `settings` are those it runs with. Stops that have failed in a row, and from when on `stop_trigger` is tried again;
    that `stops_at_once` if off is new since, and no more once it `gave_up` at the end of the process.
    """

    settings: Mapping[str, Value] = NO_SETTINGS
    probe_at: float = math.inf
    stop_failures: int = 0
    stop_retry_at: float = -math.inf
    stop_trigger: Trigger = Trigger.STOPPED
    stops_at_once: bool = False
    gave_up: bool = False


class Act(NamedTuple):
    """A call of the backend, why it would be made, and from when on (monotonic seconds; infinite: never).

    `waits_for` says in a word what it waits for until then.
    """

    kind: Literal["none", "start", "stop", "probe"]
    trigger: Trigger
    at: float
    waits_for: str = ""


_NOTHING: Final = Act("none", Trigger.STOPPED, math.inf)
_AT_ONCE: Final = -math.inf


def next_step(state: State, desired: Desired, session: Session, gate: StartGate, *, closing: bool) -> Act:
    """The next call of the backend while none is in flight. Off waits for nothing but the backoff of failed stops."""
    if state is State.STOPPED:
        if not desired.on or gate.refuses(desired):
            return _NOTHING
        return Act("start", Trigger.STARTED, gate.opens_at(), gate.waits_for())
    if session.stop_failures:
        is_urgent = session.stops_at_once or (closing and not session.gave_up)
        return Act("stop", session.stop_trigger, _AT_ONCE if is_urgent else session.stop_retry_at)
    if not desired.on:
        return Act("stop", Trigger.STOPPED, _AT_ONCE)
    if not same_settings(desired.settings, session.settings):
        return Act("stop", Trigger.RETUNE, gate.opens_at(), gate.waits_for())
    return Act("probe", Trigger.DIED, session.probe_at)
