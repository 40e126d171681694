"""The states of the profiler of a process, and the names of the moves between them."""

from enum import StrEnum


class State(StrEnum):
    """The state of this process's profiler. A call in flight is not a state."""

    STOPPED = "stopped"
    RUNNING = "running"
    RESTARTING = "restarting"


State.__module__ = "rheostat"


class Trigger(StrEnum):
    """The names of the moves, as they stand in the log."""

    STARTED = "started"
    RETUNE = "retune"
    STOPPED = "stopped"
    FAILED = "failed"
    DIED = "died"
    FORKED = "forked"


Trigger.__module__ = "rheostat"
