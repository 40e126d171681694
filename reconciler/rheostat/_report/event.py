"""Events, as Rheostat tells them: before repeats are folded, and before it becomes a line of a log."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

EventName = Literal[
    "adjusted",
    "already_running",
    "closed",
    "defect",
    "delivery_failed",
    "forked",
    "invalid_config",
    "kill_switch_unreadable",
    "no_threads",
    "not_measured",
    "observer_failed",
    "other_profiler",
    "recovered",
    "source_recovered",
    "source_unavailable",
    "start_failed",
    "state_unusable",
    "stop_failed",
    "stuck",
    "transition",
]

_NO_FIELDS: Final[Mapping[str, Any]] = MappingProxyType({})


class Event(NamedTuple):
    """One thing that has happened, or goes on happening; `level` is one of logging's.

    `about` names what it is about: a "recovered" is about the same as what it ends. Secrets are masked in `message`
    and `fields`, which are those of the log.
    """

    name: EventName
    level: int
    message: str
    about: str = ""
    fields: Mapping[str, Any] = _NO_FIELDS


Event.__module__ = "rheostat"


Listener = Callable[[Event], None]
"""Called with each event, in the thread that says it, mostly the control thread. What it raises is said once and goes
no further."""
